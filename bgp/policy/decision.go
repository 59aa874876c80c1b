package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Candidate is a path to a prefix with the properties that the selection of the best
// path compares (RFC 4271 section 9.1.2).
type Candidate struct {
	Stale     bool // long-lived stale (RFC 9494)
	Own       bool // originated by this node
	External  bool // from a peer of another AS
	LocalPref uint32
	ASPath    string // "65001 65002 {65003,65004}"
	Origin    string // igp, egp or incomplete
	MED       uint32 // 0 for a path without one
	NextHop   netip.Addr
	RouterID  netip.Addr // of the speaker that announced it
	Peer      netip.Addr // its address
}

// Decision is the step of the selection that tells two paths apart.
type Decision uint8

// The steps, in their order. The engine has no interior cost (step e): a next hop that
// is not reachable is excluded after the selection, by package rib.
const (
	ByStale     Decision = iota // RFC 9494 section 4.3: a stale path is the last resort
	ByLocalPref                 // RFC 4271 section 9.1.1: the degree of preference
	ByOwn                       // this node's own path
	ByASPath                    // RFC 4271 section 9.1.2.2 a
	ByOrigin                    // b
	ByMED                       // c, only between paths of one neighbouring AS
	ByExternal                  // d
	ByRouterID                  // f
	ByPeer                      // g
	ByNothing                   // the two are the same in all of these
)

// Decide compares two paths to a prefix as the engine does: it returns the deciding
// step, and whether a is the better one.
func Decide(a, b *Candidate) (d Decision, better bool) {
	for d = ByStale; d < ByNothing; d++ {
		if c := d.compare(a, b); c != 0 {
			return d, c < 0
		}
	}
	return ByNothing, true
}

// Multipath reports whether other is used beside the best path: whether the two are the
// same up to the interior cost. The engine compares the MEDs of different ASes for that
// too.
func Multipath(best, other *Candidate) bool {
	for d := ByStale; d <= ByExternal; d++ {
		if d != ByMED && d.compare(best, other) != 0 {
			return false
		}
	}
	return best.MED == other.MED
}

// compare is negative when the step prefers a, and 0 when it does not decide.
func (d Decision) compare(a, b *Candidate) int {
	switch d {
	case ByStale:
		return prefer(b.Stale, a.Stale)
	case ByLocalPref:
		return cmp.Compare(b.LocalPref, a.LocalPref)
	case ByOwn:
		return prefer(a.Own, b.Own)
	case ByASPath:
		return cmp.Compare(asPathLength(a.ASPath), asPathLength(b.ASPath))
	case ByOrigin:
		return cmp.Compare(slices.Index(Origins(), a.Origin), slices.Index(Origins(), b.Origin))
	case ByMED:
		if !comparableMED(a.ASPath, b.ASPath) {
			return 0
		}
		return cmp.Compare(a.MED, b.MED)
	case ByExternal:
		return prefer(a.External, b.External)
	case ByRouterID:
		return a.RouterID.Compare(b.RouterID)
	case ByPeer:
		x, y := a.Peer.WithZone(""), b.Peer.WithZone("")
		if !x.IsValid() || !y.IsValid() {
			return prefer(!x.IsValid(), !y.IsValid())
		}
		return netip.AddrFrom16(x.As16()).Compare(netip.AddrFrom16(y.As16()))
	case ByNothing:
	}
	return 0
}

// prefer prefers the path for which a property holds.
func prefer(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// asPathLength counts the ASes of a path, a set as one (RFC 4271 section 9.1.2.2 a).
func asPathLength(path string) int { return len(strings.Fields(path)) }

// comparableMED reports whether the MEDs of two paths are of one neighbouring AS, or
// both of our own.
func comparableMED(a, b string) bool {
	x, y := neighbourAS(a), neighbourAS(b)
	return asPathLength(a) == 0 && asPathLength(b) == 0 || x != 0 && x == y
}

// neighbourAS returns the first AS of a path; 0 when there is none.
func neighbourAS(path string) uint64 {
	list := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(list) == 0 {
		return 0
	}
	as, err := strconv.ParseUint(list[0], 10, 32)
	if err != nil {
		return 0
	}
	return as
}

// Reason describes in words why other is not the best path beside best, which this step
// prefers.
func (d Decision) Reason(best, other *Candidate) string {
	switch d {
	case ByStale:
		return "it is long-lived stale: any other path is preferred (RFC 9494 section 4.3)"
	case ByLocalPref:
		return fmt.Sprintf("its LOCAL_PREF %d is lower than %d (RFC 4271 section 9.1.1)", other.LocalPref, best.LocalPref)
	case ByOwn:
		return "this node originates the prefix itself"
	case ByASPath:
		return fmt.Sprintf("its AS_PATH is longer: %d ASes instead of %d (RFC 4271 section 9.1.2.2 a)", asPathLength(other.ASPath), asPathLength(best.ASPath))
	case ByOrigin:
		return fmt.Sprintf("its origin %s comes after %s (RFC 4271 section 9.1.2.2 b)", other.Origin, best.Origin)
	case ByMED:
		return fmt.Sprintf("its MED %d is higher than %d, of the same neighbouring AS (RFC 4271 section 9.1.2.2 c)", other.MED, best.MED)
	case ByExternal:
		return "it is from a peer of our AS, the best one from another AS (RFC 4271 section 9.1.2.2 d)"
	case ByRouterID:
		return fmt.Sprintf("its speaker's router ID %s is higher than %s (RFC 4271 section 9.1.2.2 f)", other.RouterID, best.RouterID)
	case ByPeer:
		return fmt.Sprintf("its peer's address %s is higher than %s (RFC 4271 section 9.1.2.2 g)", other.Peer, best.Peer)
	case ByNothing:
	}
	return "it is the same as the best path in every step: the newer one is used"
}
