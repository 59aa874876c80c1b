package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/template"
	"time"

	"onlink/integration/bench/speaker"
	"onlink/integration/conf"
)

const (
	openAtOnce  = 4 // sessions that are being opened at a time
	openRetry   = 100 * time.Millisecond
	openLimit   = 2 * time.Minute  // of all sessions
	stuckAfter  = 20 * time.Second // without a new delivery a phase has lost something
	phaseLimit  = 4 * time.Minute
	clientsBase = "10.201.0.0"
)

var clientsNet = netip.MustParsePrefix(clientsBase + "/16")

// clientAddr is the address of the i-th client; no last octet is 0 or 255.
func clientAddr(i int) netip.Addr {
	return offset(netip.MustParseAddr(clientsBase), (1+i/250)<<8+1+i%250)
}

// birdReflector is BIRD as reflector: a client each, no kernel protocol.
var birdReflector = template.Must(template.New("bird.conf").Parse(`log stderr { warning, error, fatal };
router id {{.Near}};
protocol device { }
protocol direct { ipv4; }
protocol static { ipv4; route 10.201.0.0/16 via {{.Far}}; }
template bgp light {
  local {{.Near}} as {{.ASN}}; multihop; passive on; hold time 180; rr client; rr cluster id {{.Near}};
  ipv4 { import all; export where source = RTS_BGP; gateway recursive; };
}
{{- range $i, $a := .Clients}}
protocol bgp c{{$i}} from light { neighbor {{$a}} as {{$.ASN}}; }
{{- end}}
`))

