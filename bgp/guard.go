package bgp

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"onlink/bgp/policy"
)

// importer is what bgp/engine adds to the engine: a check of what policy
// accepts, and a second import of some prefixes.
type importer interface {
	SetImportCheck(check func(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool)) error
	ImportAgain(match func(netip.Prefix) bool) error
}

// gate asks the guard for the engine, on the engine's goroutine. The paths of
// an UPDATE have one peer and one next hop, so it remembers the last of both.
type gate struct {
	current *atomic.Pointer[policy.Guard]
	refused *[policy.Refusals]atomic.Uint64
	suspect chan<- struct{}

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
		return true, false // policy knows no stranger
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

// storeGuardLocked makes the guard anew, for the next path on.
func (s *Speaker) storeGuardLocked() {
	node := s.cfg.policyNode()
	s.guard.Store(policy.NewGuard(&node, policyPeers(s.peers), policyRanges(s.dynamics), policy.Facts{
		Owners: s.owners, Networks: s.networks, NetworksKnown: s.networksKnown,
	}))
}

// guardLocked puts the guard into a started engine.
func (s *Speaker) guardLocked() error {
	engine, able := any(s.engine).(importer)
	if !able {
		return nil
	}
	s.storeGuardLocked()
	t := &gate{current: &s.guard, refused: &s.refused, suspect: s.suspect}
	if err := engine.SetImportCheck(t.check); err != nil {
		return fmt.Errorf("guard the import: %w", err)
	}
	return nil
}

// Suspect signals that a block was announced by another node than its owner:
// what [Speaker.SetOwners] was given may be old. It has room for one signal
// and is never closed.
func (s *Speaker) Suspect() <-chan struct{} { return s.suspect }

// Refused counts the announcements that were refused whatever policy accepts,
// by reason, since the start; one that is judged again counts again.
func (s *Speaker) Refused() map[string]uint64 {
	out := map[string]uint64{"pool": 0, "owner": 0, "next-hop": 0}
	for why := policy.Permitted + 1; why < policy.Refusals; why++ {
		out[why.Kind()] += s.refused[why].Load()
	}
	return out
}
