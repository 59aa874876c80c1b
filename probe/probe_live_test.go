package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bed is a node (the test's own namespace), a far machine on its wire, and a pod
// behind the node.
//
//	pod 10.9.0.5, fd09::5 --veth-- node 10.0.0.1, fd00::1 --veth-- far 10.0.0.2, fd00::2
type bed struct {
	t        *testing.T
	pod, far string // paths of the namespaces
}

// newBed makes the bed. The test's thread is never unlocked, so it ends with the
// test.
func newBed(t *testing.T) *bed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := &bed{t: t, pod: namespace(t, "pod"), far: namespace(t, "far")}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"", b.far, b.pod} {
		b.run(ns, "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0")
	}
	b.run("", `ip link set lo up
		ip link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns `+b.far+`
		ip link add onl0 type veth peer name eth0 netns `+b.pod+`
		ip link set eth0 up
		ip link set onl0 up
		ip addr add 10.0.0.1/24 dev eth0
		ip addr add fd00::1/64 dev eth0 nodad
		ip addr add 10.9.0.1/24 dev onl0
		ip addr add fd09::1/64 dev onl0 nodad
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`)
	b.run(b.far, `ip link set lo up
		ip link set eth0 up
		ip addr add 10.0.0.2/24 dev eth0
		ip addr add fd00::2/64 dev eth0 nodad
		ip route add default via 10.0.0.1
		ip -6 route add default via fd00::1`)
	b.run(b.pod, `ip link set lo up
		ip link set eth0 up
		ip addr add 10.9.0.5/24 dev eth0
		ip addr add fd09::5/64 dev eth0 nodad
		ip route add default via 10.9.0.1
		ip -6 route add default via fd09::1`)
	// IPv6 begins a moment after the carrier.
	for deadline := time.Now().Add(10 * time.Second); ; {
		out := b.echo("fd00::2", 0)
		if out.Kind == Answered {
			return b
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bed does not work: %+v", out)
		}
	}
}

