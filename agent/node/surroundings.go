package node

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// Host is what the kernel says of the machine now: an [underlay.Watcher].
type Host interface {
	Networks() []underlay.Network
	Addresses() []underlay.Address
}

// Surroundings are what the node is connected to besides onlink. Its methods may
// be called by any goroutine.
type Surroundings struct {
	Host Host
	ID   Identity
}

// Facts are what the configuration needs of this node. The addresses of the
// peers of interfaces are not among them: [Unnumbered] finds those.
func (s Surroundings) Facts() config.Facts {
	return config.Facts{Addresses: []netip.Addr{s.ID.Address, s.ID.Address6}, Claims: s.claims()}
}

// Startable returns why the agent could not start with a configuration on this
// machine: it has not the address that is written out. In Kubernetes the address is
// the Node's, which a second machine of the name overwrites with its own. An agent
// that went down with it would leave its name and blocks to that machine while its
// pods run.
func (s Surroundings) Startable(c *config.Effective) error {
	want := c.Node.Address.Addr
	if p := c.Node.Address.Prefix; p.IsValid() && p.IsSingleIP() {
		want = p.Addr()
	}
	have := s.Host.Addresses()
	if !want.IsValid() || slices.ContainsFunc(have, func(a underlay.Address) bool { return a.Addr == want }) {
		return nil
	}
	return config.Errors{c.Places.Mistake("node.address", "this machine does not have %s: give it the address first, or write one that it has; in Kubernetes "+
		"see whether another machine registers the same Node", want)}
}

// claims names what the node reaches without onlink, and so must be in no pool.
// What is connected to its uplinks, which have its own addresses, is not for it
// to announce.
func (s Surroundings) claims() []config.Claim {
	up := map[string]bool{}
	own := map[netip.Prefix]bool{}
	for _, a := range s.Host.Addresses() {
		own[netip.PrefixFrom(a.Addr, a.Addr.BitLen())] = true
		up[a.Dev] = up[a.Dev] || s.ID.has(a.Addr)
	}
	networks := s.Host.Networks()
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

// Uplinks names the devices that packets from and to other nodes go through:
// those with the node's addresses, and those that next hops and peers are
// reached over.
func (s Surroundings) Uplinks(reached ...string) []string {
	out := slices.Clone(reached)
	for _, a := range s.Host.Addresses() {
		if s.ID.has(a.Addr) && a.Kind != "loopback" {
			out = append(out, a.Dev)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Problems says which networks of the node came into a pool while the agent
// runs: the next start would be refused. It says, too, at which device no router was
// found for a peer without an address.
func (s Surroundings) Problems(c *config.Effective) []string {
	var out []string
	for _, e := range c.Overlaps(s.claims()) {
		out = append(out, fmt.Sprintf("%s: %s; no drop route covers it, and the next start fails", e.Field, e.Text))
	}
	for _, p := range c.BGP.Peers {
		if p.Unnumbered && !p.Address.IsValid() {
			out = append(out, fmt.Sprintf("peer %s: no IPv6 neighbour on %s: check the link, and that the peer has IPv6 enabled", p.Name, p.Interface))
		}
	}
	return out
}
