package render

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"onlink/kube/api/v1alpha1"
)

func (f *filter) valid() bool {
	var c checks
	f.check(&c)
	return len(c.faults) == 0
}

// check checks a filter apart from its use.
func (f *filter) check(c *checks) {
	if !plainName(f.Name) {
		c.failf("metadata.name", "is empty; name the filter")
	}
	if len(f.Rules) == 0 {
		c.failf("spec.rules", "is empty; add a rule, or delete the filter")
	}
	for i := range f.Rules {
		checkRule(c, fmt.Sprintf("spec.rules[%d]", i), &f.Rules[i])
	}
}

func checkRule(c *checks, at string, r *v1alpha1.FilterRule) {
	if m := r.Match; m != nil {
		checkMatch(c, at+".match", m)
	}
	if s := r.Set; s != nil {
		checkSet(c, at+".set", s)
	}
	if c.oneOf(at+".action", r.Action, "accept", "reject", "next"); r.Action == "" {
		c.failf(at+".action", "is missing; use accept, reject or next")
	}
	replaces := r.Set != nil && r.Set.Communities != nil && len(r.Set.Communities.Replace) > 0
	switch {
	case r.Action == "reject" && changes(r.Set):
		c.failf(at, "set has no effect on a route that is rejected; remove set, or use action: accept")
	case r.Action == "next" && replaces:
		c.failf(at, "set.communities.replace leaves nothing for the next rule to match; use action: accept")
	case r.Action == "next" && !changes(r.Set):
		c.failf(at, "does nothing: its action is next and it has no set; add set, or use another action")
	}
}

// changes reports whether a set changes a route.
func changes(s *v1alpha1.FilterSet) bool {
	if s == nil {
		return false
	}
	return s.LocalPref != nil || s.MED != nil || s.Prepend != 0 || s.NextHop != "" || s.Origin != "" ||
		changesCommunities(s.Communities) || changesCommunities(s.LargeCommunities)
}

func changesCommunities(s *v1alpha1.CommunityChange) bool {
	return s != nil && len(s.Add)+len(s.Remove)+len(s.Replace) > 0
}

func checkMatch(c *checks, at string, m *v1alpha1.FilterMatch) {
	c.rules(at+".prefixes", m.Prefixes)
	communities(c, at+".communities", m.Communities, 2, true)
	communities(c, at+".largeCommunities", m.LargeCommunities, 3, true)
	for i, text := range m.ASPath {
		if _, err := regexp.Compile(strings.ReplaceAll(text, "_", "(^|[,{}() ]|$)")); err != nil || text == "" {
			c.failf(fmt.Sprintf("%s.asPath[%d]", at, i), "%q is not a regular expression over an AS path; use one such as ^65001_, _65010$ or ^$", text)
		}
	}
	if m.Source == "external" {
		c.failf(at+".source", "external never matches, routes of peers of another AS are not announced; use own, service or reflected")
		return
	}
	c.oneOf(at+".source", m.Source, "own", "service", "reflected")
}

func checkSet(c *checks, at string, s *v1alpha1.FilterSet) {
	c.optional(at+".localPref", s.LocalPref, 1)
	c.optional(at+".med", s.MED, 0)
	c.number(at+".prepend", int64(s.Prepend), 0, 10)
	checkChange(c, at+".communities", s.Communities, 2)
	checkChange(c, at+".largeCommunities", s.LargeCommunities, 3)
	c.oneOf(at+".origin", s.Origin, "igp", "egp", "incomplete")
	switch s.NextHop {
	case "", "self", "unchanged", "peer-address":
		return
	}
	a, err := netip.ParseAddr(s.NextHop)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
		c.failf(at+".nextHop", "%q is no next hop; use self, unchanged, peer-address or an address", s.NextHop)
	}
}

func checkChange(c *checks, at string, s *v1alpha1.CommunityChange, parts int) {
	if s == nil {
		return
	}
	n := len(c.faults)
	communities(c, at+".add", s.Add, parts, false)
	communities(c, at+".remove", s.Remove, parts, true)
	communities(c, at+".replace", s.Replace, parts, false)
	if len(c.faults) > n {
		return
	}
	if len(s.Replace) > 0 && len(s.Add)+len(s.Remove) > 0 {
		c.failf(at, "replace leaves nothing to add to or to remove from; use it alone")
	}
	for _, text := range s.Add {
		if slices.ContainsFunc(s.Remove, func(p string) bool { return matchesCommunity(p, canonical(text)) }) {
			c.failf(at, "%s is added and removed; use replace, or remove less", text)
		}
	}
}

func matchesCommunity(pattern, text string) bool {
	if !strings.HasPrefix(pattern, "^") {
		return canonical(pattern) == text
	}
	e, err := regexp.Compile(pattern)
	return err == nil && e.MatchString(text)
}

// misuse returns why a peer cannot have the filter; "": it can.
func (f *filter) misuse(export, external bool) string {
	for i := range f.Rules {
		text := misuseImport(&f.Rules[i], external)
		if export {
			text = misuseExport(&f.Rules[i], external)
		}
		if text != "" {
			return fmt.Sprintf("filter %s, rule %d: %s", f.Name, i+1, text)
		}
	}
	return ""
}

const prependInside = "set.prepend is for peers of another AS, inside our own it would look like a loop; use another filter here"

func misuseImport(r *v1alpha1.FilterRule, external bool) string {
	switch {
	case r.Match != nil && r.Match.Source != "":
		return "match.source is for export; use another filter here"
	case r.Set == nil:
		return ""
	case r.Set.NextHop == "self" || r.Set.NextHop == "unchanged":
		return "set.nextHop: " + r.Set.NextHop + " is for export; use peer-address or an address"
	case !external && r.Set.Prepend > 0:
		return prependInside
	}
	return ""
}

func misuseExport(r *v1alpha1.FilterRule, external bool) string {
	switch {
	case external && r.Match != nil && len(r.Match.ASPath) > 0:
		return "match.asPath has no use in the export to another AS, which receives our own prefixes only, and they have an empty path; use another filter here"
	case r.Set == nil:
		return ""
	case r.Set.NextHop == "peer-address":
		return "set.nextHop: peer-address is for import; use self, unchanged or an address"
	case !external && r.Set.Prepend > 0:
		return prependInside
	}
	return ""
}
