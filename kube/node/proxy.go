package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// proxyPatience bounds how long an address waits for an answer of kube-proxy: what
	// takes its place may answer no health checks.
	proxyPatience = 3 * time.Second
	// proxyTime bounds one question, and proxyTurn those of one turn: kube-proxy is on
	// this machine, but what drops packets there must not keep the loop.
	proxyTime = 250 * time.Millisecond
	proxyTurn = time.Second
	// proxySlowest bounds the pause between two questions while the answer is no.
	proxySlowest = 5 * time.Second
	// proxyPort is that of kube-proxy's own health (its default healthzBindAddress).
	proxyPort = 10256
	// wholeProxy is the key of that question; a Service's has a slash.
	wholeProxy = "kube-proxy"
)

// proxy asks the service proxy of this node (kube-proxy) whether it forwards to the
// endpoints of Services. With externalTrafficPolicy Local it answers on the health check
// node port of each, with 200 once its rules have an endpoint here, and 503 before and
// while it is not healthy; for other Services there is its own health alone. An
// announcement that is earlier than that draws connections that the proxy drops, and
// a client sends its SYN again after a second. A no stands, however long: an address in
// force is not asked for again. Only without an answer the address does not wait for
// long. The desire's loop alone uses it.
type proxy struct {
	log    *slog.Logger
	client *http.Client
	port   int32 // of the proxy's own health
	turn   int
	spent  time.Duration        // by the questions of this turn
	asked  map[string]*question // by namespace and name of the Service, and wholeProxy
	next   time.Duration        // when to ask again; 0: no address of this turn waits
}

// question is what is known of one Service, or of the proxy.
type question struct {
	since    time.Time // since when an address waits for it; zero: none does
	silent   time.Time // since when there was no answer; zero: the last one stands
	no       bool      // the last answer
	turn     int       // when it was asked last
	forwards bool      // what came of it then
	said     bool      // that it waits for long was logged
}

func newProxy(log *slog.Logger) *proxy {
	return &proxy{
		log: log, port: proxyPort, asked: map[string]*question{},
		// Not the default transport: a proxy of the environment is not for this node.
		client: &http.Client{Timeout: proxyTime, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// begin begins a turn of the loop: each question is asked once in it. A Service that the
// last turn did not ask for is announced, or has no endpoint any more. That there is no
// kube-proxy stays known: each new Service would wait for it anew.
func (p *proxy) begin(ctx context.Context) func(netip.Addr, *corev1.Service) bool {
	for key, q := range p.asked {
		switch {
		case q.turn == p.turn:
		case key == wholeProxy:
			q.since = time.Time{}
		default:
			delete(p.asked, key)
		}
	}
	p.turn++
	p.spent, p.next = 0, 0
	return func(node netip.Addr, svc *corev1.Service) bool { return p.forwards(ctx, node, svc) }
}

// again returns when to ask again because an address of this turn waits; 0: none does.
func (p *proxy) again() time.Duration {
	if p == nil {
		return 0
	}
	return p.next
}

func (p *proxy) forwards(ctx context.Context, node netip.Addr, svc *corev1.Service) bool {
	key, port := svc.Namespace+"/"+svc.Name, svc.Spec.HealthCheckNodePort
	if port == 0 {
		key, port = wholeProxy, p.port
	}
	q := p.asked[key]
	if q == nil {
		q = &question{}
		p.asked[key] = q
	}
	if q.turn == p.turn {
		return q.forwards
	}
	q.turn = p.turn
	why := errNoTime
	if p.spent < proxyTurn {
		began := time.Now()
		why = p.ask(ctx, node, port)
		p.spent += time.Since(began)
	}
	now := time.Now()
	log := p.log.With("service", key, "health_port", port, "err", why)
	if last := q.forwards; q.take(why, now) {
		if why != nil && !last {
			log.Info("announced without an answer of kube-proxy")
		}
		return true
	}
	age := now.Sub(q.since)
	pause := min(age/10, proxySlowest)
	if !q.silent.IsZero() {
		pause = min(pause, q.silent.Add(proxyPatience).Sub(now))
	}
	p.next = shorter(p.next, max(pause, pace))
	if age >= proxyPatience && !q.said {
		q.said = true
		log.Warn("kube-proxy does not forward to a Service yet, its addresses wait")
	}
	return false
}

// take takes the answer of a question into account, and reports whether an address may be
// announced.
func (q *question) take(why error, now time.Time) bool {
	switch {
	case why == nil, errors.Is(why, errNo):
		q.no, q.silent = why != nil, time.Time{}
	case errors.Is(why, errNoTime) && q.no: // it was not asked: what it said stands
	case q.silent.IsZero():
		q.silent = now
	}
	q.forwards = why == nil || !q.silent.IsZero() && now.Sub(q.silent) >= proxyPatience
	switch {
	case q.forwards:
		q.since, q.said = time.Time{}, false
	case q.since.IsZero():
		q.since = now
	}
	return q.forwards
}

var (
	// errNo is the answer that the proxy does not forward.
	errNo = errors.New("no")
	// errNoTime means that the questions before took the time of the turn.
	errNoTime = errors.New("kube-proxy answers too slowly")
)

// ask returns nil when the proxy forwards, [errNo] when it answers that it does not,
// and another error when nothing answers the question.
func (p *proxy) ask(ctx context.Context, node netip.Addr, port int32) error {
	url := "http://" + netip.AddrPortFrom(node, uint16(port)).String() + "/healthz" //nolint:gosec // the API server bounds it
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	rep, err := p.client.Do(req)
	if err != nil {
		return err
	}
	rep.Body.Close() // the code is the answer
	switch rep.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: GET %s: %s", errNo, url, rep.Status)
	}
	return fmt.Errorf("GET %s: %s, which is no answer of a health check", url, rep.Status)
}
