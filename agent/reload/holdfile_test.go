package reload

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"onlink/agent/config"
	"onlink/agent/forecast"
	"onlink/agent/hold"
	"onlink/bgp"
)

// TestHoldFile: a file that would remove much is held, with one alarm, and what was in
// force stays until it is confirmed; correcting the file ends it.
func TestHoldFile(t *testing.T) {
	t.Parallel()
	four, none := peersAt(1, 2, 3, 4), "bgp: {peers: []}\n"
	r, held, path := guarded(t, four)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantPeers := func(n int) {
		t.Helper()
		if got := len(r.Current().BGP.Peers); got != n {
			t.Fatalf("%d peers in force, want %d", got, n)
		}
	}
	write(none)
	err := r.Reread(t.Context(), "alice", false)
	if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "every session") {
		t.Fatalf("the file that removes every session: %v", err)
	}
	wantPeers(4)
	first := held.List()
	if len(first) != 1 || !strings.Contains(err.Error(), first[0].Digest) || r.Trouble() != nil || r.Digest() != digestOf([]byte(four)) {
		t.Fatalf("held %+v beside the trouble %v: want one alarm", first, r.Trouble())
	}
	if err := r.Reread(t.Context(), "alice", false); !errors.Is(err, ErrHeld) || len(held.List()) != 1 || held.List()[0] != first[0] {
		t.Errorf("read again: %v, held %+v", err, held.List())
	}

	write(four) // corrected
	if err := r.Reread(t.Context(), "alice", false); err != nil || len(held.List()) != 0 {
		t.Errorf("corrected: %v, held %+v", err, held.List())
	}
	write(none)
	if err := r.Reread(t.Context(), "alice", false); !errors.Is(err, ErrHeld) {
		t.Fatal(err)
	}
	write("bgp: {asn: x}\n")
	if err := r.Reread(t.Context(), "alice", false); !errors.Is(err, config.ErrInvalid) || len(held.List()) != 0 {
		t.Errorf("a file with a mistake in its place: %v, held %+v", err, held.List())
	}

	write(none)
	if err := r.Reread(t.Context(), "alice", false); !errors.Is(err, ErrHeld) {
		t.Fatal(err)
	}
	write(peersAt(9))
	if _, err := held.Confirm(t.Context(), ""); !errors.Is(err, ErrStale) {
		t.Errorf("a file that was edited since is confirmed: %v", err)
	}
	wantPeers(4)
	write(none)
	if _, err := held.Confirm(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	wantPeers(0)
	if len(held.List()) != 0 || r.Digest() != digestOf([]byte(none)) {
		t.Errorf("after the confirmation: held %+v, digest %s", held.List(), r.Digest())
	}

	write(four)
	if err := r.Reread(t.Context(), "alice", false); err != nil {
		t.Fatal(err)
	}
	write(none)
	if err := r.Reread(t.Context(), "alice", true); err != nil || len(held.List()) != 0 {
		t.Errorf("confirmed beforehand: %v", err)
	}
	wantPeers(0)
}

// TestHoldAnnouncements: a change that keeps every peer and withdraws most of what is
// announced is held; what the agent cannot foresee is not.
func TestHoldAnnouncements(t *testing.T) {
	t.Parallel()
	session := func(name string, advertised, lost int) forecast.Session {
		return forecast.Session{SessionForecast: bgp.SessionForecast{Name: name, Up: true, Fate: bgp.FateChanged, Advertised: advertised}, Lost: lost}
	}
	for _, c := range []struct {
		name     string
		sessions []forecast.Session
		err      error
		want     string
	}{
		{"most", []forecast.Session{session("rr", 4, 0), session("tor", 4, 4)}, nil, "4 of 8 announcements (4 to tor)"},
		{"a third", []forecast.Session{session("rr", 6, 0), session("tor", 6, 4)}, nil, ""},
		{"a single prefix", []forecast.Session{session("rr", 1, 1), session("tor", 1, 1)}, nil, ""},
		{"unknown", []forecast.Session{session("tor", 9, 9)}, errNoForecast, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			was, is := peersAt(1, 2), "bgp: {peers: [{address: 10.0.0.1, holdTime: 9s}, {address: 10.0.0.2}]}\n"
			r, held, path := guarded(t, was)
			r.foresee = func(context.Context, *config.Effective, int) (*forecast.Result, error) {
				return &forecast.Result{Sessions: c.sessions}, c.err
			}
			out, err := r.Change(t.Context(), Edit{Guard: true, Make: to(is)})
			if err != nil || (out.Held != nil) != (c.want != "") || out.Held != nil && out.Held.Reason != c.want {
				t.Fatalf("%+v, %v; want %q", out, err, c.want)
			}
			if out.Held == nil {
				return
			}
			if err := os.WriteFile(path, []byte(is), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := r.Reread(t.Context(), "alice", false); !errors.Is(err, ErrHeld) || len(held.List()) != 1 {
				t.Errorf("from the file: %v, held %+v", err, held.List())
			}
			if _, err := held.Confirm(t.Context(), out.Held.Digest); err != nil && !errors.Is(err, hold.ErrUnknown) {
				t.Error(err)
			}
		})
	}
}
