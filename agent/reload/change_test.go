package reload

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"onlink/agent/config"
	"onlink/agent/hold"
)

// kept is a reloader of a file with a text, whose parts note what they are
// brought to.
func kept(t *testing.T, text string, log *[]string) (*Reloader, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return New(Setup{
		Log: slog.New(slog.DiscardHandler), File: &config.File{Path: path}, Parts: recorder(log, ""),
		Facts: func() config.Facts { return config.Facts{} },
		Held:  hold.New(slog.New(slog.DiscardHandler)), InUse: func(netip.Prefix) bool { return false },
	}, effective(t, path, text)), path
}

const (
	onePeer  = "bgp: {peers: [{address: 10.0.0.1}]} # by hand\n"
	twoPeers = "bgp: {peers: [{address: 10.0.0.1}, {address: 10.0.0.2}]}\n"
)

func to(text string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(text), nil }
}

// TestChange: an edit is in the file and in force, or in neither.
func TestChange(t *testing.T) {
	t.Parallel()
	errMake := errors.New("no such entry")
	for _, c := range []struct {
		name string
		edit Edit
		want string // of the error; "": none
		file string // the text after it
		took bool   // parts were asked
	}{
		{"another text", Edit{By: "root", Make: to(twoPeers)}, "", twoPeers, true},
		{"made of the old one", Edit{Make: func(old []byte) ([]byte, error) {
			return []byte(strings.Replace(string(old), "10.0.0.1", "10.0.0.9", 1)), nil
		}}, "", "bgp: {peers: [{address: 10.0.0.9}]} # by hand\n", true},
		{"the same text", Edit{Make: to(onePeer)}, "", onePeer, true}, // key files may be others
		{"of the text that is there", Edit{IfDigest: digestOf([]byte(onePeer)), Make: to(twoPeers)}, "", twoPeers, true},
		{"of another text", Edit{IfDigest: digestOf([]byte(twoPeers)), Make: to(twoPeers)}, ErrStale.Error(), onePeer, false},
		{"only checked", Edit{DryRun: true, Make: to(twoPeers)}, "", onePeer, false},
		{"only checked, and needs a restart", Edit{DryRun: true, Make: to("bgp: {asn: 65000}")}, "bgp.asn: needs a restart", onePeer, false},
		{"needs a restart", Edit{Make: to("bgp: {asn: 65000}")}, "bgp.asn: needs a restart", onePeer, false},
		{"only checked, and may restart", Edit{DryRun: true, Restart: true, Make: to("bgp: {asn: 65000}")}, "", onePeer, false},
		{"mistake in the text", Edit{Make: to("bgp: {asn: x}")}, "bgp.asn: ", onePeer, false},
		{"mistake in the edit", Edit{Make: func([]byte) ([]byte, error) { return nil, errMake }}, errMake.Error(), onePeer, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log []string
			r, path := kept(t, onePeer, &log)
			before := r.Current()
			out, err := r.Change(t.Context(), c.edit)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			text, readErr := os.ReadFile(path)
			if readErr != nil || string(text) != c.file {
				t.Errorf("the file is %q (%v), want %q", text, readErr, c.file)
			}
			if (len(log) > 0) != c.took || (r.Current() != before) != c.took {
				t.Errorf("parts %q, in force another %t, want %t", log, r.Current() != before, c.took)
			}
			made, _ := c.edit.Make([]byte(onePeer))
			if err == nil && (out.Digest != digestOf(made) || out.Changed != (string(made) != onePeer)) {
				t.Errorf("digest %s of %q, changed %t", out.Digest, made, out.Changed)
			}
			if trouble := r.Trouble(); trouble != nil {
				t.Errorf("an edit that is refused is no trouble of the file: %v", trouble)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("drafts are left: %v, %v", left, err)
			}
		})
	}
}

