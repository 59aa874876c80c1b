package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// TestRestarts ends an agent in every way while a thousand packets a second of
// each family go through its node: none is lost, and neither the other nodes
// nor the ToR (FRR) change a route.
func TestRestarts(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "again", Racks: 1, NodesPerRack: 3, Reflectors: -1, ToR: lab.FRR, DualStack: true,
		Pool: lab.Pool{Tunnel: "none", CIDR6: netip.MustParsePrefix("fd44::/48")},
	})
	rounds := labtest.Times(1, 10)
	if *labtest.Long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		t.Cleanup(cancel)
	}
	l.Bin = t.TempDir()
	must(t, replaceProgram(l.Bin, "onlinkctl"))
	must(t, replaceProgram(l.Bin, "onlinkd"))
	must(t, replaceProgram(l.Bin, "onlink-cni"))
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	pods := map[string]*lab.Pod{}
	for _, n := range l.Workers() {
		p, err := n.AddPod(ctx, n.Name+"-pod")
		must(t, err)
		pods[n.Name] = p
	}
	must(t, l.WaitConverged(ctx))
	_, err := l.PingFromToRs(ctx) // it has the blocks
	must(t, err)
	victim := l.Node("r1n1")
	for _, end := range []struct {
		name string
		stop func() error
	}{
		{"SIGKILL", victim.Kill},
		{"SIGTERM", victim.Stop},
		{"binary swap", func() error { return errors.Join(replaceProgram(l.Bin, "onlinkd"), victim.Stop()) }},
	} {
		t.Run(end.name, func(t *testing.T) {
			stop := witness(ctx, t, l, victim, pods)
			for range rounds {
				before, err := inode(victim)
				must(t, err)
				must(t, end.stop())
				labtest.StartNode(ctx, t, victim)
				must(t, l.WaitConverged(ctx))
				must(t, lab.Eventually(ctx, labtest.Patience, "everything announced anew", func() error { return announcedAnew(ctx, l, victim) }))
				after, err := inode(victim)
				must(t, err)
				if swapped := before != after; swapped != (end.name == "binary swap") {
					t.Errorf("the agent's program is another one: %t", swapped)
				}
			}
			stop(rounds)
		})
	}
}

// announcedAnew reports the workers that still wait for what a restarted node
// announces: routes that are stale when it restarts once more go, as RFC 4724
// section 4.2 has it.
func announcedAnew(ctx context.Context, l *lab.Lab, victim *lab.Node) error {
	for _, n := range l.Workers() {
		if n == victim {
			continue
		}
		admin, err := n.Admin()
		if err != nil {
			return err
		}
		r, err := admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
		if err != nil {
			return err
		}
		for _, p := range r.GetPeers() {
			if p.GetAddress() == victim.Addr.String() && !p.GetEndOfRib() {
				return fmt.Errorf("%s has no End-of-RIB of %s", n.Name, victim.Name)
			}
		}
	}
	return nil
}

// replaceProgram puts a fresh copy of a program under test into dir, in place
// of the one that may be running.
func replaceProgram(dir, name string) error {
	from, err := os.Open(filepath.Join(labtest.Bin(), name))
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	to, err := os.OpenFile(filepath.Join(dir, name+".new"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Rename(to.Name(), filepath.Join(dir, name))
}

// inode tells the file that a node's agent runs from other ones.
func inode(n *lab.Node) (uint64, error) {
	st, err := os.Stat(fmt.Sprintf("/proc/%d/exe", n.Process().Pid()))
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Ino, nil
}

// witness starts flows through a node, of both families and from the ToR, and
// watches the routes of everybody else. The function it returns ends both and
// judges.
func witness(ctx context.Context, t *testing.T, l *lab.Lab, victim *lab.Node, pods map[string]*lab.Pod) func(rounds int) {
	t.Helper()
	target := pods[victim.Name]
	flows := map[string]*lab.PingFlow{}
	flow := func(name string, from *lab.NS, to netip.Addr) {
		f, err := lab.StartPingFlow(from, target.NS, to, 1000)
		must(t, err)
		flows[name] = f
	}
	flow("IPv4", pods["r1n2"].NS, target.Addrs[0])
	flow("IPv6", pods["r1n3"].NS, target.Addrs[1])
	flow("from the ToR", l.ToRs()[0].NS, target.Addrs[0])
	monitors := map[string]*lab.RouteMonitor{}
	watch := func(name string, ns *lab.NS) {
		m, err := ns.MonitorRoutes(ctx, filepath.Join(t.TempDir(), "monitor"))
		must(t, err)
		monitors[name] = m
	}
	for _, n := range l.Workers() {
		if n != victim {
			watch(n.Name, n.NS)
		}
	}
	watch(l.ToRs()[0].Name, l.ToRs()[0].NS)
	for _, f := range flows {
		must(t, f.WaitFor(ctx, 300))
	}
	return func(rounds int) {
		t.Helper()
		for _, f := range flows {
			must(t, f.WaitFor(ctx, 500))
		}
		for name, m := range monitors {
			changes, err := m.Stop(ctx)
			must(t, err)
			if len(changes) > 0 {
				t.Errorf("%s changed routes: %q", name, changes)
			}
		}
		for name, f := range flows {
			report, err := f.Stop(ctx)
			if err != nil || report.Lost > 0 {
				t.Errorf("flow %s: %s, %v; want nothing lost", name, report, err)
			}
			t.Logf("%d rounds, flow %s: %s", rounds, name, report)
		}
	}
}
