package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"onlink/agent/config"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/rib"
)

// liveness acts on what BFD says of the peers: what a peer that is dead
// announced leaves the kernel at once, and its session is held down until its
// packets are heard again.
//
// A peer whose BFD is AdminDown, or never came up, is not touched (RFC 5882
// sections 3.2 and 4.1): BFD may be switched off, or not be there yet.
type liveness struct {
	log     *slog.Logger
	monitor *bfd.Process
	speaker *bgp.Speaker
	learn   *learn

	mu    sync.Mutex // guards all below; status reads them
	known map[netip.Addr]pulse
}

// pulse is what is known of one peer's BFD session.
type pulse struct {
	bfd.Status

	dead bool // acted upon: next hop withdrawn, session held
}

const (
	// A dead peer whose BFD is silent this long may have stopped to speak
	// BFD: it is let back in, as a peer is whose BFD never came up.
	bfdSilence = 15 * time.Second
	// bfdLook is how often that is looked at.
	bfdLook = time.Second
	// bfdPortWait bounds how long the process of a previous run may take to end.
	bfdPortWait = 3 * time.Second
	// bfdHolder names this file's holds of sessions.
	bfdHolder = "bfd"
)

// bfdSessions are the sessions that the configured peers ask for.
func bfdSessions(peers []config.Peer) []bfd.Session {
	var out []bfd.Session
	for _, p := range peers {
		if p.BFD != nil {
			out = append(out, p.BFD.Session(p.Address, p.LocalAddress))
		}
	}
	return out
}

// WatchPeers is what the command of [Options].BFD must run: it watches peers
// for the agent at the other end of in and out, until in ends.
func WatchPeers(in io.Reader, out io.Writer) error {
	return bfd.Serve(in, out, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// begin sets the first sessions. The process of a previous run of the agent
// may still be telling its neighbours AdminDown, with the ports in its hands.
func (l *liveness) begin(ctx context.Context, sessions []bfd.Session) error {
	ctx, cancel := context.WithTimeout(ctx, bfdPortWait)
	defer cancel()
	again := time.NewTicker(bfdPortWait / 30)
	defer again.Stop()
	for {
		err := l.monitor.Set(sessions)
		if !errors.Is(err, bfd.ErrPortBusy) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Run follows the sessions until ctx ends.
func (l *liveness) Run(ctx context.Context) error {
	look := time.NewTicker(bfdLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.monitor.Changed():
		case <-look.C:
		}
		if err := l.round(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("bfd not acted upon", "err", err)
		}
	}
}

// round compares the sessions with what was known of them.
func (l *liveness) round(ctx context.Context) error {
	next := map[netip.Addr]pulse{}
	var died, alive []netip.Addr
	for _, st := range l.monitor.Sessions() {
		peer := st.Session.Peer
		was := l.pulse(peer)
		now := pulse{Status: st, dead: was.dead}
		if st.State != was.State && was.Session.Peer.IsValid() {
			l.log.Info("bfd session changed", "peer", peer, "state", st.State.String(), "was", was.State.String(), "why", st.Diag.String())
		}
		switch {
		case !was.dead && st.Failures > was.Failures && st.State != bfd.Up && l.means(st):
			now.dead = true
			died = append(died, peer)
		case was.dead && heardAgain(st, time.Now()):
			now.dead = false
			alive = append(alive, peer)
		}
		next[peer] = now
	}
	l.mu.Lock()
	before := l.known
	l.known = next
	l.mu.Unlock()
	for peer, was := range before { // BFD was switched off for them
		if _, still := next[peer]; !still && was.dead {
			alive = append(alive, peer)
		}
	}
	return l.act(ctx, died, alive)
}

// means reports whether a lost BFD session says that the peer's forwarding is
// dead. It does not while the BGP session is gone already and the peer's BFD
// shares the fate of its control plane (C bit clear): then its agent may just
// be restarting, and graceful restart keeps its routes (RFC 5882 section 4.3).
func (l *liveness) means(st bfd.Status) bool {
	return st.Independent || l.speaker.IsUp(st.Session.Peer)
}

// heardAgain reports whether a dead peer's session may come back.
func heardAgain(st bfd.Status, now time.Time) bool {
	return st.State == bfd.Up || st.RemoteState == bfd.AdminDown || now.Sub(later(st.LastHeard, st.Since)) > bfdSilence
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// act takes the routes through the dead out of the kernel, first of all, and
// holds their sessions; those that live get both back.
func (l *liveness) act(ctx context.Context, died, alive []netip.Addr) error {
	if len(died)+len(alive) == 0 {
		return nil
	}
	if err := l.learn.do(ctx, func() { l.learn.setDead(died, alive) }); err != nil {
		return fmt.Errorf("withdraw next hops: %w", err)
	}
	for _, peer := range died {
		st := l.pulse(peer)
		l.log.Warn("peer is dead, its routes are gone", "peer", peer, "why", st.Diag.String())
		if err := l.speaker.Hold(ctx, peer, bfdHolder, "BFD session down: "+st.Diag.String()); err != nil {
			return err
		}
	}
	for _, peer := range alive {
		if err := l.speaker.Release(ctx, peer, bfdHolder); err != nil {
			return err
		}
	}
	return nil
}

// pulse returns what is known of a peer, the zero pulse when nothing is.
func (l *liveness) pulse(peer netip.Addr) pulse {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[peer]
}

// reaches answers the decision's questions about next hops: as the kernel's
// FIB does, but a dead one is unreachable. It belongs to the learn loop.
type reaches struct {
	rib.Resolver

	dead map[netip.Addr]bool
}

// Reach implements rib.Resolver.
func (r *reaches) Reach(nextHop netip.Addr) rib.Reach {
	if r.dead[nextHop] {
		return rib.Reach{Kind: rib.Dead}
	}
	return r.Resolver.Reach(nextHop)
}

// setDead notes which next hops BFD calls dead and which live again.
func (l *learn) setDead(died, alive []netip.Addr) {
	for _, a := range died {
		l.reaches.dead[a] = true
	}
	for _, a := range alive {
		delete(l.reaches.dead, a)
	}
	l.table.NextHopsChanged(slices.Concat(died, alive))
}
