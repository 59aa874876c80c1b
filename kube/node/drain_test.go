package node

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentadmin "onlink/agent/admin"
	"onlink/agent/drain"
	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// drainBed is a drainer with the agent's drain and admin API: only the announcements
// are missing.
type drainBed struct {
	*drainer

	t     *testing.T
	agent *drain.Drain
}

// serveAgent serves the admin API of an agent that has these parts alone.
func serveAgent(t *testing.T, parts agentadmin.Config, wake bell) *link {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := agentadmin.New(parts).Open(agentadmin.Door{})
	var served sync.WaitGroup
	served.Go(func() {
		if err := srv.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		srv.Stop()
		served.Wait()
	})
	l, err := dial(lis.Addr().String(), parts.Log, wake)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// newDrainBed starts the API; wait is spec.drain.wait, shown the annotation of the phase.
func newDrainBed(t *testing.T, wait, shown string) *drainBed {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	agent, err := drain.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { announceDrain(ctx, agent) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	wake := newBell()
	l := serveAgent(t, agentadmin.Config{Node: "n1", Log: log, Drainer: agent}, wake)
	o := newObjects(nil, log, "n1", "onlink", func(deletion) {}, wake)
	config := &v1alpha1.OnlinkConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName}}
	config.Spec.Drain.Wait = v1alpha1.Duration(wait)
	if err := o.configs.Replace([]any{config}, ""); err != nil {
		t.Fatal(err)
	}
	b := &drainBed{drainer: &drainer{log: log, objects: o, link: l, wake: wake, at: serving}, t: t, agent: agent}
	b.cause(true, shown)
	b.status(serving)
	return b
}

// announceDrain is the agent's originate flow without a peer.
func announceDrain(ctx context.Context, agent *drain.Drain) {
	for {
		p, rest := agent.Now()
		agent.Announced(p, 0)
		ends := make(<-chan time.Time)
		if rest > 0 {
			ends = time.After(rest)
		}
		select {
		case <-ctx.Done():
			return
		case <-agent.Changed():
		case <-ends:
		}
	}
}

// cause sets or removes the annotation that drains the Node.
func (b *drainBed) cause(there bool, shown string) {
	b.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{}}}
	if there {
		n.Annotations[v1alpha1.DrainAnnotation] = ""
	}
	if shown != "" {
		n.Annotations[v1alpha1.DrainedAnnotation] = shown
	}
	if err := b.objects.self.Update(n); err != nil {
		b.t.Fatal(err)
	}
}

// status is the agent's as it was received last.
func (b *drainBed) status(p phase) {
	b.link.mu.Lock()
	defer b.link.mu.Unlock()
	b.link.status, b.link.up = &onlinkv1.Status{Drain: string(p)}, true
}

// until turns until the drainer has a phase.
func (b *drainBed) until(want phase) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	for again := time.Millisecond; b.phase() != want; {
		select {
		case <-ctx.Done():
			b.t.Fatalf("the drainer is %s, want %s", b.phase(), want)
		case <-b.wake:
		case <-time.After(again):
		}
		again = max(b.turn(ctx), time.Millisecond)
	}
}

// now checks the phase of the agent, and what was announced last.
func (b *drainBed) now(want drain.Phase) {
	b.t.Helper()
	if p, _ := b.agent.Now(); p != want {
		b.t.Errorf("the agent is %s, want %s", p, want)
	}
}

// TestDrainEndsEarly: when the cause goes while the agent drains, which may take an hour,
// the node serves again at once.
func TestDrainEndsEarly(t *testing.T) {
	t.Parallel()
	b := newDrainBed(t, "1h", string(withdrawn))
	began := time.Now()
	b.turn(t.Context())
	if took := time.Since(began); took > callTime {
		t.Fatalf("a turn took %s", took)
	}
	if err := b.agent.Await(t.Context(), drain.Leaving); err != nil {
		t.Fatal(err)
	}
	if b.turn(t.Context()); b.phase() != withdrawn {
		t.Errorf("it is %s before the agent has withdrawn", b.phase())
	}
	b.cause(false, string(withdrawn))
	b.until(serving)
	b.now(drain.Serving)
}

// TestDrainStale: what the agent's status says may be older than its drain.
func TestDrainStale(t *testing.T) {
	t.Parallel()
	b := newDrainBed(t, "0s", "")
	b.until(drained)
	b.now(drain.Drained)
	b.cause(false, "")
	b.until(serving)
	b.now(drain.Serving)
}

// TestDrainOfOperator: a drain by onlinkctl ends with no annotation, unless this Node's
// went as far itself.
func TestDrainOfOperator(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, shown string // the annotation of the phase, by an earlier process
		far         phase  // how far the drain comes
		pods        uint32
		want        drain.Phase
	}{
		{"leaving", "", leaving, 0, drain.Drained},
		{"services are withdrawn, and pods are left", "", withdrawn, 1, drain.Drained},
		{"blocks are withdrawn", "", drained, 0, drain.Serving},
		{"an earlier process may have come further", string(leaving), leaving, 0, drain.Serving},
		{"an earlier process drained", string(drained), drained, 0, drain.Serving},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wait := "0s"
			if c.far == leaving {
				wait = "1h"
			}
			b := newDrainBed(t, wait, c.shown)
			if err := b.agent.Start(0, "kubectl drain"); err != nil {
				t.Fatal(err)
			}
			if err := b.agent.Await(t.Context(), drain.Drained); err != nil {
				t.Fatal(err)
			}
			b.status(drained)
			b.link.mu.Lock()
			b.link.status.AddressesUsed = c.pods
			b.link.mu.Unlock()
			b.until(c.far)
			b.cause(false, c.shown)
			b.until(serving)
			b.now(c.want)
		})
	}
}