// swarm is many light clients of one reflector. Each announces block(k*n+i)
// in phase k, and counts what it learns of the others' once.
type swarm struct {
	pair      *pair
	reflector *program
	sessions  []*speaker.Session
	learned   [phases]atomic.Int64  // distinct prefixes of each phase at all clients
	lost      atomic.Pointer[error] // why a session ended

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// phases is how many prefixes each client may announce.
const phases = 2

func newSwarm(r *run, n int, start func(r *run, s *space, clients []string) (*program, error)) (*swarm, error) {
	p, err := newPair()
	if err != nil {
		return nil, err
	}
	err = p.ownClients()
	if err != nil {
		p.close()
		return nil, fmt.Errorf("route to the clients: %w", err)
	}
	clients := make([]string, n)
	for i := range clients {
		clients[i] = clientAddr(i).String()
	}
	prog, err := start(r, p.near, clients)
	if err != nil {
		p.close()
		return nil, err
	}
	return &swarm{pair: p, reflector: prog, sessions: make([]*speaker.Session, n), stop: func() {}}, nil
}

func (w *swarm) close() {
	w.stop()
	for _, s := range w.sessions {
		if s != nil {
			_ = s.Close()
		}
	}
	w.reflector.stop()
	w.wg.Wait()
	w.pair.close()
}

// listening waits until the reflector accepts connections.
func (w *swarm) listening(ctx context.Context) error {
	return w.reflector.until(ctx, "reflector listens", 50*time.Millisecond, 30*time.Second, func() (bool, error) {
		return w.pair.far.do(func() error {
			s, err := speaker.Open(ctx, clientAddr(0), nearAddr, asn)
			w.sessions[0] = s
			return err
		}) == nil, nil
	})
}

// coldStart opens all sessions; each client announces its first prefix as soon
// as it is up. It returns the seconds until everybody knows everything.
func (w *swarm) coldStart(ctx context.Context) (float64, error) {
	if err := w.listening(ctx); err != nil {
		return 0, err
	}
	ctx, w.stop = context.WithCancel(ctx)
	begin := time.Now()
	w.serve(ctx, 0)
	var next atomic.Int64
	errs := make([]error, openAtOnce)
	var opening sync.WaitGroup
	for t := range openAtOnce {
		opening.Go(func() {
			errs[t] = w.pair.far.do(func() error {
				for {
					i := int(next.Add(1)) // the first client is connected
					if i >= len(w.sessions) {
						return nil
					}
					if err := w.connect(ctx, i, begin.Add(openLimit)); err != nil {
						return err
					}
				}
			})
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	end, err := w.deliveries(ctx, 0)
	return end.Sub(begin).Seconds(), err
}

// connect opens one session, however often the reflector is too busy.
func (w *swarm) connect(ctx context.Context, i int, limit time.Time) error {
	for {
		s, err := speaker.Open(ctx, clientAddr(i), nearAddr, asn)
		if err == nil {
			w.sessions[i] = s
			w.serve(ctx, i)
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("client %d: %w", i, err)
		}
		if err := errors.Join(pause(ctx, openRetry), w.reflector.ended()); err != nil {
			return err
		}
	}
}

// serve announces a client's first prefix, keeps its session up and counts
// what it learns.
func (w *swarm) serve(ctx context.Context, i int) {
	s := w.sessions[i]
	w.wg.Go(func() { s.KeepUp(ctx) })
	w.wg.Go(func() {
		seen := make([]bool, phases*len(w.sessions))
		err := s.Receive(func(p netip.Prefix) {
			k := blockIndex(p)
			if k >= 0 && k < len(seen) && !seen[k] {
				seen[k] = true
				w.learned[k/len(w.sessions)].Add(1)
			}
		})
		if ctx.Err() == nil {
			err = fmt.Errorf("client %d lost its session: %w", i, err)
			w.lost.CompareAndSwap(nil, &err)
		}
	})
	if err := w.announce(i, 0); err != nil {
		w.lost.CompareAndSwap(nil, &err)
	}
}

// blockIndex is the inverse of block; -1 for prefixes that are none.
func blockIndex(p netip.Prefix) int {
	if !fedNet.Contains(p.Addr()) || p.Bits() != blockBits {
		return -1
	}
	a := p.Addr().As4()
	return (int(a[1])<<16 | int(a[2])<<8 | int(a[3])) >> (32 - blockBits)
}

func (w *swarm) announce(i, phase int) error {
	p := []netip.Prefix{block(phase*len(w.sessions) + i)}
	msg := speaker.AppendUpdate(nil, clientAddr(i), p, 1)
	if phase == 0 {
		msg = speaker.AppendEndOfRIB(msg)
	}
	return w.sessions[i].Write(msg)
}

// errLost is a phase in which the reflector did not deliver everything.
var errLost = errors.New("deliveries lost")

// perPhase is the deliveries of one prefix of each client to all others.
func (w *swarm) perPhase() int64 { return int64(len(w.sessions)) * int64(len(w.sessions)-1) }

// burst has every client announce a new prefix and returns the seconds until
// everybody knows all of them.
func (w *swarm) burst(ctx context.Context) (float64, error) {
	begin := time.Now()
	for i := range w.sessions {
		if err := w.announce(i, 1); err != nil {
			return 0, fmt.Errorf("announce: %w", err)
		}
	}
	end, err := w.deliveries(ctx, 1)
	return end.Sub(begin).Seconds(), err
}

// deliveries waits until the clients have learned all prefixes of a phase. The
// error wraps errLost when some did not arrive.
func (w *swarm) deliveries(ctx context.Context, phase int) (time.Time, error) {
	want, limit := w.perPhase(), time.Now().Add(phaseLimit)
	last, grown := int64(-1), time.Now()
	for {
		n, now := w.learned[phase].Load(), time.Now()
		if n >= want {
			return now, nil
		}
		if n != last {
			last, grown = n, now
		}
		if lost := w.lost.Load(); lost != nil {
			return now, *lost
		}
		if now.After(limit) || now.Sub(grown) > stuckAfter {
			return now, fmt.Errorf("%w: %d of %d arrived, the last %v ago", errLost, n, want, now.Sub(grown).Round(time.Second))
		}
		if err := errors.Join(pause(ctx, time.Millisecond), w.reflector.ended()); err != nil {
			return now, err
		}
	}
}

// reflected is what one reflector showed.
type reflected struct {
	cold, burst, peak samples
	coldWhy, why      string // why there is no cold start, or nothing at all
}

func (m *reflected) one(ctx context.Context, r *run, n int, start func(r *run, s *space, clients []string) (*program, error)) error {
	w, err := newSwarm(r, n, start)
	if err != nil {
		return err
	}
	defer w.close()
	cold, err := w.coldStart(ctx)
	switch {
	case errors.Is(err, errLost): // of the cold start only: the burst can be measured
		m.coldWhy = err.Error()
		r.say("  %s, %d clients: cold start: %v", filepath.Base(w.reflector.cmd.Path), n, err)
	case err != nil:
		return fmt.Errorf("cold start: %w", err)
	default:
		m.cold = append(m.cold, cold)
	}
	if err := pause(ctx, 3*settleTime); err != nil {
		return err
	}
	burst, err := w.burst(ctx)
	if err != nil {
		return fmt.Errorf("burst: %w", err)
	}
	_, peak, err := w.reflector.memory()
	if err != nil {
		return err
	}
	m.burst, m.peak = append(m.burst, burst), append(m.peak, peak)
	r.say("  %s, %d clients: cold start %.2f s, burst %.2f s, peak %.0f MB", filepath.Base(w.reflector.cmd.Path), n, cold, burst, peak)
	return nil
}

// compareReflectors runs each reflector once: a run with many clients is long, and
// its many deliveries are their own mean.
func compareReflectors(ctx context.Context, r *run, n int) error {
	peers := []struct {
		name  string
		start func(r *run, s *space, clients []string) (*program, error)
		reflected
	}{
		{name: birdReceiver.name, start: func(r *run, s *space, clients []string) (*program, error) {
			return r.startBIRD(s, birdReflector, clients)
		}},
		{name: frrReceiver.name, start: (*run).startFRRReflector},
	}
	for i := range peers {
		p := &peers[i]
		if err := p.one(ctx, r, n, p.start); err != nil {
			p.why = firstLine(err)
			r.say("  %s failed: %s", p.name, p.why)
		}
	}
	var ours reflected
	err := ours.one(ctx, r, n, func(r *run, s *space, _ []string) (*program, error) {
		return r.startAgent(s, agentConfig{reflector: &conf.Reflector{Clients: []string{clientsNet.String()}}})
	})
	if err != nil {
		return err
	}
	for i, p := range peers {
		against := func(s samples, why ...string) versus {
			return versus{name: p.name + " as reflector", samples: s, why: strings.Join(slices.DeleteFunc(why, isEmpty), "; ")}
		}
		suffix := fmt.Sprintf("_%d", n)
		if i > 0 {
			suffix += "_" + strings.ToLower(p.name)
		}
		r.report("bgp.reflect_burst"+suffix, "s", ours.burst, against(p.burst, p.why))
		r.report("bgp.reflect_rss"+suffix, "MB", ours.peak, against(p.peak, p.why))
		r.report("bgp.cold_start"+suffix, "s", ours.cold, against(p.cold, p.why, p.coldWhy, ours.coldWhy))
	}
	return nil
}

func isEmpty(s string) bool { return s == "" }

func reflect500(ctx context.Context, r *run) error { return compareReflectors(ctx, r, 500) }

func reflect1000(ctx context.Context, r *run) error { return compareReflectors(ctx, r, 1000) }