// TestChangeRestart: a change that needs a restart is in the file and not in force,
// and the agent begins anew.
func TestChangeRestart(t *testing.T) {
	t.Parallel()
	const other = "bgp: {asn: 65000}"
	var log []string
	r, path := kept(t, onePeer, &log)
	before := r.Current()
	if _, err := r.Change(t.Context(), Edit{Restart: true, Make: to("bgp: {asn: x}")}); err == nil {
		t.Error("a file with a mistake is written for an agent that could not start with it")
	}
	if out, err := r.Change(t.Context(), Edit{Restart: true, Guard: true, Make: to(other)}); err != nil || out.Held == nil {
		t.Errorf("a restart without any peer is not held: %+v, %v", out, err)
	}
	if out, err := r.Change(t.Context(), Edit{Restart: true, Make: to(other)}); err != nil || !out.Changed || out.Digest != digestOf([]byte(other)) {
		t.Fatalf("%+v, %v", out, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != other {
		t.Errorf("the file is %q, %v", text, err)
	}
	if r.Current() != before || len(log) > 0 {
		t.Errorf("parts %q were changed before the restart", log)
	}
	if err := r.Run(t.Context()); !errors.Is(err, ErrAnew) {
		t.Errorf("Run returned %v", err)
	}
	if _, err := r.Change(t.Context(), Edit{Restart: true, Make: to(onePeer)}); err != nil || len(log) == 0 {
		t.Errorf("a change that needs no restart: %v, parts %q", err, log)
	}
}

// TestChangeStartable: a file that no agent could start with is not written, and the
// one that runs goes on.
func TestChangeStartable(t *testing.T) {
	t.Parallel()
	const other = "bgp: {asn: 65000}"
	var log []string
	r, path := kept(t, onePeer, &log)
	errAbsent := errors.New("node.address: this machine does not have it")
	r.fits = func(*config.Effective) error { return errAbsent }
	for _, dry := range []bool{true, false} {
		if _, err := r.Change(t.Context(), Edit{Restart: true, DryRun: dry, Make: to(other)}); !errors.Is(err, errAbsent) {
			t.Errorf("dry run %t: %v", dry, err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != onePeer {
		t.Errorf("the file is %q, %v", text, err)
	}
	if len(r.anew) > 0 {
		t.Error("the agent begins anew")
	}
	if _, err := r.Change(t.Context(), Edit{Restart: true, Make: to(twoPeers)}); err != nil {
		t.Errorf("a change that needs no restart: %v", err)
	}
}

// TestText: an editor gets the text with the digest that its edit is for.
func TestText(t *testing.T) {
	t.Parallel()
	var log []string
	r, path := kept(t, onePeer, &log)
	at, text, digest, err := r.Text()
	if err != nil || at != path || string(text) != onePeer {
		t.Fatalf("%s, %q, %v", at, text, err)
	}
	if _, err := r.Change(t.Context(), Edit{IfDigest: digest, Make: to(twoPeers)}); err != nil {
		t.Errorf("edit of the text that was read: %v", err)
	}
	if _, err := r.Change(t.Context(), Edit{IfDigest: digest, Make: to(onePeer)}); !errors.Is(err, ErrStale) {
		t.Errorf("second edit of the same text: %v", err)
	}
}

// TestReread: what became of the newest file is known until the next one; an
// agent that stops has no trouble.
func TestReread(t *testing.T) {
	t.Parallel()
	var log []string
	r, path := kept(t, onePeer, &log)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var lines strings.Builder
	r.log = slog.New(slog.NewTextHandler(&lines, nil))
	defer func() {
		for _, want := range []string{`"configuration rejected, the last good one stays in force" by=alice err=`, `"configuration taken" by=bob file=`} {
			if !strings.Contains(lines.String(), want) {
				t.Errorf("no %s in the log:\n%s", want, lines.String())
			}
		}
	}()
	write("bgp: {asn: x}")
	if err := r.Reread(t.Context(), "alice", false); !errors.Is(err, config.ErrInvalid) || !errors.Is(r.Trouble(), config.ErrInvalid) {
		t.Errorf("a mistake: %v, trouble %v", err, r.Trouble())
	}
	write(twoPeers)
	if err := r.Reread(t.Context(), "bob", false); err != nil || r.Trouble() != nil || len(r.Current().BGP.Peers) != 2 {
		t.Errorf("corrected: %v, trouble %v, %d peers", err, r.Trouble(), len(r.Current().BGP.Peers))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.Reread(t.Context(), "a test", false); !errors.Is(err, os.ErrNotExist) || r.Trouble() == nil {
		t.Errorf("gone: %v, trouble %v", err, r.Trouble())
	}
	write(onePeer)
	if err := r.Reread(t.Context(), "a test", false); err != nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	write("bgp: {asn: x}")
	if err := r.Reread(ended, "a test", false); !errors.Is(err, context.Canceled) || r.Trouble() != nil {
		t.Errorf("while it stops: %v, trouble %v", err, r.Trouble())
	}
}

// TestSetRouters: the router of an interface that is found is in force, unless a
// part refuses it, and what is found again changes nothing.
func TestSetRouters(t *testing.T) {
	t.Parallel()
	const leaf = "bgp: {peers: [{name: leaf, interface: eth1, asn: 65001}]}"
	var log []string
	r, _ := kept(t, leaf, &log)
	at := map[string]netip.Addr{"eth1": netip.MustParseAddr("fe80::1%eth1")}
	find := func(*config.Effective) map[string]netip.Addr { return at }
	closed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	renewed := r.Renewed()
	if err := r.SetRouters(t.Context(), find); err != nil || r.Current().BGP.Peers[0].Address != at["eth1"] {
		t.Fatalf("%v: %v", err, r.Current().BGP.Peers[0].Address)
	}
	if !closed(renewed) {
		t.Error("another configuration is in force, and Renewed does not show it")
	}
	renewed = r.Renewed()
	asked := len(log)
	if err := r.SetRouters(t.Context(), find); err != nil || len(log) != asked {
		t.Errorf("found again: %v, parts %q", err, log)
	}
	if closed(renewed) {
		t.Error("nothing changed, and Renewed shows a change")
	}
	if err := r.Reread(t.Context(), "a test", false); err != nil || r.Current().BGP.Peers[0].Address != at["eth1"] {
		t.Errorf("after the file is read again: %v, %v; the session would be reset", err, r.Current().BGP.Peers[0].Address)
	}
	r.parts[0].Apply = func(context.Context, *config.Effective) error { return ErrRestart }
	at = nil
	if err := r.SetRouters(t.Context(), find); !errors.Is(err, ErrRestart) || len(r.Current().Routers()) != 1 {
		t.Errorf("refused: %v, in force %v", err, r.Current().Routers())
	}
}
