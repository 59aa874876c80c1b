package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Class is a set of peers that share one policy. The engine has only global
// policies for ordinary peers, so every statement names its peers; a class closes
// with a refusal, so that a route that is not accepted for a peer never falls
// through to another class's statements.
type Class struct {
	Neighbors []netip.Prefix // never empty: to the engine an empty set matches all
	peer      Peer           // the first of them
	audience  string         // of each of them, see Plan.audience
}

// Plan is the policy of this node, computed from the configuration: the
// statements of both directions, in the order of their evaluation.
type Plan struct {
	Imports, Exports []Statement

	asn        uint32
	classes    []Class
	pools      []Pool
	aggregates []netip.Prefix // that this node announces, to any peer
	hiding     []netip.Prefix // those of them that are not about to be withdrawn
	services   []netip.Prefix
	others     []netip.Prefix // own ones that are no services
	restricted []restricted
}

// NewPlan computes the policy for the given peers, ranges of peers and own
// prefixes. Peers come first, then ranges by descending length.
func NewPlan(n *Node, peers, ranges []Peer, own []OwnPrefix) *Plan {
	plan := &Plan{asn: n.ASN}
	plan.takeOwn(own)
	for i := range peers {
		plan.addFrom(0, &peers[i])
	}
	static := len(plan.classes)
	byLength := slices.Clone(ranges)
	slices.SortStableFunc(byLength, func(a, b Peer) int { return b.Neighbor.Bits() - a.Neighbor.Bits() })
	for i := range byLength {
		plan.addFrom(static, &byLength[i])
	}
	plan.pools = n.Pools
	plan.refuseOwn(n, own)
	plan.Exports = append(plan.Exports, Statement{
		Rule: "NO_ADVERTISE (RFC 1997)", Cond: Condition{Communities: []string{noAdvertise}}, Action: Reject,
	})
	for i := range plan.classes {
		plan.classImports(&plan.classes[i])
		plan.classExports(&plan.classes[i])
	}
	return plan
}

// addFrom puts a peer into the class with its policy, among those from index
// from on. Ranges may overlap, so each gets a class of its own.
func (p *Plan) addFrom(from int, s *Peer) {
	audience := p.audience(s.Name)
	if from == 0 {
		for i := range p.classes {
			if k := &p.classes[i]; k.audience == audience && k.peer.samePolicy(s) {
				k.Neighbors = append(k.Neighbors, s.Neighbor)
				return
			}
		}
	}
	p.classes = append(p.classes, Class{Neighbors: []netip.Prefix{s.Neighbor}, peer: *s, audience: audience})
}

// refuseOwn begins the import policy: no peer's route to an own prefix or with an
// own next hop is accepted. Own paths go through the import policy too.
func (p *Plan) refuseOwn(n *Node, own []OwnPrefix) {
	p.Imports = append(p.Imports, Statement{Rule: "originated here", Cond: Condition{Source: Own}, Action: Accept})
	var hops []string
	for _, a := range n.Addresses {
		if a.IsValid() {
			hops = append(hops, a.String())
		}
	}
	if len(hops) > 0 {
		p.Imports = append(p.Imports, Statement{
			Rule: "the next hop is this node: a loop", Cond: Condition{Hops: hops}, Action: Reject,
		})
	}
	var inside []PrefixRule
	for _, o := range own {
		le := o.Prefix.Addr().BitLen()
		if o.Aggregate {
			le = o.Prefix.Bits() // other nodes have blocks inside
		}
		inside = append(inside, PrefixRule{Prefix: o.Prefix, Ge: o.Prefix.Bits(), Le: le})
	}
	for _, part := range byFamily(inside) {
		p.Imports = append(p.Imports, Statement{
			Rule: "a prefix of this node, or inside one", Cond: Condition{Prefixes: part}, Action: Reject,
		})
	}
}

// classImports adds the import statements for the peers of a class. The LOCAL_PREF
// of a peer of another AS is overwritten before a filter may set one.
func (p *Plan) classImports(k *Class) {
	s := &k.peer
	pref := uint32(0)
	if s.External {
		if pref = s.Import.LocalPref; pref == 0 {
			pref = 100
		}
	}
	if pref != 0 && len(s.Import.Filters) > 0 {
		p.Imports = append(p.Imports, Statement{
			Rule: "LOCAL_PREF of the peer overwritten", Cond: Condition{Peers: k}, Change: Change{LocalPref: pref}, Action: Next,
		})
		pref = 0
	}
	for _, f := range s.Import.Filters {
		for i := range f.Rules {
			p.addRule(importing, k, fmt.Sprintf("filter %s rule %d", f.Name, i+1), &f.Rules[i])
		}
	}
	for _, d := range importDefaults(s, p.pools) {
		for _, part := range byFamily(d.rules) {
			st := Statement{Rule: d.rule, Cond: Condition{Peers: k, Prefixes: part}, Action: d.action}
			if d.action == Accept {
				st.Change.LocalPref = pref
			}
			p.Imports = appendImport(p.Imports, st)
		}
	}
	rule := "not in the pools or import.accept"
	if s.External {
		rule = "not in import.accept (RFC 8212)"
	}
	p.Imports = append(p.Imports, Statement{Rule: rule, Cond: Condition{Peers: k}, Action: Reject})
}

// appendImport adds a statement. One that accepts is preceded by its form for
// routes in graceful shutdown, which become the last resort whatever LOCAL_PREF
// the statement sets (RFC 8326 section 4.1). The engine's action has no
// LOCAL_PREF 0; 1 is the next.
func appendImport(list []Statement, st Statement) []Statement {
	if st.Action == Accept {
		for _, c := range st.Cond.withGracefulShutdown() {
			last := st
			last.Cond, last.Change.LocalPref = c, 1
			list = append(list, last)
		}
	}
	return append(list, st)
}

