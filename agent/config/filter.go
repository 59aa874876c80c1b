package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"onlink/internal/strictyaml"
)

// Filter is a named list of rules. The first rule that matches a route and
// does not say next decides.
type Filter struct {
	Name  string
	Rules []FilterRule
}

// FilterRule changes and decides the routes that it matches.
type FilterRule struct {
	Match  FilterMatch
	Set    FilterSet
	Action FilterAction
}

// FilterAction is what becomes of a matched route.
type FilterAction string

// The values of FilterAction.
const (
	ActionAccept FilterAction = "accept"
	ActionReject FilterAction = "reject"
	ActionNext   FilterAction = "next" // change it and ask the next rule
)

// FilterMatch is a condition: all that is given must hold.
type FilterMatch struct {
	Prefixes []PrefixRule // one of them
	// One of them: "AS:VALUE", "AS:VALUE:VALUE" or a regular expression from
	// ^ to $ over that text.
	Communities, LargeCommunities []string
	ASPath                        []string // one of these regular expressions; _ is a boundary
	Source                        FilterSource
}

// FilterSource is where an exported route comes from.
type FilterSource string

// The values of FilterSource; "" means both.
const (
	SourceOwn       FilterSource = "own"       // originated by this node
	SourceReflected FilterSource = "reflected" // learned from a peer of our AS
)

// FilterSet is what a rule changes.
type FilterSet struct {
	LocalPref        uint32  // 0: not changed
	MED              *uint32 // nil: not changed
	Prepend          uint8   // our AS so many times more
	Communities      CommunityChange
	LargeCommunities CommunityChange
	NextHop          FilterNextHop
	Origin           FilterOrigin // "": not changed
}

// empty reports whether nothing is changed.
func (s *FilterSet) empty() bool {
	return s.LocalPref == 0 && s.MED == nil && s.Prepend == 0 && s.Communities.empty() && s.LargeCommunities.empty() &&
		s.NextHop == FilterNextHop{} && s.Origin == ""
}

// FilterOrigin is a value of the ORIGIN attribute (RFC 4271 section 5.1.1).
type FilterOrigin string

// CommunityChange changes a list of communities; Replace stands alone.
type CommunityChange struct {
	Add, Replace []string
	Remove       []string // may be regular expressions
}

func (c *CommunityChange) empty() bool { return len(c.Add)+len(c.Replace)+len(c.Remove) == 0 }

// FilterNextHop is a next hop given by a rule: a word, or an address.
type FilterNextHop struct {
	Word NextHopWord // "": not changed, or Addr
	Addr netip.Addr
}

// String returns the next hop as it is written.
func (h FilterNextHop) String() string {
	if h.Word == "" && h.Addr.IsValid() {
		return h.Addr.String()
	}
	return string(h.Word)
}

// NextHopWord is a next hop that depends on the session.
type NextHopWord string

// The values of NextHopWord.
const (
	HopSelf      NextHopWord = "self"         // export: our address of the session
	HopUnchanged NextHopWord = "unchanged"    // export: the one the route has here
	HopPeer      NextHopWord = "peer-address" // import: the peer's address
)

func readFilter(v strictyaml.Value) Filter {
	var f Filter
	v.Mapping(strictyaml.Fields{
		"name": strictyaml.Word(&f.Name),
		"rules": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { f.Rules = append(f.Rules, readFilterRule(v)) })
		},
	})
	return f
}

func readFilterRule(v strictyaml.Value) FilterRule {
	var r FilterRule
	v.Mapping(strictyaml.Fields{
		"match":  func(v strictyaml.Value) { readFilterMatch(v, &r.Match) },
		"set":    func(v strictyaml.Value) { readFilterSet(v, &r.Set) },
		"action": strictyaml.OneOf(&r.Action, ActionAccept, ActionReject, ActionNext),
	})
	switch {
	case v.Failed():
	case r.Action == "":
		v.Fail("has no action; add action: accept, reject or next")
	case r.Action == ActionReject && !r.Set.empty():
		v.Fail("set has no effect on a route that is rejected; remove set, or use action: accept")
	case r.Action == ActionNext && len(r.Set.Communities.Replace) > 0:
		v.Fail("set.communities.replace leaves nothing for the next rule to match; use action: accept")
	case r.Action == ActionNext && r.Set.empty():
		v.Fail("does nothing: it says next and has no set; add set, or use another action")
	}
	return r
}

