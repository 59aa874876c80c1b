package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestProxy: an address waits while the health check of its Service answers with an
// error or not at all, for three seconds at most, and one turn asks once.
func TestProxy(t *testing.T) {
	t.Parallel()
	var code, requests atomic.Int64
	code.Store(http.StatusServiceUnavailable)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/healthz" {
			t.Errorf("GET %s", r.URL)
		}
		w.WriteHeader(int(code.Load()))
	}))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	svc := func(name string, port int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}, Spec: corev1.ServiceSpec{HealthCheckNodePort: port}}
	}
	shop := svc("shop", int32(at.Port()))
	p := newProxy(slog.New(slog.NewTextHandler(t.Output(), nil)))
	want := func(what string, answer, behind bool, asked int64) {
		t.Helper()
		before := requests.Load()
		forwards := p.begin(t.Context())
		for range 2 { // both families of a Service
			if got := forwards(at.Addr(), shop); got != answer {
				t.Errorf("%s: %t", what, got)
			}
		}
		if p.behind() != behind {
			t.Errorf("%s: the loop has to ask again: %t", what, p.behind())
		}
		if n := requests.Load() - before; n != asked {
			t.Errorf("%s: %d questions, want %d", what, n, asked)
		}
	}
	want("no endpoint yet", false, true, 1)
	want("still none", false, true, 1)
	code.Store(http.StatusOK)
	want("an endpoint", true, false, 1)

	p.begin(t.Context()) // a turn without the Service: it is in force
	p.begin(t.Context())
	if len(p.asked) != 0 {
		t.Errorf("kept %v", p.asked)
	}
	server.Close()
	want("no answer", false, true, 0)
	p.asked["web/shop"].since = time.Now().Add(-proxyPatience)
	want("no answer for long", true, false, 0)

	if forwards := p.begin(t.Context()); !forwards(at.Addr(), svc("outer", 0)) || p.behind() {
		t.Error("a Service without a health check waits")
	}
}
