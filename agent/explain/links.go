package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/fib"
	"onlink/internal/ours"
	"onlink/ipam"
	"onlink/rib"
)

// This file has one function for each link of the chain.

// explainOwner finds the node that owns the address's block. A registry that
// does not answer is no broken link: the path works without it.
func (c *chain) explainOwner(ctx context.Context) {
	if own, ok := c.OwnBlock(c.addr); ok { // known without the registry
		c.owner = c.Node()
		c.add(true, "owner", "block %s of pool %s belongs to node %s, this one (epoch %d)", own.CIDR, own.Pool, own.Node, own.Epoch)
		return
	}
	if !c.InPool(c.addr) {
		c.add(true, "owner", "%s is outside every pool: not an address onlink assigns", c.addr)
		return
	}
	blocks, err := c.Registered(ctx)
	if errors.Is(err, ipam.ErrUnlisted) {
		c.quiet = true
		c.add(true, "owner", "unknown: the block registry lists only this node's blocks")
		return
	}
	if err != nil {
		c.quiet = true
		c.add(true, "owner", "unknown: the block registry does not answer (%v)", err)
		return
	}
	i := slices.IndexFunc(blocks, func(b ipam.Block) bool { return b.CIDR.Contains(c.addr) })
	if i < 0 {
		c.free = true
		c.add(false, "owner", "no node has claimed a block that contains %s", c.addr)
		return
	}
	c.owner = blocks[i].Node
	c.add(true, "owner", "block %s of pool %s belongs to node %s (epoch %d)", blocks[i].CIDR, blocks[i].Pool, blocks[i].Node, blocks[i].Epoch)
}

// passRefused steps over a route that a rule keeps out of the kernel, where a
// shorter one takes its packets: a rejected announcement does not break the
// chain of the address.
func (c *chain) passRefused(d Decision) rib.Route {
	if d.Route.Kind != rib.Unresolved || !d.Route.Reason.Refused() || !d.Uses {
		return d.Route
	}
	c.add(true, "refused", "%s", unusable(d.Route))
	return d.Installable
}

// refused adds the announcements of the address that import rejects, and
// reports whether there are any. They break the chain where no other route
// covers the address.
func (c *chain) refused(ctx context.Context) bool {
	found := false
	for _, r := range c.Announced(ctx, c.addr) {
		if r.Verdict.Accepted {
			continue
		}
		found = true
		c.add(c.known, "import", "%s next hop %s, announced by %s (%s), refused by its import: %s", r.Route.Prefix, r.Route.NextHop, r.Name, r.Peer, r.Verdict.Rule)
	}
	return found
}

// path adds the BGP paths of the route.
func (c *chain) path(ctx context.Context) bool {
	if !c.known {
		return c.add(false, "bgp-path", "no path covers %s", c.addr)
	}
	paths := c.Paths(ctx, c.route.Prefix)
	if len(paths) == 0 {
		return c.add(false, "bgp-path", "no path for %s", c.route.Prefix)
	}
	for _, p := range paths {
		c.add(true, "bgp-path", "%s", pathText(p))
	}
	return true
}

// kernel compares the decision with the kernel's own answer for the address,
// and checks the neighbour that receives the packet. It returns "" when all is
// well.
func (c *chain) kernel() string {
	got, err := c.Lookup(c.addr)
	if err != nil {
		c.add(false, "kernel-route", "the kernel has no route: %v", err)
		return fmt.Sprintf("the kernel has no route to %s though one is decided; the next resync repairs it", c.addr)
	}
	if got.Protocol != ours.Protocol || got.Dst != c.route.Prefix {
		owner := fib.ProtocolName(got.Protocol)
		c.add(false, "kernel-route", "the kernel prefers %s proto %s", got.Dst, owner)
		return fmt.Sprintf("a route that is not onlink's (%s, protocol %s) takes the packets for %s; remove it or change its metric", got.Dst, owner, c.addr)
	}
	c.add(true, "kernel-route", "%s proto onlink", got.Dst)
	return c.neighbours()
}

// neighbours adds the state of each next hop that is on a link of this node.
func (c *chain) neighbours() string {
	for h := range c.route.Hops.All() {
		if h.Tunnel || !h.Via.IsValid() {
			continue // a tunnel's outer packet follows the underlay's own routes
		}
		state := c.neighbourState(h.Via, h.Dev)
		if !c.add(state != unix.NUD_FAILED, "neighbour", "%s dev %s: %s", h.Via, h.Dev, nudText(state)) {
			return fmt.Sprintf("next hop %s does not answer ARP/ND on %s: that node is down or cut off from this network", h.Via, h.Dev)
		}
	}
	return ""
}

func (c *chain) neighbourState(addr netip.Addr, dev string) int {
	list, err := c.Neighbours(dev)
	if err != nil {
		return unix.NUD_NONE
	}
	for _, n := range list {
		if n.Addr == addr {
			return int(n.State)
		}
	}
	return unix.NUD_NONE
}

// host adds the obstacle in the host's network for the address's packets, when
// all else is well.
func (c *chain) host(verdict string) string {
	if !c.InPool(c.addr) {
		return verdict
	}
	against := c.HostObstacle(c.addr)
	if against == "" {
		return verdict
	}
	c.add(false, "host", "%s", against)
	return fmt.Sprintf("this node has the right route for %s, but does not forward: %s", c.addr, against)
}
