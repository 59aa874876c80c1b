package bfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Monitor runs BFD sessions. Make it with [New], give it sessions with
// [Monitor.Set] and [Monitor.Run] it once. Its methods may be called from any
// goroutine.
type Monitor struct {
	log *slog.Logger
	// changed has room for one signal: the thread sends, and it is never closed;
	// full means that the user has not received the last signal yet.
	changed chan struct{}
	bell    wake

	mu        sync.Mutex // guards all below; held for microseconds at a time
	listeners []*listener
	sessions  map[key]*entry
	byLocal   map[uint32]*entry
	zones     map[uint32]string // interfaces of link-local neighbours
	closing   []*entry          // they send AdminDown until endsAt
	agenda    agenda
	discarded uint64
}

// entry is a session with its socket and its place in the agenda.
type entry struct {
	*session
	out    *sender
	at     time.Time // its due time in the agenda
	index  int       // in the agenda; -1: not in it
	endsAt time.Time // of a closing one
}

// New returns a monitor without sessions. It starts nothing.
func New(log *slog.Logger) (*Monitor, error) {
	bell, err := newWake()
	if err != nil {
		return nil, err
	}
	return &Monitor{
		log: log, changed: make(chan struct{}, 1), bell: bell,
		sessions: map[key]*entry{}, byLocal: map[uint32]*entry{}, zones: map[uint32]string{},
	}, nil
}

// Changed signals that a session changed its state. It has room for one
// signal and is never closed.
func (m *Monitor) Changed() <-chan struct{} { return m.changed }

// Set makes the sessions exactly those given. One that is in both sets keeps
// its state: changed timers are negotiated while it stays up. One that is
// removed sends AdminDown. Set fails with [ErrSession] before any change, or
// with [ErrPortBusy]; sockets belong to the network namespace of the calling
// thread.
func (m *Monitor) Set(sessions []Session) error {
	want := make(map[key]Session, len(sessions))
	for _, s := range sessions {
		s = s.withDefaults()
		if err := s.validate(); err != nil {
			return err
		}
		if _, twice := want[s.key()]; twice {
			return fmt.Errorf("%w: peer %s: is listed twice", ErrSession, s.Peer)
		}
		want[s.key()] = s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.bell.ring()
	now := time.Now()
	for k, e := range m.sessions {
		if w, keep := want[k]; !keep || w.Local != e.cfg.Local {
			m.retire(e, now)
		}
	}
	var errs []error
	for k, s := range want {
		if e, exists := m.sessions[k]; exists {
			if e.cfg != s {
				e.configure(s, now)
				m.plan(e)
			}
			continue
		}
		errs = append(errs, m.add(s, now))
	}
	return errors.Join(errs...)
}

// add opens a session.
func (m *Monitor) add(s Session, now time.Time) error {
	v6 := s.Peer.Is6()
	if !slices.ContainsFunc(m.listeners, func(l *listener) bool { return l.v6 == v6 && l.multihop == s.Multihop }) {
		l, err := listen(v6, s.Multihop)
		if err != nil {
			return err
		}
		m.listeners = append(m.listeners, l)
	}
	out, err := dial(s)
	if err != nil {
		return err
	}
	local := rand.Uint32() //nolint:gosec // it must be unique, not secret
	for local == 0 || m.byLocal[local] != nil {
		local = rand.Uint32() //nolint:gosec // as above
	}
	e := &entry{session: newSession(s, local, now), out: out, index: -1}
	m.sessions[s.key()], m.byLocal[local] = e, e
	if name := s.Peer.Zone(); name != "" {
		m.zones[zone(name)] = name
	}
	m.plan(e)
	return nil
}

// retire removes a session, which sends AdminDown for as many packets as may be
// lost, but at most for lingerLimit: a neighbour that received none would take the
// silence for a broken path.
func (m *Monitor) retire(e *entry, now time.Time) {
	linger := time.Duration(e.cfg.Multiplier) * e.interval()
	e.shut(now)
	e.endsAt = now.Add(min(linger, lingerLimit))
	delete(m.sessions, e.cfg.key())
	m.closing = append(m.closing, e)
	m.plan(e)
}

// lingerLimit bounds how long a removed session keeps its socket.
const lingerLimit = 5 * time.Second

// Sessions returns the state of all sessions, by peer.
func (m *Monitor) Sessions() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Status, 0, len(m.sessions))
	for _, e := range m.sessions {
		list = append(list, e.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return a.Session.Peer.Compare(b.Session.Peer) })
	return list
}

// Discarded counts the packets that belong to no session or are not valid.
func (m *Monitor) Discarded() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.discarded
}

