package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// SetPeers makes the sessions exactly those given: new ones are added, absent
// ones closed, changed ones changed. Policy and timers change without a
// reset; a session whose peer and policy are the same is not touched.
// Nothing is changed when it returns an [ErrConfig] or [ErrUnpatched]. It may
// be called before Start.
func (s *Speaker) SetPeers(_ context.Context, peers []Peer, dynamics []Dynamic) error {
	wantPeers, wantDynamics, err := s.normalize(peers, dynamics)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.peers, s.dynamics = wantPeers, wantDynamics
		return nil
	}
	return s.applyPeersLocked(wantPeers, wantDynamics)
}

// normalize validates the desired sessions and fills in their defaults.
func (s *Speaker) normalize(peers []Peer, dynamics []Dynamic) (map[netip.Addr]Peer, map[string]Dynamic, error) {
	if s.refuses && len(peers)+len(dynamics) > 0 {
		return nil, nil, ErrUnpatched
	}
	names := map[string]bool{}
	claim := func(name string) error {
		if name == "" || names[name] {
			return fmt.Errorf("%w: Name %q is empty or used twice: give every peer its own", ErrConfig, name)
		}
		names[name] = true
		return nil
	}
	wantPeers, err := s.normalizePeers(peers, claim)
	if err != nil {
		return nil, nil, err
	}
	wantDynamics := make(map[string]Dynamic, len(dynamics))
	for _, d := range dynamics {
		d.Session = d.Session.withDefaults(&s.cfg)
		if err := claim(d.Name); err != nil {
			return nil, nil, err
		}
		if err := validPrefix("dynamic peers "+d.Name+": Prefix", d.Prefix); err != nil {
			return nil, nil, err
		}
		if err := d.validate(&s.cfg, "dynamic peers "+d.Name); err != nil {
			return nil, nil, err
		}
		if d.AllowOwnAS != 0 {
			return nil, nil, fmt.Errorf("%w: dynamic peers %s: AllowOwnAS is for configured peers only: leave it 0", ErrConfig, d.Name)
		}
		wantDynamics[d.Name] = d
	}
	return wantPeers, wantDynamics, nil
}

// normalizePeers is normalize for the configured peers; claim takes a name.
func (s *Speaker) normalizePeers(peers []Peer, claim func(name string) error) (map[netip.Addr]Peer, error) {
	want := make(map[netip.Addr]Peer, len(peers))
	for _, p := range peers {
		p.Session = p.Session.withDefaults(&s.cfg)
		if p.Port == 0 {
			p.Port = 179
		}
		if err := claim(p.Name); err != nil {
			return nil, err
		}
		if !p.Address.IsValid() || p.Address.IsUnspecified() || p.Address.Is4In6() {
			return nil, fmt.Errorf("%w: peer %s: Address %q is not a peer's address", ErrConfig, p.Name, p.Address)
		}
		if old, twice := want[p.Address]; twice {
			return nil, fmt.Errorf("%w: peer %s: Address %s is already peer %s", ErrConfig, p.Name, p.Address, old.Name)
		}
		if err := p.validate(&s.cfg, "peer "+p.Name); err != nil {
			return nil, err
		}
		want[p.Address] = p
	}
	if _, err := zonesOf(want); err != nil {
		return nil, err
	}
	return want, nil
}

