package bfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience bounds every wait.
const patience = 20 * time.Second

// space is a network namespace and a monitor whose sockets are in it.
type space struct {
	t      *testing.T
	ns     netns.NsHandle
	m      sessions
	cancel context.CancelFunc
	done   chan error
}

// newSpaces makes two namespaces joined by a veth pair, 10.9.0.1 and .2,
// fd00:9::1 and ::2, and a monitor in each.
func newSpaces(t *testing.T) (a, b *space) {
	t.Helper()
	list := []*space{newSpace(t), newSpace(t)}
	list[0].in(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v1"}, PeerName: "v2", PeerNamespace: netlink.NsFd(list[1].ns)}
		return netlink.LinkAdd(veth)
	})
	for i, s := range list {
		s.in(func() error { return s.address(fmt.Sprintf("v%d", i+1), i+1) })
	}
	return list[0], list[1]
}

func (s *space) address(dev string, host int) error {
	for _, name := range []string{"lo", dev} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if name == "lo" {
			continue
		}
		for _, text := range []string{fmt.Sprintf("10.9.0.%d/24", host), fmt.Sprintf("fd00:9::%d/64", host), fmt.Sprintf("fe80::9:%d/64", host)} {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{t: t}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, the handle keeps the namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		var err error
		s.ns, err = netns.Get()
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = s.ns.Close() })
	return s
}

// in runs fn on a thread inside the namespace.
func (s *space) in(fn func() error) {
	s.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(s.ns); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

// sessions are the methods of both Monitor and Process.
type sessions interface {
	Set(list []Session) error
	Sessions() []Status
	Run(ctx context.Context) error
}

// helperEnv makes the test binary a helper process.
const helperEnv = "ONLINK_BFD_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		if err := Serve(os.Stdin, os.Stdout, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// startProcess runs a monitor with the given sessions in its own process.
func (s *space) startProcess(list ...Session) *Process {
	s.t.Helper()
	s.t.Setenv(helperEnv, "1")
	p := NewProcess(slog.New(slog.DiscardHandler), "/proc/self/exe")
	s.begin(p, list)
	return p
}

// start runs a monitor with the given sessions.
func (s *space) start(list ...Session) {
	s.t.Helper()
	m, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.begin(m, list)
}

func (s *space) begin(m sessions, list []Session) {
	s.t.Helper()
	s.m = m
	s.in(func() error { return m.Set(list) })
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan error, 1)
	go func() { s.done <- m.Run(ctx) }()
	s.t.Cleanup(s.stop)
}

func (s *space) stop() {
	s.cancel()
	if s.done == nil {
		return
	}
	if err := <-s.done; err != nil {
		s.t.Errorf("Run: %v", err)
	}
	s.done = nil
}

func (s *space) status(peer string) Status {
	for _, st := range s.m.Sessions() {
		if st.Session.Peer == netip.MustParseAddr(peer) {
			return st
		}
	}
	return Status{}
}

