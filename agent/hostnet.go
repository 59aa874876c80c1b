package agent

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/agent/rooms"
	"onlink/fib/underlay"
	"onlink/rib"
)

// hostClaims names what the node reaches without onlink, and so must be in no
// pool. uplinks are the addresses by which others reach the node: what is
// connected there is not for it to announce.
func hostClaims(networks []underlay.Network, addrs []underlay.Address, uplinks ...netip.Addr) []config.Claim {
	up := map[string]bool{}
	own := map[netip.Prefix]bool{}
	for _, a := range addrs {
		own[netip.PrefixFrom(a.Addr, a.Addr.BitLen())] = true
		up[a.Dev] = up[a.Dev] || slices.Contains(uplinks, a.Addr)
	}
	out := make([]config.Claim, 0, len(networks))
	for _, n := range networks {
		claim := config.Claim{Prefix: n.Prefix, Ours: own[n.Prefix] || !n.Via && !up[n.Dev]}
		switch {
		case n.Via:
			claim.What = "the gateway of routes over " + n.Dev
		case own[n.Prefix]:
			claim.What = "an address of this node on " + n.Dev
		default:
			claim.What = "the network of " + n.Dev
		}
		out = append(out, claim)
	}
	return out
}

// uplinks names the devices that packets from and to other nodes go through:
// those with the node's addresses, and those that next hops and peers are
// reached over.
func (a *agent) uplinks() []string {
	var out []string
	if a.learn != nil {
		out = append(out, a.learn.plane.Devices()...)
	}
	for _, o := range a.watch.Addresses() {
		if (o.Addr == a.id.Address || o.Addr == a.id.Address6) && o.Kind != "loopback" {
			out = append(out, o.Dev)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// claims are what this node's networks are now.
func (a *agent) claims() []config.Claim {
	return hostClaims(a.watch.Networks(), a.watch.Addresses(), a.id.Address, a.id.Address6)
}

// facts are what the configuration needs of this node. The addresses of the
// peers of interfaces are not among them: unnumbered finds those.
func (a *agent) facts() config.Facts {
	return config.Facts{Addresses: []netip.Addr{a.id.Address, a.id.Address6}, Claims: a.claims()}
}

// overlapProblems says which networks of the node came into a pool while the
// agent runs: the next start would be refused.
func (a *agent) overlapProblems() []string {
	var out []string
	for _, e := range a.current().Overlaps(a.claims()) {
		out = append(out, fmt.Sprintf("%s: %s; no drop route covers it, and the next start is refused", e.Field, e.Text))
	}
	return out
}

// permit bounds what may be installed, by the peers' rules and the node's
// networks as they are now.
func (l *learn) permit() rib.Permit {
	p := rooms.Permit(l.peers, l.plane.Filter.Pools(), l.watch.Subnets())
	for _, n := range l.watch.Networks() {
		p.Host = append(p.Host, n.Prefix)
	}
	return p
}

// newFollower makes the follower of this agent's addresses.
func (a *agent) newFollower() *node.Follower {
	return node.NewFollower(node.FollowerConfig{
		Log: a.log.With("part", "address"), ID: a.id, Started: a.started, Written: a.current().Node.Address.Addr,
		Addresses: a.watch.Addresses,
		Find: func() (node.Identity, error) {
			id, _, err := node.Identify(&a.current().Config, a.watch)
			return id, err
		},
		Needs: func(v4 bool) bool {
			for _, p := range a.pools() {
				if p.CIDR.Addr().Is4() == v4 && !a.id.Reaches(p.CIDR) {
					return true
				}
			}
			return false
		},
		Accepts: a.acceptsIdentity,
	})
}

// acceptsIdentity reports why the agent could not start with these addresses.
func (a *agent) acceptsIdentity(id node.Identity) error {
	if m := a.current().BGP.Mesh; m != nil {
		if _, member := m.Peers(id.Address, id.Address6); !member {
			return fmt.Errorf("bgp.mesh: %s is not among its nodes; add it", id.Primary())
		}
	}
	return nil
}
