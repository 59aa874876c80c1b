package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onlink/ipam"
)

// Registry tells who owns an address.
type Registry interface {
	// InPool reports whether an address is one that onlink assigns.
	InPool(addr netip.Addr) bool
	// OwnBlock returns the block of this node that holds an address.
	OwnBlock(addr netip.Addr) (ipam.BlockUsage, bool)
	// Known returns the registry's last answer without waiting; false: there was
	// none.
	Known() (Known, bool)
	// Registered returns the blocks of all nodes, or why the registry does not
	// answer; it returns within a second.
	Registered(ctx context.Context) ([]ipam.Block, error)
	// Nodes returns the addresses of all nodes, as Registered returns the blocks.
	Nodes(ctx context.Context) ([]ipam.Node, error)
}

// Known is an answer of the registry.
type Known struct {
	Blocks []ipam.Block
	Nodes  []ipam.Node
	Age    time.Duration
}

// fresh is the age up to which a known answer is as good as a new one.
const fresh = 90 * time.Second

// ownerLink finds the node that owns the address's block. A registry that does
// not answer is no broken link: the path works without it, and what is known
// locally is used, with its age.
type ownerLink struct {
	node     string
	registry Registry
}

func (l ownerLink) check(ctx context.Context, t *trail) {
	if own, ok := l.registry.OwnBlock(t.To); ok { // known without the registry
		t.owner = l.node
		t.ok("owner", "block %s of pool %s belongs to node %s, this one (epoch %d)", own.CIDR, own.Pool, own.Node, own.Epoch)
		return
	}
	if !l.registry.InPool(t.To) {
		t.ok("owner", "%s is outside every pool: not an address onlink assigns", t.To)
		return
	}
	known, answered := l.registry.Known()
	if b, ok := blockOf(known.Blocks, t.To); ok && known.Age <= fresh {
		l.found(ctx, t, b, known, "")
		return
	}
	blocks, err := l.registry.Registered(ctx)
	if err == nil {
		if b, ok := blockOf(blocks, t.To); ok {
			l.found(ctx, t, b, known, "")
			return
		}
		t.free = true
		t.broken("owner", OwnerUnclaimed, "ping an address of a running pod instead; `onlinkctl blocks --all` lists the blocks of all nodes",
			"%s is a free address of a pool: no node has claimed its block, so no node announces it", t.To)
		return
	}
	unlisted := errors.Is(err, ipam.ErrUnlisted)
	if b, ok := blockOf(known.Blocks, t.To); ok && answered {
		l.found(ctx, t, b, known, fmt.Sprintf("; the registry does not answer now (%v), this is its answer of %v ago", err, known.Age.Round(time.Second)))
		return
	}
	if unlisted {
		t.ok("owner", "unknown: the block registry lists only this node's blocks")
	} else {
		t.silent = true
		t.ok("owner", "unknown: the block registry does not answer (%v)", err)
	}
}

// found records the owner.
func (l ownerLink) found(ctx context.Context, t *trail, b ipam.Block, known Known, note string) {
	t.owner = b.Node
	if t.nodes = addressesOf(known.Nodes, b.Node); len(t.nodes) == 0 {
		if nodes, err := l.registry.Nodes(ctx); err == nil { // the node is newer than the last answer
			t.nodes = addressesOf(nodes, b.Node)
		}
	}
	t.ok("owner", "block %s of pool %s belongs to node %s (epoch %d)%s", b.CIDR, b.Pool, b.Node, b.Epoch, note)
}

// addressesOf returns the addresses of a node.
func addressesOf(list []ipam.Node, name string) []netip.Addr {
	i := slices.IndexFunc(list, func(n ipam.Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return list[i].Addresses
}

func blockOf(list []ipam.Block, addr netip.Addr) (ipam.Block, bool) {
	i := slices.IndexFunc(list, func(b ipam.Block) bool { return b.CIDR.Contains(addr) })
	if i < 0 {
		return ipam.Block{}, false
	}
	return list[i], true
}
