package node

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
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

	announced []*onlinkv1.Announcement
	services  *onlinkv1.HeldChange // of announcements
	thisBoot  bool                 // of the last set
}

// Announce holds what withdraws more than a third, and at least two.
func (a *admin) Announce(_ context.Context, req *onlinkv1.AnnounceRequest) (*onlinkv1.AnnounceReply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var gone []string
	for _, had := range a.announced {
		if !slices.ContainsFunc(req.GetAnnouncements(), func(o *onlinkv1.Announcement) bool { return o.GetPrefix() == had.GetPrefix() }) {
			gone = append(gone, had.GetPrefix())
		}
	}
	if much := len(gone) > 1 && 3*len(gone) > len(a.announced); !req.GetConfirm() && (much || req.GetGuardAny() && len(gone) > 0) {
		a.services = &onlinkv1.HeldChange{What: changeServices, Digest: strings.Join(gone, " ")}
		return &onlinkv1.AnnounceReply{Held: a.services}, nil
	}
	a.announced, a.services, a.thisBoot = req.GetAnnouncements(), nil, req.GetThisBoot()
	return &onlinkv1.AnnounceReply{}, nil
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
	for word := range strings.FieldsSeq(a.text) {
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
	if a.services.GetDigest() == req.GetDigest() && a.services != nil {
		a.announced, a.services = nil, nil
		return &onlinkv1.ConfirmReply{}, nil
	}
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
	t.Cleanup(func() {
		if err := l.conn.Close(); err != nil {
			t.Error(err)
		}
	})
	b.desire = &desire{log: l.log, link: l, gone: newDeletions(), holds: map[string]holding{}, drain: &drainer{at: serving}, used: map[string]bool{}}
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
	b.receive()
	return b.text
}

// receive is the arrival of the agent's status.
func (b *deskBed) receive() {
	b.admin.mu.Lock()
	defer b.admin.mu.Unlock()
	s := &onlinkv1.Status{}
	if b.services != nil {
		s.Held = append(s.Held, b.services)
	}
	if b.held != nil {
		s.Held = append(s.Held, b.held)
	}
	b.link.mu.Lock()
	b.link.status = s
	b.link.mu.Unlock()
}

// announce is one turn with a rendering of announcements. It returns those in force.
func (b *deskBed) announce(t *testing.T, out *render.Output) (prefixes []string) {
	t.Helper()
	wait := time.Duration(0)
	have := &has{}
	b.admin.mu.Lock()
	for _, a := range b.announced {
		have.announced = append(have.announced, plain(a))
	}
	b.admin.mu.Unlock()
	if err := b.pushAnnouncements(t.Context(), out, have, time.Now(), &wait); err != nil {
		t.Fatal(err)
	}
	b.receive()
	for _, a := range b.announced {
		prefixes = append(prefixes, a.GetPrefix())
	}
	return prefixes
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

// TestHoldingAnnouncements: a person's deletion of a Service confirms its withdrawal,
// that of a session does not withdraw what is announced to it before it is in force.
func TestHoldingAnnouncements(t *testing.T) {
	t.Parallel()
	config := func(text string, prefixes ...string) *render.Output {
		out := &render.Output{Config: []byte(text), NeedsServices: true}
		for _, p := range prefixes {
			out.Announcements = append(out.Announcements, render.Announcement{Prefix: p})
		}
		return out
	}
	const one, two = "192.0.2.1/32", "192.0.2.2/32"
	both := []string{one, two}
	t.Run("a Service of two addresses is deleted, then its endpoints", func(t *testing.T) {
		t.Parallel()
		b := newDeskBed(t)
		b.announce(t, config("", one, two))
		b.lose("Service")
		if got := b.announce(t, config("")); !slices.Equal(got, both) {
			t.Fatalf("%v are in force, the withdrawal of both is not held", got)
		}
		b.lose("EndpointSlice")
		if got := b.announce(t, config("")); len(got) != 0 {
			t.Errorf("%v are in force", got)
		}
	})
	t.Run("after a boot kube-proxy begins anew", func(t *testing.T) {
		t.Parallel()
		b := newDeskBed(t)
		if got := b.announce(t, config("", one, two)); !slices.Equal(got, both) || !b.thisBoot {
			t.Errorf("%v are in force, and outlive a boot: %t", got, !b.thisBoot)
		}
	})
	t.Run("a namespace is deleted while a withdrawal is held", func(t *testing.T) {
		t.Parallel()
		b := newDeskBed(t)
		b.announce(t, config("", one, two))
		b.announce(t, config(""))
		b.lose("Namespace")
		b.lose("Service")
		b.announce(t, config(""))
		if got := b.announce(t, config("")); !slices.Equal(got, both) {
			t.Errorf("%v are in force", got)
		}
	})
	t.Run("the session to which they are announced is lost", func(t *testing.T) {
		t.Parallel()
		b := newDeskBed(t)
		b.push(t, "a b", "")
		b.announce(t, config("a b", one, two))
		lost := config("a")
		lost.Reasons = map[netip.Addr]render.Reason{netip.MustParseAddr("192.0.2.1"): render.ReasonNode, netip.MustParseAddr("192.0.2.2"): render.ReasonNode}
		b.push(t, "a", "")
		if got := b.announce(t, lost); !slices.Equal(got, both) {
			t.Fatalf("%v are in force while the session is", got)
		}
		b.edit("a") // confirmed
		b.push(t, "a", "")
		if got := b.announce(t, lost); len(got) != 0 {
			t.Errorf("%v are in force without the session", got)
		}
	})
	t.Run("rendered without Services", func(t *testing.T) {
		t.Parallel()
		b := newDeskBed(t)
		b.announce(t, config("", one))
		early := config("")
		early.Unlisted = true
		if got := b.announce(t, early); len(got) != 1 {
			t.Errorf("%v are in force", got)
		}
	})
}

// TestConfirmHeld: a confirmation of the OnlinkConfig is used when the OnlinkNode says that
// it was not before.
func TestConfirmHeld(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		there            bool
		own, done, inUse string // in force at the end
	}{
		{"the OnlinkNode is not received yet", false, "", "", "a b"},
		{"used by the process before", true, "", "b", "a b"},
		{"of this node alone", true, "b", "b", "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newDeskBed(t)
			b.edit("a b")
			b.push(t, "a", "")
			changed := func(deletion) {}
			b.objects = &objects{node: "n", own: newStore[*v1alpha1.OnlinkNode]("", nil, changed), configs: newStore[*v1alpha1.OnlinkConfig]("", nil, changed)}
			config := &v1alpha1.OnlinkConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName, Annotations: map[string]string{v1alpha1.ConfirmAnnotation: "b"}}}
			if err := b.objects.configs.Add(config); err != nil {
				t.Fatal(err)
			}
			if c.there {
				node := &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{
					v1alpha1.ConfirmAnnotation: c.own, v1alpha1.ConfirmedAnnotation: c.done,
				}}}
				if err := b.objects.own.Add(node); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.confirmHeld(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := b.push(t, "a", ""); got != c.inUse {
				t.Errorf("%q is in force", got)
			}
		})
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
