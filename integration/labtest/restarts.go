package labtest

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

	"onlink/integration/lab"
	onlinkv1 "onlink/proto/v1"
)

// flowRate is the datagrams a second of each flow of a [Witness].
const flowRate = 1000

// AnnouncedAnew reports the workers that still wait for what a restarted node
// announces: routes that are stale when it restarts once more go, as RFC 4724
// section 4.2 has it.
func AnnouncedAnew(ctx context.Context, l *lab.Lab, victim *lab.Node) error {
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

// ReplaceProgram puts a fresh copy of a program of one folder into another, in place
// of the one that may be running.
func ReplaceProgram(from, to, name string) error {
	source, err := os.Open(filepath.Join(from, name))
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // only read
	copied, err := os.OpenFile(filepath.Join(to, name+".new"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, source)
	if err := errors.Join(err, copied.Close()); err != nil {
		return err
	}
	return os.Rename(copied.Name(), filepath.Join(to, name))
}

// Inode tells the file that a node's agent runs from other ones.
func Inode(n *lab.Node) (uint64, error) {
	st, err := os.Stat(fmt.Sprintf("/proc/%d/exe", n.Process().Pid()))
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Ino, nil
}

// Witness starts flows of both families to a pod, one from each other pod and one from
// a ToR, and watches the routes of all nodes and ToRs but the victim. The function it
// returns ends both, and fails the test for a lost datagram and a changed route.
func Witness(ctx context.Context, t *testing.T, l *lab.Lab, victim *lab.Node, target *lab.Pod, from []*lab.Pod) func() {
	t.Helper()
	flows := map[string]*lab.PingFlow{}
	flow := func(name string, from *lab.NS, to netip.Addr) {
		f, err := lab.StartPingFlow(from, target.NS, to, flowRate)
		Must(t, err)
		flows[name] = f
	}
	for n, p := range from {
		to := target.Addrs[n%len(target.Addrs)]
		flow(p.Node.Name+" to "+to.String(), p.NS, to)
	}
	flow("from the ToR", l.ToRs()[0].NS, target.Addrs[0])
	monitors := map[string]*lab.RouteMonitor{}
	watch := func(name string, ns *lab.NS) {
		m, err := ns.MonitorRoutes(ctx, filepath.Join(t.TempDir(), "monitor"))
		Must(t, err)
		monitors[name] = m
	}
	for _, n := range l.Workers() {
		if n != victim {
			watch(n.Name, n.NS)
		}
	}
	for _, tor := range l.ToRs() {
		watch(tor.Name, tor.NS)
	}
	for _, f := range flows {
		Must(t, f.WaitFor(ctx, 300))
	}
	return func() {
		t.Helper()
		for _, f := range flows {
			Must(t, f.WaitFor(ctx, 500))
		}
		for name, m := range monitors {
			changes, err := m.Stop(ctx)
			Must(t, err)
			if len(changes) > 0 {
				t.Errorf("%s changed routes: %q", name, changes)
			}
		}
		for name, f := range flows {
			report, err := f.Stop(ctx)
			if err != nil || report.Lost > 0 {
				t.Errorf("flow %s: %s, %v; want nothing lost", name, report, err)
			}
			t.Logf("flow %s: %s", name, report)
		}
	}
}