func readFilterMatch(v strictyaml.Value, m *FilterMatch) {
	v.Mapping(strictyaml.Fields{
		"prefixes":         rules(&m.Prefixes),
		"communities":      communityTexts(&m.Communities, 2, true),
		"largeCommunities": communityTexts(&m.LargeCommunities, 3, true),
		"asPath":           asPathExpressions(&m.ASPath),
		"source":           strictyaml.OneOf(&m.Source, SourceOwn, SourceReflected),
	})
}

func readFilterSet(v strictyaml.Value, s *FilterSet) {
	v.Mapping(strictyaml.Fields{
		"localPref": strictyaml.Number(&s.LocalPref, 1, maxUint32),
		"med": func(v strictyaml.Value) {
			if !v.IsNull() {
				s.MED = new(uint32)
				strictyaml.Number(s.MED, 0, maxUint32)(v)
			}
		},
		"prepend":          strictyaml.Number(&s.Prepend, 1, 10),
		"communities":      func(v strictyaml.Value) { readCommunityChange(v, &s.Communities, 2) },
		"largeCommunities": func(v strictyaml.Value) { readCommunityChange(v, &s.LargeCommunities, 3) },
		"nextHop":          nextHop(&s.NextHop),
		"origin":           strictyaml.OneOf(&s.Origin, "igp", "egp", "incomplete"),
	})
}

func readCommunityChange(v strictyaml.Value, c *CommunityChange, parts int) {
	v.Mapping(strictyaml.Fields{
		"add":     communityTexts(&c.Add, parts, false),
		"remove":  communityTexts(&c.Remove, parts, true),
		"replace": communityTexts(&c.Replace, parts, false),
	})
	if len(c.Replace) > 0 && len(c.Add)+len(c.Remove) > 0 {
		v.Fail("replace leaves nothing to add to or to remove from; use it alone")
	}
	for _, text := range c.Add {
		if slices.ContainsFunc(c.Remove, func(p string) bool { return matches(p, text) }) {
			v.Fail("%s is added and removed; use replace, or remove less", text)
		}
	}
}

// matches reports whether a community is the pattern or matches it.
func matches(pattern, text string) bool {
	if pattern == text {
		return true
	}
	e, err := regexp.Compile(pattern)
	return err == nil && strings.HasPrefix(pattern, "^") && e.MatchString(text)
}

// rules reads a list of prefix rules.
func rules(dst *[]PrefixRule) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			if r, ok := readRule(v); ok {
				*dst = append(*dst, r)
			}
		})
	}
}

// communityTexts reads a list of communities with 2 (RFC 1997) or 3 (RFC
// 8092) parts, or 0 for both, or, where allowed, expressions over their text.
func communityTexts(dst *[]string, parts int, expressions bool) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			if s, ok := v.Text("a community"); ok {
				if text, ok := community(v, s, parts, expressions); ok {
					*dst = append(*dst, text)
				}
			}
		})
	}
}

// community reads one community.
func community(v strictyaml.Value, s string, parts int, expressions bool) (string, bool) {
	if expressions && strings.HasPrefix(s, "^") {
		if _, err := regexp.Compile(s); err != nil || !strings.HasSuffix(s, "$") {
			v.Fail("%q is not a regular expression from ^ to $; use one such as \"^64512:1..$\"", s)
			return "", false
		}
		return s, true
	}
	if c, ok := parseCommunity(s); ok && parts != 3 {
		return fmt.Sprintf("%d:%d", uint32(c)>>16, uint32(c)&0xffff), true
	}
	if text, ok := parseLargeCommunity(s); ok && parts != 2 {
		return text, true
	}
	form := map[int]string{
		0: "AS:VALUE or AS:VALUE:VALUE in quotes, such as \"64512:100\", or one of " + communityList(),
		2: "AS:VALUE in quotes, such as \"64512:100\", or one of " + communityList(),
		3: "AS:VALUE:VALUE in quotes, such as \"64512:1:2\"",
	}[parts]
	if expressions {
		form += ", or a regular expression from ^ to $"
	}
	v.Fail("%q is not a community; use %s", s, form)
	return "", false
}

// parseLargeCommunity reads AS:VALUE:VALUE.
func parseLargeCommunity(s string) (string, bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return "", false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return "", false
		}
		parts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(parts, ":"), true
}

// asPathExpressions reads a list of regular expressions in which _ stands for
// the beginning, the end or a separator.
func asPathExpressions(dst *[]string) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			s, ok := v.Text("a regular expression")
			if !ok {
				return
			}
			if _, err := regexp.Compile(strings.ReplaceAll(s, "_", "(^|[,{}() ]|$)")); err != nil || s == "" {
				v.Fail("%q is not a regular expression over an AS path; use one such as \"^65001_\", \"_65010$\" or \"^$\"", s)
				return
			}
			*dst = append(*dst, s)
		})
	}
}