// applyPeersLocked moves the engine to the desired sessions. One peer that
// the engine refuses does not stop the rest; it is tried again by the next
// call.
func (s *Speaker) applyPeersLocked(peers map[netip.Addr]Peer, dynamics map[string]Dynamic) error {
	if z, err := zonesOf(peers); err == nil { // checked before
		s.zones.Store(&z)
	}
	first := !s.applied
	s.applied = true
	var errs []error
	errs = append(errs, s.dropDynamicsLocked(dynamics), s.dropPeersLocked(peers))

	// The policy must know a peer before it is added: to the policy of
	// before it is a stranger, and strangers are refused.
	had, hadDynamics := s.peers, s.dynamics
	s.peers, s.dynamics = peers, dynamics
	if err := s.installPolicyLocked(); err != nil {
		s.peers, s.dynamics = had, hadDynamics
		return errors.Join(append(errs, err)...)
	}
	restarting := first && s.cfg.Restarting
	for addr, p := range peers {
		old, exists := had[addr]
		if err := s.putPeerLocked(p, old, exists, restarting); err != nil {
			delete(s.peers, addr)
			errs = append(errs, err)
		}
	}
	for name, d := range dynamics {
		old, exists := hadDynamics[name]
		if err := s.putDynamicLocked(d, old, exists, restarting); err != nil {
			delete(s.dynamics, name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// dropPeersLocked closes the sessions that are not wanted or must be made
// anew.
func (s *Speaker) dropPeersLocked(want map[netip.Addr]Peer) error {
	var errs []error
	for addr, p := range s.peers {
		w, keep := want[addr]
		if keep && p.wire() == w.wire() && p.Port == w.Port && p.Passive == w.Passive && p.Yield == w.Yield {
			continue
		}
		was := s.ledger.get(addr).state
		if err := s.removePeerLocked(addr, p.Session); err != nil {
			errs = append(errs, err)
			continue
		}
		if keep && was == established {
			s.ledger.failed(addr, "closed by this node: its configuration of the peer changed")
		}
		delete(s.peers, addr)
	}
	for addr, name := range s.adopted {
		if _, configured := want[addr]; configured {
			errs = append(errs, s.removePeerLocked(addr, s.dynamics[name].Session))
			delete(s.adopted, addr)
		}
	}
	return errors.Join(errs...)
}

// putPeerLocked adds p, or updates what may be updated in place.
func (s *Speaker) putPeerLocked(p, old Peer, exists, restarting bool) error {
	ctx := context.Background()
	if !exists {
		if err := s.engine.AddPeer(ctx, &api.AddPeerRequest{Peer: s.apiPeer(p, restarting)}); err != nil {
			return fmt.Errorf("add peer %s: %w", p.Name, err)
		}
		s.log.Info("peer added", "peer", p.Name, "address", p.Address, "role", p.Role.String())
		return nil
	}
	if old.timers() != p.timers() {
		if _, err := s.engine.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.apiPeer(p, false)}); err != nil {
			return fmt.Errorf("update peer %s: %w", p.Name, err)
		}
	}
	if !old.samePolicy(p.Session) {
		return s.softResetLocked(p.Address.String(), softBoth)
	}
	return nil
}

// removePeerLocked closes the session to addr with a CEASE and forgets it.
// The engine leaves the TCP MD5 key of a deleted peer on the listener, where
// it would make a later session without a password time out in silence; so
// the password is taken away first.
func (s *Speaker) removePeerLocked(addr netip.Addr, session Session) error {
	ctx := context.Background()
	if session.Password != "" {
		session.Password = ""
		if _, err := s.engine.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.apiPeer(Peer{Address: addr, Passive: true, Session: session}, false)}); err != nil {
			return fmt.Errorf("remove password of peer %s: %w", addr, err)
		}
	}
	if err := s.engine.DeletePeer(ctx, &api.DeletePeerRequest{Address: addr.String()}); err != nil {
		return fmt.Errorf("remove peer %s: %w", addr, err)
	}
	s.ledger.forget(addr)
	s.log.Info("peer removed", "address", addr)
	return nil
}

// reflectsLocked reports whether this speaker is a reflector.
func (s *Speaker) reflectsLocked() bool {
	for _, p := range s.peers {
		if p.Role == Client {
			return true
		}
	}
	for _, d := range s.dynamics {
		if d.Role == Client {
			return true
		}
	}
	return false
}

// The directions of a soft reset (RFC 2918).
const (
	softIn   = api.ResetPeerRequest_IN
	softOut  = api.ResetPeerRequest_OUT
	softBoth = api.ResetPeerRequest_BOTH
)