func (s *space) wait(peer string, what string, ok func(Status) bool) Status {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		st := s.status(peer)
		if ok(st) {
			return st
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s did not become %s: %+v", peer, what, st)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *space) waitState(peer string, want State) Status {
	s.t.Helper()
	return s.wait(peer, want.String(), func(st Status) bool { return st.State == want })
}

func to(peer string) Session {
	return Session{Peer: netip.MustParseAddr(peer), Interval: 50 * time.Millisecond}
}

func multihop(s Session) Session {
	s.Multihop = true
	return s
}

// TestSessions: every kind of session comes up over a real link, and a dead
// link takes all of them down.
func TestSessions(t *testing.T) {
	a, b := newSpaces(t)
	a.start(to("10.9.0.2"), to("fd00:9::2"), to("fe80::9:2%v1"), multihop(to("10.9.0.3")))
	b.start(to("10.9.0.1"), to("fd00:9::1"), to("fe80::9:1%v2"))
	for _, p := range []string{"10.9.0.2", "fd00:9::2", "fe80::9:2%v1"} {
		st := a.waitState(p, Up)
		if st.Detection != 150*time.Millisecond && a.status(p).Detection != 150*time.Millisecond {
			st = a.wait(p, "negotiated", func(st Status) bool { return st.Detection == 150*time.Millisecond })
		}
		if st.Session.Multiplier != 3 {
			t.Errorf("%s: %+v", p, st)
		}
	}
	if st := a.status("10.9.0.3"); st.State != Down || st.Received != 0 {
		t.Errorf("a session with nobody: %+v", st)
	}
	b.in(func() error {
		link, err := netlink.LinkByName("v2")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
	for _, p := range []string{"10.9.0.2", "fd00:9::2", "fe80::9:2%v1"} {
		if st := a.waitState(p, Down); st.Failures != 1 || st.Diag != DiagExpired {
			t.Errorf("%s: %+v", p, st)
		}
	}
}

// TestStopIsAdminDown: a monitor that ends, and a session that is removed, send
// AdminDown: no failure for the neighbour; and the session comes up again.
func TestStopIsAdminDown(t *testing.T) {
	a, b := newSpaces(t)
	a.start(to("10.9.0.2"))
	b.start(to("10.9.0.1"))
	a.waitState("10.9.0.2", Up)
	b.waitState("10.9.0.1", Up)
	b.in(func() error { return b.m.Set(nil) })
	check := func(downs uint64) {
		t.Helper()
		st := a.wait("10.9.0.2", "told AdminDown", func(st Status) bool { return st.Downs == downs && st.State == Down })
		if st.Failures != 0 {
			t.Errorf("AdminDown counted as a failure: %+v", st)
		}
	}
	check(1)
	b.in(func() error { return b.m.Set([]Session{to("10.9.0.1")}) })
	a.waitState("10.9.0.2", Up)
	b.stop()
	check(2)
	b.start(to("10.9.0.1"))
	a.waitState("10.9.0.2", Up)
}

// TestMultihop: RFC 5883 has its own port and does not check the TTL.
func TestMultihop(t *testing.T) {
	a, b := newSpaces(t)
	a.start(multihop(to("10.9.0.2")))
	b.start(multihop(to("10.9.0.1")))
	a.waitState("10.9.0.2", Up)
	b.waitState("10.9.0.1", Up)
}

// TestDiscards: packets that must be discarded by RFC 5881 section 5 and RFC 5880
// section 6.8.6 do not touch a session that is up; a valid packet with TTL 255
// does.
func TestDiscards(t *testing.T) {
	a, b := newSpaces(t)
	a.start(to("10.9.0.2"))
	b.start(to("10.9.0.1"))
	up := a.waitState("10.9.0.2", Up)
	b.waitState("10.9.0.1", Up)
	if up.Session.Multihop {
		t.Fatal("single-hop expected")
	}
	m := a.m.(*Monitor)
	m.mu.Lock()
	local := m.sessions[key{netip.MustParseAddr("10.9.0.2"), false}].local
	m.mu.Unlock()
	down := packet{state: Down, multiplier: 3, mine: 5, yours: local, minTx: 50000, minRx: 50000}
	stranger := netip.MustParseAddr("10.9.0.77")
	b.in(func() error {
		link, err := netlink.LinkByName("v2")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(stranger.String() + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, a)
	})
	tests := []struct {
		name string
		ttl  int
		from netip.Addr
		pkt  packet
	}{
		{"ttl 254", 254, netip.Addr{}, down},
		{"unknown discriminator", 255, netip.Addr{}, func() packet { p := down; p.yours++; return p }()},
		{"another sender", 255, stranger, down},
		{"another sender, no discriminator", 255, stranger, func() packet { p := down; p.yours = 0; return p }()},
	}
	for _, tt := range tests {
		before := m.Discarded()
		b.in(func() error { return inject(tt.from, tt.ttl, tt.pkt) })
		deadline := time.Now().Add(patience)
		for m.Discarded() == before {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not discarded", tt.name)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if st := a.status("10.9.0.2"); st.Downs != 0 {
		t.Errorf("a discarded packet took the session down: %+v", st)
	}
	b.in(func() error { return inject(netip.Addr{}, 255, down) })
	a.wait("10.9.0.2", "down once", func(st Status) bool { return st.Downs == 1 })
}

// inject sends a packet to 10.9.0.1 with a TTL and a source address.
func inject(from netip.Addr, ttl int, p packet) error {
	fd, err := open(false)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := set(fd, [][3]int{{unix.SOL_IP, unix.IP_TTL, ttl}}); err != nil {
		return err
	}
	if err := bindSource(fd, from, false); err != nil {
		return err
	}
	return unix.Sendto(fd, p.append(nil), 0, sockaddr(netip.MustParseAddr("10.9.0.1"), false, portSingle))
}

// TestBusyPort: another program on the port is an ErrPortBusy.
func TestBusyPort(t *testing.T) {
	a := newSpace(t)
	a.start(to("10.9.0.2"))
	other, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var got error
	a.in(func() error { got = other.Set([]Session{to("10.9.0.2")}); return nil })
	if got == nil || !errors.Is(got, ErrPortBusy) {
		t.Errorf("got %v, want ErrPortBusy", got)
	}
}

// TestProcess: a monitor in its own process does the same as one in this process;
// killed, it comes back by itself; when its user ends, the neighbour receives
// AdminDown.
func TestProcess(t *testing.T) {
	a, b := newSpaces(t)
	b.start(to("10.9.0.1"), to("fd00:9::1"))
	p := a.startProcess(to("10.9.0.2"), to("fd00:9::2"))
	a.waitState("10.9.0.2", Up)
	a.waitState("fd00:9::2", Up)
	other := NewProcess(slog.New(slog.DiscardHandler), "/proc/self/exe")
	var busy error
	a.in(func() error { busy = other.Set([]Session{to("10.9.0.2")}); return nil })
	if !errors.Is(busy, ErrPortBusy) {
		t.Errorf("got %v, want ErrPortBusy", busy)
	}
	if err := other.end(); err != nil {
		t.Error(err)
	}
	if err := p.Set([]Session{{}}); !errors.Is(err, ErrSession) {
		t.Errorf("got %v, want ErrSession", err)
	}
	a.in(func() error { return p.Set([]Session{to("10.9.0.2")}) })
	b.wait("fd00:9::1", "told AdminDown", func(st Status) bool { return st.Downs == 1 && st.Failures == 0 })
	a.stop()
	b.wait("10.9.0.1", "told AdminDown", func(st Status) bool { return st.Downs == 1 && st.Failures == 0 })
}

// TestProcessSilent: a helper that does not answer after its start is replaced.
func TestProcessSilent(t *testing.T) {
	a, _ := newSpaces(t)
	t.Setenv(helperEnv, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The first one only sleeps.
	p := NewProcess(slog.New(slog.DiscardHandler), "sh", "-c", `mkdir "$0" && exec sleep 600; exec "$1"`, t.TempDir()+"/first", self)
	a.in(func() error { return p.Set([]Session{to("10.9.0.2")}) })
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// TestProcessRestarts: a helper that was killed is started again.
func TestProcessRestarts(t *testing.T) {
	a, b := newSpaces(t)
	b.start(to("10.9.0.1"))
	t.Setenv(helperEnv, "1")
	p := NewProcess(slog.New(slog.DiscardHandler), "/proc/self/exe")
	done, started := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // Run starts the helper again, so it must be in the namespace
		runtime.LockOSThread()
		if err := netns.Set(a.ns); err != nil {
			started <- err
			return
		}
		started <- p.Set([]Session{to("10.9.0.2")})
		done <- p.Run(ctx)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	a.m = p
	a.waitState("10.9.0.2", Up)
	p.mu.Lock()
	pid := p.child.cmd.Process.Pid
	p.mu.Unlock()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.wait("10.9.0.1", "down, then up again", func(st Status) bool { return st.Downs == 1 && st.State == Up })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
