package liveness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"onlink/bgp/bfd"
)

var tor = netip.MustParseAddr("10.57.0.1")

// bed is the monitor, the speaker and the routes: what is done to them is noted
// in order.
type bed struct {
	sessions []bfd.Status
	up       bool
	did      []string
	busy     int // times that the monitor's ports are busy
}

func (b *bed) Set([]bfd.Session) error {
	if b.busy--; b.busy >= 0 {
		return fmt.Errorf("listen: %w", bfd.ErrPortBusy)
	}
	return nil
}
func (*bed) Changed() <-chan struct{} { return nil }
func (b *bed) Sessions() []bfd.Status { return b.sessions }
func (b *bed) IsUp(netip.Addr) bool   { return b.up }
func (b *bed) note(what string) error { b.did = append(b.did, what); return nil }
func (b *bed) Hold(_ context.Context, p netip.Addr, holder, _ string) error {
	return b.note("hold " + p.String() + " " + holder)
}

func (b *bed) Release(_ context.Context, p netip.Addr, holder string) error {
	return b.note("release " + p.String() + " " + holder)
}

func (b *bed) SetDead(_ context.Context, died, alive []netip.Addr) error {
	return b.note(fmt.Sprint("dead ", died, " alive ", alive))
}

func (b *bed) liveness() *Liveness {
	return &Liveness{Log: slog.New(slog.DiscardHandler), Monitor: b, Speaker: b, Routes: b}
}

// TestRound: which reports of BFD take a peer's routes and hold its session,
// and which give them back. Each step is one report; the routes always come
// first.
func TestRound(t *testing.T) {
	report := func(state bfd.State, failures uint64) bfd.Status {
		return bfd.Status{Session: bfd.Session{Peer: tor}, State: state, RemoteState: bfd.Down, Failures: failures, Since: time.Now(), LastHeard: time.Now()}
	}
	with := func(s bfd.Status, change func(*bfd.Status)) bfd.Status {
		change(&s)
		return s
	}
	died := []string{"dead [10.57.0.1] alive []", "hold 10.57.0.1 bfd"}
	back := []string{"dead [] alive [10.57.0.1]", "release 10.57.0.1 bfd"}
	for _, c := range []struct {
		name  string
		up    bool // the BGP session
		steps []bfd.Status
		did   [][]string
	}{
		{"it never came up", true, []bfd.Status{report(bfd.Down, 0), report(bfd.Down, 0)}, [][]string{nil, nil}},
		{"it dies and comes back", true, []bfd.Status{report(bfd.Up, 0), report(bfd.Down, 1), report(bfd.Down, 1), report(bfd.Up, 1)}, [][]string{nil, died, nil, back}},
		{"it dies twice", true, []bfd.Status{report(bfd.Up, 0), report(bfd.Down, 1), report(bfd.Up, 1), report(bfd.Down, 2)}, [][]string{nil, died, back, died}},
		{"its agent restarts", false, []bfd.Status{report(bfd.Up, 0), report(bfd.Down, 1)}, [][]string{nil, nil}},
		{
			"its agent restarts, and BFD does not share its fate", false,
			[]bfd.Status{report(bfd.Up, 0), with(report(bfd.Down, 1), func(s *bfd.Status) { s.Independent = true })},
			[][]string{nil, died},
		},
		{
			"BFD is switched off there", true,
			[]bfd.Status{report(bfd.Up, 0), report(bfd.Down, 1), with(report(bfd.Down, 1), func(s *bfd.Status) { s.RemoteState = bfd.AdminDown })},
			[][]string{nil, died, back},
		},
		{
			"a dead peer's BFD is silent for long", true,
			[]bfd.Status{report(bfd.Up, 0), report(bfd.Down, 1), with(report(bfd.Down, 1), func(s *bfd.Status) {
				s.Since, s.LastHeard = s.Since.Add(-2*bfdSilence), s.LastHeard.Add(-2*bfdSilence)
			})},
			[][]string{nil, died, back},
		},
		{"BFD is switched off here", true, []bfd.Status{report(bfd.Up, 0), report(bfd.Down, 1), {}}, [][]string{nil, died, back}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bed{up: c.up}
			l := b.liveness()
			for i, s := range c.steps {
				b.did, b.sessions = nil, []bfd.Status{s}
				if !s.Session.Peer.IsValid() {
					b.sessions = nil
				}
				if err := l.round(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(b.did, c.did[i]) {
					t.Errorf("step %d: %q, want %q", i, b.did, c.did[i])
				}
				if _, watched := l.Session(tor); watched != s.Session.Peer.IsValid() {
					t.Errorf("step %d: watched %t", i, watched)
				}
			}
		})
	}
}

// TestBegin: the ports that the last run's process still has are waited for,
// and not for ever.
func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := (&bed{busy: 3}).liveness().Begin(t.Context(), nil); err != nil {
			t.Error(err)
		}
		began := time.Now()
		err := (&bed{busy: 1 << 20}).liveness().Begin(t.Context(), nil)
		if !errors.Is(err, bfd.ErrPortBusy) || time.Since(began) > bfdPortWait+time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
