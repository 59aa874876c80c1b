package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	api "github.com/osrg/gobgp/v3/api"
)

// policyClass is a set of peers that share one policy. The engine has only
// global policies for ordinary peers, so every statement names the peers it
// is for; a class closes with a refusal, so that what is not accepted for a
// peer never falls through to another class's statements.
type policyClass struct {
	neighbors []netip.Prefix // never empty: to the engine an empty set matches all
	session   Session
	family    Family // of the neighbours' addresses
}

// policyPlan is the policy of the speaker, computed from what is desired.
type policyPlan struct {
	classes []policyClass
	pools   []PrefixRule
	own     []PrefixRule // originated prefixes and everything inside
	hops    []string     // our own addresses: a route through us to us is a loop
}

// planPolicy computes the policy for the given peers and own prefixes.
// Configured peers come first, then dynamic ones by descending length.
func planPolicy(c *Config, peers []Peer, dynamics []Dynamic, own []netip.Prefix) policyPlan {
	plan := policyPlan{}
	for _, p := range peers {
		plan.add(netip.PrefixFrom(p.Address.WithZone(""), p.Address.BitLen()), p.Session)
	}
	static := len(plan.classes)
	byLength := slices.Clone(dynamics)
	slices.SortStableFunc(byLength, func(a, b Dynamic) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	for _, d := range byLength {
		plan.addFrom(static, d.Prefix, d.Session)
	}
	for _, p := range c.Pools {
		plan.pools = append(plan.pools, PrefixRule{Prefix: p})
	}
	for _, p := range own {
		plan.own = append(plan.own, PrefixRule{Prefix: p, Ge: p.Bits(), Le: p.Addr().BitLen()})
	}
	for _, a := range []netip.Addr{c.NodeAddress, c.NodeAddress6} {
		if a.IsValid() {
			plan.hops = append(plan.hops, a.String())
		}
	}
	return plan
}

func (p *policyPlan) add(n netip.Prefix, s Session) { p.addFrom(0, n, s) }

// addFrom puts a neighbour into the class with its policy, among those from
// index from on. Dynamic prefixes may overlap, so each gets a class of its own.
func (p *policyPlan) addFrom(from int, n netip.Prefix, s Session) {
	fam := IPv6
	if n.Addr().Is4() {
		fam = IPv4
	}
	if from == 0 {
		for i := range p.classes {
			k := &p.classes[i]
			if k.family == fam && k.session.Role == s.Role && k.session.samePolicy(s) {
				k.neighbors = append(k.neighbors, n)
				return
			}
		}
	}
	p.classes = append(p.classes, policyClass{neighbors: []netip.Prefix{n}, session: s, family: fam})
}

// policyBuild is a plan in the engine's terms. All names carry the
// generation, because a set that is replaced under its name does not reach
// the policies built on it.
type policyBuild struct {
	gen          string
	sets         []*api.DefinedSet
	imports      []*api.Statement
	exports      []*api.Statement
	pools, own   []*api.MatchSet
	gshut, noAdv *api.MatchSet
	noExport     *api.MatchSet
}

// build translates the plan for generation gen.
func (p *policyPlan) build(gen uint64) *policyBuild {
	b := &policyBuild{gen: "onlink-" + strconv.FormatUint(gen, 10)}
	b.gshut = b.communitySet("gshut", "65535:0")
	b.noAdv = b.communitySet("no-advertise", "65535:65282")
	b.noExport = b.communitySet("no-export", "65535:65281")
	b.pools = b.prefixSets("pools", p.pools)
	b.own = b.prefixSets("own", p.own)

	b.addImport(&api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL}, accept())
	if len(p.hops) > 0 {
		b.addImport(&api.Conditions{NextHopInList: p.hops}, reject())
	}
	for _, set := range b.own {
		b.addImport(&api.Conditions{PrefixSet: set}, reject())
	}
	b.addExport(&api.Conditions{CommunitySet: b.noAdv}, reject())
	for i := range p.classes {
		b.addClass(i, &p.classes[i])
	}
	return b
}

func (b *policyBuild) addClass(i int, k *policyClass) {
	list := make([]string, len(k.neighbors))
	for j, n := range k.neighbors {
		list[j] = n.String()
	}
	name := fmt.Sprintf("%s-peers-%d", b.gen, i)
	b.sets = append(b.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: list})
	peers := &api.MatchSet{Type: api.MatchSet_ANY, Name: name}
	b.classImports(i, k, peers)
	b.classExports(i, k, peers)
}

// classImports says what is taken of the peers of a class.
func (b *policyBuild) classImports(i int, k *policyClass, peers *api.MatchSet) {
	s := k.session
	sets := b.prefixSets(fmt.Sprintf("accept-%d", i), s.Import.Accept)
	if s.Role == EBGP {
		pref := s.Import.LocalPref
		if pref == 0 {
			pref = 100
		}
		for _, set := range sets {
			b.addImport(&api.Conditions{NeighborSet: peers, PrefixSet: set, CommunitySet: b.gshut}, lastResort())
			b.addImport(&api.Conditions{NeighborSet: peers, PrefixSet: set}, withLocalPref(accept(), pref))
		}
	} else {
		for _, set := range slices.Concat(b.pools, sets) {
			b.addImport(&api.Conditions{NeighborSet: peers, PrefixSet: set, CommunitySet: b.gshut}, lastResort())
			b.addImport(&api.Conditions{NeighborSet: peers, PrefixSet: set}, accept())
		}
	}
	b.addImport(&api.Conditions{NeighborSet: peers}, reject())
}

