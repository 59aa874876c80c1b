// Package liveness acts on the BFD state of the peers: a dead peer's routes leave
// the kernel at once, and its session is held down until its packets are received
// again.
package liveness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"onlink/bgp/bfd"
)

// Monitor watches peers: a [bfd.Process].
type Monitor interface {
	Set(sessions []bfd.Session) error
	Changed() <-chan struct{}
	Sessions() []bfd.Status
}

// Speaker has the BGP sessions: an [onlink/bgp.Speaker].
type Speaker interface {
	IsUp(peer netip.Addr) bool
	Hold(ctx context.Context, peer netip.Addr, holder, why string) error
	Release(ctx context.Context, peer netip.Addr, holder string) error
}

// Routes takes the routes through dead next hops out of the kernel, and those
// through live ones back.
type Routes interface {
	SetDead(ctx context.Context, died, alive []netip.Addr) error
}

// Liveness acts on the BFD state of the peers.
//
// A peer whose BFD is AdminDown, or never came up, is left alone (RFC 5882
// sections 3.2 and 4.1): BFD may be switched off, or not run yet.
type Liveness struct {
	Log     *slog.Logger
	Monitor Monitor
	Speaker Speaker
	Routes  Routes

	mu    sync.Mutex // guards all below
	known map[netip.Addr]pulse
}

// pulse is the known state of one peer's BFD session.
type pulse struct {
	bfd.Status

	dead bool // acted upon: next hop withdrawn, session held
}

const (
	// A dead peer whose BFD is silent for this long may no longer run BFD: its
	// session is released, as that of a peer whose BFD never came up.
	bfdSilence = 15 * time.Second
	// bfdLook is the interval of that check.
	bfdLook = time.Second
	// bfdPortWait bounds how long the process of a previous run may take to end.
	bfdPortWait = 3 * time.Second
	// bfdHolder names this file's holds of sessions.
	bfdHolder = "bfd"
)

// Begin sets the first sessions. The process of a previous run of the agent may
// still be sending AdminDown to its neighbours from the same ports.
func (l *Liveness) Begin(ctx context.Context, sessions []bfd.Session) error {
	ctx, cancel := context.WithTimeout(ctx, bfdPortWait)
	defer cancel()
	again := time.NewTicker(bfdPortWait / 30)
	defer again.Stop()
	for {
		err := l.Monitor.Set(sessions)
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
func (l *Liveness) Run(ctx context.Context) error {
	look := time.NewTicker(bfdLook)
	defer look.Stop()
	for {
		due := look.C
		if !l.anyDead() {
			due = nil // the monitor reports all else
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.Monitor.Changed():
		case <-due:
		}
		if err := l.round(ctx); err != nil && ctx.Err() == nil {
			l.Log.Error("failed to apply bfd state", "err", err)
		}
	}
}

// round compares the sessions with their known state.
func (l *Liveness) round(ctx context.Context) error {
	next := map[netip.Addr]pulse{}
	var died, alive []netip.Addr
	for _, st := range l.Monitor.Sessions() {
		peer := st.Session.Peer
		was := l.pulse(peer)
		now := pulse{Status: st, dead: was.dead}
		if st.State != was.State && was.Session.Peer.IsValid() {
			l.Log.Info("bfd session changed", "peer", peer, "state", st.State.String(), "was", was.State.String(), "why", st.Diag.String())
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

// means reports whether a lost BFD session means that the peer's forwarding is
// dead. It does not while the BGP session is down already and the peer's BFD
// shares the fate of its control plane (C bit clear): then its agent may just
// be restarting, and graceful restart keeps its routes (RFC 5882 section 4.3).
func (l *Liveness) means(st bfd.Status) bool {
	return st.Independent || l.Speaker.IsUp(st.Session.Peer)
}

// heardAgain reports whether a dead peer's session may be released.
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
func (l *Liveness) act(ctx context.Context, died, alive []netip.Addr) error {
	if len(died)+len(alive) == 0 {
		return nil
	}
	if err := l.Routes.SetDead(ctx, died, alive); err != nil {
		return fmt.Errorf("withdraw next hops: %w", err)
	}
	for _, peer := range died {
		st := l.pulse(peer)
		l.Log.Warn("bfd declared peer down, its routes are withdrawn", "peer", peer, "why", st.Diag.String())
		if err := l.Speaker.Hold(ctx, peer, bfdHolder, "BFD session down: "+st.Diag.String()); err != nil {
			return err
		}
	}
	for _, peer := range alive {
		if err := l.Speaker.Release(ctx, peer, bfdHolder); err != nil {
			return err
		}
	}
	return nil
}

// Session returns a peer's BFD session; false: BFD does not watch the peer. It
// may be called by any goroutine.
func (l *Liveness) Session(peer netip.Addr) (bfd.Status, bool) {
	p := l.pulse(peer)
	return p.Status, p.Session.Peer.IsValid()
}

// anyDead reports whether a dead peer's session is held down.
func (l *Liveness) anyDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.known {
		if p.dead {
			return true
		}
	}
	return false
}

// pulse returns the known state of a peer, the zero pulse for none.
func (l *Liveness) pulse(peer netip.Addr) pulse {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[peer]
}
