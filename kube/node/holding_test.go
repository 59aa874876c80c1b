package node

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

// admin answers as the agent's guard does to texts that are lists of words: a text
// without a word of the one in force is held, and its digest is of what would go. Texts
// with "new" need a restart.
type admin struct {
	onlinkv1.UnimplementedAdminServer

	mu        sync.Mutex // guards all below
	text      string
	held      *onlinkv1.HeldChange
	next      string // the held text
	confirmed []string
	calls     []*onlinkv1.ChangeConfigRequest
	fail      error // of the next dry run
}

func (a *admin) ChangeConfig(_ context.Context, req *onlinkv1.ChangeConfigRequest) (*onlinkv1.ChangeConfigReply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, req)
	if req.GetDryRun() && a.fail != nil {
		err := a.fail
		a.fail = nil
		return nil, err
	}
	if strings.Contains(req.GetText(), "new") && !req.GetRestart() {
		return nil, status.Error(codes.FailedPrecondition, "needs a restart")
	}
	var gone []string
	for _, word := range strings.Fields(a.text) {
		if !slices.Contains(strings.Fields(req.GetText()), word) {
			gone = append(gone, word)
		}
	}
	rep := &onlinkv1.ChangeConfigReply{Digest: "of " + req.GetText()}
	switch {
	case len(gone) > 0:
		rep.Held = &onlinkv1.HeldChange{What: changeConfig, Digest: strings.Join(gone, " ")}
		if !req.GetDryRun() {
			a.held, a.next = rep.GetHeld(), req.GetText()
		}
	case !req.GetDryRun():
		a.text, a.held = req.GetText(), nil
	}
	return rep, nil
}

func (a *admin) Confirm(_ context.Context, req *onlinkv1.ConfirmRequest) (*onlinkv1.ConfirmReply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.GetDigest() != req.GetDigest() {
		return nil, status.Error(codes.NotFound, "no such change")
	}
	a.confirmed = append(a.confirmed, req.GetDigest())
	a.text, a.held = a.next, nil
	return &onlinkv1.ConfirmReply{}, nil
}

// edit puts another text into the place of the one in force, which drops what is held.
func (a *admin) edit(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text, a.held = text, nil
}

// deskBed is the loop's part that pushes a configuration, and the agent.
type deskBed struct {
	*desire
	*admin

	in render.Input
}

func newDeskBed(t *testing.T) *deskBed {
	t.Helper()
	b := &deskBed{admin: &admin{}, in: render.Input{Node: &corev1.Node{}}}
	path := filepath.Join(t.TempDir(), "s")
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	onlinkv1.RegisterAdminServer(srv, b.admin)
	var served sync.WaitGroup
	served.Go(func() {
		if err := srv.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { srv.Stop(); served.Wait() })
	l, err := dial(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.conn.Close() })
	b.desire = &desire{log: l.log, link: l, gone: newDeletions(), holds: map[string]holding{}}
	return b
}

// push is one turn with a rendering, after which the agent's status is received. It
// returns the text in force.
func (b *deskBed) push(t *testing.T, text, kept string) string {
	t.Helper()
	wait := time.Duration(0)
	out := &render.Output{Config: []byte(text)}
	if kept != "" {
		out.Kept = []byte(kept)
	}
	b.admin.mu.Lock()
	have := &has{text: b.text, digest: "of " + b.text}
	b.admin.mu.Unlock()
	if err := b.pushConfig(t.Context(), &b.in, out, have, time.Now(), &wait); err != nil {
		t.Log(err)
	}
	b.admin.mu.Lock()
	defer b.admin.mu.Unlock()
	s := &onlinkv1.Status{}
	if b.held != nil {
		s.Held = append(s.Held, b.held)
	}
	b.link.mu.Lock()
	b.link.status = s
	b.link.mu.Unlock()
	return b.text
}

func (b *deskBed) lose(kind string) {
	b.gone.add(deletion{kind: kind, names: []string{"x"}, at: time.Now().Add(-time.Minute), seen: true})
}

