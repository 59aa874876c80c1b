package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestPowerCut cuts a node off without a word and without a lost carrier
// anywhere else. Another node and two ToRs, BIRD and FRR, watch it with BFD:
// they lose its block long before any hold time. How long that took is logged,
// from the cut to the kernel's or the router's table, beside BFD's detection
// time.
func TestPowerCut(t *testing.T) {
	spec := labtest.Mesh("cut", 2)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	a, victim := l.Node("r1n1"), l.Node("r1n2")
	routers := map[interop.Kind]*interop.Router{}
	for i, kind := range []interop.Kind{interop.BIRD, interop.FRR} {
		tor := l.ToRs()[i]
		s := labtest.SetupOf(tor, victim)
		s.BFD = true
		routers[kind] = labtest.StartRouter(ctx, t, l, kind, tor, s)
	}
	for _, n := range l.Nodes() {
		n.Edit = func(c *conf.Config) {
			c.BGP.Peers = slices.DeleteFunc(c.BGP.Peers, func(p *conf.Peer) bool { // the ToRs know one node
				return n != victim && p.ASN != lab.NodeASN
			})
			for _, p := range c.BGP.Peers {
				p.BFD = &conf.BFD{Interval: "100ms", Hops: "single"}
			}
		}
	}
	must(t, l.StartNodes(ctx))
	must(t, labtest.WaitBlocks(ctx, l))
	block := labtest.BlockOf(ctx, t, victim)
	has := map[string]func() (bool, error){"node": func() (bool, error) { return labtest.ThroughHops(a, block) != nil, nil }}
	for kind, r := range routers {
		has[string(kind)] = func() (bool, error) {
			list, err := r.Learned(ctx)
			return slices.ContainsFunc(list, func(route interop.Route) bool { return route.Prefix == block }), err
		}
	}
	port := victim.Name // of the rack's switch
	for range labtest.Times(1, 10) {
		for name, look := range has {
			must(t, lab.Eventually(ctx, labtest.Patience, name+" has the block", func() error {
				there, err := look()
				if err == nil && !there {
					err = labtest.ErrNotLearned
				}
				return err
			}))
		}
		must(t, labtest.WaitBFD(ctx, victim, 3))
		must(t, labtest.WaitBFD(ctx, a, 1))
		must(t, l.Racks[0].Switch.SetLink(port, false))
		cut := time.Now()
		took := map[string]time.Duration{}
		must(t, lab.Eventually(ctx, 30*time.Second, "the block goes everywhere", func() error {
			for name, look := range has {
				there, err := look()
				if err != nil {
					return err
				}
				if _, gone := took[name]; !there && !gone {
					took[name] = time.Since(cut).Round(time.Millisecond)
				}
			}
			if len(took) < len(has) {
				return fmt.Errorf("gone from %v only", took)
			}
			return nil
		}))
		t.Logf("block gone after %v, detection time 300ms", took)
		must(t, l.Racks[0].Switch.SetLink(port, true))
	}
}
