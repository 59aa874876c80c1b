package bgp

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Filter is a list of rules in the order they are asked. The first rule that
// matches a route and does not say Next decides; what no rule decides falls
// to the policy that the peer has without filters. What that policy refuses
// for safety's sake is refused before any rule is asked.
type Filter struct {
	Name  string // shown by TestPolicy
	Rules []FilterRule
}

// FilterRule changes and decides the routes it matches.
type FilterRule struct {
	Match  Match
	Set    Set
	Action Action
}

// Action is what becomes of a matched route.
type Action uint8

// The actions of a rule.
const (
	Accept Action = iota + 1
	Reject
	// Next makes the rule's changes and goes on with the next rule, which
	// sees the changed route.
	Next
)

// String returns the action's name.
func (a Action) String() string {
	switch a {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	case Next:
		return "next"
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Match is a condition: all that is given must hold. The zero Match holds for
// every route, but an import rule that accepts must name the default route.
type Match struct {
	// Prefixes holds when one of them matches.
	Prefixes []PrefixRule
	// Communities (RFC 1997) and LargeCommunities (RFC 8092) each hold when
	// the route carries one of those listed: "64512:100", "64512:1:2", or a
	// regular expression over that text that begins with ^ and ends with $.
	Communities, LargeCommunities []string
	// ASPath holds when one of these regular expressions matches the text of
	// the AS_PATH, as in "65001 65002 {65003,65004}". _ stands for the
	// beginning, the end or a separator, as in FRR.
	ASPath []string
	// Source restricts an export rule; import rules must not have one.
	Source Source
}

// Source says where the speaker has a route from.
type Source uint8

// The sources of a route.
const (
	AnySource Source = iota
	Own              // originated by this node
	Reflected        // learned from a peer of our AS
	External         // learned from an EBGP peer
)

// String returns the source's name.
func (s Source) String() string {
	return [...]string{"any", "own", "reflected", "external"}[min(s, External)]
}

// Set is what a rule changes.
type Set struct {
	LocalPref uint32  // 0: not changed
	MED       *uint32 // nil: not changed
	// Prepend puts our AS so many times more before the AS_PATH.
	Prepend uint8
	// Communities and LargeCommunities change those the route carries.
	Communities, LargeCommunities CommunityChange
	NextHop                       NextHop
	Origin                        string // igp, egp or incomplete; "": not changed
}

// CommunityChange changes a list of communities. Replace excludes the others.
type CommunityChange struct {
	Add, Replace []string
	Remove       []string // may be regular expressions, as in Match
}

func (c CommunityChange) empty() bool { return len(c.Add)+len(c.Replace)+len(c.Remove) == 0 }

// NextHop is the next hop that a rule gives.
type NextHop struct {
	Kind NextHopKind
	Addr netip.Addr // of NextHopAddress
}

// NextHopKind says where a next hop comes from.
type NextHopKind uint8

// The kinds of next hop.
const (
	NextHopKeep      NextHopKind = iota // as without the rule
	NextHopSelf                         // export: our address of the session, for prefixes of its family
	NextHopUnchanged                    // export: the next hop the route has here
	NextHopPeer                         // import: the peer's address, for prefixes of its family
	NextHopAddress                      // Addr, for prefixes of its family
)

// String returns the next hop as it is configured.
func (n NextHop) String() string {
	if n.Kind == NextHopAddress {
		return n.Addr.String()
	}
	return [...]string{"", "self", "unchanged", "peer-address"}[n.Kind]
}

// direction of a policy, seen from this speaker.
type direction uint8

const (
	importing direction = iota
	exporting
)

func equalFilters(a, b []Filter) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// validateFilters checks the filters of one direction of a session.
func validateFilters(c *Config, s *Session, dir direction, field string, filters []Filter) error {
	for _, f := range filters {
		if f.Name == "" {
			return fmt.Errorf("%w: %s: a filter has no Name", ErrConfig, field)
		}
		for i := range f.Rules {
			at := fmt.Sprintf("%s: filter %s rule %d", field, f.Name, i+1)
			if err := f.Rules[i].validate(at); err != nil {
				return err
			}
			if text := f.Rules[i].unfit(c, s, dir); text != "" {
				return fmt.Errorf("%w: %s: %s", ErrConfig, at, text)
			}
		}
	}
	return nil
}

// validate checks what does not depend on the peer; at names the rule.
func (r *FilterRule) validate(at string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, at, fmt.Sprintf(format, args...))
	}
	switch {
	case r.Action < Accept || r.Action > Next:
		return bad("Action %s is unknown: use accept, reject or next", r.Action)
	case r.Match.Source > External:
		return bad("Match.Source is unknown: use own or reflected")
	case r.Set.NextHop.Kind > NextHopAddress || r.Set.NextHop.Kind == NextHopAddress && !r.Set.NextHop.Addr.IsValid():
		return bad("Set.NextHop holds no address")
	case r.Set.Origin != "" && !slices.Contains(origins, r.Set.Origin):
		return bad("Set.Origin %q is unknown: use igp, egp or incomplete", r.Set.Origin)
	case r.Action == Reject && !reflect.DeepEqual(r.Set, Set{}):
		return bad("Set has no effect on a rejected route: remove it or accept")
	case r.Action == Next && len(r.Set.Communities.Replace) > 0:
		return bad("Set.Communities.Replace needs action accept")
	}
	for _, p := range r.Match.Prefixes {
		if err := p.validate(at + ": Match.Prefixes"); err != nil {
			return err
		}
	}
	for _, e := range r.Match.ASPath {
		if _, err := asPathRegexp(e); err != nil {
			return bad("Match.ASPath: %q is not a regular expression: %v", e, err)
		}
	}
	for _, list := range []struct {
		field    string
		parts    int
		patterns []string
		change   CommunityChange
	}{
		{"Communities", 2, r.Match.Communities, r.Set.Communities},
		{"LargeCommunities", 3, r.Match.LargeCommunities, r.Set.LargeCommunities},
	} {
		if err := checkPatterns(at+": Match."+list.field, list.patterns, list.parts); err != nil {
			return err
		}
		if err := list.change.validate(at+": Set."+list.field, list.parts); err != nil {
			return err
		}
	}
	return nil
}