// TestHolding: a held change confirms itself only when the deletion or the reflector
// that it begins with causes it.
func TestHolding(t *testing.T) {
	t.Parallel()
	reflector := func(b *deskBed) { b.in.Reflectors = append(b.in.Reflectors, &corev1.Node{}) }
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b *deskBed)
		want string // in force at the end
	}{
		{"a person deletes a peer", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			b.lose("BGPPeer")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a"},
		{"and the agent restarts before it is confirmed", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			b.lose("BGPPeer")
			b.push(t, "a", "")
			b.sent = sent{}
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a"},
		{"held since the process began, then a namespace is deleted", func(t *testing.T, b *deskBed) {
			b.edit("a b")
			b.push(t, "a", "")
			b.lose("Namespace")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b"},
		{"held since the process began, then a filter is deleted", func(t *testing.T, b *deskBed) {
			b.edit("a b")
			b.push(t, "a", "")
			b.lose("BGPFilter")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b"},
		{"held for an edit, then a peer is deleted that has no session here", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			b.push(t, "a", "")
			b.lose("BGPPeer")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b"},
		{"an edit removes more, after the deletion", func(t *testing.T, b *deskBed) {
			b.push(t, "a b c", "")
			b.lose("BGPPeer")
			b.push(t, "a c", "")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b c"},
		{"an edit removes something while the deletion waits for a restart", func(t *testing.T, b *deskBed) {
			b.push(t, "a b c", "")
			b.lose("BGPPeer")
			b.push(t, "a c new", "")
			b.restarts.at = time.Now()
			b.push(t, "a new", "")
			b.push(t, "a new", "")
		}, "a b c"},
		{"the file is another's, and a peer is deleted", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			b.edit("a b c")
			b.lose("BGPPeer")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b c"},
		{"an empty list came before", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			b.gone.add(deletion{kind: "Namespace", names: []string{"x", "y"}, at: time.Now(), emptied: true})
			b.lose("BGPPeer")
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b"},
		{"a reflector is added", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			reflector(b)
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a"},
		{"two reflectors are added, one by one", func(t *testing.T, b *deskBed) {
			b.push(t, "a b c", "")
			reflector(b)
			b.push(t, "a b", "")
			reflector(b)
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a"},
		{"a reflector is added while an edit is held", func(t *testing.T, b *deskBed) {
			b.push(t, "a b", "")
			b.push(t, "a", "")
			reflector(b)
			b.push(t, "a r", "")
			b.push(t, "a r", "")
		}, "a b"},
		{"a reflector was there when the process began", func(t *testing.T, b *deskBed) {
			b.edit("a b")
			reflector(b)
			b.push(t, "a", "")
			b.push(t, "a", "")
		}, "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newDeskBed(t)
			c.run(t, b)
			if b.text != c.want {
				t.Errorf("%q is in force, confirmed %q; want %q", b.text, b.confirmed, c.want)
			}
		})
	}
}

// TestHoldingNotAlone: a hold that another deletion follows needs a person, also later.
func TestHoldingNotAlone(t *testing.T) {
	t.Parallel()
	b := newDeskBed(t)
	b.push(t, "a b", "")
	now := time.Now()
	b.gone.add(deletion{kind: "BGPPeer", names: []string{"b"}, at: now.Add(-5 * time.Second), seen: true})
	b.push(t, "a", "")
	b.gone.add(deletion{kind: "BGPPeer", names: []string{"elsewhere"}, at: now, seen: true})
	b.push(t, "a", "")
	b.gone.recent = nil
	if got := b.push(t, "a", ""); got != "a b" {
		t.Errorf("%q is in force", got)
	}
}

// TestHoldingDropped: a held change that the agent drops, because a person edits the
// file, is sent again.
func TestHoldingDropped(t *testing.T) {
	t.Parallel()
	b := newDeskBed(t)
	b.push(t, "a b", "")
	b.push(t, "a", "")
	b.push(t, "a", "")
	b.edit("a b c")
	b.push(t, "a", "") // its status shows that nothing is held
	b.push(t, "a", "")
	if got := b.held.GetDigest(); got != "b c" {
		t.Errorf("%q is held", got)
	}
}

// TestHoldingKept: what a held change adds is tried again after a fault of the moment.
func TestHoldingKept(t *testing.T) {
	t.Parallel()
	b := newDeskBed(t)
	b.push(t, "a b", "")
	b.fail = status.Error(codes.Unavailable, "not now")
	if got := b.push(t, "a c", "a b c"); got != "a b" {
		t.Fatalf("%q is in force", got)
	}
	if got := b.push(t, "a c", "a b c"); got != "a b c" || b.held.GetDigest() != "b" {
		t.Errorf("%q is in force, %q is held", got, b.held.GetDigest())
	}
	b.fail = status.Error(codes.InvalidArgument, "contradicts")
	n := len(b.calls)
	b.push(t, "a d", "a b d")
	b.push(t, "a d", "a b d")
	if n = len(b.calls) - n; n != 2 {
		t.Errorf("a text that the agent rejects is sent in %d calls", n)
	}
}

// TestRestarts: renderings that differ do not move a restart, and the next change has
// one of its own.
func TestRestarts(t *testing.T) {
	t.Parallel()
	b := newDeskBed(t)
	b.push(t, "a", "")
	b.push(t, "a new", "")
	at := b.restarts.at
	b.push(t, "a new b", "")
	if at.IsZero() || !b.restarts.at.Equal(at) {
		t.Fatalf("another rendering moves the restart from %s to %s", at, b.restarts.at)
	}
	b.restarts.at = time.Now()
	if got := b.push(t, "a new b c", ""); got != "a new b c" {
		t.Errorf("%q is in force when the restart is due", got)
	}
	if b.restarts.due() {
		t.Error("the next restart is due")
	}
	b.push(t, "a new b c d", "")
	b.push(t, "a new b c", "")
	if !b.restarts.at.IsZero() {
		t.Error("a restart is planned for what was undone")
	}
}
