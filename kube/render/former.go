package render

import (
	"net/netip"
	"slices"

	"onlink/kube/api/v1alpha1"
)

// readFormer finds the sessions in force with Nodes that were reflectors: they are
// deleted, or lost the label. Where no reflector is left, what becomes of the sessions is
// the agent's guard to judge.
func readFormer(in *Input, ros *roster, cur *current, l *ledger) {
	for _, name := range in.Former {
		p, ok := cur.peers[name]
		addr, err := netip.ParseAddr(p.Address)
		if !ok || err != nil || !ofReflector(p) || isReflector(in, name) || isPeer(in.Peers, name, addr) {
			continue
		}
		l.out.Former = append(l.out.Former, name)
		if len(ros.reflectors) > 0 {
			ros.former = append(ros.former, member{name: name, first: addr})
		}
	}
	slices.Sort(l.out.Former)
	slices.SortFunc(ros.former, byName)
}

func isReflector(in *Input, name string) bool {
	for _, n := range in.Reflectors {
		if n.Name == name && IsReflector(n) {
			return true
		}
	}
	return false
}

// isPeer reports whether a BGPPeer has a name or an address.
func isPeer(list []*v1alpha1.BGPPeer, name string, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(p *v1alpha1.BGPPeer) bool {
		a, err := netip.ParseAddr(p.Spec.Address)
		return p.Name == name || err == nil && a.Unmap() == addr
	})
}

// gone returns the former reflectors of which there is no Node, those that are heard or
// those that are not.
func (r *roster) gone(heard bool) (list []member) {
	for _, m := range r.former {
		if r.heard[m.first] == heard && r.owners[m.first] == "" && !slices.ContainsFunc(r.nodes, func(n member) bool { return n.name == m.name }) {
			list = append(list, m)
		}
	}
	return list
}

// linger adds the sessions with former reflectors that are heard. See [Input].Heard.
func (c *cluster) linger(ros *roster, b *base, pools *poolSet, l *ledger) {
	for _, m := range ros.gone(true) {
		if _, ok := pools.forPods(m.first); ok {
			continue // a newer pool, which the address would contradict
		}
		c.peers = append(c.peers, peer{Name: m.name, Address: m.first.String(), PasswordFile: b.link.PasswordFile, HoldTime: b.link.HoldTime, BFD: b.link.BFD})
		l.out.Lingers = true
	}
	slices.SortFunc(c.peers, func(a, b peer) int { return compareNames(a.Name, b.Name) })
}
