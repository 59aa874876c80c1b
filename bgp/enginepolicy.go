package bgp

import (
	"fmt"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// policyBuild is a plan in the engine's terms. All names carry the
// generation, because a set that is replaced under its name does not reach
// the policies built on it.
type policyBuild struct {
	gen     string
	sets    []*api.DefinedSet
	imports []*api.Statement
	exports []*api.Statement
	named   map[string]string       // content of a set -> its name
	classes map[*policyClass]string // its neighbour set
}

// build translates the plan for generation gen.
func (p *policyPlan) build(gen uint64) *policyBuild {
	b := &policyBuild{
		gen:   "onlink-" + strconv.FormatUint(gen, 10),
		named: map[string]string{}, classes: map[*policyClass]string{},
	}
	b.imports = b.statements("import", p.imports)
	b.exports = b.statements("export", p.exports)
	return b
}

func (b *policyBuild) statements(dir string, list []statement) []*api.Statement {
	out := make([]*api.Statement, 0, len(list))
	for i := range list {
		out = append(out, &api.Statement{
			Name:       fmt.Sprintf("%s-%s-%d", b.gen, dir, i),
			Conditions: b.conditions(&list[i].cond), Actions: list[i].actions(),
		})
	}
	return out
}

func (b *policyBuild) conditions(c *condition) *api.Conditions {
	out := &api.Conditions{NextHopInList: c.hops}
	switch c.source {
	case Own:
		out.RouteType = api.Conditions_ROUTE_TYPE_LOCAL
	case Reflected:
		out.RouteType = api.Conditions_ROUTE_TYPE_INTERNAL
	case External:
		out.RouteType = api.Conditions_ROUTE_TYPE_EXTERNAL
	case AnySource:
	}
	if c.peers != nil {
		out.NeighborSet = b.neighborSet(c.peers)
	}
	if c.family != 0 {
		out.AfiSafiIn = []*api.Family{apiFamily(c.family)}
	}
	if c.prefixes != nil {
		out.PrefixSet = b.prefixSet(c.prefixes)
	}
	if len(c.communities) > 0 {
		out.CommunitySet = b.textSet(api.DefinedType_COMMUNITY, c.communities)
		if c.all {
			out.CommunitySet.Type = api.MatchSet_ALL
		}
	}
	if len(c.large) > 0 {
		out.LargeCommunitySet = b.textSet(api.DefinedType_LARGE_COMMUNITY, c.large)
	}
	if len(c.asPath) > 0 {
		list := make([]string, len(c.asPath))
		for i, e := range c.asPath {
			// Of a bare "_65001_" and the like the engine makes something
			// faster that does not see AS_SETs.
			list[i] = "(?:" + e + ")"
		}
		out.AsPathSet = b.textSet(api.DefinedType_AS_PATH, list)
	}
	return out
}

func (b *policyBuild) neighborSet(k *policyClass) *api.MatchSet {
	name, known := b.classes[k]
	if !known {
		name = fmt.Sprintf("%s-peers-%d", b.gen, len(b.classes))
		b.classes[k] = name
		list := make([]string, len(k.neighbors))
		for i, n := range k.neighbors {
			list[i] = n.String()
		}
		b.sets = append(b.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: list})
	}
	return &api.MatchSet{Type: api.MatchSet_ANY, Name: name}
}

// prefixSet defines rules of one family as a set.
func (b *policyBuild) prefixSet(rules []PrefixRule) *api.MatchSet {
	ref, fresh := b.set("prefixes", fmt.Sprint(rules))
	if fresh {
		var list []*api.Prefix
		for _, r := range flatten(rules) {
			list = append(list, &api.Prefix{
				IpPrefix: r.prefix.String(), MaskLengthMin: uint32(r.lo), MaskLengthMax: uint32(r.hi),
			})
		}
		b.sets = append(b.sets, &api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: ref.GetName(), Prefixes: list})
	}
	return ref
}

// textSet defines a set of communities or expressions.
func (b *policyBuild) textSet(kind api.DefinedType, list []string) *api.MatchSet {
	ref, fresh := b.set(strings.ToLower(kind.String()), fmt.Sprintf("%q", list))
	if fresh {
		b.sets = append(b.sets, &api.DefinedSet{DefinedType: kind, Name: ref.GetName(), List: list})
	}
	return ref
}

// set returns the reference to the set of a kind with that content, and
// reports whether it must be defined first.
func (b *policyBuild) set(kind, content string) (ref *api.MatchSet, fresh bool) {
	key := kind + " " + content
	name, known := b.named[key]
	if !known {
		name = fmt.Sprintf("%s-%s-%d", b.gen, kind, len(b.named))
		b.named[key] = name
	}
	return &api.MatchSet{Type: api.MatchSet_ANY, Name: name}, !known
}

// actions are the engine's form of what a statement does.
func (st *statement) actions() *api.Actions {
	ch := &st.change
	a := &api.Actions{Community: apiCommunities(ch.std), LargeCommunity: apiCommunities(ch.lrg), Nexthop: ch.nextHop.api()}
	switch st.action {
	case Accept:
		a.RouteAction = api.RouteAction_ACCEPT
	case Reject:
		a.RouteAction = api.RouteAction_REJECT
	case Next:
	}
	if ch.localPref != 0 {
		a.LocalPref = &api.LocalPrefAction{Value: ch.localPref}
	}
	if ch.med != nil {
		a.Med = &api.MedAction{Type: api.MedAction_REPLACE, Value: int64(*ch.med)}
	}
	if ch.prepend > 0 {
		a.AsPrepend = &api.AsPrependAction{Asn: ch.prependAS, Repeat: uint32(ch.prepend)}
	}
	for i, name := range origins {
		if ch.origin == name {
			a.OriginAction = &api.OriginAction{Origin: api.RouteOriginType(i) + api.RouteOriginType_ORIGIN_IGP}
		}
	}
	return a
}

func apiCommunities(c CommunityChange) *api.CommunityAction {
	switch {
	case len(c.Replace) > 0:
		return &api.CommunityAction{Type: api.CommunityAction_REPLACE, Communities: c.Replace}
	case len(c.Add) > 0:
		return &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: c.Add}
	case len(c.Remove) > 0:
		return &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: c.Remove}
	}
	return nil
}

func (n NextHop) api() *api.NexthopAction {
	switch n.Kind {
	case NextHopSelf:
		return &api.NexthopAction{Self: true}
	case NextHopUnchanged:
		return &api.NexthopAction{Unchanged: true}
	case NextHopPeer:
		return &api.NexthopAction{PeerAddress: true}
	case NextHopAddress:
		return &api.NexthopAction{Address: n.Addr.String()}
	case NextHopKeep:
	}
	return nil
}

func apiFamily(f Family) *api.Family {
	if f == IPv6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}
