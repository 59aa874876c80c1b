package policy

import (
	"net/netip"
	"slices"
)

// addRule translates a filter's rule for a class.
func (p *Plan) addRule(dir direction, k *Class, name string, r *Rule) {
	if r.Match.Source == Service {
		narrowed := *r
		narrowed.Match.Source, narrowed.Match.Prefixes = Own, p.servicesOf(r.Match.Prefixes)
		if len(narrowed.Match.Prefixes) == 0 {
			return // no prefix matches it now
		}
		r = &narrowed
	}
	ch := Change{
		LocalPref: r.Set.LocalPref, MED: r.Set.MED, Prepend: int(r.Set.Prepend), PrependAS: p.asn,
		Communities: r.Set.Communities, Large: r.Set.LargeCommunities, NextHop: r.Set.NextHop, Origin: r.Set.Origin,
	}
	if k.peer.LocalAS != 0 {
		ch.PrependAS = k.peer.LocalAS
	}
	for _, c := range ruleConditions(dir, k, r) {
		st := Statement{Rule: name, Cond: c, Change: ch, Action: r.Action}
		if hop := ch.NextHop; c.Bits != 0 && hop.bits(k) != c.Bits {
			st.Change.NextHop = NextHop{}
		}
		add, rest := st.split()
		if dir == importing {
			p.Imports = appendImport(append(p.Imports, add...), rest)
		} else {
			p.Exports = appendExport(append(p.Exports, add...), rest)
		}
	}
}

// bits returns the length of the addresses whose prefixes the next hop is for;
// 0 means both families.
func (n NextHop) bits(k *Class) int {
	switch n.Kind {
	case NextHopSelf, NextHopPeer:
		if k.peer.linkLocal() {
			return 0 // IPv4 through an IPv6 neighbour (RFC 8950)
		}
		return k.bits()
	case NextHopAddress:
		return n.Addr.BitLen()
	case NextHopKeep, NextHopUnchanged:
	}
	return 0
}

// ruleConditions returns disjoint conditions that together are the rule's. An
// import rule that accepts without prefixes does not match the default route.
func ruleConditions(dir direction, k *Class, r *Rule) []Condition {
	c := Condition{
		Peers: k, Source: r.Match.Source, Communities: r.Match.Communities,
		Large: r.Match.LargeCommunities, ASPath: r.Match.ASPath,
	}
	rules := r.Match.Prefixes
	oneFamily := r.Set.NextHop.bits(k) != 0
	if len(rules) == 0 {
		switch {
		case dir == importing && r.Action == Accept:
			rules = []PrefixRule{
				{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Ge: 1, Le: 32},
				{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Ge: 1, Le: 128},
			}
		case oneFamily:
			v4, v6 := c, c
			v4.Bits, v6.Bits = 32, 128
			return []Condition{v4, v6}
		default:
			return []Condition{c}
		}
	}
	var list []Condition
	for _, part := range byFamily(rules) {
		one := c
		one.Prefixes = part
		if oneFamily {
			one.Bits = part[0].Prefix.Addr().BitLen()
		}
		list = append(list, one)
	}
	return list
}

// split parts a statement that adds and removes communities of one kind into
// one that adds, and the rest: the engine does one of both in a statement.
// The added communities do not make the condition fail for the rest.
func (st Statement) split() (add []Statement, rest Statement) {
	first, rest := st, st
	first.Change, first.Action = Change{}, Next
	if c := &rest.Change.Communities; len(c.Add) > 0 && len(c.Remove) > 0 {
		first.Change.Communities.Add, c.Add = c.Add, nil
	}
	if c := &rest.Change.Large; len(c.Add) > 0 && len(c.Remove) > 0 {
		first.Change.Large.Add, c.Add = c.Add, nil
	}
	if first.Change.empty() {
		return nil, rest
	}
	return []Statement{first}, rest
}

// appendExport adds a statement. One that replaces the communities is
// preceded by its form for routes in graceful shutdown, which must keep that
// community: otherwise the peers would not move away before a withdrawal.
func appendExport(list []Statement, st Statement) []Statement {
	if replace := st.Change.Communities.Replace; len(replace) > 0 && !slices.Contains(replace, GracefulShutdown) {
		for _, c := range st.Cond.withGracefulShutdown() {
			kept := st
			kept.Cond = c
			kept.Change.Communities.Replace = append(slices.Clone(replace), GracefulShutdown)
			list = append(list, kept)
		}
	}
	return append(list, st)
}

// bits is the length of the neighbours' addresses.
func (k *Class) bits() int { return k.Neighbors[0].Addr().BitLen() }

// direction of a policy, seen from this node.
type direction uint8

const (
	importing direction = iota
	exporting
)
