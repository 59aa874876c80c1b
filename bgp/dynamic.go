package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// groupOf is the engine's peer group behind a Dynamic. Groups are used for
// nothing else: to a configured neighbour every field of its group, zero
// ones too, would overwrite the neighbour's own.
func groupOf(name string) string { return "dynamic-" + name }

// dropDynamicsLocked ends dynamic peers that are not wanted or must be made
// anew, with their sessions.
func (s *Speaker) dropDynamicsLocked(want map[string]Dynamic) error {
	var errs []error
	for name, d := range s.dynamics {
		w, keep := want[name]
		if keep && d.Prefix == w.Prefix && d.wire() == w.wire() && d.timers() == w.timers() {
			continue
		}
		if err := s.removeDynamicLocked(d); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(s.dynamics, name)
	}
	return errors.Join(errs...)
}

func (s *Speaker) removeDynamicLocked(d Dynamic) error {
	ctx := context.Background()
	if err := s.engine.DeleteDynamicNeighbor(ctx, &api.DeleteDynamicNeighborRequest{Prefix: d.Prefix.String(), PeerGroup: groupOf(d.Name)}); err != nil {
		return fmt.Errorf("remove dynamic peers %s: %w", d.Name, err)
	}
	members, err := s.membersLocked(d.Name)
	if err != nil {
		return err
	}
	for _, addr := range members {
		if err := s.engine.DeletePeer(ctx, &api.DeletePeerRequest{Address: addr.String()}); err != nil {
			return fmt.Errorf("remove dynamic peer %s: %w", addr, err)
		}
		s.ledger.forget(addr)
	}
	for addr, name := range s.adopted {
		if name == d.Name {
			if err := s.removePeerLocked(addr, d.Session); err != nil {
				return err
			}
			delete(s.adopted, addr)
		}
	}
	if err := s.engine.DeletePeerGroup(ctx, &api.DeletePeerGroupRequest{Name: groupOf(d.Name)}); err != nil {
		return fmt.Errorf("remove dynamic peers %s: %w", d.Name, err)
	}
	return nil
}

// membersLocked returns the addresses of the sessions a Dynamic accepted.
func (s *Speaker) membersLocked(name string) ([]netip.Addr, error) {
	var list []netip.Addr
	err := s.engine.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		if p.GetConf().GetPeerGroup() != groupOf(name) {
			return
		}
		if addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress()); err == nil {
			list = append(list, addr)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return list, nil
}

// putDynamicLocked adds d, or applies a changed policy to its sessions.
func (s *Speaker) putDynamicLocked(d, old Dynamic, exists, restarting bool) error {
	if exists {
		if old.samePolicy(d.Session) {
			return nil
		}
		members, err := s.membersLocked(d.Name)
		for addr, name := range s.adopted {
			if name == d.Name {
				members = append(members, addr)
			}
		}
		for _, addr := range members {
			err = errors.Join(err, s.softResetLocked(addr.String(), softBoth))
		}
		return err
	}
	ctx := context.Background()
	if restarting {
		if err := s.adoptLocked(d); err != nil {
			return err
		}
	}
	if err := s.engine.AddPeerGroup(ctx, &api.AddPeerGroupRequest{PeerGroup: s.apiGroup(d)}); err != nil {
		return fmt.Errorf("add dynamic peers %s: %w", d.Name, err)
	}
	if err := s.engine.AddDynamicNeighbor(ctx, &api.AddDynamicNeighborRequest{
		DynamicNeighbor: &api.DynamicNeighbor{Prefix: d.Prefix.String(), PeerGroup: groupOf(d.Name)},
	}); err != nil {
		return fmt.Errorf("add dynamic peers %s: %w", d.Name, err)
	}
	s.log.Info("dynamic peers added", "peer", d.Name, "prefix", d.Prefix, "role", d.Role.String())
	return nil
}

// adoptLocked waits for the clients of the previous run as for configured
// passive peers, because only those take part in the restart: the engine
// never sets the Restart State for a dynamic neighbour.
func (s *Speaker) adoptLocked(d Dynamic) error {
	for _, addr := range d.Known {
		if _, configured := s.peers[addr]; configured || !d.Prefix.Contains(addr) || s.adopted[addr] != "" {
			continue
		}
		p := Peer{Name: d.Name + " " + addr.String(), Address: addr, Passive: true, Session: d.Session}
		if err := s.engine.AddPeer(context.Background(), &api.AddPeerRequest{Peer: s.apiPeer(p, true)}); err != nil {
			return fmt.Errorf("await client %s of %s: %w", addr, d.Name, err)
		}
		s.adopted[addr] = d.Name
	}
	return nil
}

// forgetAdopted removes known clients that did not come back, or went away,
// longer than the restart time ago; if they do come, they are dynamic peers.
func (s *Speaker) forgetAdopted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for addr, name := range s.adopted {
		since := s.startedAt
		r := s.ledger.get(addr)
		if r.since.After(since) {
			since = r.since
		}
		if r.state == established || now.Sub(since) < s.cfg.RestartTime {
			continue
		}
		if err := s.removePeerLocked(addr, s.dynamics[name].Session); err != nil {
			s.log.Warn("removal of an absent client did not succeed", "peer", addr, "error", err)
			continue
		}
		delete(s.adopted, addr)
	}
}

const (
	// strangers is how many peers that are not configured are remembered
	// after their session: whoever has the addresses of a Dynamic can make it
	// as many as there are.
	strangers = 4096
	// strangerMemory is how long the last errors of more than that are kept.
	strangerMemory = time.Minute
)

// forgetStrangers drops the history of dynamic peers that are long gone, once
// there are too many of them.
func (s *Speaker) forgetStrangers(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.forgetSome(strangers, func(addr netip.Addr, r *record) bool {
		_, configured := s.peers[addr]
		return !configured && s.adopted[addr] == "" && r.state == idle && now.Sub(r.since) > strangerMemory && now.Sub(r.errorAt) > strangerMemory
	})
}

// apiGroup is the engine's form of d.
func (s *Speaker) apiGroup(d Dynamic) *api.PeerGroup {
	return &api.PeerGroup{
		Conf: &api.PeerGroupConf{
			PeerGroupName: groupOf(d.Name), PeerAsn: d.ASN, LocalAsn: d.LocalAS, AuthPassword: d.Password,
		},
		Timers:          s.apiTimers(&d.Session),
		Transport:       &api.Transport{PassiveMode: true, LocalAddress: addrText(d.LocalAddress), BindInterface: d.Interface},
		RouteReflector:  s.apiReflector(&d.Session),
		EbgpMultihop:    apiMultihop(&d.Session),
		TtlSecurity:     apiTTL(&d.Session),
		GracefulRestart: s.apiGracefulRestart(&d.Session, false),
		AfiSafis:        apiFamilies(&d.Session),
	}
}
