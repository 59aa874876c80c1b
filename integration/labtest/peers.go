package labtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	onlinkv1 "onlink/proto/v1"
)

// WaitBFD waits until want BFD sessions of a node are up.
func WaitBFD(ctx context.Context, n *lab.Node, want int) error {
	return lab.Eventually(ctx, 20*time.Second, "BFD of "+n.Name, func() error {
		out, err := n.Ctl(ctx, "peers", "-o", "json")
		if err != nil {
			return err
		}
		if up := strings.Count(strings.ReplaceAll(out.Stdout, " ", ""), `"state":"Up"`); up != want {
			return fmt.Errorf("%d of %d sessions up:\n%s", up, want, out.Stdout)
		}
		return nil
	})
}

// Session is an established session: the time of its start, and the number of its
// losses.
type Session struct {
	Since time.Time
	Flaps uint64
}

// Sessions returns the established sessions of a node, by the peer's name.
func Sessions(ctx context.Context, t *testing.T, n *lab.Node) map[string]Session {
	t.Helper()
	admin, err := n.Admin()
	Must(t, err)
	r, err := admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	Must(t, err)
	list := map[string]Session{}
	for _, p := range r.GetPeers() {
		if p.GetState() == "Established" {
			list[p.GetName()] = Session{time.Now().Add(-p.GetSince().AsDuration()), p.GetFlaps()}
		}
	}
	return list
}

// Wire sets the section bgp of every node's file, by the node's name; the lab's
// registry and pools stay.
func Wire(l *lab.Lab, plans map[string]conf.BGP) {
	for _, n := range l.Nodes() {
		n.Edit = func(c *conf.Config) { c.BGP = plans[n.Name] }
	}
}

// ReachEverybody starts the nodes, adds a pod to every worker, and waits until
// every node has every block; then every pod must answer every other one.
func ReachEverybody(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	Must(t, l.StartNodes(ctx))
	addPods(ctx, t, l, 1)
	Must(t, l.WaitConverged(ctx))
	_, err := l.PingPods(ctx, 1)
	Must(t, err)
}

// FabricPeer returns a node's session to a router that announces the pods of
// others.
func FabricPeer(tor *lab.ToR) *conf.Peer {
	p := tor.Peer()
	p.Import.Accept = conf.Rules("10.244.0.0/16")
	return p
}

// WaitBlocks waits until every node has a block.
func WaitBlocks(ctx context.Context, l *lab.Lab) error {
	for _, n := range l.Nodes() {
		err := lab.Eventually(ctx, Patience, n.Name+" has a block", func() error {
			list, err := n.Blocks(ctx)
			if err == nil && len(list) == 0 {
				err = ErrNotLearned
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// LearnedExactly returns an error when a router learned other prefixes than
// these.
func LearnedExactly(ctx context.Context, r *interop.Router, want []netip.Prefix) error {
	list, err := r.Learned(ctx)
	if err != nil {
		return err
	}
	var have []netip.Prefix
	for _, route := range list {
		have = append(have, route.Prefix)
	}
	slices.SortFunc(have, netip.Prefix.Compare)
	if sorted := slices.SortedFunc(slices.Values(want), netip.Prefix.Compare); !slices.Equal(have, sorted) {
		return fmt.Errorf("has %v, want %v", have, sorted)
	}
	return nil
}

// StartFabric starts the ToRs as routers of a fabric: each announces to its
// nodes the routes of all others. asn holds the AS of each node, by name.
func StartFabric(ctx context.Context, t *testing.T, l *lab.Lab, asn map[string]uint32) {
	t.Helper()
	for _, tor := range l.ToRs() {
		tor.NodeASN, tor.Transit = asn, true
	}
	Must(t, l.StartToRs(ctx))
}
