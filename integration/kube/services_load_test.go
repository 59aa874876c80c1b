package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/integration/lab"
)

const (
	// callLimit bounds one connection, from its SYN to the end of the answer.
	callLimit = 5 * time.Second
	// resent is when a SYN that got no answer is sent again (RFC 6298): a connection
	// that took longer to open lost one.
	resent = 900 * time.Millisecond
)

// load opens new TCP connections to a service at a steady rate, sends one request
// over each, and notes what becomes of it.
type load struct {
	name  string
	calls []call

	to   netip.AddrPort
	done chan struct{} // closed by run at its end
	err  error         // of run; read after done
	stop context.CancelFunc
}

// call is one connection.
type call struct {
	began, opened, ended time.Time // opened: zero, if it was not
	pod                  string    // that answered
	err                  error
}

// startLoad begins to open rate connections a second from a namespace.
func startLoad(ctx context.Context, name string, ns *lab.NS, to netip.AddrPort, rate int) *load {
	l := &load{name: name, to: to, done: make(chan struct{})}
	ctx, l.stop = context.WithCancel(ctx)
	go func() {
		defer close(l.done)
		// Sockets belong to the namespace of the thread that makes them.
		l.err = ns.Do(func() error { return l.run(ctx, rate) })
	}()
	return l
}

// end ends the load and waits for the connections that are open.
func (l *load) end() error {
	l.stop()
	<-l.done
	return l.err
}

// run opens connections until ctx ends, and returns when the last one has ended.
func (l *load) run(ctx context.Context, rate int) error {
	results := make(chan call, rate)
	var open sync.WaitGroup
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for c := range results {
			l.calls = append(l.calls, c)
		}
	}()
	err := l.pace(ctx, rate, func(fd int, began time.Time, err error) {
		open.Go(func() { results <- finish(fd, began, err) })
	})
	open.Wait()
	close(results)
	<-collected
	slices.SortFunc(l.calls, func(a, b call) int { return a.began.Compare(b.began) })
	return err
}

