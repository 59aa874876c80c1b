package gobgp

import (
	"fmt"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"

	"onlink/bgp/policy"
)

// policyBuild is a plan in the engine's types. All names carry the
// generation, because the replacement of a set under its name does not reach the
// policies that use it.
type policyBuild struct {
	gen     string
	sets    []*api.DefinedSet
	imports []*api.Statement
	exports []*api.Statement
	named   map[string]string        // content of a set -> its name
	classes map[*policy.Class]string // its neighbour set
}

// buildPolicy translates the plan for generation gen.
func buildPolicy(p *policy.Plan, gen uint64) *policyBuild {
	b := &policyBuild{
		gen:   "onlink-" + strconv.FormatUint(gen, 10),
		named: map[string]string{}, classes: map[*policy.Class]string{},
	}
	b.imports = b.statements("import", p.Imports)
	b.exports = b.statements("export", p.Exports)
	return b
}

func (b *policyBuild) statements(dir string, list []policy.Statement) []*api.Statement {
	out := make([]*api.Statement, 0, len(list))
	for i := range list {
		out = append(out, &api.Statement{
			Name:       fmt.Sprintf("%s-%s-%d", b.gen, dir, i),
			Conditions: b.conditions(&list[i].Cond), Actions: actions(&list[i]),
		})
	}
	return out
}

func (b *policyBuild) conditions(c *policy.Condition) *api.Conditions {
	out := &api.Conditions{NextHopInList: c.Hops}
	switch c.Source {
	case policy.Own:
		out.RouteType = api.Conditions_ROUTE_TYPE_LOCAL
	case policy.Reflected:
		out.RouteType = api.Conditions_ROUTE_TYPE_INTERNAL
	case policy.External:
		out.RouteType = api.Conditions_ROUTE_TYPE_EXTERNAL
	case policy.AnySource, policy.Service: // a plan names services by their prefixes
	}
	if c.Peers != nil {
		out.NeighborSet = b.neighborSet(c.Peers)
	}
	switch c.Bits {
	case 32:
		out.AfiSafiIn = []*api.Family{apiFamily(IPv4)}
	case 128:
		out.AfiSafiIn = []*api.Family{apiFamily(IPv6)}
	}
	if c.Prefixes != nil {
		out.PrefixSet = b.prefixSet(c.Prefixes)
	}
	if len(c.Communities) > 0 {
		out.CommunitySet = b.textSet(api.DefinedType_COMMUNITY, c.Communities)
		if c.All {
			out.CommunitySet.Type = api.MatchSet_ALL
		}
	}
	if len(c.Large) > 0 {
		out.LargeCommunitySet = b.textSet(api.DefinedType_LARGE_COMMUNITY, c.Large)
	}
	if len(c.ASPath) > 0 {
		list := make([]string, len(c.ASPath))
		for i, e := range c.ASPath {
			// The engine replaces a bare "_65001_" and the like by a faster
			// match that misses AS_SETs.
			list[i] = "(?:" + e + ")"
		}
		out.AsPathSet = b.textSet(api.DefinedType_AS_PATH, list)
	}
	return out
}

func (b *policyBuild) neighborSet(k *policy.Class) *api.MatchSet {
	name, known := b.classes[k]
	if !known {
		name = fmt.Sprintf("%s-peers-%d", b.gen, len(b.classes))
		b.classes[k] = name
		list := make([]string, len(k.Neighbors))
		for i, n := range k.Neighbors {
			list[i] = n.String()
		}
		b.sets = append(b.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: list})
	}
	return &api.MatchSet{Type: api.MatchSet_ANY, Name: name}
}

// prefixSet defines rules of one family as a set.
func (b *policyBuild) prefixSet(rules []policy.PrefixRule) *api.MatchSet {
	ref, fresh := b.set("prefixes", fmt.Sprint(rules))
	if fresh {
		var list []*api.Prefix
		for _, r := range policy.Flatten(rules) {
			list = append(list, &api.Prefix{
				IpPrefix: r.Prefix.String(), MaskLengthMin: uint32(r.Ge), MaskLengthMax: uint32(r.Le),
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

// actions are the engine's form of a statement's action and change.
func actions(st *policy.Statement) *api.Actions {
	ch := &st.Change
	a := &api.Actions{Community: apiCommunities(ch.Communities), LargeCommunity: apiCommunities(ch.Large), Nexthop: apiNextHop(ch.NextHop)}
	switch st.Action {
	case policy.Accept:
		a.RouteAction = api.RouteAction_ACCEPT
	case policy.Reject:
		a.RouteAction = api.RouteAction_REJECT
	case policy.Next:
	}
	if ch.LocalPref != 0 {
		a.LocalPref = &api.LocalPrefAction{Value: ch.LocalPref}
	}
	if ch.MED != nil {
		a.Med = &api.MedAction{Type: api.MedAction_REPLACE, Value: int64(*ch.MED)}
	}
	if ch.Prepend > 0 {
		a.AsPrepend = &api.AsPrependAction{Asn: ch.PrependAS, Repeat: uint32(ch.Prepend)}
	}
	for i, name := range policy.Origins() {
		if ch.Origin == name {
			a.OriginAction = &api.OriginAction{Origin: api.RouteOriginType(i) + api.RouteOriginType_ORIGIN_IGP}
		}
	}
	return a
}

func apiCommunities(c policy.CommunityChange) *api.CommunityAction {
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

func apiNextHop(n policy.NextHop) *api.NexthopAction {
	switch n.Kind {
	case policy.NextHopSelf:
		return &api.NexthopAction{Self: true}
	case policy.NextHopUnchanged:
		return &api.NexthopAction{Unchanged: true}
	case policy.NextHopPeer:
		return &api.NexthopAction{PeerAddress: true}
	case policy.NextHopAddress:
		return &api.NexthopAction{Address: n.Addr.String()}
	case policy.NextHopKeep:
	}
	return nil
}
