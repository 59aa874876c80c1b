package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// SetPeers makes the sessions exactly those given: it adds new ones, closes
// absent ones and changes those that differ. Policy and timers change without a
// reset; a session whose peer and policy are the same is not touched.
// Nothing is changed when it returns an [ErrConfig] or [ErrUnpatched]. It may
// be called before Start.
func (s *Speaker) SetPeers(_ context.Context, peers []Peer, dynamics []Dynamic) error {
	if s.refuses && len(peers)+len(dynamics) > 0 {
		return ErrUnpatched
	}
	want, err := wantedOf(&s.cfg, peers, dynamics)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.sessions.want = want
		return nil
	}
	return s.applyPeersLocked(want)
}

// applyPeersLocked moves the engine to the desired sessions. One peer that
// the engine refuses does not stop the rest; the next call tries it again.
func (s *Speaker) applyPeersLocked(want wanted) error {
	if z, err := zonesOf(want.peers); err == nil { // checked before
		s.watch.zones.Store(&z)
	}
	restarting := !s.applied && s.cfg.Restarting
	s.applied = true
	dropped := s.sessions.drop(want)

	// The policy must have a peer before the engine does: the policy before that
	// refuses all routes of other addresses.
	had := s.sessions.want
	s.sessions.want = want
	if err := s.installPolicyLocked(); err != nil {
		s.sessions.want = had
		return errors.Join(dropped, err)
	}
	s.watch.wanted.Store(s.sessions.want.clone()) // for the log lines of the sessions that come now
	err := s.sessions.put(had, restarting)
	s.watch.wanted.Store(s.sessions.want.clone())
	return errors.Join(dropped, err)
}

// Hold keeps the session to a configured peer down until [Speaker.Release]: its
// routes go at once and the peer receives a CEASE that carries why (RFC 9003,
// cut to 128 bytes). Each holder has a name; the session comes back when the
// last one releases it. A hold outlives changes of the peer's configuration, and ends
// when the peer leaves it. It fails with [ErrUnknownPeer].
func (s *Speaker) Hold(_ context.Context, peer netip.Addr, holder, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.sessions.want.peers[peer]
	if !known {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	if first := s.sessions.holds.add(peer, holder, why); !s.started || !first {
		return nil
	}
	s.sessions.holds.unsettle(peer)
	s.log.Warn("session held down", "peer", p.Name, "address", peer, "why", why)
	if err := s.engine.Disable(peer, why); err != nil {
		return fmt.Errorf("hold peer %s down: %w", peer, err)
	}
	return nil
}

// Release ends a holder's [Speaker.Hold]; without a hold it does nothing.
func (s *Speaker) Release(_ context.Context, peer netip.Addr, holder string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.sessions.holds.remove(peer, holder)
	p, known := s.sessions.want.peers[peer]
	if !last || !s.started || !known {
		return nil
	}
	s.sessions.holds.unsettle(peer)
	s.log.Info("session released", "peer", p.Name, "address", peer)
	if err := s.engine.Enable(peer); err != nil {
		return fmt.Errorf("release peer %s: %w", peer, err)
	}
	return nil
}

// Reset ends the session to a configured peer with a CEASE that carries why;
// it comes up again by itself. It fails with [ErrUnknownPeer].
func (s *Speaker) Reset(_ context.Context, peer netip.Addr, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.sessions.want.peers[peer]; !known || !s.started {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	if err := s.engine.Reset(peer, why); err != nil {
		return fmt.Errorf("reset peer %s: %w", peer, err)
	}
	return nil
}

// IsUp reports whether the session to peer is Established.
func (s *Speaker) IsUp(peer netip.Addr) bool { return s.ledger.get(peer).state == established }
