package policy

import (
	"fmt"
	"net/netip"
	"reflect"
)

// Filter is a list of rules in the order of their evaluation. The first rule
// that matches a route and whose action is not Next decides; a route that no rule
// decides falls to the policy that the peer has without filters. The refusals of
// that policy for safety come before any rule.
type Filter struct {
	Name  string // shown in verdicts and faults
	Rules []Rule
}

// Rule changes and decides the routes it matches.
type Rule struct {
	Match  Match
	Set    Set
	Action Action
}

// Action decides a matched route.
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

// Match is a condition: all its fields that are set must hold. The zero Match
// holds for every route, except that an import rule that accepts matches the
// default route only when a prefix names it.
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

// Source is the source of a route in the speaker's table: this node or a kind of
// peer.
type Source uint8

// The sources of a route.
const (
	AnySource Source = iota
	Own              // originated by this node
	Reflected        // learned from a peer of our AS
	External         // learned from an EBGP peer
	Service          // originated by this node for others, such as the address of a service: a kind of Own
)

// String returns the source's name.
func (s Source) String() string {
	return [...]string{"any", "own", "reflected", "external", "service"}[min(s, Service)]
}

// Set is the change that a rule makes.
type Set struct {
	LocalPref uint32  // 0: not changed
	MED       *uint32 // nil: not changed
	// Prepend is how many extra times our AS is prepended to the AS_PATH.
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

// empty reports whether s changes nothing.
func (s *Set) empty() bool {
	return s.LocalPref == 0 && s.MED == nil && s.Prepend == 0 && s.Communities.empty() && s.LargeCommunities.empty() &&
		s.NextHop == NextHop{} && s.Origin == ""
}

// NextHop is the next hop that a rule sets.
type NextHop struct {
	Kind NextHopKind
	Addr netip.Addr // of NextHopAddress
}

// NextHopKind is the source of a next hop.
type NextHopKind uint8

// The kinds of next hop.
const (
	NextHopKeep      NextHopKind = iota // as without the rule
	NextHopSelf                         // export: our address of the session, for prefixes of its family
	NextHopUnchanged                    // export: the next hop that the route has here
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

func equalFilters(a, b []Filter) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}
