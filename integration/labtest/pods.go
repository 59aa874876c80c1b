package labtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"onlink/integration/lab"
)

// CheckUnique fails the test when two pods have one address, or a pod does not
// answer.
func CheckUnique(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	var seen []string
	for _, p := range l.Pods() {
		if slices.Contains(seen, p.Addr().String()) {
			t.Errorf("%s has %v, as another pod", p.Name, p.Addr())
		}
		seen = append(seen, p.Addr().String())
		if _, err := p.Node.NS.Ping(ctx, p.Addr(), 1, Back); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

// CheckReach pings and transfers between all pods, hosts and ToRs; want is the
// number of pairs of pods. With across the captures must show tunnelled packets,
// else none.
func CheckReach(ctx context.Context, t *testing.T, l *lab.Lab, want int, across bool) {
	tap, err := l.Tap()
	Must(t, err)
	if pairs, err := l.PingPods(ctx, 2); err != nil || pairs != want {
		t.Errorf("ping: %d pairs, %v; want %d", pairs, err, want)
	}
	if pairs, err := l.TransferPods(ctx, 64<<10); err != nil || pairs != want {
		t.Errorf("TCP: %d pairs, %v; want %d", pairs, err, want)
	}
	if _, err := l.PingFromNodes(ctx); err != nil {
		t.Error(err)
	}
	if _, err := l.PingFromToRs(ctx); err != nil {
		t.Error(err)
	}
	seen, err := tap.Stop()
	Must(t, err)
	for _, s := range seen {
		if across {
			if err := s.Proved(); err != nil {
				t.Error(err)
			}
		} else if s.PlainInRack == 0 || s.TunnelIn+s.TunnelCross > 0 {
			t.Errorf("wire of %s: %+v; want plain pod packets and no tunnel", s.Node, s)
		}
	}
}

// CheckKill kills one agent while packets flow from pod a to pod b, starts it
// again, and requires every packet to arrive.
func CheckKill(ctx context.Context, t *testing.T, l *lab.Lab, victim *lab.Node, a, b *lab.Pod) {
	flow, err := lab.StartPingFlow(a.NS, b.NS, b.Addr(), 500)
	Must(t, err)
	stream, err := lab.StartStream(ctx, a.NS, b.NS, b.Addr())
	Must(t, err)
	step := func(name string, err error) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	step("flow before", flow.WaitFor(ctx, 300))
	step("kill", victim.Kill())
	step("flow without the agent", flow.WaitFor(ctx, 1000))
	step("start", victim.Start(ctx))
	step("ready", victim.WaitReady(ctx))
	step("converged", l.WaitConverged(ctx))
	step("flow after", flow.WaitFor(ctx, 500))
	bytes, err := stream.Stop()
	if err != nil || bytes == 0 {
		t.Errorf("stream: %d bytes, %v", bytes, err)
	}
	report, err := flow.Stop(ctx)
	if err != nil || report.Lost > 0 || report.Duplicates > 0 {
		t.Errorf("flow: %s, %v; want nothing lost", report, err)
	}
	t.Logf("flow: %s; stream: %d bytes", report, bytes)
	CheckRoutes(ctx, t, l)
}

// Family names an IP version.
func Family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// AddrOf returns a pod's address of one family.
func AddrOf(p *lab.Pod, v6 bool) netip.Addr {
	for _, a := range p.Addrs {
		if a.Is6() == v6 {
			return a
		}
	}
	panic("pod " + p.Name + " has no such address")
}

// Reaches waits until one pod answers another.
func Reaches(ctx context.Context, t *testing.T, from, to *lab.Pod, v6 bool) {
	t.Helper()
	ReachesWithin(ctx, t, Patience, from, to, v6)
}

// ReachesWithin is [Reaches] with a limit of its own, for a promised time.
func ReachesWithin(ctx context.Context, t *testing.T, limit time.Duration, from, to *lab.Pod, v6 bool) {
	t.Helper()
	Must(t, lab.Eventually(ctx, limit, from.Name+" reaches "+to.Name, func() error {
		_, err := from.NS.Ping(ctx, AddrOf(to, v6), 1, 3*time.Second)
		return err
	}))
}

// Answers waits until an address answers a ping.
func Answers(ctx context.Context, t *testing.T, from *lab.NS, dst netip.Addr) {
	t.Helper()
	Must(t, lab.Eventually(ctx, Patience, fmt.Sprintf("%s answers %s", dst, from.Name), func() error {
		_, err := from.Ping(ctx, dst, 1, 3*time.Second)
		return err
	}))
}

// Absent returns an error when a namespace has devices of that name.
func Absent(ns *lab.NS, dev string) error {
	left, err := ns.Devices(dev)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%s still has %v", ns.Name, left)
	}
	return err
}

// HasMTU returns an error when a device has another MTU.
func HasMTU(ns *lab.NS, dev string, want int) error {
	got, err := ns.MTU(dev)
	if err == nil && got != want {
		err = fmt.Errorf("mtu of %s in %s is %d, want %d", dev, ns.Name, got, want)
	}
	return err
}