// pace calls begin with a socket that is being connected, rate times a second: what
// a late timer leaves out it makes up for.
func (l *load) pace(ctx context.Context, rate int, begin func(fd int, began time.Time, err error)) error {
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(l.to.Port()), Addr: l.to.Addr().As4()}
	family := unix.AF_INET
	if l.to.Addr().Is6() {
		to, family = &unix.SockaddrInet6{Port: int(l.to.Port()), Addr: l.to.Addr().As16()}, unix.AF_INET6
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	start, sent := time.Now(), 0
	for {
		for due := int(time.Since(start).Seconds() * float64(rate)); sent < due; sent++ {
			fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("load %s: make socket: %w", l.name, err)
			}
			began := time.Now()
			if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
				begin(fd, began, err)
				continue
			}
			begin(fd, began, nil)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// finish waits until the socket is connected, and asks for the pod's name.
func finish(fd int, began time.Time, err error) call {
	c := call{began: began, err: err}
	socket := os.NewFile(uintptr(fd), "tcp")
	defer socket.Close()
	if c.err == nil {
		c.err = c.ask(socket)
	}
	c.ended = time.Now()
	return c
}

func (c *call) ask(socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err == nil {
		err = socket.SetDeadline(c.began.Add(callLimit))
	}
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n != 0 {
			failed = errors.Join(err, unix.Errno(n))
			return true
		}
		_, err := unix.Getpeername(int(fd))
		return err == nil // until then it is being connected
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	c.opened = time.Now()
	if _, err := socket.WriteString("GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	text, err := io.ReadAll(socket)
	if err != nil {
		return err
	}
	_, rest, ok := strings.Cut(string(text), "hello from ")
	if !ok {
		return fmt.Errorf("answer %q", text)
	}
	c.pod, _, _ = strings.Cut(rest, " ")
	return nil
}

// ending is one way for a connection to end.
type ending struct {
	name string
	is   func(call) bool
}

// Ends that the tests name.
const (
	reset    = "reset"
	timedOut = "timed out"
)

// The ends of a connection, in the order of the report.
var ends = []ending{
	{"answered", func(c call) bool { return c.err == nil }},
	{"refused", func(c call) bool { return errors.Is(c.err, unix.ECONNREFUSED) }},
	{"unreachable", func(c call) bool { return errors.Is(c.err, unix.EHOSTUNREACH) || errors.Is(c.err, unix.ENETUNREACH) }},
	{reset, func(c call) bool { return errors.Is(c.err, unix.ECONNRESET) || errors.Is(c.err, unix.EPIPE) }},
	{timedOut, func(c call) bool {
		return errors.Is(c.err, os.ErrDeadlineExceeded) || errors.Is(c.err, unix.ETIMEDOUT)
	}},
	{"answered after a lost SYN", func(c call) bool { return c.err == nil && c.opened.Sub(c.began) > resent }},
}

// is reports whether the connection ended so.
func (c call) is(end string) bool {
	return slices.ContainsFunc(ends, func(e ending) bool { return e.name == end && e.is(c) })
}

// count returns how many connections ended so.
func (l *load) count(end string) (n int) {
	for _, c := range l.calls {
		if c.is(end) {
			n++
		}
	}
	return n
}

// lost describes the connections that ended otherwise than by an answer, a refusal or
// a reset; began is when the test began.
func (l *load) lost(began time.Time) (texts []string) {
	for _, c := range l.calls {
		if c.is(timedOut) || !slices.ContainsFunc(ends, func(e ending) bool { return e.is(c) }) {
			texts = append(texts, c.text(began))
		}
	}
	return texts
}

// text describes a connection that failed: a SYN without an answer and a request
// without one have different causes.
func (c call) text(began time.Time) string {
	opened := "never opened"
	if !c.opened.IsZero() {
		opened = fmt.Sprintf("opened after %s", c.opened.Sub(c.began).Round(time.Millisecond))
	}
	return fmt.Sprintf("%.3fs: a connection was %s and ended after %s: %v", c.began.Sub(began).Seconds(), opened, c.ended.Sub(c.began).Round(time.Millisecond), c.err)
}

// String is one line of the report.
func (l *load) String() string {
	parts := []string{fmt.Sprintf("%s: %d connections", l.name, len(l.calls))}
	for _, e := range ends {
		parts = append(parts, fmt.Sprintf("%d %s", l.count(e.name), e.name))
	}
	var took []time.Duration
	for _, c := range l.calls {
		if c.err == nil {
			took = append(took, c.ended.Sub(c.began))
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		at := func(part float64) time.Duration {
			return took[int(part*float64(len(took)-1))].Round(100 * time.Microsecond)
		}
		parts = append(parts, fmt.Sprintf("p50 %s, p99 %s, longest %s", at(.5), at(.99), at(1)))
	}
	return strings.Join(parts, ", ")
}

// moves notes when a router's kernel changed its route to a prefix.
type moves struct {
	stop chan struct{}

	mu   sync.Mutex // guards all below
	seen []move
}

type move struct {
	at   time.Time
	text string
}

// watchMoves begins to watch a router.
func watchMoves(ns *lab.NS, name string, p netip.Prefix) (*moves, error) {
	m := &moves{stop: make(chan struct{})}
	updates := make(chan netlink.RouteUpdate, 1000)
	// The socket is of the thread's namespace.
	if err := ns.Do(func() error { return netlink.RouteSubscribe(updates, m.stop) }); err != nil {
		return nil, fmt.Errorf("watch routes of %s: %w", name, err)
	}
	go func() {
		for u := range updates { // until stop is closed
			if u.Dst == nil || u.Dst.String() != p.String() {
				continue
			}
			var via []string
			for _, hop := range u.MultiPath {
				via = append(via, hop.Gw.String())
			}
			if len(via) == 0 && u.Gw != nil {
				via = append(via, u.Gw.String())
			}
			verb := "routes by"
			if u.Type == unix.RTM_DELROUTE {
				verb = "no longer routes by"
			}
			m.mu.Lock()
			m.seen = append(m.seen, move{time.Now(), fmt.Sprintf("%s %s %s", name, verb, strings.Join(via, ", "))})
			m.mu.Unlock()
		}
	}()
	return m, nil
}

// end ends the watch and returns what happened.
func (m *moves) end() []move {
	close(m.stop)
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

// slack is how much later than the kernel's the clock of this program may be read, on
// two CPUs with much to do.
const slack = 100 * time.Millisecond

// moved reports whether the connection was open while a router changed its next
// hops: the router sends its packets to another node then, which does not have it.
func (c call) moved(seen []move) bool {
	return slices.ContainsFunc(seen, func(m move) bool {
		return !c.opened.IsZero() && c.began.Before(m.at.Add(slack)) && c.ended.After(m.at.Add(-slack))
	})
}

// struck reports whether a router changed its next hops while the connection was being
// opened, and its request was then lost: a node that does not know a connection may
// drop its packets instead of resetting it, and the pod hangs up later.
func (c call) struck(seen []move) bool {
	return slices.ContainsFunc(seen, func(m move) bool {
		return !c.opened.IsZero() && m.at.Sub(c.opened).Abs() < slack
	})
}
