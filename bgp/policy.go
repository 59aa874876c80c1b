package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// policyClass is a set of peers that share one policy. The engine has only
// global policies for ordinary peers, so every statement names the peers it
// is for; a class closes with a refusal, so that what is not accepted for a
// peer never falls through to another class's statements.
type policyClass struct {
	neighbors []netip.Prefix // never empty: to the engine an empty set matches all
	session   Session
	family    Family // of the neighbours' addresses
	linkLocal bool   // of the neighbours' addresses: they know no other next hop of ours
}

// policyPlan is the policy of the speaker, computed from what is desired.
type policyPlan struct {
	asn              uint32
	classes          []policyClass
	pools            []Pool
	aggregates       []netip.Prefix // that are announced, to whomever
	imports, exports []statement
}

// Communities that every policy knows, as text.
const (
	gracefulShutdown = "65535:0"     // RFC 8326
	noExport         = "65535:65281" // RFC 1997
	noAdvertise      = "65535:65282" // RFC 1997
)

// planPolicy computes the policy for the given peers and own prefixes.
// Configured peers come first, then dynamic ones by descending length.
func planPolicy(c *Config, peers []Peer, dynamics []Dynamic, own []Origin) *policyPlan {
	plan := &policyPlan{asn: c.ASN}
	for _, p := range peers {
		plan.add(netip.PrefixFrom(p.Address.WithZone(""), p.Address.BitLen()), p.Session)
	}
	static := len(plan.classes)
	byLength := slices.Clone(dynamics)
	slices.SortStableFunc(byLength, func(a, b Dynamic) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	for _, d := range byLength {
		plan.addFrom(static, d.Prefix, d.Session)
	}
	plan.pools = c.Pools
	plan.refuseOwn(c, own)
	for _, o := range own {
		if o.Aggregate {
			plan.aggregates = append(plan.aggregates, o.Prefix)
		}
	}
	plan.exports = append(plan.exports, statement{
		rule: "NO_ADVERTISE (RFC 1997)", cond: condition{communities: []string{noAdvertise}}, action: Reject,
	})
	for i := range plan.classes {
		plan.classImports(&plan.classes[i])
		plan.classExports(&plan.classes[i])
	}
	return plan
}

func (p *policyPlan) add(n netip.Prefix, s Session) { p.addFrom(0, n, s) }

// addFrom puts a neighbour into the class with its policy, among those from
// index from on. Dynamic prefixes may overlap, so each gets a class of its own.
func (p *policyPlan) addFrom(from int, n netip.Prefix, s Session) {
	fam, local := familyOfAddr(n.Addr()), n.Addr().IsLinkLocalUnicast()
	if from == 0 {
		for i := range p.classes {
			k := &p.classes[i]
			if k.family == fam && k.linkLocal == local && k.session.Role == s.Role && k.session.LocalAS == s.LocalAS && k.session.samePolicy(s) {
				k.neighbors = append(k.neighbors, n)
				return
			}
		}
	}
	p.classes = append(p.classes, policyClass{neighbors: []netip.Prefix{n}, session: s, family: fam, linkLocal: local})
}

// refuseOwn begins the import policy: what is ours is never learned. Own
// paths themselves go through the import policy too.
func (p *policyPlan) refuseOwn(c *Config, own []Origin) {
	p.imports = append(p.imports, statement{rule: "originated here", cond: condition{source: Own}, action: Accept})
	var hops []string
	for _, a := range []netip.Addr{c.NodeAddress, c.NodeAddress6} {
		if a.IsValid() {
			hops = append(hops, a.String())
		}
	}
	if len(hops) > 0 {
		p.imports = append(p.imports, statement{
			rule: "the next hop is this node: a loop", cond: condition{hops: hops}, action: Reject,
		})
	}
	var inside []PrefixRule
	for _, o := range own {
		le := o.Prefix.Addr().BitLen()
		if o.Aggregate {
			le = o.Prefix.Bits() // others' blocks are inside
		}
		inside = append(inside, PrefixRule{Prefix: o.Prefix, Ge: o.Prefix.Bits(), Le: le})
	}
	for _, part := range byFamily(inside) {
		p.imports = append(p.imports, statement{
			rule: "a prefix of this node, or inside one", cond: condition{prefixes: part}, action: Reject,
		})
	}
}

// classImports says what is taken of the peers of a class. Of an EBGP peer
// the LOCAL_PREF is overwritten before a filter may set one.
func (p *policyPlan) classImports(k *policyClass) {
	s := &k.session
	pref := uint32(0)
	if s.Role == EBGP {
		if pref = s.Import.LocalPref; pref == 0 {
			pref = 100
		}
	}
	if pref != 0 && len(s.Import.Filters) > 0 {
		p.imports = append(p.imports, statement{
			rule: "LOCAL_PREF of the peer overwritten", cond: condition{peers: k}, change: change{localPref: pref}, action: Next,
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
			st := statement{rule: d.rule, cond: condition{peers: k, prefixes: part}, action: d.action}
			if d.action == Accept {
				st.change.localPref = pref
			}
			p.imports = appendImport(p.imports, st)
		}
	}
	rule := "not in the pools or import.accept"
	if s.Role == EBGP {
		rule = "not in import.accept (RFC 8212)"
	}
	p.imports = append(p.imports, statement{rule: rule, cond: condition{peers: k}, action: Reject})
}

// appendImport adds a statement. One that accepts is preceded by its form for
// routes in graceful shutdown, which are the last resort whatever else is
// said (RFC 8326 section 4.1). The engine's action knows no LOCAL_PREF 0; 1
// is as low as any other is high.
func appendImport(list []statement, st statement) []statement {
	if st.action == Accept {
		for _, c := range st.cond.withGracefulShutdown() {
			last := st
			last.cond, last.change.localPref = c, 1
			list = append(list, last)
		}
	}
	return append(list, st)
}

// withGracefulShutdown returns conditions that together hold for the routes
// of c in graceful shutdown. A statement can ask for all of some communities
// or for one of them, but not for one of some and for another.
func (c condition) withGracefulShutdown() []condition {
	if len(c.communities) == 0 {
		c.communities = []string{gracefulShutdown}
		return []condition{c}
	}
	list := make([]condition, 0, len(c.communities))
	for _, one := range c.communities {
		both := c
		both.communities, both.all = []string{one, gracefulShutdown}, true
		list = append(list, both)
	}
	return list
}

// classExports says what the peers of a class are told. The node is transit
// for nobody: an EBGP peer is told own prefixes only, and of those of EBGP
// peers nobody is told.
func (p *policyPlan) classExports(k *policyClass) {
	s := &k.session
	reflects := s.Role == Client || s.Role == IBGP && s.Export.Reflected
	say := func(rule string, c condition, a Action) {
		c.peers = k
		p.exports = append(p.exports, statement{rule: rule, cond: c, action: a})
	}
	if s.Role == EBGP {
		say("NO_EXPORT (RFC 1997)", condition{communities: []string{noExport}}, Reject)
	}
	p.classAggregates(k, say)
	ch := ownChange(&s.Export)
	if len(s.Export.Filters) > 0 {
		if reflects {
			say("no transit: routes of eBGP peers are not told on", condition{source: External}, Reject)
		}
		p.exportFilters(k, ch, reflects)
		ch = change{}
	}
	if s.Role != EBGP || s.Export.Own {
		narrow := [][]PrefixRule{nil}
		if len(s.Export.Prefixes) > 0 {
			narrow = byFamily(s.Export.Prefixes)
		}
		for _, part := range narrow {
			p.ownExports(k, "own prefixes", part, ch, Accept)
		}
	}
	if reflects {
		say("reflected routes", condition{source: Reflected}, Accept)
	}
	say("nothing else is told", condition{}, Reject)
}

// classAggregates refuses the aggregates that are for other peers, and what
// stands behind those of these peers.
func (p *policyPlan) classAggregates(k *policyClass, say func(string, condition, Action)) {
	var foreign, behind []PrefixRule
	for _, a := range p.aggregates {
		if !slices.ContainsFunc(k.session.Export.Aggregates, func(own Aggregate) bool { return own.Prefix == a }) {
			foreign = append(foreign, PrefixRule{Prefix: a, Ge: a.Bits(), Le: a.Bits()})
		}
	}
	for _, a := range k.session.Export.Aggregates {
		if a.SummaryOnly && slices.Contains(p.aggregates, a.Prefix) {
			behind = append(behind, PrefixRule{Prefix: a.Prefix, Ge: a.Prefix.Bits() + 1, Le: a.Prefix.Addr().BitLen()})
		}
	}
	for _, part := range byFamily(foreign) {
		say("an aggregate, for other peers", condition{source: Own, prefixes: part}, Reject)
	}
	for _, part := range byFamily(behind) {
		say("inside an aggregate with summaryOnly", condition{source: Own, prefixes: part}, Reject)
	}
}

// exportFilters makes the changes that every own prefix gets, then asks the
// filters.
func (p *policyPlan) exportFilters(k *policyClass, ch change, reflects bool) {
	p.ownExports(k, "export communities, MED and next hop", nil, ch, Next)
	for _, f := range k.session.Export.Filters {
		for i := range f.Rules {
			r := f.Rules[i] // copied: its source is narrowed
			if !reflects {
				if r.Match.Source == Reflected {
					continue // these peers are told nothing of that kind
				}
				r.Match.Source = Own
			}
			p.addRule(exporting, k, fmt.Sprintf("filter %s rule %d", f.Name, i+1), &r)
		}
	}
}

// ownExports is a statement for own prefixes. An eBGP peer gets the session's
// own address as next hop, but only for prefixes of the session's family: the
// other family's next hop is the node's address. After filters there is no
// next hop to set: it was set before them.
func (p *policyPlan) ownExports(k *policyClass, rule string, prefixes []PrefixRule, ch change, a Action) {
	c := condition{peers: k, source: Own, prefixes: prefixes}
	self := a == Next || len(k.session.Export.Filters) == 0
	if k.session.Role != EBGP || !self {
		if a == Accept || !ch.empty() {
			p.exports = append(p.exports, statement{rule: rule, cond: c, change: ch, action: a})
		}
		return
	}
	for _, f := range []Family{IPv4, IPv6} {
		part, changed := c, ch
		part.family = f
		if f == k.family || k.linkLocal {
			changed.nextHop.Kind = NextHopSelf
		}
		if a == Accept || !changed.empty() {
			p.exports = append(p.exports, statement{rule: rule, cond: part, change: changed, action: a})
		}
	}
}

// ownChange is what is done to own prefixes on export.
func ownChange(e *Export) change {
	var ch change
	// validated before: every entry has one colon (standard) or two (large)
	for _, c := range e.Communities {
		if colons(c) == 1 {
			ch.std.Add = append(ch.std.Add, c)
		} else {
			ch.lrg.Add = append(ch.lrg.Add, c)
		}
	}
	if e.MED != 0 {
		ch.med = &e.MED
	}
	return ch
}

func (c *change) empty() bool {
	return c.localPref == 0 && c.med == nil && c.prepend == 0 && c.std.empty() && c.lrg.empty() &&
		c.nextHop.Kind == NextHopKeep && c.origin == ""
}

// addRule translates a filter's rule for a class.
func (p *policyPlan) addRule(dir direction, k *policyClass, name string, r *FilterRule) {
	ch := change{
		localPref: r.Set.LocalPref, med: r.Set.MED, prepend: int(r.Set.Prepend), prependAS: p.asn,
		std: r.Set.Communities, lrg: r.Set.LargeCommunities, nextHop: r.Set.NextHop, origin: r.Set.Origin,
	}
	if k.session.LocalAS != 0 {
		ch.prependAS = k.session.LocalAS
	}
	for _, c := range ruleConditions(dir, k, r) {
		st := statement{rule: name, cond: c, change: ch, action: r.Action}
		if hop := ch.nextHop; c.family != 0 && hop.family(k) != c.family {
			st.change.nextHop = NextHop{}
		}
		add, rest := st.split()
		if dir == importing {
			p.imports = appendImport(append(p.imports, add...), rest)
		} else {
			p.exports = appendExport(append(p.exports, add...), rest)
		}
	}
}

// family returns the family whose prefixes the next hop is for; 0 means both.
func (n NextHop) family(k *policyClass) Family {
	switch n.Kind {
	case NextHopSelf, NextHopPeer:
		if k.linkLocal {
			return 0 // IPv4 through an IPv6 neighbour (RFC 8950)
		}
		return k.family
	case NextHopAddress:
		return familyOfAddr(n.Addr)
	case NextHopKeep, NextHopUnchanged:
	}
	return 0
}

// ruleConditions returns disjoint conditions that together are the rule's. An
// import rule that accepts everything does not mean the default route.
func ruleConditions(dir direction, k *policyClass, r *FilterRule) []condition {
	c := condition{
		peers: k, source: r.Match.Source, communities: r.Match.Communities,
		large: r.Match.LargeCommunities, asPath: r.Match.ASPath,
	}
	rules := r.Match.Prefixes
	byFam := r.Set.NextHop.family(k) != 0
	if len(rules) == 0 {
		switch {
		case dir == importing && r.Action == Accept:
			rules = []PrefixRule{
				{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Ge: 1, Le: 32},
				{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Ge: 1, Le: 128},
			}
		case byFam:
			v4, v6 := c, c
			v4.family, v6.family = IPv4, IPv6
			return []condition{v4, v6}
		default:
			return []condition{c}
		}
	}
	var list []condition
	for _, part := range byFamily(rules) {
		one := c
		one.prefixes = part
		if byFam {
			one.family = familyOfAddr(part[0].Prefix.Addr())
		}
		list = append(list, one)
	}
	return list
}

// split parts a statement that adds and removes communities of one kind into
// one that adds, and the rest: the engine does one of both in a statement.
// What was added does not make the condition fail for the rest.
func (st statement) split() (add []statement, rest statement) {
	first, rest := st, st
	first.change, first.action = change{}, Next
	if c := &rest.change.std; len(c.Add) > 0 && len(c.Remove) > 0 {
		first.change.std.Add, c.Add = c.Add, nil
	}
	if c := &rest.change.lrg; len(c.Add) > 0 && len(c.Remove) > 0 {
		first.change.lrg.Add, c.Add = c.Add, nil
	}
	if first.change.empty() {
		return nil, rest
	}
	return []statement{first}, rest
}

// appendExport adds a statement. One that replaces the communities is
// preceded by its form for routes in graceful shutdown, which must keep that
// community: a drain has to reach the neighbours.
func appendExport(list []statement, st statement) []statement {
	if replace := st.change.std.Replace; len(replace) > 0 && !slices.Contains(replace, gracefulShutdown) {
		for _, c := range st.cond.withGracefulShutdown() {
			kept := st
			kept.cond = c
			kept.change.std.Replace = append(slices.Clone(replace), gracefulShutdown)
			list = append(list, kept)
		}
	}
	return append(list, st)
}

// byFamily splits rules into those of IPv4 and those of IPv6; an empty part is
// left out.
func byFamily(rules []PrefixRule) [][]PrefixRule {
	var v4, v6 []PrefixRule
	for _, r := range rules {
		if r.Prefix.Addr().Is4() {
			v4 = append(v4, r)
		} else {
			v6 = append(v6, r)
		}
	}
	return slices.DeleteFunc([][]PrefixRule{v4, v6}, func(l []PrefixRule) bool { return len(l) == 0 })
}

// prefixRange is a prefix with the lengths matched inside it.
type prefixRange struct {
	prefix netip.Prefix
	lo, hi int
}

// flatten makes rules of one family such that only those of the longest
// prefix around a route need to be asked, which is all that the engine asks:
// every prefix gets the lengths of those around it too.
func flatten(rules []PrefixRule) []prefixRange {
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b PrefixRule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	var list []prefixRange
	var around []PrefixRule // those that contain the current one, and those equal to it
	for i, r := range sorted {
		around = slices.DeleteFunc(around, func(o PrefixRule) bool { return !contains(o.Prefix, r.Prefix) })
		around = append(around, r)
		if i+1 < len(sorted) && sorted[i+1].Prefix == r.Prefix {
			continue // the last of equal prefixes speaks for all
		}
		for _, o := range around {
			lo, hi := o.lengths()
			if lo = max(lo, r.Prefix.Bits()); lo <= hi {
				list = append(list, prefixRange{r.Prefix, lo, hi})
			}
		}
	}
	return list
}

// contains reports whether p is q or has q inside.
func contains(p, q netip.Prefix) bool {
	return p.Bits() <= q.Bits() && p.Contains(q.Addr())
}

func colons(s string) int {
	n := 0
	for i := range len(s) {
		if s[i] == ':' {
			n++
		}
	}
	return n
}
