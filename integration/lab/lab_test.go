//go:debug multipathtcp=0
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// testName returns a lab name of this process: parallel runs do not collide.
func testName(suffix string) string { return fmt.Sprintf("t%d-%s", os.Getpid(), suffix) }

// build makes a lab and closes it at the end of the test, which must leave
// nothing.
func build(t *testing.T, spec Spec) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	l, err := Build(t.Context(), spec, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, l.Spec.Name)
	})
	return l
}

func wantNothingLeft(t *testing.T, name string) {
	t.Helper()
	names, err := namesWithPrefix(name + ".")
	if err != nil || len(names) > 0 {
		t.Errorf("left after Close: namespaces %v, error %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(runDir, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left after Close: %s (%v)", filepath.Join(runDir, name), err)
	}
	if _, err := os.Stat(filepath.Join(runDir, name+".lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left after Close: the lock (%v)", err)
	}
}

// TestTopology builds the two-rack lab with both routing programs and looks at
// it with every tool, without agents.
func TestTopology(t *testing.T) {
	if !slices.Contains(ToRKinds(), BIRD) {
		t.Fatal("bird is not installed (Debian package bird2)")
	}
	for _, kind := range ToRKinds() { // FRR is optional
		t.Run(string(kind), func(t *testing.T) {
			l := build(t, Spec{Name: testName(string(kind)), ToR: kind, Uplink: true, DualStack: true, Service: netip.MustParsePrefix("10.59.0.0/16")})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := l.StartToRs(ctx); err != nil {
				t.Fatal(err)
			}
			near, far := l.Node("r1n1"), l.Node("r2n2")
			t.Run("addresses", func(t *testing.T) { checkPlan(t, l) })
			t.Run("ping", func(t *testing.T) { checkPings(ctx, t, l) })
			t.Run("capture", func(t *testing.T) { checkCapture(ctx, t, near, far) })
			t.Run("transfer", func(t *testing.T) {
				if _, err := Transfer(ctx, near.NS, far.NS, far.Addr, 1<<20); err != nil {
					t.Error(err)
				}
			})
			t.Run("flows see a cut", func(t *testing.T) { checkFlows(ctx, t, l, near, far) })
		})
	}
}

