package policy

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Route is a route with the attributes that a policy matches or changes.
type Route struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	ASPath  string // "65001 65002 {65003,65004}"
	// LocalPref and MED are nil where the route carries none.
	LocalPref, MED                *uint32
	Communities, LargeCommunities []string // in the order of the attribute
	Origin                        string   // igp, egp or incomplete
	Source                        Source   // of an exported route
}

// Verdict is the result of a policy for a route.
type Verdict struct {
	Accepted bool
	Rule     string // the rule that decided
	Steps    []Step // the rules that had a part in it, the deciding one last
	Before   Route  // the route with its defaults filled in
	After    Route  // the route as it is accepted, or announced to the peer
}

// Step is one rule that matched.
type Step struct {
	Rule   string
	Effect string // in words
}

// Validate returns the faults of r; path is its name.
func (r *Route) Validate(path string) []Fault {
	var list faults
	if text := PrefixFault(r.Prefix); text != "" {
		list.add(path+".prefix", "%s", text)
	}
	if !asPathForm.MatchString(r.ASPath) || strings.HasSuffix(r.ASPath, " ") {
		list.add(path+".asPath", "%q is not an AS_PATH; write 65001 65002 {65003,65004}", r.ASPath)
	}
	if !slices.Contains(Origins(), r.Origin) {
		list.add(path+".origin", "%q is unknown; use igp, egp or incomplete", r.Origin)
	}
	list = append(list, checkCommunities(path+".communities", r.Communities, 2)...)
	return append(list, checkCommunities(path+".largeCommunities", r.LargeCommunities, 3)...)
}

// asPathForm matches the text of an AS_PATH.
var asPathForm = regexp.MustCompile(`^(([0-9]+|\{[0-9]+(,[0-9]+)*\})( |$))*$`)

// Received returns r as the peer with address neighbor announces it: fields that
// are zero get the values of a plain announcement.
func (p *Peer) Received(r Route, neighbor netip.Addr) Route {
	r.Origin = cmp.Or(r.Origin, Origins()[0])
	r.Source = Reflected
	if p.External {
		r.Source = External
		if r.ASPath == "" {
			r.ASPath = strconv.FormatUint(uint64(p.ASN), 10)
		}
	}
	if !r.NextHop.IsValid() && r.Prefix.Addr().BitLen() == neighbor.BitLen() {
		r.NextHop = neighbor
	}
	return r
}