// validate checks a change of communities with so many parts.
func (c CommunityChange) validate(field string, parts int) error {
	if len(c.Replace) > 0 && len(c.Add)+len(c.Remove) > 0 {
		return fmt.Errorf("%w: %s: Replace leaves nothing to add to or remove from: use it alone", ErrConfig, field)
	}
	if err := checkPatterns(field+".Remove", c.Remove, parts); err != nil {
		return err
	}
	for _, text := range slices.Concat(c.Add, c.Replace) {
		if err := checkCommunity(field, text, parts); err != nil {
			return err
		}
		if matchesAny(c.Remove, text) {
			// The engine would do one after the other; which one first must
			// not matter.
			return fmt.Errorf("%w: %s: %s is added and removed: use Replace", ErrConfig, field, text)
		}
	}
	return nil
}

// unfit says why a rule cannot be used for session s in direction dir; "" when
// it can.
func (r *FilterRule) unfit(c *Config, s *Session, dir direction) string {
	hop := r.Set.NextHop
	switch {
	case dir == importing && r.Match.Source != AnySource:
		return "Match.Source is for export filters: all routes of an import are the peer's"
	case dir == importing && (hop.Kind == NextHopSelf || hop.Kind == NextHopUnchanged):
		return "Set.NextHop " + hop.String() + " is for export filters: use peer-address or an address"
	case dir == importing && hop.Kind == NextHopAddress && (hop.Addr == c.NodeAddress || hop.Addr == c.NodeAddress6):
		return "Set.NextHop " + hop.String() + " is our own address: the route would lead to this node"
	case dir == exporting && hop.Kind == NextHopPeer:
		return "Set.NextHop peer-address is for import filters: use self, unchanged or an address"
	case dir == exporting && r.Match.Source == External:
		return "Match.Source external never matches: routes of EBGP peers are not told on"
	case s.Role != EBGP && r.Set.Prepend > 0:
		return "Set.Prepend is for EBGP peers: in our own AS it would look like a loop"
	case dir == exporting && s.Role == EBGP && len(r.Match.ASPath) > 0:
		return "Match.ASPath has no use in the export to an EBGP peer, which is told own prefixes only: they have an empty AS_PATH"
	}
	return ""
}

// origins are the values of the ORIGIN attribute, by their number (RFC 4271
// section 5.1.1).
var origins = []string{"igp", "egp", "incomplete"}

// exactCommunity matches the text of one community.
var exactCommunity = regexp.MustCompile(`^[0-9]+(:[0-9]+){1,2}$`)

// checkPatterns checks communities with so many parts or regular expressions.
func checkPatterns(field string, list []string, parts int) error {
	for _, text := range list {
		if exactCommunity.MatchString(text) {
			if err := checkCommunity(field, text, parts); err != nil {
				return err
			}
			continue
		}
		if _, err := regexp.Compile(text); err != nil || !strings.HasPrefix(text, "^") || !strings.HasSuffix(text, "$") {
			return fmt.Errorf("%w: %s: %q is neither a community nor a regular expression that begins with ^ and ends with $", ErrConfig, field, text)
		}
	}
	return nil
}

func checkCommunity(field, text string, parts int) error {
	if colons(text)+1 != parts {
		form := "AS:VALUE"
		if parts == 3 {
			form = "AS:VALUE:VALUE"
		}
		return fmt.Errorf("%w: %s: %q is not of the form %s", ErrConfig, field, text, form)
	}
	std, lrg, err := parseCommunities(field, []string{text})
	if err != nil {
		return err
	}
	if canonical := slices.Concat(communityTexts(std), largeTexts(lrg)); canonical[0] != text {
		return fmt.Errorf("%w: %s: write %s as %s: communities are compared as text", ErrConfig, field, text, canonical[0])
	}
	return nil
}

func communityTexts(list []uint32) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = communityText(c)
	}
	return out
}

func largeTexts(list []large) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2])
	}
	return out
}

// matchesAny reports whether one of the patterns, all checked, matches text.
func matchesAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if exactCommunity.MatchString(p) {
			return p == text
		}
		e, err := regexp.Compile(p)
		return err == nil && e.MatchString(text)
	})
}

// asPathRegexp compiles an expression over the text of an AS_PATH.
func asPathRegexp(text string) (*regexp.Regexp, error) {
	return regexp.Compile(strings.ReplaceAll(text, "_", "(^|[,{}() ]|$)"))
}