// nextHop reads a word or an address.
func nextHop(dst *FilterNextHop) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		s, ok := v.Text("self, unchanged, peer-address or an address")
		if !ok {
			return
		}
		if words := []NextHopWord{HopSelf, HopUnchanged, HopPeer}; slices.Contains(words, NextHopWord(s)) {
			*dst = FilterNextHop{Word: NextHopWord(s)}
			return
		}
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
			v.Fail("%q is not a next hop; use self, unchanged, peer-address or an address", s)
			return
		}
		*dst = FilterNextHop{Addr: a.Unmap()}
	}
}

// filterNames reads the names of filters; fillFilters adds what they are.
func filterNames(dst *[]Filter) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			var name string
			if strictyaml.Word(&name)(v); name != "" {
				*dst = append(*dst, Filter{Name: name})
			}
		})
	}
}

// fillFilters puts the rules of filters in the place of their names, and
// reports names that are none, and rules that the peer cannot have.
func (p *checker) fillFilters(c *BGP) {
	known := map[string]Filter{}
	for i, f := range c.Filters {
		path := fmt.Sprintf("bgp.filters[%d]", i)
		_, dup := known[f.Name]
		switch {
		case p.Failed(path):
		case f.Name == "":
			p.Fail(path, "has no name; add one, for the peers to refer to")
		case dup:
			p.Fail(path+".name", "%q is also the name of another filter; use another", f.Name)
		case len(f.Rules) == 0:
			p.Fail(path, "has no rules; add some or remove the filter")
		}
		known[f.Name] = f
	}
	fill := func(path string, list []Filter, unfit func(*FilterRule) string) {
		for i := range list {
			at := fmt.Sprintf("%s.filters[%d]", path, i)
			f, ok := known[list[i].Name]
			if !ok {
				p.Fail(at, "%q is not one of bgp.filters; add it there or correct the name", list[i].Name)
				continue
			}
			list[i] = f
			for n := range f.Rules {
				if text := unfit(&f.Rules[n]); text != "" {
					p.Fail(at, "filter %s, rule %d: %s", f.Name, n+1, text)
				}
			}
		}
	}
	for i := range c.Peers {
		peer, path := &c.Peers[i], fmt.Sprintf("bgp.peers[%d]", i)
		external := peer.External(c.ASN)
		fill(path+".import", peer.Import.Filters, func(r *FilterRule) string { return r.unfitImport(external) })
		fill(path+".export", peer.Export.Filters, func(r *FilterRule) string { return r.unfitExport(external) })
	}
	if m := c.Mesh; m != nil {
		fill("bgp.mesh.import", m.Peer.Import.Filters, func(r *FilterRule) string { return r.unfitImport(false) })
		fill("bgp.mesh.export", m.Peer.Export.Filters, func(r *FilterRule) string { return r.unfitExport(false) })
	}
	if r := c.Reflector; r != nil {
		fill("bgp.reflector.import", r.Import.Filters, func(r *FilterRule) string { return r.unfitImport(false) })
		fill("bgp.reflector.export", r.Export.Filters, func(r *FilterRule) string { return r.unfitExport(false) })
	}
}

const prependInside = "set.prepend is for peers of another AS, inside our own it would look like a loop; use another filter here"

// unfitImport says why a rule cannot be used for what a peer tells us.
func (r *FilterRule) unfitImport(external bool) string {
	switch {
	case r.Match.Source != "":
		return "match.source is for export; use another filter here"
	case r.Set.NextHop.Word == HopSelf || r.Set.NextHop.Word == HopUnchanged:
		return "set.nextHop: " + r.Set.NextHop.String() + " is for export; use peer-address or an address"
	case !external && r.Set.Prepend > 0:
		return prependInside
	}
	return ""
}

// unfitExport says why a rule cannot be used for what we tell a peer.
func (r *FilterRule) unfitExport(external bool) string {
	switch {
	case r.Set.NextHop.Word == HopPeer:
		return "set.nextHop: peer-address is for import; use self, unchanged or an address"
	case external && len(r.Match.ASPath) > 0:
		return "match.asPath has no use in the export to another AS, which is told our own prefixes only, and they have an empty path; use another filter here"
	case !external && r.Set.Prepend > 0:
		return prependInside
	}
	return ""
}
