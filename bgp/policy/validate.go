package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Fault is one mistake in a configuration.
type Fault struct {
	Path string // of the key, as in onlinkd.yaml
	Text string // the mistake and, after a semicolon, the fix
}

// String returns the fault in one line.
func (f Fault) String() string { return f.Path + ": " + f.Text }

// faults collects those of one value.
type faults []Fault

func (f *faults) add(path, format string, args ...any) {
	*f = append(*f, Fault{path, fmt.Sprintf(format, args...)})
}

// Validate returns the faults of f that do not depend on its use: those inside a
// rule before those of the rule as a whole. path is the key of the filter.
func (f *Filter) Validate(path string) []Fault {
	var list faults
	for i := range f.Rules {
		list = append(list, f.Rules[i].Validate(fmt.Sprintf("%s.rules[%d]", path, i))...)
	}
	if f.Name == "" {
		list.add(path, "has no name; add one for the peers to use")
	} else if len(f.Rules) == 0 {
		list.add(path, "has no rules; add some or remove the filter")
	}
	return list
}

// Validate returns the faults of r that do not depend on its use. path is its key.
func (r *Rule) Validate(path string) []Fault {
	list := append(r.Match.validate(path+".match"), r.Set.validate(path+".set")...)
	switch {
	case r.Action == 0:
		list.add(path, "has no action; add action: accept, reject or next")
	case r.Action > Next:
		list.add(path+".action", "%s is unknown; use accept, reject or next", r.Action)
	case r.Action == Reject && !r.Set.empty():
		list.add(path, "set has no effect on a route that is rejected; remove set, or use action: accept")
	case r.Action == Next && len(r.Set.Communities.Replace) > 0:
		list.add(path, "set.communities.replace leaves nothing for the next rule to match; use action: accept")
	case r.Action == Next && r.Set.empty():
		list.add(path, "does nothing: its action is next and it has no set; add set, or use another action")
	}
	return list
}

func (m *Match) validate(path string) faults {
	var list faults
	for i, p := range m.Prefixes {
		list = append(list, p.Validate(fmt.Sprintf("%s.prefixes[%d]", path, i))...)
	}
	list = append(list, checkPatterns(path+".communities", m.Communities, 2)...)
	list = append(list, checkPatterns(path+".largeCommunities", m.LargeCommunities, 3)...)
	for i, e := range m.ASPath {
		if text := ASPathFault(e); text != "" {
			list.add(fmt.Sprintf("%s.asPath[%d]", path, i), "%s", text)
		}
	}
	if m.Source > Service {
		list.add(path+".source", "is unknown; use own, service or reflected")
	}
	return list
}

func (s *Set) validate(path string) faults {
	list := append(s.Communities.validate(path+".communities", 2), s.LargeCommunities.validate(path+".largeCommunities", 3)...)
	if s.NextHop.Kind > NextHopAddress || s.NextHop.Kind == NextHopAddress && !s.NextHop.Addr.IsValid() {
		list.add(path+".nextHop", "is no next hop; use self, unchanged, peer-address or an address")
	}
	if s.Origin != "" && !slices.Contains(Origins(), s.Origin) {
		list.add(path+".origin", "%q is unknown; use igp, egp or incomplete", s.Origin)
	}
	return list
}

// validate checks a change of communities with that many parts.
func (c CommunityChange) validate(path string, parts int) faults {
	list := slices.Concat(
		checkCommunities(path+".add", c.Add, parts), checkCommunities(path+".replace", c.Replace, parts),
		checkPatterns(path+".remove", c.Remove, parts))
	if len(c.Replace) > 0 && len(c.Add)+len(c.Remove) > 0 {
		list.add(path, "replace leaves nothing to add to or to remove from; use it alone")
	}
	for _, text := range c.Add {
		if matchesAny(c.Remove, text) {
			// The engine does one after the other: the result must not depend
			// on the order.
			list.add(path, "%s is added and removed; use replace, or remove less", text)
		}
	}
	return list
}

// Use describes where a filter is used.
type Use struct {
	Export   bool // of routes announced to a peer, not of those received from it
	External bool // the peer is of another AS
	// Own are this node's addresses, as far as they are known: an import rule
	// must not set one as next hop.
	Own []netip.Addr
}

// Misuse returns the faults of a valid filter at u. path is the key that names the
// filter.
func (f *Filter) Misuse(path string, u Use) []Fault {
	var list faults
	for i := range f.Rules {
		r := &f.Rules[i]
		text := r.misuseImport(&u)
		if u.Export {
			text = r.misuseExport(&u)
		}
		if text != "" {
			list.add(path, "filter %s, rule %d: %s", f.Name, i+1, text)
		}
	}
	return list
}

const prependInside = "set.prepend is for peers of another AS, inside our own it would look like a loop; use another filter here"

func (r *Rule) misuseImport(u *Use) string {
	hop := r.Set.NextHop
	switch {
	case r.Match.Source != AnySource:
		return "match.source is for export; use another filter here"
	case hop.Kind == NextHopSelf || hop.Kind == NextHopUnchanged:
		return "set.nextHop: " + hop.String() + " is for export; use peer-address or an address"
	case hop.Kind == NextHopAddress && slices.Contains(u.Own, hop.Addr):
		return "set.nextHop: " + hop.String() + " is this node's own address: the route would lead back to it; use another address"
	case !u.External && r.Set.Prepend > 0:
		return prependInside
	}
	return ""
}

func (r *Rule) misuseExport(u *Use) string {
	switch {
	case r.Set.NextHop.Kind == NextHopPeer:
		return "set.nextHop: peer-address is for import; use self, unchanged or an address"
	case u.External && len(r.Match.ASPath) > 0:
		return "match.asPath has no use in the export to another AS, which receives our own prefixes only, and they have an empty path; use another filter here"
	case !u.External && r.Set.Prepend > 0:
		return prependInside
	case r.Match.Source == External:
		return "match.source: external never matches, routes of eBGP peers are not announced; use own, service or reflected"
	}
	return ""
}

// validateFilters checks filters that are used at u; path is the key of the
// list.
func validateFilters(path string, list []Filter, u Use) []Fault {
	var out []Fault
	for i := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		out = append(append(out, list[i].Validate(at)...), list[i].Misuse(at, u)...)
	}
	return out
}

// ASPathFault returns why text is not a regular expression over an AS_PATH; ""
// when it is one.
func ASPathFault(text string) string {
	if _, err := asPathRegexp(text); err != nil || text == "" {
		return fmt.Sprintf("%q is not a regular expression over an AS path; use one such as \"^65001_\", \"_65010$\" or \"^$\"", text)
	}
	return ""
}

// Origins returns the values of the ORIGIN attribute, by their number (RFC 4271
// section 5.1.1).
func Origins() []string { return []string{"igp", "egp", "incomplete"} }

// asPathRegexp compiles an expression over the text of an AS_PATH.
func asPathRegexp(text string) (*regexp.Regexp, error) {
	return regexp.Compile(strings.ReplaceAll(text, "_", "(^|[,{}() ]|$)"))
}

// PrefixFault returns why p is not valid as a configured prefix; "" when it is.
func PrefixFault(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "is an invalid prefix"
	case p.Masked() != p || p.Addr().Is4In6():
		return fmt.Sprintf("%s has host bits set; write %s", p, p.Masked())
	}
	return ""
}