// Run runs the sessions until ctx ends; then it sends AdminDown to every
// neighbour, which does not mean that the path failed (RFC 5882 section 3.2),
// and closes the sockets.
func (m *Monitor) Run(ctx context.Context) error {
	defer urgent(m.log)()
	stop := context.AfterFunc(ctx, m.bell.ring)
	defer stop()
	for ctx.Err() == nil {
		if err := m.wait(); err != nil {
			return err
		}
		m.turn()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.sessions {
		e.shut(time.Now())
		m.send(e, []packet{e.packet(false), e.packet(false)})
		e.close(m)
	}
	for _, e := range m.closing {
		e.close(m)
	}
	for _, l := range m.listeners {
		if err := unix.Close(l.fd); err != nil {
			m.log.Warn("close bfd socket", "err", err)
		}
	}
	m.sessions, m.closing, m.listeners = map[key]*entry{}, nil, nil
	return nil
}

func (e *entry) close(m *Monitor) {
	delete(m.byLocal, e.local)
	m.agenda.remove(e)
	if err := unix.Close(e.out.fd); err != nil {
		m.log.Warn("close bfd socket", "peer", e.cfg.Peer, "err", err)
	}
}

// idleWait is how long the thread sleeps when nothing is due.
const idleWait = time.Minute

// wait sleeps until a packet arrives, a session is due or the bell rings.
func (m *Monitor) wait() error {
	m.mu.Lock()
	fds := []unix.PollFd{{Fd: int32(m.bell), Events: unix.POLLIN}} //nolint:gosec // a file descriptor
	for _, l := range m.listeners {
		fds = append(fds, unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN}) //nolint:gosec // a file descriptor
	}
	timeout := unix.NsecToTimespec(int64(max(0, m.agenda.wait(time.Now(), idleWait))))
	m.mu.Unlock()
	if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for bfd packets: %w", err)
	}
	m.bell.clear()
	return nil
}

// turn reads all packets that have arrived, and only then acts on the sessions
// that are due: a thread that runs late must not take its own delay for the
// silence of a neighbour.
func (m *Monitor) turn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.listeners {
		for range batch {
			a, ok := l.receive()
			if !ok {
				break
			}
			m.take(l, a, time.Now())
		}
	}
	now := time.Now()
	for e := m.agenda.first(); e != nil && !now.Before(e.at); e = m.agenda.first() {
		if !e.endsAt.IsZero() && !now.Before(e.endsAt) {
			e.close(m)
			m.closing = slices.DeleteFunc(m.closing, func(c *entry) bool { return c == e })
			continue
		}
		was := e.state
		m.send(e, e.tick(now))
		m.plan(e)
		m.tell(e, was)
	}
}

// batch bounds the packets of one port in a turn, which delay the other ports and
// the timers.
const batch = 4096

// take passes an arrival to its session (RFC 5880 section 6.8.6, RFC 5881
// sections 3 to 5), or counts it as discarded.
func (m *Monitor) take(l *listener, a arrival, now time.Time) {
	p, err := parse(a.data)
	e := m.find(l, a, p)
	if err != nil || e == nil || !l.multihop && a.ttl != maxTTL {
		m.discarded++
		return
	}
	was := e.state
	m.send(e, e.receive(p, now))
	m.plan(e)
	m.tell(e, was)
}

// find returns the session of a packet, or nil: by Your Discriminator or, while
// the neighbour sends that as zero, by address.
func (m *Monitor) find(l *listener, a arrival, p packet) *entry {
	if a.from.Is6() && a.from.IsLinkLocalUnicast() {
		a.from = a.from.WithZone(m.zones[a.zone])
	}
	e := m.sessions[key{a.from, l.multihop}]
	if p.yours != 0 {
		e = m.byLocal[p.yours]
	}
	switch {
	case e == nil, e.cfg.Peer != a.from, e.cfg.Multihop != l.multihop:
		return nil
	case e.cfg.Local.IsValid() && e.cfg.Local.WithZone("") != a.to:
		return nil
	}
	return e
}

// send does not log: a log whose reader stops would block the thread.
func (m *Monitor) send(e *entry, list []packet) {
	for _, p := range list {
		if e.out.send(p) != nil {
			e.unsent++
		}
	}
}

// plan puts a session into the agenda at its next due time.
func (m *Monitor) plan(e *entry) {
	at := e.due()
	if !e.endsAt.IsZero() && (at.IsZero() || e.endsAt.Before(at)) {
		at = e.endsAt
	}
	m.agenda.put(e, at)
}

// tell signals a changed state.
func (m *Monitor) tell(e *entry, was State) {
	if e.state == was || !e.endsAt.IsZero() {
		return
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
