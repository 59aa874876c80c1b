package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"onlink/bgp/gobgp"
)

// Start opens the listeners and adds the peers and prefixes set before. It
// returns once the speaker listens. Its error wraps [ErrPortBusy], [ErrNoAddress]
// or [ErrPermission]; after one of these it may be called again.
func (s *Speaker) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return ErrStarted
	}
	engine, err := gobgp.Start(ctx, newLogBridge(s.log, s.ledger, s.cfg.self()), gobgp.Global{
		ASN: s.cfg.ASN, RouterID: s.cfg.RouterID, Port: s.cfg.ListenPort, Listen: s.cfg.ListenAddresses,
	})
	if err != nil {
		return startError(err, s.cfg.ListenPort)
	}
	s.engine, s.sessions.engine, s.started, s.startedAt = engine, engine, true, time.Now()
	if err := s.beginLocked(); err != nil {
		s.started = false
		return errors.Join(err, engine.Stop())
	}
	return nil
}

// beginLocked sets the fresh engine up: refusing policy, watcher, own
// prefixes, peers; in this order, so that no route is announced or accepted
// before the policy is in force, and the first dump to a peer is complete.
func (s *Speaker) beginLocked() error {
	want, own := s.sessions.want, s.origins
	s.sessions.want, s.origins, s.applied = wanted{}, origins{}, false
	if err := s.installPolicyLocked(); err != nil {
		return err
	}
	if err := s.engine.SetImportCheck((&gate{importGuard: &s.guard}).check); err != nil {
		return fmt.Errorf("guard the import: %w", err)
	}
	stop, err := s.watch.begin(s.engine)
	if err != nil {
		return err
	}
	s.stopWatch = stop
	if err := s.applyOriginsLocked(own); err != nil {
		return err
	}
	if len(want.peers)+len(want.dynamics) == 0 {
		return nil
	}
	return s.applyPeersLocked(want)
}

// startError wraps the error of a failed start in a sentinel and names the fix.
func startError(err error, port uint16) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: TCP port %d: stop the other BGP program or set another port: %w", ErrPortBusy, port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: wait for it or correct the listen address: %w", ErrNoAddress, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: TCP port %d: grant CAP_NET_BIND_SERVICE or set a port above 1023: %w", ErrPermission, port, err)
	}
	return fmt.Errorf("start bgp: %w", err)
}

const (
	upkeep    = 10 * time.Second // interval at which Run retries peers and drops old records
	holdCheck = time.Second      // interval at which it repeats holds that the engine dropped
)

// Run maintains the started speaker until ctx ends: it retries peers, repeats
// holds and looks for rivals. It then leaves the sessions open until the process
// ends, without a CEASE, so that peers keep our routes while the agent restarts
// (RFC 4724), unless [Speaker.Shutdown] closed them before.
func (s *Speaker) Run(ctx context.Context) error {
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	if !started {
		return ErrNotStarted
	}
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	settle := time.NewTicker(holdCheck)
	defer settle.Stop()
	rivals := time.NewTicker(rivalCheck)
	defer rivals.Stop()
	s.md5.look(netstatFile, time.Now())
	limited := map[netip.Addr]time.Time{} // peers over their prefix limit, and since when
	var unsettled <-chan time.Time        // settle's; nil: no hold is to be repeated
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return nil
		case addr := <-s.ledger.limited:
			if _, known := limited[addr]; !known {
				limited[addr] = time.Now()
				s.log.Warn("peer exceeded its prefix limit", "peer", addr, "retry_in", s.cfg.LimitRetry)
			}
		case <-s.sessions.holds.begun:
			unsettled = settle.C
		case <-unsettled:
			if s.settle() {
				unsettled = nil
			}
		case <-rivals.C:
			began := time.Now()
			s.look(ctx)
			rivals.Reset(rivalPause(time.Since(began)))
		case <-tick.C:
			s.md5.look(netstatFile, time.Now())
			s.tidy(limited)
		}
	}
}

// settle repeats the holds and releases that the engine dropped. It reports
// whether none is left to be looked at.
func (s *Speaker) settle() (done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.settleHolds()
	return len(s.sessions.holds.unsettled) == 0
}

// tidy retries the peers that exceeded their prefix limit long enough ago, and
// drops the records of peers that are gone.
func (s *Speaker) tidy(limited map[netip.Addr]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.retryLimited(limited)
	now := time.Now()
	s.sessions.forgetAdopted(now, s.startedAt)
	s.sessions.forgetStrangers(now)
}

// stop ends the receipt of events and leaves the sessions open until the process
// ends: the engine could only close them with a CEASE, which makes peers drop
// our routes.
func (s *Speaker) stop() {
	s.watch.feed.freeze()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWatch()
}

// Shutdown takes the node out for good: it withdraws our prefixes and closes
// every session with a CEASE that carries reason (RFC 9003, cut to 128 bytes).
// Peers drop our routes at once. It returns when all sessions are closed, or with
// the error of ctx when that ends. End Run's context afterwards.
func (s *Speaker) Shutdown(ctx context.Context, reason string) error {
	if err := s.closeSessions(reason); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.ledger.anyEstablished() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("shut peers down: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// closeSessions withdraws our prefixes and sends every peer a CEASE.
func (s *Speaker) closeSessions(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return ErrNotStarted
	}
	s.watch.feed.freeze()
	if err := s.applyOriginsLocked(origins{}); err != nil {
		s.log.Warn("failed to withdraw own prefixes", "err", err)
	}
	if err := s.engine.Shutdown(reason); err != nil {
		return fmt.Errorf("shut peers down: %w", err)
	}
	return nil
}
