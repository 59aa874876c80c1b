// Package node finds this node's identity towards others: its addresses, router
// ID and capabilities, and the peers at the other ends of its links. It follows
// changes of them while the agent runs, and changes nothing of the node.
package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// Identity is this node's identity towards its peers.
type Identity struct {
	Name     string
	Address  netip.Addr // IPv4 next hop of this node's blocks and outer source of its tunnels; may be zero on an IPv6-only node
	Address6 netip.Addr // the same for IPv6; may be zero
	RouterID netip.Addr // RFC 6286: any 4-byte value, unique in the AS
}

// Primary returns the address shown to operators.
func (id Identity) Primary() netip.Addr {
	if id.Address.IsValid() {
		return id.Address
	}
	return id.Address6
}

// Reaches reports whether the node has an address that can be the next hop of
// a prefix.
func (id Identity) Reaches(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return id.Address.IsValid()
	}
	return id.Address6.IsValid()
}

// has reports whether an address is one of the node's own.
func (id Identity) has(a netip.Addr) bool { return a == id.Address || a == id.Address6 }

// Accepts reports why an agent with this configuration could not start as id.
func (id Identity) Accepts(c *config.Effective) error {
	if m := c.BGP.Mesh; m != nil {
		if _, member := m.Peers(id.Address, id.Address6); !member {
			return fmt.Errorf("bgp.mesh: %s is not among its nodes; add it", id.Primary())
		}
	}
	return nil
}

// lacks reports whether one of the pools is unreachable because the node has no
// address of its family.
func (id Identity) lacks(pools []config.Pool, v4 bool) bool {
	return slices.ContainsFunc(pools, func(p config.Pool) bool { return p.CIDR.Addr().Is4() == v4 && !id.Reaches(p.CIDR) })
}

// Identify finds the node's addresses. It reports whether one that is missing
// may come within seconds.
func Identify(c *config.Config, watch *underlay.Watcher) (id Identity, pending bool, err error) {
	id = Identity{Name: c.Node.Name, RouterID: c.BGP.RouterID}
	if dev := c.Node.Address.Interface; dev != "" {
		if _, err := underlay.Index(dev); err != nil {
			return id, false, fmt.Errorf("node.address: %w; set a device, an address or a network of this node", err)
		}
	}
	view := hostView{addrs: watch.Addresses(), source: underlay.Source, match: underlay.Lookup}
	found, err := view.choose(c.Node.Address, Targets(c))
	if err != nil {
		return id, found.pending, err
	}
	id.Address, id.Address6 = found.v4, found.v6
	if !id.RouterID.IsValid() {
		id.RouterID = defaultRouterID(id)
	}
	return id, found.pending, nil
}

// Duplicate address detection takes a second or two (RFC 4862 section 5.4); a
// start waits so long for an address of which it is not over.
const (
	pendingWait = 5 * time.Second
	pendingLook = 50 * time.Millisecond
)

// IdentifySoon is [Identify] that waits for an address which is about to come:
// the boot does not wait for all of them (network-online.target).
func IdentifySoon(ctx context.Context, c *config.Config, watch *underlay.Watcher) (Identity, error) {
	for end := time.Now().Add(pendingWait); ; {
		id, pending, err := Identify(c, watch)
		if !pending || time.Now().After(end) {
			return id, err
		}
		select {
		case <-ctx.Done():
			return id, ctx.Err()
		case <-time.After(pendingLook):
		}
		if err := watch.Refresh(); err != nil {
			return id, fmt.Errorf("node.address: %w", err)
		}
	}
}

// defaultRouterID is the IPv4 address, or on an IPv6-only node a hash of its
// name: the BGP identifier must be unique in the AS (RFC 6286 section 2.1).
func defaultRouterID(id Identity) netip.Addr {
	if id.Address.IsValid() {
		return id.Address
	}
	h := fnv.New32a()
	h.Write([]byte(id.Name))
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], h.Sum32()|1)
	return netip.AddrFrom4(b)
}
