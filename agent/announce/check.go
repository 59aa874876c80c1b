package announce

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"onlink/bgp/policy"
	"onlink/rib"
)

var ownerForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`)

// check returns the fault of a request as a whole.
func check(owner string, list []Entry) error {
	switch {
	case !ownerForm.MatchString(owner):
		return fmt.Errorf("%w: owner %q: use 1 to 63 letters, digits and -, such as services", ErrInvalid, owner)
	case len(list) > MaxPrefixes:
		return fmt.Errorf("%w: %d prefixes are more than %d for one owner: announce larger prefixes", ErrInvalid, len(list), MaxPrefixes)
	}
	return nil
}

// parse parts a request into announcements, by prefix, and those that cannot be made
// on any node. held returns the owner of a prefix among the other sets.
func parse(list []Entry, held func(netip.Prefix) string) ([]Announcement, []Rejection) {
	var out []Announcement
	var rejected []Rejection
	seen := make(map[netip.Prefix]bool, len(list))
	audiences := map[string]bool{}
	for i := range list {
		a, text := list[i].Announcement, list[i].Text
		p, why := prefixOf(text)
		a.Prefix = p
		a.Peers = slices.Compact(slices.Sorted(slices.Values(a.Peers)))
		if why == "" {
			why = a.fault()
		}
		if why == "" && len(a.Peers) > 0 {
			key := strings.Join(a.Peers, "\x00")
			if !audiences[key] && len(audiences) >= maxAudiences {
				why = fmt.Sprintf("the set has more than %d different lists of peers; use fewer", maxAudiences)
			} else {
				audiences[key] = true
			}
		}
		switch {
		case why != "":
		case seen[p]:
			why = "the set has it twice; remove one"
		default:
			if o := held(p); o != "" {
				why = o + " announces it already; withdraw it there first"
			}
		}
		if why != "" {
			rejected = append(rejected, Rejection{Prefix: clip(text, maxReason), Reason: why})
			continue
		}
		seen[p] = true
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Announcement) int { return a.Prefix.Compare(b.Prefix) })
	slices.SortStableFunc(rejected, func(a, b Rejection) int { return strings.Compare(a.Prefix, b.Prefix) })
	return out, rejected
}

// prefixOf reads a prefix and returns its fault, "": none.
func prefixOf(text string) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, "is no prefix; write one such as 203.0.113.7/32"
	case p.Addr().Is4In6():
		return p, "is an IPv4-mapped prefix; write it as IPv4"
	case p.Bits() == 0:
		return p, "is a default route, which no node announces; announce the addresses"
	}
	if fault := policy.PrefixFault(p); fault != "" {
		return p, fault
	}
	if rib.Martian(p) || rib.CoversMartian(p) {
		return p, "has addresses that no router forwards to: loopback, link-local, multicast or reserved ones; announce others"
	}
	return p, ""
}

// fault returns the fault of an announcement's attributes; "": none.
func (a *Announcement) fault() string {
	switch {
	case len(a.Communities) > maxCommunities:
		return fmt.Sprintf("has %d communities; use at most %d", len(a.Communities), maxCommunities)
	case len(a.Peers) > maxPeers:
		return fmt.Sprintf("names %d peers; use at most %d, or none for all", len(a.Peers), maxPeers)
	case len(a.Reason) > maxReason:
		return fmt.Sprintf("has a reason of %d bytes; use at most %d", len(a.Reason), maxReason)
	case slices.Contains(a.Peers, ""):
		return "names a peer without a name; remove it"
	}
	if _, _, err := policy.ParseCommunities(a.Communities); err != nil {
		return err.Error()
	}
	return ""
}

// unfit returns why the node cannot announce a now; "": it can.
func (f *Facts) unfit(a *Announcement) string {
	p := a.Prefix
	for _, other := range []struct {
		list []netip.Prefix
		text string
	}{
		{f.Blocks, "overlaps %s, a block of this node, whose addresses are those of pods; choose other addresses"},
		{f.Pools, "overlaps the pool %s, whose addresses are those of pods; choose addresses outside the pools"},
		{f.Networks, "overlaps %s, a network, address, gateway or peer of this node; choose addresses outside them"},
	} {
		if i := slices.IndexFunc(other.list, p.Overlaps); i >= 0 {
			return fmt.Sprintf(other.text, other.list[i])
		}
	}
	if slices.Contains(f.Others, p) {
		return "is announced by the configuration already, in bgp.originate or as an aggregate; remove it from one of both"
	}
	if !f.Reaches(p) {
		return "this node has no address of its family, which would be the next hop; give the node one"
	}
	if len(a.Peers) > 0 && len(f.known(a.Peers)) == 0 {
		return fmt.Sprintf("no peer has the name %s; see onlinkctl peers", strings.Join(a.Peers, " or "))
	}
	return ""
}

// known returns the names that peers have.
func (f *Facts) known(names []string) []string {
	var out []string
	for _, n := range names {
		if f.Peers[n] {
			out = append(out, n)
		}
	}
	return out
}

// clip shortens a text that a request may have made long.
func clip(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
