package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	onlinkv1 "onlink/proto/v1"
)

// slowServer is an API server that holds every request back until it is released.
type slowServer struct {
	asked   chan struct{} // receives a value for every request
	release chan struct{}
	code    atomic.Int64
}

// newSlowDesk is the loop of a node with a slow API server.
func newSlowDesk(t *testing.T) (*deskBed, *slowServer) {
	t.Helper()
	slow := &slowServer{asked: make(chan struct{}, 100), release: make(chan struct{}, 100)}
	slow.code.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slow.asked <- struct{}{}
		select {
		case <-slow.release:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(slow.code.Load()))
		text := `{"apiVersion":"onlink.io/v1alpha1","kind":"OnlinkNode","metadata":{"name":"n1"}}`
		if r.Method == http.MethodGet {
			text = `{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadataList","metadata":{},"items":[]}`
		}
		w.Write([]byte(text)) //nolint:errcheck,gosec // the client may be gone
	}))
	t.Cleanup(server.Close)
	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	b := newDeskBed(t)
	b.input, b.used = newBell(), map[string]bool{}
	b.objects = newObjects(c, slog.New(slog.NewTextHandler(t.Output(), nil)), "n1", "onlink", func(deletion) {})
	t.Cleanup(b.objects.wait)
	return b, slow
}

// rung waits until the bell of the loop rings.
func rung(t *testing.T, b bell) {
	t.Helper()
	select {
	case <-b:
	case <-time.After(10 * time.Second):
		t.Fatal("the loop is not woken")
	}
}

// TestCountSlow: the loop does not wait for the count of the Nodes.
func TestCountSlow(t *testing.T) {
	t.Parallel()
	b, slow := newSlowDesk(t)
	b.crowd.on = true
	if wait := b.count(t.Context()); wait != 0 {
		t.Errorf("the next turn is in %s while it counts", wait)
	}
	<-slow.asked
	if b.count(t.Context()); !b.crowd.on || len(slow.asked) > 0 {
		t.Errorf("before the answer the cluster is crowded: %t, with %d more questions", b.crowd.on, len(slow.asked))
	}
	slow.release <- struct{}{}
	rung(t, b.input)
	if b.count(t.Context()); b.crowd.on {
		t.Error("the answer was not taken")
	}
}

// TestConfirmSlow: the loop does not wait for the note that a confirmation is used, and
// confirms when it is written and not before.
func TestConfirmSlow(t *testing.T) {
	t.Parallel()
	b, slow := newSlowDesk(t)
	annotated := func(done string) {
		t.Helper()
		own := &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		if done != "" {
			own.Annotations = map[string]string{v1alpha1.ConfirmedAnnotation: done}
		}
		config := &v1alpha1.OnlinkConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName, Annotations: map[string]string{v1alpha1.ConfirmAnnotation: "b"}}}
		if err := b.objects.own.Update(own); err != nil {
			t.Fatal(err)
		}
		if err := b.objects.configs.Update(config); err != nil {
			t.Fatal(err)
		}
	}
	turn := func(fails bool, confirmed int) {
		t.Helper()
		if err := b.confirmHeld(t.Context()); (err != nil) != fails {
			t.Errorf("the turn ends with the error %v", err)
		}
		b.admin.mu.Lock()
		defer b.admin.mu.Unlock()
		if len(b.confirmed) != confirmed {
			t.Errorf("confirmed %v, want %d", b.confirmed, confirmed)
		}
	}
	annotated("a") // of another change, before
	b.edit("a b")
	b.admin.mu.Lock()
	b.held, b.next = &onlinkv1.HeldChange{What: changeConfig, Digest: "b"}, "a"
	b.link.status = &onlinkv1.Status{Held: []*onlinkv1.HeldChange{b.held}}
	b.admin.mu.Unlock()

	slow.code.Store(http.StatusForbidden)
	turn(false, 0)
	<-slow.asked
	turn(false, 0) // another turn meanwhile
	slow.release <- struct{}{}
	rung(t, b.input)
	turn(true, 0)

	slow.code.Store(http.StatusOK)
	turn(false, 0)
	<-slow.asked
	annotated("b") // the watch is faster than the answer
	turn(false, 0)
	slow.release <- struct{}{}
	rung(t, b.input)
	turn(false, 1)
	turn(false, 1)
	if len(slow.asked) > 0 {
		t.Errorf("%d more requests", len(slow.asked))
	}
}
