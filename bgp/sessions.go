package bgp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"onlink/bgp/gobgp"
)

// sessions moves the engine to the desired sessions. The speaker's lock guards
// it.
type sessions struct {
	cfg    *Config
	log    *slog.Logger
	ledger *ledger
	engine *gobgp.Engine // nil before Start

	want    wanted                // those that the engine accepted
	adopted map[netip.Addr]string // Known clients added for the restart, and their Dynamic
	holds   holds
}

func newSessions(c *Config, l *ledger) sessions {
	return sessions{
		cfg: c, log: c.Log, ledger: l, adopted: map[netip.Addr]string{},
		holds: newHolds(),
	}
}

// drop ends the sessions that next does not have, and those whose change needs a
// new session.
func (s *sessions) drop(next wanted) error {
	return errors.Join(s.dropDynamics(next), s.dropPeers(next))
}

func (s *sessions) dropDynamics(next wanted) error {
	var errs []error
	for name, d := range s.want.dynamics {
		w, keep := next.dynamics[name]
		if keep && d.Prefix == w.Prefix && d.wire() == w.wire() && d.timers() == w.timers() {
			continue
		}
		if err := s.removeDynamic(d); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(s.want.dynamics, name)
	}
	return errors.Join(errs...)
}

func (s *sessions) dropPeers(next wanted) error {
	var errs []error
	for addr, p := range s.want.peers {
		w, keep := next.peers[addr]
		if keep && p.wire() == w.wire() && p.Port == w.Port && p.Passive == w.Passive && p.Yield == w.Yield {
			continue
		}
		was := s.ledger.get(addr).state
		if err := s.remove(addr, p.Session); err != nil {
			errs = append(errs, err)
			continue
		}
		if !keep {
			s.holds.forget(addr)
		}
		if keep && was == established {
			s.ledger.failed(addr, "closed by this node: its configuration of the peer changed")
		}
		delete(s.want.peers, addr)
	}
	for addr, name := range s.adopted {
		if _, configured := next.peers[addr]; configured {
			errs = append(errs, s.remove(addr, s.want.dynamics[name].Session))
			delete(s.adopted, addr)
		}
	}
	return errors.Join(errs...)
}