func checkPlan(t *testing.T, l *Lab) {
	var got []string
	for _, n := range l.Nodes() {
		got = append(got, fmt.Sprintf("%s %s %s", n.Name, n.Addr, n.Addr6))
	}
	want := []string{
		"rr1 10.57.1.10 fd57:1::10", "r1n1 10.57.1.11 fd57:1::11", "r1n2 10.57.1.12 fd57:1::12",
		"r2n1 10.57.2.11 fd57:2::11", "r2n2 10.57.2.12 fd57:2::12",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func checkPings(ctx context.Context, t *testing.T, l *Lab) {
	from := l.Node("r1n1").NS
	for _, dst := range []string{"10.57.1.1", "10.57.1.12", "10.57.2.12", "fd57:1::12", "fd57:2::12", "198.51.100.1"} {
		err := Eventually(ctx, 20*time.Second, "ping "+dst, func() error {
			_, err := from.Ping(ctx, netip.MustParseAddr(dst), 1, time.Second)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := from.Ping(ctx, netip.MustParseAddr("10.57.1.200"), 1, 100*time.Millisecond); err == nil {
		t.Error("an address that nobody has answered")
	}
}

func checkCapture(ctx context.Context, t *testing.T, near, far *Node) {
	c, err := StartCapture(near.NS, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := near.NS.Ping(ctx, far.Addr, 3, 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	got := c.Count(func(p Packet) bool {
		return p.Proto == unix.IPPROTO_ICMP && p.Src == near.Addr && p.Dst == far.Addr
	})
	back := c.Count(func(p Packet) bool {
		return p.Proto == unix.IPPROTO_ICMP && p.Src == far.Addr && p.Dst == near.Addr
	})
	if got != 3 || back != 3 {
		t.Errorf("capture saw %d requests and %d replies, want 3 and 3", got, back)
	}
}

func checkFlows(ctx context.Context, t *testing.T, l *Lab, near, far *Node) {
	flow, err := StartPingFlow(near.NS, far.NS, far.Addr, 500)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := StartStream(ctx, near.NS, far.NS, far.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := flow.WaitFor(ctx, 100); err != nil {
		t.Error(err)
	}
	// A pulled cable: datagrams must be missing, the TCP stream must survive.
	port := far.Name
	sw := l.rack(far.Rack).Switch
	if err := sw.SetLink(port, false); err != nil {
		t.Fatal(err)
	}
	before := flow.Report().Sent
	err = Eventually(ctx, 10*time.Second, "datagrams sent into the cut", func() error {
		if n := flow.Report().Sent - before; n < 50 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := sw.SetLink(port, true); err != nil {
		t.Fatal(err)
	}
	if err := flow.WaitFor(ctx, 100); err != nil {
		t.Error(err)
	}
	report, err := flow.Stop(ctx)
	if err != nil {
		t.Error(err)
	}
	if report.Lost < 40 || report.Lost > report.Sent/2+500 {
		t.Errorf("flow over a cut: %s; want at least 40 lost", report)
	}
	n, err := stream.Stop()
	if err != nil || n == 0 {
		t.Errorf("stream: %d bytes, %v", n, err)
	}
}

func TestFlowWithoutTroubleLosesNothing(t *testing.T) {
	l := build(t, Spec{Name: testName("flow"), Racks: 1, Reflectors: -1})
	a, b := l.Node("r1n1"), l.Node("r1n2")
	flow, err := StartPingFlow(a.NS, b.NS, b.Addr, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := flow.WaitFor(t.Context(), 500); err != nil {
		t.Error(err)
	}
	report, err := flow.Stop(t.Context())
	if err != nil || report.Lost != 0 || report.Duplicates != 0 || report.Sent < 500 {
		t.Errorf("%s, %v; want nothing lost", report, err)
	}
}

func TestRoutes(t *testing.T) {
	l := build(t, Spec{Name: testName("routes"), Racks: 1, Reflectors: -1, ToRsPerRack: 2})
	n := l.Node("r1n1")
	add := func(dst, via string) {
		t.Helper()
		var gw netip.Addr
		if via != "" {
			gw = netip.MustParseAddr(via)
		}
		if err := n.NS.AddRoute(netip.MustParsePrefix(dst), gw, 179); err != nil {
			t.Fatal(err)
		}
	}
	add("10.244.1.0/26", "10.57.1.12")
	add("10.244.0.0/26", "")
	add("10.244.2.0/26", "10.57.1.1")
	if err := n.NS.DeleteRoute(netip.MustParsePrefix("10.244.2.0/26"), 179); err != nil {
		t.Error(err)
	}
	lines := func(proto int) (out []string) {
		t.Helper()
		routes, err := n.NS.Routes(proto)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			out = append(out, r.String())
		}
		return out
	}
	tests := []struct {
		name  string
		proto int
		want  []string
	}{
		{"ours", 179, []string{"blackhole 10.244.0.0/26 proto 179", "10.244.1.0/26 via 10.57.1.12 dev eth0 proto 179"}},
		{"two gateways", unix.RTPROT_STATIC, []string{"0.0.0.0/0 nexthop via 10.57.1.1 dev eth0 nexthop via 10.57.1.2 dev eth0 proto 4"}},
		{"nobody's", 201, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, lines(tt.proto), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBuildRemovesLeftoversAndRefusesALivingOwner(t *testing.T) {
	name := testName("again")
	l := build(t, Spec{Name: name, Racks: 1, NodesPerRack: 1, Reflectors: -1})
	if _, err := Build(t.Context(), Spec{Name: name}, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("second Build: %v, want ErrInUse", err)
	} else if !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("second Build: %v, want the holder's pid", err)
	}
	// As after a crash: the lock is free, the names are there.
	if err := l.lock.Close(); err != nil {
		t.Fatal(err)
	}
	again := build(t, Spec{Name: name, Racks: 1, NodesPerRack: 1, Reflectors: -1})
	if _, err := again.Node("r1n1").NS.Ping(t.Context(), again.ToRs()[0].Addr, 1, 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	// The first lab's Close has nothing left to remove and must not mind.
	l.lock = again.lock
}

// killedVariable makes [TestKilled] the process that is killed: it holds the lab's name.
const killedVariable = "ONLINK_LAB_KILLED"

// TestKilled: of a process that was killed with a lab open, the next one removes
// everything, also a program that changed its user, which no signal ended.
func TestKilled(t *testing.T) {
	if name := os.Getenv(killedVariable); name != "" {
		l, err := Build(t.Context(), Spec{Name: name, Racks: 1, NodesPerRack: 1, Reflectors: -1}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		log := filepath.Join(l.Dir, "log")
		p, err := start(l.Node("r1n1").NS, "other user", log, "setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "echo begins; exec sleep 1000")
		if err == nil {
			err = Started(t.Context(), p, func() error {
				if text := p.Tail(1); text != "begins" {
					return errors.New(text)
				}
				return nil
			})
		}
		if err != nil {
			t.Fatal(errors.Join(err, l.Close()))
		}
		fmt.Printf("%d\n", p.Pid())
		_ = unix.Kill(os.Getpid(), unix.SIGKILL) // nothing runs after it
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	name := testName("killed")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killedVariable+"="+name)
	out, err := cmd.Output()
	pid, _, _ := strings.Cut(string(out), "\n")
	inside := "/proc/" + pid + "/ns/net"
	if _, noPid := strconv.Atoi(pid); noPid != nil || cmd.ProcessState.Success() {
		t.Fatalf("the process started no program, or was not killed: %v\n%s", err, out)
	}
	if err := RemoveDead(); err != nil {
		t.Error(err)
	}
	wantNothingLeft(t, name)
	if err := Eventually(t.Context(), 10*time.Second, "end of the program", func() error {
		if _, err := os.Stat(inside); err == nil {
			return errors.New("it runs")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestProcess(t *testing.T) {
	l := build(t, Spec{Name: testName("proc"), Racks: 1, NodesPerRack: 1, Reflectors: -1})
	ns := l.Node("r1n1").NS
	log := filepath.Join(l.Dir, "p.log")
	p, err := start(ns, "p", log, "/bin/sh", "-c", "echo begin; exec cat /proc/self/net/route")
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Wait(t.Context())
	if err != nil || code != 0 || !strings.Contains(p.Tail(10), "eth0") {
		t.Errorf("exit %d, %v, output %q; want the namespace's routes", code, err, p.Tail(10))
	}
	if p, err = start(ns, "sleep", log, "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	if p.Exited() {
		t.Error("sleep ended by itself")
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if !p.Exited() {
		t.Error("alive after Stop")
	}
	if p, err = start(ns, "false", log, "sh", "-c", "echo bad thing >&2; exit 3"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = poll(ctx, "wait for it", p, func() error { return errors.New("not yet") })
	if !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "bad thing") {
		t.Errorf("poll of a dead program: %v; want ErrExited and its output", err)
	}
	if _, err := start(ns, "none", log, "no-such-program"); err == nil {
		t.Error("started a program that does not exist")
	}
}