// classExports says what the peers of a class are told.
func (b *policyBuild) classExports(i int, k *policyClass, peers *api.MatchSet) {
	s := k.session
	if s.Role == EBGP {
		b.addExport(&api.Conditions{NeighborSet: peers, CommunitySet: b.noExport}, reject())
	}
	if s.Role != EBGP || s.Export.Own {
		narrow := []*api.MatchSet{nil}
		if len(s.Export.Prefixes) > 0 {
			narrow = b.prefixSets(fmt.Sprintf("export-%d", i), s.Export.Prefixes)
		}
		for _, set := range narrow {
			b.ownExports(k, peers, set)
		}
	}
	if s.Role == Client || s.Role == IBGP && s.Export.Reflected {
		b.addExport(&api.Conditions{NeighborSet: peers, RouteType: api.Conditions_ROUTE_TYPE_INTERNAL}, accept())
	}
	b.addExport(&api.Conditions{NeighborSet: peers}, reject())
}

// ownExports lets a class have our own prefixes. An eBGP peer gets the
// session's own address as next hop, but only for prefixes of the session's
// family: the other family's next hop is the node's address.
func (b *policyBuild) ownExports(k *policyClass, peers, set *api.MatchSet) {
	cond := func() *api.Conditions {
		return &api.Conditions{NeighborSet: peers, PrefixSet: set, RouteType: api.Conditions_ROUTE_TYPE_LOCAL}
	}
	if k.session.Role == EBGP {
		self := ownActions(&k.session.Export)
		self.Nexthop = &api.NexthopAction{Self: true}
		c := cond()
		c.AfiSafiIn = []*api.Family{apiFamily(k.family)}
		b.addExport(c, self)
	}
	b.addExport(cond(), ownActions(&k.session.Export))
}

// ownActions are the changes made to our own prefixes on export.
func ownActions(e *Export) *api.Actions {
	a := accept()
	// validated before: every entry has one colon (standard) or two (large)
	var std, lrg []string
	for _, c := range e.Communities {
		if colons(c) == 1 {
			std = append(std, c)
		} else {
			lrg = append(lrg, c)
		}
	}
	if len(std) > 0 {
		a.Community = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: std}
	}
	if len(lrg) > 0 {
		a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: lrg}
	}
	if e.MED != 0 {
		a.Med = &api.MedAction{Type: api.MedAction_REPLACE, Value: int64(e.MED)}
	}
	return a
}

func (b *policyBuild) addImport(c *api.Conditions, a *api.Actions) {
	name := fmt.Sprintf("%s-import-%d", b.gen, len(b.imports))
	b.imports = append(b.imports, &api.Statement{Name: name, Conditions: c, Actions: a})
}

func (b *policyBuild) addExport(c *api.Conditions, a *api.Actions) {
	name := fmt.Sprintf("%s-export-%d", b.gen, len(b.exports))
	b.exports = append(b.exports, &api.Statement{Name: name, Conditions: c, Actions: a})
}

// prefixSets defines the rules as sets and returns how to refer to them. The
// engine's sets hold one family, and of a set it asks only the entries of the
// longest prefix that contains a route: rules of nested prefixes stand in
// sets of their own.
func (b *policyBuild) prefixSets(name string, rules []PrefixRule) []*api.MatchSet {
	var refs []*api.MatchSet
	for i, layer := range layers(rules) {
		list := make([]*api.Prefix, 0, len(layer))
		for _, r := range layer {
			lo, hi := r.lengths()
			list = append(list, &api.Prefix{IpPrefix: r.Prefix.String(), MaskLengthMin: uint32(lo), MaskLengthMax: uint32(hi)})
		}
		set := &api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: fmt.Sprintf("%s-%s-%d", b.gen, name, i), Prefixes: list}
		b.sets = append(b.sets, set)
		refs = append(refs, &api.MatchSet{Type: api.MatchSet_ANY, Name: set.Name})
	}
	return refs
}

// layers splits rules so that in each list all prefixes are of one family and
// none contains another.
func layers(rules []PrefixRule) [][]PrefixRule {
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b PrefixRule) int { return a.Prefix.Compare(b.Prefix) })
	type key struct{ bits, depth int }
	index := map[key]int{}
	var list [][]PrefixRule
	var around []netip.Prefix // those that contain the current one, widest first
	for _, r := range sorted {
		for len(around) > 0 && !contains(around[len(around)-1], r.Prefix) {
			around = around[:len(around)-1]
		}
		if len(around) == 0 || around[len(around)-1] != r.Prefix {
			around = append(around, r.Prefix)
		}
		k := key{r.Prefix.Addr().BitLen(), len(around)}
		i, ok := index[k]
		if !ok {
			i = len(list)
			index[k] = i
			list = append(list, nil)
		}
		list[i] = append(list[i], r)
	}
	return list
}

// contains reports whether p is q or has q inside.
func contains(p, q netip.Prefix) bool {
	return p.Bits() <= q.Bits() && p.Contains(q.Addr())
}

func (b *policyBuild) communitySet(name, community string) *api.MatchSet {
	set := &api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, Name: b.gen + "-" + name, List: []string{community}}
	b.sets = append(b.sets, set)
	return &api.MatchSet{Type: api.MatchSet_ANY, Name: set.Name}
}

func accept() *api.Actions { return &api.Actions{RouteAction: api.RouteAction_ACCEPT} }

func reject() *api.Actions { return &api.Actions{RouteAction: api.RouteAction_REJECT} }

// lastResort takes a route in graceful shutdown (RFC 8326 section 4.1). The
// engine's action knows no LOCAL_PREF 0; 1 is as low as any other is high.
func lastResort() *api.Actions { return withLocalPref(accept(), 1) }

func withLocalPref(a *api.Actions, pref uint32) *api.Actions {
	a.LocalPref = &api.LocalPrefAction{Value: pref}
	return a
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

func apiFamily(f Family) *api.Family {
	if f == IPv6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}