// put adds the desired sessions that had does not have, and changes those that
// differ. One peer that the engine refuses does not stop the rest: it leaves the
// desired set, so that the next call tries it again.
func (s *sessions) put(had wanted, restarting bool) error {
	var errs []error
	for addr, p := range s.want.peers {
		old, exists := had.peers[addr]
		if err := s.putPeer(p, old, exists, restarting); err != nil {
			delete(s.want.peers, addr)
			errs = append(errs, err)
		}
	}
	for name, d := range s.want.dynamics {
		old, exists := had.dynamics[name]
		if err := s.putDynamic(d, old, exists, restarting); err != nil {
			delete(s.want.dynamics, name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// putPeer adds p, or updates its timers, limit and policy in place.
func (s *sessions) putPeer(p, old Peer, exists, restarting bool) error {
	if !exists {
		if err := s.engine.AddNeighbor(s.neighbor(p, restarting)); err != nil {
			return fmt.Errorf("add peer %s: %w", p.Name, err)
		}
		s.log.Info("peer added", "peer", p.Name, "address", p.Address, "role", p.Role.String())
		return nil
	}
	if old.timers() != p.timers() {
		if err := s.engine.UpdateNeighbor(s.neighbor(p, false)); err != nil {
			return fmt.Errorf("update peer %s: %w", p.Name, err)
		}
	}
	if old.Name != p.Name || !old.samePolicy(p.Session) { // own prefixes name their peers
		return s.judgeAgain(p.Address, gobgp.Both)
	}
	return nil
}

// putDynamic adds d, or applies a changed policy to its sessions.
func (s *sessions) putDynamic(d, old Dynamic, exists, restarting bool) error {
	if exists {
		if old.samePolicy(d.Session) {
			return nil
		}
		members, err := s.members(d.Name)
		for addr, name := range s.adopted {
			if name == d.Name {
				members = append(members, addr)
			}
		}
		for _, addr := range members {
			err = errors.Join(err, s.judgeAgain(addr, gobgp.Both))
		}
		return err
	}
	if restarting {
		if err := s.adopt(d); err != nil {
			return err
		}
	}
	if err := s.engine.AddRange(&gobgp.Range{Name: d.Name, Prefix: d.Prefix, Options: s.options(&d.Session, false)}); err != nil {
		return fmt.Errorf("add dynamic peers %s: %w", d.Name, err)
	}
	s.log.Info("dynamic peers added", "peer", d.Name, "prefix", d.Prefix, "role", d.Role.String())
	return nil
}

// adopt adds the clients of the previous run as passive neighbours, because only
// those take part in the restart: the engine never sets the Restart State for a
// dynamic neighbour.
func (s *sessions) adopt(d Dynamic) error {
	for _, addr := range d.Known {
		if _, configured := s.want.peers[addr]; configured || !d.Prefix.Contains(addr) || s.adopted[addr] != "" {
			continue
		}
		p := Peer{Name: d.Name + " " + addr.String(), Address: addr, Passive: true, Session: d.Session}
		if err := s.engine.AddNeighbor(s.neighbor(p, true)); err != nil {
			return fmt.Errorf("await client %s of %s: %w", addr, d.Name, err)
		}
		s.adopted[addr] = d.Name
	}
	return nil
}

// remove closes the session to addr with a CEASE and drops its record. The engine
// leaves the TCP MD5 key of a deleted peer on the listener, where a later session
// without a password would time out in silence; so remove deletes the password
// first.
func (s *sessions) remove(addr netip.Addr, session Session) error {
	if session.Password != "" {
		session.Password = ""
		if err := s.engine.UpdateNeighbor(s.neighbor(Peer{Address: addr, Passive: true, Session: session}, false)); err != nil {
			return fmt.Errorf("remove password of peer %s: %w", addr, err)
		}
	}
	if err := s.engine.RemoveNeighbor(addr); err != nil {
		return fmt.Errorf("remove peer %s: %w", addr, err)
	}
	r := s.ledger.get(addr)
	s.ledger.forget(addr)
	attrs := []any{"peer", s.want.peers[addr].Name, "address", addr}
	if r.state == established {
		attrs = append(attrs, "up_for", time.Since(r.since).Round(time.Second), "routes_lost", r.had.Accepted)
	}
	s.log.Info("peer removed", attrs...)
	return nil
}

func (s *sessions) removeDynamic(d Dynamic) error {
	if err := s.engine.CloseRange(d.Name, d.Prefix); err != nil {
		return fmt.Errorf("remove dynamic peers %s: %w", d.Name, err)
	}
	members, err := s.members(d.Name)
	if err != nil {
		return err
	}
	for _, addr := range members {
		if err := s.engine.RemoveNeighbor(addr); err != nil {
			return fmt.Errorf("remove dynamic peer %s: %w", addr, err)
		}
		s.ledger.forget(addr)
	}
	for addr, name := range s.adopted {
		if name == d.Name {
			if err := s.remove(addr, d.Session); err != nil {
				return err
			}
			delete(s.adopted, addr)
		}
	}
	if err := s.engine.ForgetRange(d.Name); err != nil {
		return fmt.Errorf("remove dynamic peers %s: %w", d.Name, err)
	}
	return nil
}

// members returns the peers' addresses of the sessions that a Dynamic accepted.
func (s *sessions) members(name string) (list []netip.Addr, err error) {
	err = s.engine.Neighbors(false, func(st gobgp.State) {
		if st.Range == name {
			list = append(list, st.Address)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return list, nil
}

// judgeAgain applies the policy again to the routes of a peer, of all peers for
// an invalid address, without touching the session (RFC 2918).
func (s *sessions) judgeAgain(peer netip.Addr, d gobgp.Direction) error {
	if err := s.engine.SoftReset(peer, d); err != nil {
		who := "all peers"
		if peer.IsValid() {
			who = "peer " + peer.String()
		}
		return fmt.Errorf("apply policy to %s: %w", who, err)
	}
	return nil
}

// neighbor is the engine's form of p.
func (s *sessions) neighbor(p Peer, restarting bool) *gobgp.Neighbor {
	return &gobgp.Neighbor{
		Name: p.Name, Address: p.Address, Port: p.Port, Down: s.holds.isHeld(p.Address),
		Passive: p.Passive, Yield: p.Yield, Options: s.options(&p.Session, restarting),
	}
}

// options is the engine's form of p. A node that reflects nothing announces a
// second after a session comes back: its own prefixes are complete before it
// starts, so waiting for a dead peer's End-of-RIB would gain nothing.
func (s *sessions) options(p *Session, restarting bool) gobgp.Options {
	o := gobgp.Options{
		Options: p.Options, ASN: p.ASN, Password: p.Password, Device: p.Interface, MaxPrefixes: p.Import.MaxPrefixes,
		Restart: gobgp.Restart{Time: s.cfg.RestartTime, Deferral: time.Second, Restarting: restarting},
	}
	if p.Role == Client {
		o.Cluster = s.cfg.ClusterID
	}
	if p.Role != EBGP {
		o.Multihop = 0 // the engine has it only for peers of another AS
	}
	if s.want.reflects() {
		o.Restart.Deferral = max(s.cfg.Deferral.Truncate(time.Second), time.Second)
	}
	for _, f := range p.Families {
		o.Families = append(o.Families, gobgp.Family(f))
	}
	return o
}

// describe adds a session's configuration and hold to its status.
func (s *sessions) describe(st *PeerStatus, e gobgp.State, r *record, md5 *md5Watch) {
	st.Held = s.holds.of[st.Address].text()
	if c, ok := s.want.peers[st.Address]; ok {
		st.Name, st.Role, st.ASN = c.Name, c.Role, c.ASN
		if st.State == established {
			return
		}
		switch why := md5.why(c.Password != "", time.Now()); {
		case why != "" && r.lastError == "":
			st.LastError, st.ErrorAt = why, time.Now()
		case why != "" && r.silent:
			st.LastError += ": " + why
		case r.silent:
			st.LastError += c.advice()
		}
		return
	}
	st.Dynamic = true
	for name, d := range s.want.dynamics {
		if name == e.Range || s.adopted[st.Address] == name {
			st.Name, st.Role, st.ASN = name, d.Role, d.ASN
		}
	}
}

// names returns the name of every peer that this node waits for a session of.
func (s *sessions) names() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for addr, p := range s.want.peers {
		out[addr] = p.Name
	}
	for addr, name := range s.adopted {
		out[addr] = name + " " + addr.String()
	}
	return out
}

// absent returns the peers that have no session in the engine but a reason to be
// listed.
func (s *sessions) absent(listed []PeerStatus) []PeerStatus {
	has := make(map[netip.Addr]bool, len(listed))
	for _, p := range listed {
		has[p.Address] = true
	}
	for a := range s.want.peers {
		has[a] = true
	}
	return s.ledger.absent(time.Now(), has, s.want.dynamicOf)
}
