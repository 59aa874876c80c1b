package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// hold says why a session is kept down: by holder, in words.
type hold map[string]string

// text joins the reasons, for status and for the peer.
func (h hold) text() string {
	var list []string
	for _, why := range h {
		list = append(list, why)
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// Hold keeps the session to a configured peer down until [Speaker.Release]:
// its routes go at once and the peer is told why (a CEASE with RFC 9003 text,
// cut to 128 bytes). Each holder has a name; the session comes back when the
// last one releases it. A hold outlives changes of the peer's configuration.
// It fails with [ErrUnknownPeer].
func (s *Speaker) Hold(ctx context.Context, peer netip.Addr, holder, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.peers[peer]; !known {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	h := s.held[peer]
	if h == nil {
		h = hold{}
		s.held[peer] = h
	}
	_, already := h[holder]
	h[holder] = why
	if !s.started || already || len(h) > 1 {
		return nil
	}
	s.unsettled[peer] = true
	s.log.Warn("session held down", "peer", s.peers[peer].Name, "address", peer, "why", why)
	if err := s.engine.DisablePeer(ctx, &api.DisablePeerRequest{Address: peer.String(), Communication: cut(why)}); err != nil {
		return fmt.Errorf("hold peer %s down: %w", peer, err)
	}
	return nil
}

// Release ends a holder's [Speaker.Hold]; without one it does nothing.
func (s *Speaker) Release(ctx context.Context, peer netip.Addr, holder string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[peer]
	if _, held := h[holder]; !held {
		return nil
	}
	delete(h, holder)
	if len(h) > 0 {
		return nil
	}
	delete(s.held, peer)
	p, known := s.peers[peer]
	if !s.started || !known {
		return nil
	}
	s.unsettled[peer] = true
	s.log.Info("session released", "peer", p.Name, "address", peer)
	if err := s.engine.EnablePeer(ctx, &api.EnablePeerRequest{Address: peer.String()}); err != nil {
		return fmt.Errorf("release peer %s: %w", peer, err)
	}
	return nil
}

// Reset ends the session to a configured peer with a CEASE that carries why;
// it comes up again by itself. It fails with [ErrUnknownPeer].
func (s *Speaker) Reset(ctx context.Context, peer netip.Addr, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.peers[peer]; !known || !s.started {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	if err := s.engine.ResetPeer(ctx, &api.ResetPeerRequest{Address: peer.String(), Communication: cut(why)}); err != nil {
		return fmt.Errorf("reset peer %s: %w", peer, err)
	}
	return nil
}

// IsUp reports whether the session to peer is Established.
func (s *Speaker) IsUp(peer netip.Addr) bool { return s.ledger.get(peer).state == established }

// settleHolds repeats a hold or release that the engine did not take: it
// drops one that comes before it has acted on another.
func (s *Speaker) settleHolds(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer := range s.unsettled {
		if _, known := s.peers[peer]; !known {
			delete(s.unsettled, peer)
			continue
		}
		down := false
		err := s.engine.ListPeer(ctx, &api.ListPeerRequest{Address: peer.String()}, func(p *api.Peer) {
			down = p.GetState().GetAdminState() == api.PeerState_DOWN
		})
		want := len(s.held[peer]) > 0
		switch {
		case err != nil:
		case down == want:
			delete(s.unsettled, peer)
		case want:
			err = s.engine.DisablePeer(ctx, &api.DisablePeerRequest{Address: peer.String(), Communication: cut(s.held[peer].text())})
		default:
			err = s.engine.EnablePeer(ctx, &api.EnablePeerRequest{Address: peer.String()})
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.log.Warn("hold of a session not settled", "peer", peer, "error", err)
		}
	}
}

// cut shortens a text to what a CEASE may carry.
func cut(text string) string {
	if len(text) > maxCommunication {
		return text[:maxCommunication]
	}
	return text
}

// maxCommunication is the longest text the engine sends with a CEASE; RFC
// 9003 allows 255 bytes.
const maxCommunication = 128

func (s *Speaker) isHeld(peer netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held[peer]) > 0
}