// softResetLocked applies the policy again to the routes of a peer ("" for
// all) without touching its session.
func (s *Speaker) softResetLocked(addr string, dir api.ResetPeerRequest_SoftResetDirection) error {
	if addr == "" {
		addr = "all"
	}
	if err := s.engine.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: addr, Soft: true, Direction: dir}); err != nil {
		return fmt.Errorf("apply policy to peer %s: %w", addr, err)
	}
	return nil
}

// apiPeer is the engine's form of p.
func (s *Speaker) apiPeer(p Peer, restarting bool) *api.Peer {
	// Yielding is a patch's: passive with MTU discovery, which nothing else
	// uses. The engine as it is would never dial.
	_, patched := any(s.engine).(bestWatcher)
	yield := p.Yield && patched && !p.Passive
	return &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(), PeerAsn: p.ASN, AuthPassword: p.Password,
			AllowOwnAsn: uint32(p.AllowOwnAS), LocalAsn: p.LocalAS, Description: p.Name, AdminDown: len(s.held[p.Address]) > 0,
		},
		Timers: s.apiTimers(&p.Session),
		Transport: &api.Transport{
			PassiveMode: p.Passive || yield, MtuDiscovery: yield, RemotePort: uint32(p.Port),
			LocalAddress: addrText(p.LocalAddress), BindInterface: p.Interface,
		},
		RouteReflector:  s.apiReflector(&p.Session),
		EbgpMultihop:    apiMultihop(&p.Session),
		TtlSecurity:     apiTTL(&p.Session),
		GracefulRestart: s.apiGracefulRestart(&p.Session, restarting),
		AfiSafis:        apiFamilies(&p.Session),
	}
}

func (s *Speaker) apiTimers(p *Session) *api.Timers {
	return &api.Timers{Config: &api.TimersConfig{
		HoldTime: seconds(p.HoldTime), KeepaliveInterval: seconds(p.Keepalive), ConnectRetry: seconds(p.ConnectRetry),
		IdleHoldTimeAfterReset: 1,
	}}
}

func (s *Speaker) apiReflector(p *Session) *api.RouteReflector {
	if p.Role != Client {
		return nil
	}
	return &api.RouteReflector{RouteReflectorClient: true, RouteReflectorClusterId: s.cfg.ClusterID.String()}
}

// apiGracefulRestart announces graceful restart in both roles with the N bit
// (RFC 8538). A node that only originates announces a second after a
// session comes back: its own prefixes are complete before it starts, so
// waiting for a dead peer's End-of-RIB would gain nothing.
func (s *Speaker) apiGracefulRestart(p *Session, restarting bool) *api.GracefulRestart {
	deferral := uint32(1)
	if s.reflectsLocked() {
		deferral = uint32(max(seconds(s.cfg.Deferral), 1))
	}
	return &api.GracefulRestart{
		Enabled: true, RestartTime: uint32(seconds(s.cfg.RestartTime)), DeferralTime: deferral,
		NotificationEnabled: true, LocalRestarting: restarting,
		LonglivedEnabled: p.LongLived > 0,
	}
}

func apiMultihop(p *Session) *api.EbgpMultihop {
	if p.Multihop == 0 || p.Role != EBGP {
		return nil
	}
	return &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
}

func apiTTL(p *Session) *api.TtlSecurity {
	if p.TTLSecurity == 0 {
		return nil
	}
	return &api.TtlSecurity{Enabled: true, TtlMin: uint32(256 - p.TTLSecurity)}
}

func apiFamilies(p *Session) []*api.AfiSafi {
	list := make([]*api.AfiSafi, 0, len(p.Families))
	for _, f := range p.Families {
		a := &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
		}
		if p.LongLived > 0 {
			a.LongLivedGracefulRestart = &api.LongLivedGracefulRestart{Config: &api.LongLivedGracefulRestartConfig{
				Enabled: true, RestartTime: uint32(seconds(p.LongLived)),
			}}
		}
		if n := p.Import.MaxPrefixes; n > 0 {
			a.PrefixLimits = &api.PrefixLimit{Family: apiFamily(f), MaxPrefixes: n, ShutdownThresholdPct: 75}
		}
		list = append(list, a)
	}
	return list
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }
