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

// proxyBed is a server that answers health checks with a code, and counts them.
type proxyBed struct {
	*httptest.Server

	code, requests atomic.Int64
}

func newProxyBed(t *testing.T, code int64) *proxyBed {
	t.Helper()
	b := &proxyBed{}
	b.code.Store(code)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		if r.URL.Path != "/healthz" {
			t.Errorf("GET %s", r.URL)
		}
		w.WriteHeader(int(b.code.Load()))
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *proxyBed) at() netip.AddrPort { return netip.MustParseAddrPort(b.Listener.Addr().String()) }

func proxyService(name string, port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}, Spec: corev1.ServiceSpec{HealthCheckNodePort: port}}
}

// TestProxy: an address waits while the health check of its Service answers no, however
// long, and without an answer for three seconds; one turn asks once.
func TestProxy(t *testing.T) {
	t.Parallel()
	b := newProxyBed(t, http.StatusServiceUnavailable)
	at := b.at()
	shop := proxyService("shop", int32(at.Port()))
	p := newProxy(slog.New(slog.NewTextHandler(t.Output(), nil)))
	want := func(what string, answer bool, most time.Duration, asked int64) {
		t.Helper()
		before := b.requests.Load()
		forwards := p.begin(t.Context())
		for range 2 { // both families of a Service
			if got := forwards(at.Addr(), shop); got != answer {
				t.Errorf("%s: %t", what, got)
			}
		}
		if got := p.again(); got > most || (got == 0) != answer {
			t.Errorf("%s: the loop asks again in %s, want at most %s", what, got, most)
		}
		if n := b.requests.Load() - before; n != asked {
			t.Errorf("%s: %d questions, want %d", what, n, asked)
		}
	}
	ago := func(since, silent time.Duration) {
		q := p.asked["web/shop"]
		q.since = time.Now().Add(-since)
		if q.silent.IsZero() != (silent == 0) {
			t.Errorf("without an answer since %v", q.silent)
		}
		if silent > 0 {
			q.silent = time.Now().Add(-silent)
		}
	}
	want("no endpoint yet", false, pace, 1)
	want("still none", false, pace, 1)
	ago(time.Hour, 0)
	want("none for long", false, proxySlowest, 1)
	if p.again() != proxySlowest {
		t.Errorf("a no of an hour is asked for each %s, which renders each time", p.again())
	}
	b.code.Store(http.StatusOK)
	want("an endpoint", true, 0, 1)

	p.begin(t.Context()) // a turn without the Service: it is in force
	p.begin(t.Context())
	if len(p.asked) != 0 {
		t.Errorf("kept %v", p.asked)
	}
	b.code.Store(http.StatusNotFound) // of another program
	want("no answer of a health check", false, pace, 1)
	ago(proxyPatience, proxyPatience)
	want("none for long", true, 0, 1)

	b.code.Store(http.StatusServiceUnavailable)
	want("kube-proxy answers again", false, pace, 1)
	ago(time.Hour, 0)
	b.Close()
	want("it began to be away a moment ago", false, proxyPatience, 0)
	ago(time.Hour, proxyPatience)
	want("it is away for long", true, 0, 0)
}

// TestProxyHealth: a Service without a health check of its own waits for kube-proxy's
// health, of which one question serves all; that there is no kube-proxy stays known.
func TestProxyHealth(t *testing.T) {
	t.Parallel()
	b := newProxyBed(t, http.StatusServiceUnavailable)
	at := b.at()
	p := newProxy(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if p.port != 10256 {
		t.Errorf("kube-proxy's default port is 10256, not %d", p.port)
	}
	p.port = int32(at.Port())
	want := func(what string, answer bool, asked int64, names ...string) {
		t.Helper()
		before := b.requests.Load()
		forwards := p.begin(t.Context())
		for _, name := range names {
			if got := forwards(at.Addr(), proxyService(name, 0)); got != answer {
				t.Errorf("%s: %t for %s", what, got, name)
			}
		}
		if waits := p.again() > 0; waits == answer {
			t.Errorf("%s: the loop asks again: %t", what, waits)
		}
		if n := b.requests.Load() - before; n != asked {
			t.Errorf("%s: %d questions, want %d", what, n, asked)
		}
	}
	want("it is not healthy", false, 1, "shop", "cart")
	b.code.Store(http.StatusOK)
	want("it is healthy", true, 1, "shop", "cart")
	b.Close()
	want("it does not answer", false, 0, "shop")
	p.asked[wholeProxy].silent = time.Now().Add(-proxyPatience)
	want("it does not answer for long", true, 0, "shop", "cart")
	p.begin(t.Context()) // both are in force
	p.begin(t.Context())
	want("a new Service where no kube-proxy is", true, 0, "bank")
}

// TestProxySlow: a no stands while the questions of others take the time of the turn.
func TestProxySlow(t *testing.T) {
	t.Parallel()
	q, now := &question{}, time.Now()
	if q.take(errNo, now) || q.take(errNoTime, now.Add(time.Hour)) {
		t.Error("announced against the answer")
	}
	q = &question{}
	if q.take(errNoTime, now) || !q.take(errNoTime, now.Add(proxyPatience)) {
		t.Error("a question that is never asked has to end the wait")
	}
}
