package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// announcer is a node that announces services to two routers and a node.
type announcer struct {
	t        *testing.T
	ctx      context.Context
	n, other *lab.Node
	ebgp     *interop.Router // tor1, of another AS
	ibgp     *interop.Router // tor2, of our AS
	block    string          // of the node
}

// TestAnnounce: what an owner announces reaches the routers that it names, with
// its attributes, and no kernel; it survives a killed agent without a gap, is
// withdrawn by a drain, and a set that lost much is held until it is confirmed.
func TestAnnounce(t *testing.T) {
	spec := labtest.Mesh("announce", 2)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	a := &announcer{t: t, ctx: ctx, n: l.Node("r1n1"), other: l.Node("r1n2")}
	tors := l.ToRs()
	setup := labtest.SetupOf(tors[0], a.n)
	setup.Restart = true
	a.ebgp = labtest.StartRouter(ctx, t, l, interop.BIRD, tors[0], setup)
	setup = labtest.SetupOf(tors[1], a.n)
	setup.ASN, setup.Restart = lab.NodeASN, true
	a.ibgp = labtest.StartRouter(ctx, t, l, interop.BIRD, tors[1], setup)
	inside := tors[1].Peer()
	inside.ASN = lab.NodeASN
	labtest.Wire(l, map[string]conf.BGP{
		a.n.Name:     {ASN: lab.NodeASN, Peers: []*conf.Peer{a.other.Peer(), tors[0].Peer(), inside}},
		a.other.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{a.n.Peer()}},
	})
	must(t, l.StartNodes(ctx))
	must(t, labtest.WaitBlocks(ctx, l))
	a.block = labtest.BlockOf(ctx, t, a.n).String()

	// As kube-proxy in mode ipvs has it, though not on a bridge: no network of the node.
	proxy := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "kube-ipvs0"}}
	must(t, a.n.NS.Link.LinkAdd(proxy))
	must(t, a.n.NS.Link.AddrAdd(proxy, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(203, 0, 113, 9), Mask: net.CIDRMask(32, 32)}}))

	file := filepath.Join(t.TempDir(), "services.yaml")
	must(t, os.WriteFile(file, []byte(`announcements:
  - {prefix: 203.0.113.7/32, communities: ["64512:7", "64512:1:2"], local_pref: 200, med: 5, peers: [`+tors[0].Name+", "+tors[1].Name+`], reason: default/web}
  - {prefix: 203.0.113.8/32, peers: [`+tors[0].Name+`]}
  - {prefix: 203.0.113.9/32}
  - {prefix: 10.244.0.7/32}
`), 0o600))
	labtest.WantCtl(ctx, t, a.n, 1, "3 announced\nrejected: 10.244.0.7/32: overlaps the pool", "announce", "services", "-f", file)
	a.told(a.ebgp, "7 pref 100 med 5 64512:7 64512:1:2", "8 pref 100", "9 pref 100")
	a.told(a.ibgp, "7 pref 200 med 5 64512:7 64512:1:2", "9 pref 100")
	t.Run("shown", func(t *testing.T) { a.shown(t, tors[0].Name) })
	t.Run("no kernel", func(t *testing.T) { a.noKernel(t) })

	t.Run("killed", func(t *testing.T) { a.killed(t) })

	labtest.WantCtl(ctx, t, a.n, 0, "3 announced", "announce", "services", "--graceful-shutdown",
		"--prefix", "203.0.113.7", "--prefix", "203.0.113.8", "--prefix", "203.0.113.9")
	a.told(a.ebgp, "7 pref 100 65535:0", "8 pref 100 65535:0", "9 pref 100 65535:0")
	a.told(a.ibgp, "7 65535:0", "8 65535:0", "9 65535:0") // LOCAL_PREF 0

	t.Run("held", func(t *testing.T) { a.held(t) })
	t.Run("configuration", func(t *testing.T) { a.configuration(t) })
	t.Run("drain", func(t *testing.T) { a.drain(t) })
}

// told waits until a router has exactly the block and these services: the last
// part of the address, LOCAL_PREF (100 is BIRD's own for another AS) and MED where
// they are not 0, communities.
func (a *announcer) told(r *interop.Router, want ...string) {
	a.t.Helper()
	must(a.t, lab.Eventually(a.ctx, labtest.Patience, "the announcements at "+r.Name, func() error {
		have, err := services(a.ctx, r, a.block)
		if err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("has %q, want %q", have, want)
		}
		return err
	}))
}

func services(ctx context.Context, r *interop.Router, block string) ([]string, error) {
	list, err := r.Learned(ctx)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, route := range list {
		if route.Prefix.String() == block {
			continue
		}
		text := strings.TrimSuffix(strings.TrimPrefix(route.Prefix.String(), "203.0.113."), "/32")
		if route.LocalPref != 0 {
			text += fmt.Sprintf(" pref %d", route.LocalPref)
		}
		if route.MED != 0 {
			text += fmt.Sprintf(" med %d", route.MED)
		}
		have = append(have, strings.Join(append([]string{text}, route.Communities...), " "))
	}
	slices.Sort(have)
	return have, nil
}

// shown: an operator sees who announces what, and to whom.
func (a *announcer) shown(t *testing.T, tor string) {
	labtest.WantCtl(a.ctx, t, a.n, 0, "203.0.113.7/32 is announced by this node for services (default/web)", "explain", "203.0.113.7")
	labtest.WantCtl(a.ctx, t, a.n, 0, "services: default/web", "routes", "203.0.113.7")
	labtest.WantCtl(a.ctx, t, a.n, 0, "graceful_shutdown", "announcements", "-o", "json")
	labtest.WantCtl(a.ctx, t, a.n, 0, "overlaps the pool", "announcements")
	labtest.WantCtl(a.ctx, t, a.n, 0, "3 prefixes of owners, such as services, 1 rejected", "status")
	labtest.WantCtl(a.ctx, t, a.n, 1, "announced to other peers only", "policy", "test", "--peer", a.other.Name, "--direction", "export", "203.0.113.8/32")
	labtest.WantCtl(a.ctx, t, a.n, 0, "service", "policy", "test", "--peer", tor, "--direction", "export", "203.0.113.8/32")
	must(t, labtest.Problem(a.ctx, a.n, "1 of 4 announcements of services are left out, such as 10.244.0.7/32"))
	must(t, labtest.HasMetric(a.ctx, a.n, `onlink_announcements{owner="services"} 3`))
}

// noKernel: neither this node nor one that receives the announcement has a route.
func (a *announcer) noKernel(t *testing.T) {
	labtest.WantCtl(a.ctx, t, a.other, 1, "is rejected by the import policy: not in the pools or import.accept", "explain", "203.0.113.9")
	must(t, labtest.UnknownTo(a.ctx, []*lab.Node{a.other}, netip.MustParsePrefix("203.0.113.9/32")))
	routes, err := a.n.NS.Routes(labtest.RouteProtocol)
	must(t, err)
	for _, r := range routes {
		if strings.HasPrefix(r.Prefix.String(), "203.0.113.") {
			t.Errorf("the announcing node has %v", r)
		}
	}
}

var errGap = errors.New("the announcements were gone for a moment")

// killed: the routers have every announcement at every look while the agent is
// killed and started again, and until it sends a change.
func (a *announcer) killed(t *testing.T) {
	before, err := services(a.ctx, a.ebgp, a.block)
	must(t, err)
	stop, looked := make(chan struct{}), make(chan error, 1)
	go func() {
		for looks := 0; ; looks++ {
			select {
			case <-stop:
				t.Logf("%d looks", looks)
				looked <- nil
				return
			default:
			}
			if have, err := services(a.ctx, a.ebgp, a.block); err != nil || len(have) < len(before) {
				looked <- errors.Join(err, fmt.Errorf("%w: %q", errGap, have))
				return
			}
		}
	}()
	must(t, a.n.Kill())
	labtest.StartNode(a.ctx, t, a.n)
	labtest.WantCtl(a.ctx, t, a.n, 0, "announced", "announce", "operator", "--prefix", "203.0.113.77")
	a.told(a.ebgp, append([]string{before[0], "77 pref 100"}, before[1:]...)...)
	close(stop)
	must(t, <-looked)
	labtest.WantCtl(a.ctx, t, a.n, 0, "0 announced", "announce", "operator", "--none")
	a.told(a.ebgp, before...)
}

// held: a set without two of three is not announced until it is confirmed; nothing
// of it outlives a later one that is no alarm.
func (a *announcer) held(t *testing.T) {
	labtest.WantCtl(a.ctx, t, a.n, 1, "HELD: it would withdraw 3 of 3 announcements", "announce", "services", "--none")
	must(t, labtest.Problem(a.ctx, a.n, "a change of announce services is held"))
	a.told(a.ebgp, "7 pref 100 65535:0", "8 pref 100 65535:0", "9 pref 100 65535:0")
	labtest.WantCtl(a.ctx, t, a.n, 0, "2 announced", "announce", "services", "--prefix", "203.0.113.7", "--prefix", "203.0.113.8")
	a.told(a.ebgp, "7 pref 100", "8 pref 100")
	must(t, labtest.LacksProblem(a.ctx, a.n, "is held"))
	labtest.WantCtl(a.ctx, t, a.n, 1, "HELD: it would withdraw 2 of 2 announcements", "announce", "services", "--none")
	labtest.WantCtl(a.ctx, t, a.n, 0, "the change of announce services is made", "config", "confirm")
	a.told(a.ebgp)
	must(t, labtest.LacksProblem(a.ctx, a.n, "is held"))
}

// configuration: what the file announces, its owner does not, until the file lets
// it go; the routers have it all the while.
func (a *announcer) configuration(t *testing.T) {
	seven := netip.MustParsePrefix("203.0.113.7/32")
	labtest.WantCtl(a.ctx, t, a.n, 0, "1 announced", "announce", "services", "--prefix", seven.String(), "--med", "7")
	a.told(a.ibgp, "7 pref 100 med 7")
	labtest.Originate(a.ctx, t, a.n, seven)
	a.told(a.ibgp, "7 pref 100")
	labtest.WantCtl(a.ctx, t, a.n, 0, "is announced by the configuration already", "announcements")
	labtest.Originate(a.ctx, t, a.n)
	a.told(a.ibgp, "7 pref 100 med 7")
}

// drain: services leave and return with the node.
func (a *announcer) drain(t *testing.T) {
	labtest.WantCtl(a.ctx, t, a.n, 0, "1 announced", "announce", "services", "--prefix", "203.0.113.7")
	a.told(a.ibgp, "7 pref 100")
	labtest.WantCtl(a.ctx, t, a.n, 0, "drained, 0 prefixes announced", "drain", "--wait", "0s")
	a.told(a.ibgp)
	labtest.WantCtl(a.ctx, t, a.n, 0, "withdrawn", "announcements")
	labtest.WantCtl(a.ctx, t, a.n, 1, "the node is drained", "explain", "203.0.113.7")
	labtest.WantCtl(a.ctx, t, a.n, 0, "serving", "undrain")
	a.told(a.ibgp, "7 pref 100")
}
