package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestRefusedByImport: of what a ToR announces its import takes one prefix. The
// columns of peers tell both numbers, and explain says of the others that the
// ToR announces them, and which rule refuses them: one that no entry names, and
// one inside the pool, which an entry wider than the pool does not mean.
func TestRefusedByImport(t *testing.T) {
	spec := labtest.Mesh("refused", 1)
	ctx, l := labtest.Build(t, spec)
	n, tor := l.Node("r1n1"), l.ToRs()[0]
	taken, other, free := netip.MustParsePrefix("10.99.7.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("10.244.222.0/26")
	s := labtest.SetupOf(tor, n)
	s.Announce = []netip.Prefix{taken, other, free}
	labtest.StartRouter(ctx, t, l, interop.BIRD, tor, s)
	peer := tor.Peer()
	peer.Import.Accept = conf.Rules("10.0.0.0/8")
	labtest.Wire(l, map[string]conf.BGP{n.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{peer}}})
	must(t, l.StartNodes(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "the ToR's prefix", func() error { return labtest.ThroughHops(n, taken, tor.Addr) }))
	must(t, lab.Eventually(ctx, labtest.Patience, "the columns of peers", func() error {
		received, accepted, err := columns(ctx, n, tor.Name)
		if err == nil && (received != 3 || accepted != 1) {
			err = fmt.Errorf("received %d, accepted %d; want 3 and 1", received, accepted)
		}
		return err
	}))
	must(t, labtest.HasMetric(ctx, n, fmt.Sprintf("onlink_bgp_peer_prefixes_accepted{address=%q,peer=%q} 1", tor.Addr, tor.Name)))
	must(t, labtest.UnknownTo(ctx, []*lab.Node{n}, other))
	must(t, labtest.UnknownTo(ctx, []*lab.Node{n}, free))
	for p, rule := range map[netip.Prefix]string{other: "not in import.accept (RFC 8212)", free: "inside a pool that import.accept does not name"} {
		out, err := n.Ctl(ctx, "explain", p.Addr().Next().String())
		want := fmt.Sprintf("%s next hop %s, announced by %s (%s), is rejected by the import policy: %s", p, tor.Addr, tor.Name, tor.Addr, rule)
		if !strings.Contains(out.Stdout, want) || strings.Contains(out.Stdout, "no peer announces it") {
			t.Errorf("explain of %s (%v) lacks %q:\n%s", p, err, want, out.Stdout)
		}
	}
}

// columns returns what a node received from a peer, and accepted.
func columns(ctx context.Context, n *lab.Node, peer string) (received, accepted int, err error) {
	out, err := n.Ctl(ctx, "peers", "-o", "json")
	if err != nil {
		return 0, 0, err
	}
	var list struct {
		Peers []struct {
			Name     string
			Received int `json:"prefixes_in,string"`
			Accepted int `json:"accepted,string"`
		}
	}
	if err := json.Unmarshal([]byte(out.Stdout), &list); err != nil {
		return 0, 0, err
	}
	for _, p := range list.Peers {
		if p.Name == peer {
			return p.Received, p.Accepted, nil
		}
	}
	return 0, 0, errors.New("no peer " + peer)
}