// withGracefulShutdown returns conditions that together hold for the routes
// of c in graceful shutdown. A condition can match all communities of a list or
// one of them, but not one of a list and another community.
func (c Condition) withGracefulShutdown() []Condition {
	if len(c.Communities) == 0 {
		c.Communities = []string{GracefulShutdown}
		return []Condition{c}
	}
	list := make([]Condition, 0, len(c.Communities))
	for _, one := range c.Communities {
		both := c
		both.Communities, both.All = []string{one, GracefulShutdown}, true
		list = append(list, both)
	}
	return list
}

// classExports adds the export statements for the peers of a class. The node is no
// transit: only own prefixes are announced to a peer of another AS, and no routes
// of a peer of another AS to any peer.
func (p *Plan) classExports(k *Class) {
	s := &k.peer
	reflects := s.reflects()
	say := func(rule string, c Condition, a Action) {
		c.Peers = k
		p.Exports = append(p.Exports, Statement{Rule: rule, Cond: c, Action: a})
	}
	if s.External {
		say("NO_EXPORT (RFC 1997)", Condition{Communities: []string{noExport}}, Reject)
	}
	p.classAggregates(k, say)
	for _, part := range byFamily(p.withheldFrom(k)) {
		say("announced to other peers only", Condition{Source: Own, Prefixes: part}, Reject)
	}
	ch := ownChange(&s.Export)
	if len(s.Export.Filters) > 0 {
		if reflects {
			say("no transit: routes of eBGP peers are not announced further", Condition{Source: External}, Reject)
		}
		p.exportFilters(k, ch, reflects)
		ch = Change{}
	}
	if !s.External || s.Export.Own {
		narrow := [][]PrefixRule{nil}
		if len(s.Export.Prefixes) > 0 {
			narrow = byFamily(s.Export.Prefixes)
		}
		for _, part := range narrow {
			p.ownExports(k, "own prefixes", part, ch, Accept)
		}
	}
	if reflects {
		say("reflected routes", Condition{Source: Reflected}, Accept)
	}
	say("nothing else is announced", Condition{}, Reject)
}

// classAggregates refuses the aggregates that are for other peers, and the own
// prefixes inside those of these peers with SummaryOnly.
func (p *Plan) classAggregates(k *Class, say func(string, Condition, Action)) {
	var foreign, behind []PrefixRule
	for _, a := range p.aggregates {
		if !slices.ContainsFunc(k.peer.Export.Aggregates, func(own Aggregate) bool { return own.Prefix == a }) {
			foreign = append(foreign, PrefixRule{Prefix: a, Ge: a.Bits(), Le: a.Bits()})
		}
	}
	for _, a := range k.peer.Export.Aggregates {
		if a.SummaryOnly && slices.Contains(p.hiding, a.Prefix) {
			behind = append(behind, p.behind(a.Prefix)...)
		}
	}
	for _, part := range byFamily(foreign) {
		say("an aggregate, for other peers", Condition{Source: Own, Prefixes: part}, Reject)
	}
	for _, part := range byFamily(behind) {
		say("inside an aggregate with summaryOnly", Condition{Source: Own, Prefixes: part}, Reject)
	}
}

// exportFilters adds the changes of every own prefix, then the filters.
func (p *Plan) exportFilters(k *Class, ch Change, reflects bool) {
	p.ownExports(k, "export communities, MED and next hop", nil, ch, Next)
	for _, f := range k.peer.Export.Filters {
		for i := range f.Rules {
			r := f.Rules[i] // copied: its source is narrowed
			if !reflects {
				if r.Match.Source == Reflected {
					continue // such routes are not announced to these peers
				}
				if r.Match.Source != Service {
					r.Match.Source = Own
				}
			}
			p.addRule(exporting, k, fmt.Sprintf("filter %s rule %d", f.Name, i+1), &r)
		}
	}
}

// ownExports adds a statement for own prefixes. To an eBGP peer the next hop is our
// address of the session, but only for prefixes of the session's family: for the
// other family it is the node's address. With filters the next hop is set before
// them, so it is not set again after them.
func (p *Plan) ownExports(k *Class, rule string, prefixes []PrefixRule, ch Change, a Action) {
	c := Condition{Peers: k, Source: Own, Prefixes: prefixes}
	self := a == Next || len(k.peer.Export.Filters) == 0
	if !k.peer.External || !self {
		if a == Accept || !ch.empty() {
			p.Exports = append(p.Exports, Statement{Rule: rule, Cond: c, Change: ch, Action: a})
		}
		return
	}
	for _, f := range []int{32, 128} {
		part, changed := c, ch
		part.Bits = f
		if f == k.bits() || k.peer.linkLocal() {
			changed.NextHop.Kind = NextHopSelf
		}
		if a == Accept || !changed.empty() {
			p.Exports = append(p.Exports, Statement{Rule: rule, Cond: part, Change: changed, Action: a})
		}
	}
}

// ownChange is the change of own prefixes on export.
func ownChange(e *Export) Change {
	var ch Change
	// validated before: every entry has one colon (standard) or two (large)
	for _, c := range e.Communities {
		if strings.Count(c, ":") == 1 {
			ch.Communities.Add = append(ch.Communities.Add, c)
		} else {
			ch.Large.Add = append(ch.Large.Add, c)
		}
	}
	if e.MED != 0 {
		ch.MED = &e.MED
	}
	return ch
}

func (c *Change) empty() bool {
	return c.LocalPref == 0 && c.MED == nil && c.Prepend == 0 && c.Communities.empty() && c.Large.empty() &&
		c.NextHop.Kind == NextHopKeep && c.Origin == ""
}
