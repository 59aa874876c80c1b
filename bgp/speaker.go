package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"

	"onlink/bgp/policy"
	"onlink/rib"
)

// Speaker is one BGP speaker. Make it with [New], then [Speaker.Start] and
// [Speaker.Run] it once.
type Speaker struct {
	cfg    Config
	log    *slog.Logger
	engine *server.BgpServer
	feed   *feed
	zones  atomic.Pointer[zones]
	ledger *ledger
	// refuses: the engine is unpatched, and nobody allowed that.
	refuses bool

	guard   atomic.Pointer[policy.Guard] // nil before Start
	refused [policy.Refusals]atomic.Uint64
	suspect chan struct{} // cap 1; the engine sends, nobody closes

	mu        sync.Mutex // guards all below; held while the engine is changed
	started   bool
	startedAt time.Time
	applied   bool // SetPeers reached the engine once
	peers     map[netip.Addr]Peer
	dynamics  map[string]Dynamic
	adopted   map[netip.Addr]string // Known clients added for the restart, and their Dynamic
	origins   map[netip.Prefix]Origin
	policyGen uint64
	installed *policyBuild        // nil before the first policy
	plan      *policy.Plan        // what installed was built from
	held      map[netip.Addr]hold // sessions kept down; may name peers that are not configured now
	unsettled map[netip.Addr]bool // the engine may not have taken the last hold or release
	shutdown  bool                // Shutdown was called: sessions were closed with a CEASE
	rivals    []Rival             // as found last
	owners    *policy.Owners

	intrusions []Intrusion                   // as found last
	contested  map[netip.Prefix][]netip.Addr // as found last

	networks []policy.Network

	networksKnown bool
	stopWatch     func()
}

// New returns a speaker for cfg, or an [ErrConfig]. It starts nothing.
func New(cfg Config) (*Speaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Speaker{
		cfg: cfg, log: cfg.Log, feed: newFeed(), ledger: newLedger(),
		peers: map[netip.Addr]Peer{}, dynamics: map[string]Dynamic{}, adopted: map[netip.Addr]string{},
		owners: policy.NewOwners(nil), suspect: make(chan struct{}, 1),
		refuses: !Patched() && !cfg.AllowUnpatched,
		origins: map[netip.Prefix]Origin{}, held: map[netip.Addr]hold{}, unsettled: map[netip.Addr]bool{},
	}
	s.zones.Store(&zones{})
	return s, nil
}

// Start opens the listeners and begins with the peers and prefixes set
// before. It returns once the speaker listens, or [ErrPortBusy],
// [ErrNoAddress] or [ErrPermission]; after an error it may be called again.
func (s *Speaker) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return ErrStarted
	}
	engine := server.NewBgpServer(server.LoggerOption(&logBridge{out: s.log, ledger: s.ledger, self: s.self()}))
	go engine.Serve()
	if err := engine.StartBgp(ctx, &api.StartBgpRequest{Global: s.global()}); err != nil {
		// A start that did not succeed keeps the listeners it opened.
		if stop := engine.StopBgp(context.WithoutCancel(ctx), &api.StopBgpRequest{}); stop != nil {
			err = errors.Join(err, stop)
		}
		return s.startError(err)
	}
	s.engine, s.started, s.startedAt = engine, true, time.Now()
	if err := s.beginLocked(ctx); err != nil {
		s.started = false
		return errors.Join(err, engine.StopBgp(context.WithoutCancel(ctx), &api.StopBgpRequest{}))
	}
	return nil
}

// self is what the reasons of failures need to know of this speaker.
func (s *Speaker) self() self {
	return self{asn: s.cfg.ASN, id: s.cfg.RouterID, addresses: []netip.Addr{s.cfg.NodeAddress, s.cfg.NodeAddress6}}
}

