package rooms

import (
	"onlink/agent/config"
	"onlink/bgp"
)

// This file turns the configuration's words on policy into the speaker's.

func bgpImport(c config.Import) bgp.Import {
	return bgp.Import{
		Accept: prefixRules(c.Accept), MaxPrefixes: c.MaxPrefixes, LocalPref: c.LocalPref, Filters: filters(c.Filters),
		AnyNextHop: c.DisableConnectedCheck, AnyOwner: c.DisableOwnerCheck,
	}
}

func bgpExport(c config.Export) bgp.Export {
	return bgp.Export{
		Own: c.Own, Prefixes: prefixRules(c.Prefixes), Communities: c.Communities, MED: c.MED, Reflected: c.Reflected,
		Filters: filters(c.Filters), Aggregates: aggregates(c.Aggregates),
	}
}

func aggregates(list []config.Aggregate) []bgp.Aggregate {
	var out []bgp.Aggregate
	for _, a := range list {
		out = append(out, bgp.Aggregate(a))
	}
	return out
}

func prefixRules(rules []config.PrefixRule) []bgp.PrefixRule {
	var out []bgp.PrefixRule
	for _, r := range rules {
		out = append(out, bgp.PrefixRule{Prefix: r.Prefix, Ge: r.Ge, Le: r.Le})
	}
	return out
}

func filters(list []config.Filter) []bgp.Filter {
	var out []bgp.Filter
	for _, f := range list {
		one := bgp.Filter{Name: f.Name}
		for _, r := range f.Rules {
			one.Rules = append(one.Rules, filterRule(r))
		}
		out = append(out, one)
	}
	return out
}

func filterRule(r config.FilterRule) bgp.FilterRule {
	out := bgp.FilterRule{
		Match: bgp.Match{
			Prefixes: prefixRules(r.Match.Prefixes), Communities: r.Match.Communities,
			LargeCommunities: r.Match.LargeCommunities, ASPath: r.Match.ASPath,
		},
		Set: bgp.Set{
			LocalPref: r.Set.LocalPref, MED: r.Set.MED, Prepend: r.Set.Prepend, Origin: string(r.Set.Origin),
			Communities: bgp.CommunityChange(r.Set.Communities), LargeCommunities: bgp.CommunityChange(r.Set.LargeCommunities),
		},
	}
	switch r.Match.Source {
	case config.SourceOwn:
		out.Match.Source = bgp.Own
	case config.SourceReflected:
		out.Match.Source = bgp.Reflected
	}
	switch r.Action {
	case config.ActionAccept:
		out.Action = bgp.Accept
	case config.ActionReject:
		out.Action = bgp.Reject
	case config.ActionNext:
		out.Action = bgp.Next
	}
	switch hop := r.Set.NextHop; {
	case hop.Word == config.HopSelf:
		out.Set.NextHop.Kind = bgp.NextHopSelf
	case hop.Word == config.HopUnchanged:
		out.Set.NextHop.Kind = bgp.NextHopUnchanged
	case hop.Word == config.HopPeer:
		out.Set.NextHop.Kind = bgp.NextHopPeer
	case hop.Addr.IsValid():
		out.Set.NextHop = bgp.NextHop{Kind: bgp.NextHopAddress, Addr: hop.Addr}
	}
	return out
}
