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
	// proxyPatience bounds how long an address waits for kube-proxy, which applies
	// changes at most a second after each other. What takes its place may not answer
	// health checks.
	proxyPatience = 3 * time.Second
	// proxyTime bounds one question, and proxyTurn those of one turn: kube-proxy is on
	// this machine, but what drops packets there must not keep the loop.
	proxyTime = 250 * time.Millisecond
	proxyTurn = time.Second
)

// proxy asks the service proxy of this node (kube-proxy) whether it forwards to the
// endpoints here of Services with externalTrafficPolicy Local. It answers on the
// health check node port of each, with 200 once its rules have an endpoint here. An
// announcement that is earlier than that draws connections that the proxy drops, and
// a client sends its SYN again after a second. The desire's loop alone uses it.
type proxy struct {
	log     *slog.Logger
	client  *http.Client
	turn    int
	spent   time.Duration        // by the questions of this turn
	asked   map[string]*question // by namespace and name of the Service
	waiting bool                 // an answer of this turn was no
}

// question is what is known of one Service.
type question struct {
	since    time.Time // when it was asked first
	turn     int       // when it was asked last
	forwards bool      // the answer then
}

func newProxy(log *slog.Logger) *proxy {
	return &proxy{
		log: log, asked: map[string]*question{},
		// Not the default transport: a proxy of the environment is not for this node.
		client: &http.Client{Timeout: proxyTime, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// begin begins a turn of the loop: each Service is asked for once in it. What the
// last turn did not ask for is announced, or has no endpoint any more.
func (p *proxy) begin(ctx context.Context) func(netip.Addr, *corev1.Service) bool {
	for key, q := range p.asked {
		if q.turn != p.turn {
			delete(p.asked, key)
		}
	}
	p.turn++
	p.spent, p.waiting = 0, false
	return func(node netip.Addr, svc *corev1.Service) bool { return p.forwards(ctx, node, svc) }
}

// behind reports whether an address of this turn waits.
func (p *proxy) behind() bool { return p != nil && p.waiting }

func (p *proxy) forwards(ctx context.Context, node netip.Addr, svc *corev1.Service) bool {
	port := svc.Spec.HealthCheckNodePort
	if port == 0 {
		return true // external addresses of another type: there is no question to ask
	}
	key := svc.Namespace + "/" + svc.Name
	q := p.asked[key]
	if q == nil {
		q = &question{since: time.Now()}
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
	late := time.Since(q.since) >= proxyPatience
	if why != nil && late && !q.forwards {
		p.log.Info("announced without an answer of kube-proxy", "service", key, "health_check_node_port", port, "err", why)
	}
	q.forwards = why == nil || late
	p.waiting = p.waiting || !q.forwards
	return q.forwards
}

// errNoTime means that the questions before took the time of the turn.
var errNoTime = errors.New("kube-proxy answers too slowly")

// ask returns nil when the proxy forwards, or what it answered.
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
	if rep.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, rep.Status)
	}
	return nil
}