// namespace makes a network namespace and names it by a bind mount.
func namespace(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// run runs commands, one a line, in a namespace; "": the test's own.
func (b *bed) run(netns, commands string) {
	b.t.Helper()
	for line := range strings.Lines(commands) {
		w := strings.Fields(line)
		if netns != "" {
			w = append([]string{"nsenter", "--net=" + netns}, w...)
		}
		if len(w) == 0 {
			continue
		}
		if out, err := exec.Command(w[0], w[1:]...).CombinedOutput(); err != nil {
			b.t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// echo sends an echo from the pod.
func (b *bed) echo(to string, size int) Outcome {
	b.t.Helper()
	from := ip("10.9.0.5")
	if ip(to).Is6() {
		from = ip("fd09::5")
	}
	return New().Echo(b.t.Context(), Echo{Netns: b.pod, From: from, To: ip(to), Size: size, Watch: []string{"eth0"}})
}

// want fails unless an outcome is as wanted: its kind, and a part of its text.
func (b *bed) want(what string, got Outcome, kind Kind, text string) {
	b.t.Helper()
	if got.Kind != kind || !strings.Contains(got.Detail, text) {
		b.t.Errorf("%s: %+v; want kind %d with %q", what, got, kind, text)
	}
}

// eachFamily runs a test for IPv4 and for IPv6, with the far machine's address.
func eachFamily(t *testing.T, f func(t *testing.T, b *bed, far string)) {
	t.Helper()
	for _, far := range []string{"10.0.0.2", "fd00::2"} {
		t.Run(far, func(t *testing.T) { f(t, newBed(t), far) })
	}
}

// TestEcho: an echo from a pod's namespace is answered, small and large, and is
// seen leaving and coming back.
func TestEcho(t *testing.T) {
	eachFamily(t, func(t *testing.T, b *bed, far string) {
		for _, size := range []int{0, 1500} {
			out := b.echo(far, size)
			b.want(fmt.Sprintf("size %d", size), out, Answered, "answers within")
			if out.RTT <= 0 || !out.Seen.Watched || out.Seen.Left != out.Seen.Left.Unmap() || out.Seen.Left.String() != map[bool]string{true: "10.9.0.5", false: "fd09::5"}[ip(far).Is4()] || !out.Seen.Returned {
				t.Errorf("size %d: %+v", size, out)
			}
		}
		b.want("too large for the device", b.echo(far, 1501), Unsent, "EMSGSIZE")
		b.want("by device", New().Echo(t.Context(), Echo{To: ip(far), Device: "eth0"}), Answered, "")
		b.want("no such device", New().Echo(t.Context(), Echo{To: ip(far), Device: "nosuch0"}), Unsent, "no such device")
		b.want("no such namespace", New().Echo(t.Context(), Echo{To: ip(far), Netns: "/nosuch"}), Unsent, "open network namespace /nosuch")
	})
}

// TestEchoLost: a loss is told apart: on the far side, on the way back, inside the
// node, by a rewritten source.
func TestEchoLost(t *testing.T) {
	drop := func(hook, rule string) string {
		return "nft add table inet t\nnft add chain inet t c {type filter hook " + hook + " priority 0;}\nnft add rule inet t c " + rule
	}
	for _, c := range []struct {
		name          string
		node, far     string
		left, returns bool
	}{
		{"far", "", drop("input", "icmp type echo-request drop"), true, false},
		{"back", drop("forward", "iifname eth0 drop"), "", true, true},
		{"here", drop("forward", "oifname eth0 drop"), "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			b.run("", c.node)
			b.run(b.far, c.far)
			out := b.echo("10.0.0.2", 0)
			b.want("echo", out, Silent, "no answer to 4 packets")
			if !out.Seen.Watched || out.Seen.Left.IsValid() != c.left || out.Seen.Returned != c.returns {
				t.Errorf("seen %+v, want left %t, returned %t", out.Seen, c.left, c.returns)
			}
		})
	}
	t.Run("masquerade", func(t *testing.T) {
		b := newBed(t)
		b.run("", "nft add table ip t\nnft add chain ip t c {type nat hook postrouting priority 100;}\nnft add rule ip t c oifname eth0 masquerade")
		if out := b.echo("10.0.0.2", 0); out.Seen.Left != ip("10.0.0.1") {
			t.Errorf("%+v, want the source 10.0.0.1", out)
		}
	})
}

// TestEchoRejected: an ICMP error ends a probe, with its sender and reason.
func TestEchoRejected(t *testing.T) {
	b := newBed(t)
	b.run("", "ip route add prohibit 192.0.2.1\nip route add blackhole 192.0.2.2\nip route add unreachable 2001:db8::1\nip link set eth0 mtu 1400")
	out := b.echo("192.0.2.1", 0)
	b.want("prohibit", out, Rejected, "10.9.0.1 answers: communication administratively prohibited")
	if out.By != ip("10.9.0.1") {
		t.Errorf("by %s", out.By)
	}
	b.want("unreachable", b.echo("2001:db8::1", 0), Rejected, "fd09::1 answers: ")
	b.want("blackhole", b.echo("192.0.2.2", 0), Silent, "")
	for _, far := range []string{"10.0.0.2", "fd00::2"} {
		if out := b.echo(far, 1500); out.Kind != TooBig || out.MTU != 1400 {
			t.Errorf("%s: %+v, want too big, MTU 1400", far, out)
		}
	}
	b.want("this node's own route", New().Echo(t.Context(), Echo{To: ip("192.0.2.2")}), Unsent, "blackhole")
}

// TestConnect: a machine without echoes answers TCP; one that drops does not.
func TestConnect(t *testing.T) {
	b := newBed(t)
	b.run(b.far, "sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
	b.want("echo", b.echo("10.0.0.2", 0), Silent, "")
	b.want("TCP", New().Connect(t.Context(), Echo{Netns: b.pod, From: ip("10.9.0.5"), To: ip("10.0.0.2")}), Answered, "answers TCP")
	b.run("", "nft add table inet t\nnft add chain inet t c {type filter hook forward priority 0; policy drop;}")
	stop := interrupt(t)
	b.want("dropped", New().Connect(t.Context(), Echo{Netns: b.pod, To: ip("fd00::2")}), Silent, "")
	stop()
}

// interrupt sends every thread of the test a signal of the runtime's own kind once
// a millisecond, until the function that it returns is called: a call that waits
// returns EINTR then, as it does on a busy machine.
func interrupt(t *testing.T) (stop func()) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
			}
			threads, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Error(err)
				return
			}
			for _, thread := range threads {
				tid, err := strconv.Atoi(thread.Name())
				if err == nil {
					err = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
				}
				if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended meanwhile
					t.Error(err)
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

// TestSolicit: the machines that answer for an address, or none.
func TestSolicit(t *testing.T) {
	eachFamily(t, func(t *testing.T, _ *bed, far string) {
		from, p := ip("10.0.0.1"), New()
		none, absent := netip.Addr{}, ip("10.0.0.9")
		if ip(far).Is6() {
			from, absent = ip("fd00::1"), ip("fd00::9")
		}
		ask := func(from netip.Addr, addr netip.Addr) string {
			t.Helper()
			found, err := p.Solicit(t.Context(), "eth0", from, addr)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, mac := range found {
				out = append(out, mac.String())
			}
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		if got := ask(from, ip(far)); got != "02:00:00:00:00:02" {
			t.Errorf("%s has %q", far, got)
		}
		if got := ask(none, ip(far)); got != "02:00:00:00:00:02" {
			t.Errorf("without a source address %s has %q", far, got)
		}
		if got := ask(from, absent); got != "" {
			t.Errorf("%s has %q", absent, got)
		}
		if _, err := p.Solicit(t.Context(), "lo", from, ip(far)); err == nil {
			t.Error("the loopback device has neighbours")
		}
		if _, err := p.Solicit(t.Context(), "nosuch0", from, ip(far)); err == nil {
			t.Error("an absent device has neighbours")
		}
	})
}

// TestSolicitConflict: two machines answer for one address.
func TestSolicitConflict(t *testing.T) {
	b := newBed(t)
	second := namespace(t, "second")
	b.run("", `ip link add br0 address 02:00:00:00:00:01 type bridge
		ip link add port type veth peer name eth0 address 02:00:00:00:00:03 netns `+second+`
		ip link set port master br0
		ip link set port up
		ip link set eth0 master br0
		ip link set br0 up
		ip addr flush dev eth0
		ip addr add 10.0.0.1/24 dev br0`)
	b.run(second, "ip link set eth0 up\nip addr add 10.0.0.2/24 dev eth0")
	deadline := time.Now().Add(10 * time.Second)
	for { // a port of a bridge forwards a moment after it came up
		found, err := New().Solicit(t.Context(), "br0", ip("10.0.0.1"), ip("10.0.0.2"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("answers of %v, want of two machines", found)
		}
	}
}

// TestWire: a packet with a pod's source address is put on the wire past this
// node's translation, and its answer is seen.
func TestWire(t *testing.T) {
	eachFamily(t, func(t *testing.T, b *bed, far string) {
		b.run("", "nft add table inet t\nnft add chain inet t c {type nat hook postrouting priority 100;}\nnft add rule inet t c oifname eth0 masquerade")
		from := ip("10.9.0.5")
		if ip(far).Is6() {
			from = ip("fd09::5")
		}
		mac := []byte{2, 0, 0, 0, 0, 2}
		b.want("wire", New().Wire(t.Context(), "eth0", mac, Echo{From: from, To: ip(far)}), Answered, "on the wire")
		b.run(b.far, "nft add table inet t\nnft add chain inet t c {type filter hook prerouting priority 0;}\nnft add rule inet t c ip saddr 10.9.0.5 drop\nnft add rule inet t c ip6 saddr fd09::5 drop")
		b.want("a wire that drops pods", New().Wire(t.Context(), "eth0", mac, Echo{From: from, To: ip(far)}), Silent, "")
		b.want("no such device", New().Wire(t.Context(), "nosuch0", mac, Echo{From: from, To: ip(far)}), Skipped, "nosuch0")
	})
}

// TestBudget: more packets than are permitted are not sent, and later ones are.
func TestBudget(t *testing.T) {
	b := newBed(t)
	p := New()
	p.tokens = 0
	b.want("without budget", p.Echo(t.Context(), Echo{To: ip("10.0.0.2")}), Skipped, "more than 100 probes a second")
	p.filled = p.filled.Add(-time.Second)
	b.want("a second later", p.Echo(t.Context(), Echo{To: ip("10.0.0.2")}), Answered, "")
}

// TestGivesUp: a probe ends with its context.
func TestGivesUp(t *testing.T) {
	b := newBed(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	b.want("cancelled", New().Echo(ctx, Echo{To: ip("10.0.0.9")}), Skipped, "given up")
	if took := time.Since(start); took > patience-200*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}
