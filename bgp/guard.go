package bgp

import (
	"net/netip"
	"sync/atomic"

	"onlink/bgp/policy"
)

// importGuard refuses announcements that no policy may accept: of another node's
// prefixes inside a pool, and with next hops that are not usable.
type importGuard struct {
	current atomic.Pointer[policy.Guard] // nil before Start
	refused [policy.Refusals]atomic.Uint64
	suspect chan struct{} // cap 1; gate sends, it is never closed
	facts   policy.Facts  // for the next guard; the speaker's lock guards them
}

// counts returns how many announcements were refused, by reason.
func (g *importGuard) counts() map[string]uint64 {
	out := map[string]uint64{"pool": 0, "owner": 0, "next-hop": 0}
	for why := policy.Permitted + 1; why < policy.Refusals; why++ {
		out[why.Kind()] += g.refused[why].Load()
	}
	return out
}

// gate is the engine's import check, on the engine's goroutine. The paths of an
// UPDATE have one peer and one next hop, so it caches the guard's answers for the
// last of both.
type gate struct {
	*importGuard

	guard *policy.Guard
	peer  netip.Addr
	ward  *policy.Ward
	hop   netip.Addr
	why   policy.Refusal // of hop
}

func (t *gate) check(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool) {
	g := t.current.Load()
	if g != t.guard || peer != t.peer {
		t.guard, t.peer, t.ward, t.hop = g, peer, g.Ward(peer), netip.Addr{}
	}
	if t.ward == nil {
		return true, false // policy refuses the routes of a stranger
	}
	if hop != t.hop {
		t.hop, t.why = hop, g.JudgeHop(t.ward, peer, hop)
	}
	why := t.why
	if why == policy.Permitted {
		why, held = g.JudgePrefix(t.ward, prefix, announced)
	}
	if why == policy.Permitted {
		return true, held
	}
	t.refused[why].Add(1)
	if why == policy.NotOwner {
		select {
		case t.suspect <- struct{}{}:
		default:
		}
	}
	return false, false
}

// Suspect signals that another node than the owner announced a block: the owners
// of the last [Speaker.SetOwners] may be out of date. It has room for one signal
// and is never closed.
func (s *Speaker) Suspect() <-chan struct{} { return s.guard.suspect }

// Refused counts the announcements that the guard refused although policy accepts
// them, by reason, since the start; one that is judged again counts again.
func (s *Speaker) Refused() map[string]uint64 { return s.guard.counts() }
