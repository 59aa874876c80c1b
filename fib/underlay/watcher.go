package underlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

const (
	receiveBuffer = 4 << 20 // bytes; some ten thousand notifications
	settle        = 10 * time.Millisecond
	// listShare bounds the share of a core that lists may take: after a list
	// that took d, the next one waits listShare*d.
	listShare    = 4
	resortAfter  = 60 * time.Second // a last resort against a change without a notification
	resortSpread = 60 * time.Second
	reopenWait   = 200 * time.Millisecond
)

// Watcher keeps a copy of the kernel's FIB without onlink's routes.
type Watcher struct {
	log    *slog.Logger
	ours   func(Device) bool
	rcvbuf int

	// Owned by the goroutine that calls Load, then Run.
	sub    *subscription
	dump   *dumper
	state  state
	dirty  bool // routes must be listed again
	judged bool // links or addresses changed: resolve again, no list needed
	// partial is set when the list of links or addresses stayed interrupted: one
	// may be missing for which no notification comes.
	partial bool
	untold  Events    // published together with the snapshot that shows them, never before
	due     time.Time // of the next list, when dirty
	took    time.Duration
	listed  time.Time
	resort  time.Time // of the next list without a notification
	warned  string    // the problem last logged

	current atomic.Pointer[snapshot]
	// changed is sent to by this package when events turn from none to some;
	// full means that the reader has not woken up yet. It is never closed.
	changed chan struct{}

	mu      sync.Mutex // guards the following fields
	events  Events
	renewed chan struct{} // closed, and replaced, by renewLocked
}

// New returns a Watcher with an empty copy. ownDevice reports whether a device is
// one of onlink's; it is called by one goroutine at a time.
func New(log *slog.Logger, ownDevice func(Device) bool) *Watcher {
	w := &Watcher{log: log, ours: ownDevice, rcvbuf: receiveBuffer, changed: make(chan struct{}, 1), renewed: make(chan struct{})}
	w.reset()
	w.current.Store(w.state.view(w.ours))
	return w
}

func (w *Watcher) reset() {
	w.state = state{links: map[int32]link{}, addrs: map[ifaddr]addrState{}, objects: map[uint32]object{}}
}

// Changed is readable after a change; then call Drain.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Renewed returns a channel that is closed when the answers to queries may be
// others than now, or a setting of a device that is not onlink's was changed
// (RTM_NEWNETCONF, which the kernel sends for forwarding, rp_filter and a few
// others; not for all). Take it before the query or the setting is read.
func (w *Watcher) Renewed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.renewed
}

func (w *Watcher) renewLocked() {
	close(w.renewed)
	w.renewed = make(chan struct{})
}

// Drain returns the changes since the last call. A Drain that begins after Reach
// or another query was answered from a new state returns the events that lead to
// that state.
func (w *Watcher) Drain() Events {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events
	w.events = Events{}
	return e
}

// Load subscribes and lists everything. It must be called before
// [Watcher.Run], from a thread in the network namespace to watch.
func (w *Watcher) Load() error {
	if w.sub != nil {
		return nil
	}
	sub, err := subscribe(w.rcvbuf)
	if err != nil {
		return fmt.Errorf("watch underlay: %w", err)
	}
	dump, err := openDumper()
	if err != nil {
		return errors.Join(fmt.Errorf("watch underlay: %w", err), sub.close())
	}
	w.sub, w.dump = sub, dump
	if err := w.listAll(); err != nil && !errors.Is(err, errInterrupted) {
		return errors.Join(fmt.Errorf("list underlay: %w", err), w.closeSockets())
	}
	return nil
}

// Refresh reads everything again, between [Watcher.Load] and [Watcher.Run].
func (w *Watcher) Refresh() error {
	if err := w.listAll(); err != nil && !errors.Is(err, errInterrupted) {
		return fmt.Errorf("list underlay: %w", err)
	}
	return nil
}

func (w *Watcher) closeSockets() error {
	err := errors.Join(w.sub.close(), w.dump.close())
	w.sub, w.dump = nil, nil
	return err
}

// Run follows the kernel until the context ends, then closes the sockets. Lost
// notifications and dead sockets are repaired, not returned.
func (w *Watcher) Run(ctx context.Context) error {
	if err := w.Load(); err != nil {
		return err
	}
	defer func() {
		if w.sub != nil {
			if err := w.closeSockets(); err != nil {
				w.log.Debug("close underlay sockets", "err", err)
			}
		}
	}()
	for ctx.Err() == nil {
		if err := w.follow(ctx); err != nil {
			w.log.Warn("underlay socket lost, opening another", "err", err)
			w.reopen(ctx)
		}
	}
	return nil
}

// follow handles notifications until the context ends or a socket dies.
func (w *Watcher) follow(ctx context.Context) error {
	sub := w.sub
	stop := context.AfterFunc(ctx, func() {
		if err := sub.interrupt(); err != nil {
			w.log.Debug("interrupt underlay socket", "err", err)
		}
	})
	defer stop()
	for {
		err := sub.receive(ctx, w.deadline(), w.handle)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case errors.Is(err, errOverrun):
			w.log.Info("underlay notifications lost, listing everything")
			err = errors.Join(sub.discard(), w.listAll())
		case errors.Is(err, os.ErrDeadlineExceeded), err == nil:
			err = w.settle()
		}
		if err != nil && !errors.Is(err, errInterrupted) {
			return err
		}
	}
}

