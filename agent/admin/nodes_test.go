package admin

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onlink/agent/explain"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// census is a registry that lists nodes, or whose last answer is known.
type census struct {
	explain.Registry

	now, before []ipam.Node
	err         error
}

func (c census) Nodes(context.Context) ([]ipam.Node, error) { return c.now, c.err }

func (c census) Known() (explain.Known, bool) {
	return explain.Known{Nodes: c.before, Age: time.Minute}, c.before != nil
}

// TestListNodes: the node itself is always listed, and what the registry does not list
// is said.
func TestListNodes(t *testing.T) {
	t.Parallel()
	n2, n1 := ipam.Node{Name: "n2", Addresses: []netip.Addr{ip("10.57.0.12")}}, ipam.Node{Name: "n1", Addresses: []netip.Addr{ip("10.57.0.99")}}
	down := errors.New("no answer within 700ms")
	for _, c := range []struct {
		name    string
		reg     census
		want    string
		missing string
	}{
		{"all", census{now: []ipam.Node{n2, n1}}, "n1 10.57.0.99, n2 10.57.0.12", ""},
		{"this node is not listed yet", census{now: []ipam.Node{n2}}, "n1 10.57.0.11, n2 10.57.0.12", ""},
		{"this node has no address there", census{now: []ipam.Node{n2, {Name: "n1"}}}, "n1 10.57.0.11, n2 10.57.0.12", ""},
		{"silent", census{before: []ipam.Node{n2}, err: down}, "n1 10.57.0.11, n2 10.57.0.12", "its answer of 1m0s ago"},
		{"silent from the start", census{err: down}, "n1 10.57.0.11", "does not answer (no answer within 700ms)"},
		{"unlisted", census{before: []ipam.Node{}, err: ipam.ErrUnlisted}, "n1 10.57.0.11", "does not list them"},
	} {
		s := (&bed{}).server(t)
		s.World.Registry, s.World.Addresses = c.reg, []netip.Addr{ip("10.57.0.11")}
		s.TCP = func() netip.AddrPort { return netip.MustParseAddrPort("10.57.0.11:9180") }
		r, err := nodes{s: s}.ListNodes(t.Context(), &onlinkv1.ListNodesRequest{})
		var got []string
		for _, n := range r.GetNodes() {
			got = append(got, n.GetNode()+" "+strings.Join(n.GetAddresses(), " "))
		}
		if text := strings.Join(got, ", "); err != nil || text != c.want || r.GetPort() != 9180 || !strings.Contains(r.GetMissing(), c.missing) || (c.missing == "") != (r.GetMissing() == "") {
			t.Errorf("%s: %q, port %d, missing %q, %v; want %q", c.name, text, r.GetPort(), r.GetMissing(), err, c.want)
		}
	}
}