// beginLocked sets the fresh engine up: refusing policy, watcher, own
// prefixes, peers; in this order, so that nothing is told or taken before
// the policy stands and the first dump to a peer is complete.
func (s *Speaker) beginLocked(ctx context.Context) error {
	peers, dynamics, origins := s.peers, s.dynamics, s.origins
	s.peers, s.dynamics, s.origins = map[netip.Addr]Peer{}, map[string]Dynamic{}, map[netip.Prefix]Origin{}
	s.installed, s.applied = nil, false
	if err := s.installPolicyLocked(); err != nil {
		return err
	}
	if err := s.guardLocked(); err != nil {
		return err
	}
	if err := s.watchLocked(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := s.applyOriginsLocked(origins); err != nil {
		return err
	}
	if len(peers)+len(dynamics) == 0 {
		return nil
	}
	return s.applyPeersLocked(peers, dynamics)
}

// global is the engine's configuration.
func (s *Speaker) global() *api.Global {
	g := &api.Global{
		Asn: s.cfg.ASN, RouterId: s.cfg.RouterID.String(), ListenPort: -1,
		Families:         []uint32{0, 1}, // IPv4 and IPv6 unicast; all others would cost a table each
		UseMultiplePaths: true,
		// The older of two equal eBGP paths would win by default: after a
		// restart nodes would disagree.
		RouteSelectionOptions: &api.RouteSelectionOptionsConfig{ExternalCompareRouterId: true},
	}
	if s.cfg.ListenPort != 0 {
		g.ListenPort = int32(s.cfg.ListenPort)
		for _, a := range s.cfg.ListenAddresses {
			g.ListenAddresses = append(g.ListenAddresses, a.String())
		}
	}
	return g
}

// startError makes one line of a failed start that names the fix.
func (s *Speaker) startError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: TCP port %d: stop the other BGP program or set another port: %w", ErrPortBusy, s.cfg.ListenPort, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: wait for it or correct the listen address: %w", ErrNoAddress, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: TCP port %d: grant CAP_NET_BIND_SERVICE or set a port above 1023: %w", ErrPermission, s.cfg.ListenPort, err)
	}
	return fmt.Errorf("start bgp: %w", err)
}

const (
	upkeep    = 10 * time.Second // Run looks for peers to retry or forget this often
	holdCheck = time.Second      // and for holds that the engine did not take
)

// Run looks after the started speaker until ctx ends. It then leaves the
// sessions to the end of the process, without a CEASE, so that peers keep our
// routes while the agent restarts (RFC 4724), unless [Speaker.Shutdown] closed
// them before.
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
	held := map[netip.Addr]time.Time{} // peers over their prefix limit, and since when
	var seen look
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return nil
		case addr := <-s.ledger.limited:
			if _, known := held[addr]; !known {
				held[addr] = time.Now()
				s.log.Warn("peer exceeded its prefix limit", "peer", addr, "retry_in", s.cfg.LimitRetry)
			}
		case <-settle.C:
			s.settleHolds(ctx)
		case <-rivals.C:
			began := time.Now()
			seen = s.findRivals(ctx, seen)
			s.findOwnIDs()
			rivals.Reset(rivalPause(time.Since(began)))
		case <-tick.C:
			s.retryHeld(ctx, held)
			s.forgetAdopted()
			s.forgetStrangers(time.Now())
		}
	}
}

// retryHeld re-enables peers that were held down long enough.
func (s *Speaker) retryHeld(ctx context.Context, held map[netip.Addr]time.Time) {
	for addr, since := range held {
		if time.Since(since) < s.cfg.LimitRetry {
			continue
		}
		delete(held, addr)
		if s.isHeld(addr) {
			continue // Release brings it back
		}
		if err := s.engine.EnablePeer(ctx, &api.EnablePeerRequest{Address: addr.String()}); err != nil {
			s.log.Warn("retry of a peer did not succeed", "peer", addr, "error", err)
		}
	}
}

// stop makes the speaker deaf and leaves the sessions to the end of the
// process: all that the engine could do is to close them with a CEASE, and
// that makes peers drop our routes.
func (s *Speaker) stop() {
	s.feed.freeze()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWatch()
}

// Shutdown takes the node out for good: it withdraws what we announce and
// closes every session with a CEASE that carries reason (RFC 9003, cut to
// 128 bytes). Peers drop our routes at once. It returns when all sessions
// are closed or ctx ends. End Run's context afterwards.
func (s *Speaker) Shutdown(ctx context.Context, reason string) error {
	if err := s.closeSessions(ctx, reason); err != nil {
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

// closeSessions withdraws our prefixes and sends every peer a CEASE. The
// engine turns it into a hard reset where the N bit was negotiated (RFC 8538),
// otherwise those peers would keep our routes for the restart time.
func (s *Speaker) closeSessions(ctx context.Context, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return ErrNotStarted
	}
	s.feed.freeze()
	s.shutdown = true
	if err := s.applyOriginsLocked(map[netip.Prefix]Origin{}); err != nil {
		s.log.Warn("withdraw of own prefixes did not succeed", "error", err)
	}
	if err := s.engine.ShutdownPeer(ctx, &api.ShutdownPeerRequest{Communication: cut(reason)}); err != nil {
		return fmt.Errorf("shut peers down: %w", err)
	}
	return nil
}

// Changed signals that [Speaker.Drain] has news. It has room for one signal
// and is never closed.
func (s *Speaker) Changed() <-chan struct{} { return s.feed.changed }

// Drain calls each with the newest full best-path set of every prefix that may
// have changed since the last call, each prefix once, next hops without
// duplicates. Own prefixes have no path: an empty set may be of a prefix never
// told before. After a stop it tells nothing more.
func (s *Speaker) Drain(each func(rib.Update)) { s.feed.drain(each) }