// deadline returns the time at which to stop waiting for notifications and list.
func (w *Watcher) deadline() time.Time {
	if w.dirty {
		return w.due
	}
	return w.resort
}

// settle acts on the notifications so far. A changed link is resolved at once
// with the known routes; the list that follows shows the rest.
func (w *Watcher) settle() error {
	if !time.Now().Before(w.deadline()) {
		if w.partial {
			return w.listAll()
		}
		return w.listRoutes()
	}
	if w.judged {
		w.publish()
	}
	w.tell()
	return nil
}

// reopen replaces dead sockets and lists everything, trying until it works or
// the context ends.
func (w *Watcher) reopen(ctx context.Context) {
	for {
		if w.sub != nil {
			if err := w.closeSockets(); err != nil {
				w.log.Debug("close underlay sockets", "err", err)
			}
		}
		err := w.Load()
		if err == nil {
			return
		}
		w.log.Warn("open underlay sockets", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(reopenWait):
		}
	}
}

// publish resolves the state and publishes the differences.
func (w *Watcher) publish() {
	w.judged = false
	old, now := w.current.Load(), w.state.view(w.ours)
	if now.problem != w.warned {
		if w.warned = now.problem; now.problem != "" {
			w.log.Warn("policy routing", "problem", now.problem)
		}
	}
	e := difference(old, now)
	// Under the lock, so that a Drain after a new answer has its events.
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current.Store(now)
	w.renewLocked()
	w.tellLocked(e)
}

// tell merges the unpublished events into those not yet drained and wakes up the
// reader.
func (w *Watcher) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellLocked(Events{})
}

func (w *Watcher) tellLocked(e Events) {
	e.merge(w.untold)
	w.untold = Events{}
	if e.Empty() {
		return
	}
	w.events.merge(e)
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// handle reads one notification.
func (w *Watcher) handle(m rtnl.Message) {
	switch m.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if l, ok := parseLink(m.Body); ok {
			w.handleLink(l, m.Type == unix.RTM_DELLINK)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if a, s, ok := parseAddress(m.Body); ok {
			w.handleAddress(a, s, m.Type == unix.RTM_DELADDR)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if h, _, ok := rtnl.ParseRoute(m.Body); ok && h.Protocol == ours.Protocol {
			w.untold.Touched = true
			return
		}
		// A replacement names only the new route; the old one may have been ours.
		w.untold.Touched = w.untold.Touched || m.Type == unix.RTM_NEWROUTE && m.Flags&unix.NLM_F_REPLACE != 0
		if r, ok := parseRoute(m.Body); ok && !w.onlyOurs(r.hops) {
			w.stale()
		}
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		if h, _, ok := rtnl.ParseNexthop(m.Body); ok && h.Protocol == ours.Protocol {
			w.untold.Touched = true
			return
		}
		w.stale()
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		w.stale()
	case unix.RTM_NEWNETCONF:
		w.handleSetting(m.Body)
	}
}

// handleLink records a link's new state. The kernel may have removed the routes
// over it.
func (w *Watcher) handleLink(l link, gone bool) {
	old, known := w.state.links[l.index]
	if known && !gone && old == l {
		return // statistics, neighbour settings and the like
	}
	links := []string{l.name}
	if known && old.name != l.name {
		links = append(links, old.name)
	}
	if gone {
		delete(w.state.links, l.index)
	} else {
		w.state.links[l.index] = l
	}
	w.untold.merge(Events{Links: links})
	if !w.ours(l.device()) || known && !w.ours(old.device()) {
		w.judged = true
		w.stale()
	}
}

// handleSetting passes the change of a setting on. Of a device that is not known
// yet, or of a pod, nothing is passed on: every ADD would.
func (w *Watcher) handleSetting(body []byte) {
	device, ok := parseSetting(body)
	if !ok {
		return
	}
	if device > 0 {
		if l, known := w.state.links[device]; !known || w.ours(l.device()) {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.renewLocked()
}

// handleAddress records an address. With a removed one the kernel removes the
// routes that have it as source.
func (w *Watcher) handleAddress(a ifaddr, s addrState, gone bool) {
	old, known := w.state.addrs[a]
	if s.order = old.order; !known {
		w.state.told++
		s.order = firstTold + w.state.told
	}
	switch {
	case gone && !known, !gone && known && old == s:
		return // lifetimes and the like
	case gone:
		delete(w.state.addrs, a)
	default:
		w.state.addrs[a] = s
	}
	if !w.ours(w.state.links[a.device].device()) {
		w.judged = true
		w.stale()
	}
}

// onlyOurs reports whether all hops go over onlink's own devices: every pod's
// device brings such routes with it.
func (w *Watcher) onlyOurs(hops []hop) bool {
	for _, h := range hops {
		if !w.ours(w.state.links[h.device].device()) {
			return false
		}
	}
	return len(hops) > 0
}

// stale schedules a list of the routes, soon but not more often than the machine
// can bear.
func (w *Watcher) stale() {
	if w.dirty {
		return
	}
	w.dirty = true
	w.due = time.Now().Add(settle)
	if rest := w.listed.Add(listShare * w.took); rest.After(w.due) {
		w.due = rest
	}
}
