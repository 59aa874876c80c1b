package labtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"onlink/integration/lab"
)

// KnownTo returns an error that names a node whose kernel lacks a prefix; the
// nodes in from announce it and need no route.
func KnownTo(ctx context.Context, nodes, from []*lab.Node, p netip.Prefix) error {
	announces := map[*lab.Node]bool{}
	for _, n := range from {
		announces[n] = true
	}
	for _, n := range nodes {
		if announces[n] {
			continue
		}
		if err := HasRoute(n, p, RouteProtocol); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return ctx.Err()
}

// UnknownTo returns an error that names a node with one of the prefixes, in its
// kernel or among its decided routes.
func UnknownTo(ctx context.Context, nodes []*lab.Node, prefixes ...netip.Prefix) error {
	ghost := map[string]bool{}
	for _, p := range prefixes {
		ghost[p.String()] = true
	}
	for _, n := range nodes {
		kernel, err := n.NS.Routes(RouteProtocol)
		if err != nil {
			return err
		}
		for _, r := range kernel {
			if ghost[r.Prefix.String()] {
				return fmt.Errorf("%s has %s: %w", n.Name, r, errGhost)
			}
		}
		routes, err := n.Routes(ctx)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if ghost[r.GetPrefix()] {
				return fmt.Errorf("%s decides %v: %w", n.Name, r, errGhost)
			}
		}
	}
	return nil
}

// errGhost is a route that outlived its announcement.
var errGhost = errors.New("a route nobody announces")

// ErrNotLearned is returned for a route that a neighbour has not learned.
var ErrNotLearned = errors.New("not learned")

// ThroughHops returns the difference between a node's route and one through hops;
// without hops it must have no route.
func ThroughHops(n *lab.Node, p netip.Prefix, hops ...netip.Addr) error {
	routes, err := n.NS.Routes(RouteProtocol)
	if err != nil {
		return err
	}
	var have []netip.Addr
	for _, route := range routes {
		if route.Prefix == p {
			for _, h := range route.Hops {
				have = append(have, h.Via)
			}
		}
	}
	slices.SortFunc(have, netip.Addr.Compare)
	want := slices.SortedFunc(slices.Values(hops), netip.Addr.Compare)
	if !slices.Equal(have, want) {
		return fmt.Errorf("%s goes through %v, want %v", p, have, want)
	}
	return nil
}

// CheckRoutes waits until the kernel of every node holds the routes that its
// agent decided.
func CheckRoutes(ctx context.Context, t *testing.T, l *lab.Lab) {
	for _, n := range l.Nodes() {
		err := lab.Eventually(ctx, Patience, "kernel and agent agree on "+n.Name, func() error {
			count, err := n.CompareRoutes(ctx)
			if err == nil && count < len(l.Nodes()) {
				err = fmt.Errorf("%d routes, want at least one per node", count)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// DefaultRoute is the IPv4 default route.
var DefaultRoute = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// RouteProtocol is the kernel's route protocol of onlink's routes, as the
// documentation gives it: a test that read it from the agent's code could not
// find a change of it.
const RouteProtocol = 179

// BlockOf returns a node's first block.
func BlockOf(ctx context.Context, t *testing.T, n *lab.Node) netip.Prefix {
	t.Helper()
	blocks, err := n.Blocks(ctx)
	Must(t, err)
	if len(blocks) == 0 {
		t.Fatalf("%s has no block", n.Name)
	}
	p, err := netip.ParsePrefix(blocks[0].GetCidr())
	Must(t, err)
	return p
}

// HasRoute returns an error when the node's kernel holds no route of that
// protocol to a prefix.
func HasRoute(n *lab.Node, p netip.Prefix, protocol int) error {
	routes, err := n.NS.Routes(protocol)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Prefix == p {
			return nil
		}
	}
	return fmt.Errorf("%s has no route to %s with protocol %d", n.Name, p, protocol)
}

// WantDecision waits until the agent has decided a prefix this way.
func WantDecision(ctx context.Context, t *testing.T, n *lab.Node, p netip.Prefix, installed bool, reason string, via netip.Addr) {
	t.Helper()
	Must(t, lab.Eventually(ctx, Patience, "decision for "+p.String(), func() error {
		routes, err := n.Routes(ctx)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.GetPrefix() != p.String() {
				continue
			}
			way := ""
			if len(r.GetHops()) == 1 {
				way = r.GetHops()[0].GetVia()
			}
			if r.GetInstalled() == installed && r.GetReason() == reason && (!via.IsValid() || way == via.String()) {
				return nil
			}
			return fmt.Errorf("got %v", r)
		}
		return fmt.Errorf("the agent has no route to %s", p)
	}))
}

// WantHop waits until a node's kernel holds onlink's route to a prefix through
// just this hop; its on-link flag is not compared.
func WantHop(ctx context.Context, t *testing.T, n *lab.Node, p netip.Prefix, want lab.KernelHop) {
	t.Helper()
	Must(t, lab.Eventually(ctx, Patience, fmt.Sprintf("%s reaches %s %s", n.Name, p, want), func() error {
		routes, err := n.NS.Routes(RouteProtocol)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Prefix == p {
				if len(r.Hops) == 1 && r.Hops[0].Via == want.Via && r.Hops[0].Dev == want.Dev {
					return nil
				}
				return fmt.Errorf("kernel has %s", r)
			}
		}
		return errors.New("kernel has no route")
	}))
}

// BlockOfFamily returns a node's first block of one family.
func BlockOfFamily(ctx context.Context, t *testing.T, n *lab.Node, v6 bool) netip.Prefix {
	t.Helper()
	blocks, err := n.Blocks(ctx)
	Must(t, err)
	for _, b := range blocks {
		p, err := netip.ParsePrefix(b.GetCidr())
		Must(t, err)
		if p.Addr().Is6() == v6 {
			return p
		}
	}
	t.Fatalf("%s has no block of that family", n.Name)
	return netip.Prefix{}
}
