package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/screen"
)

// podsPerNode is how many pods the story makes on every worker.
const podsPerNode = 2

// leaveUp builds the demo's topology and opens a shell; the shell's end is the
// lab's end.
func leaveUp(ctx context.Context, o options, out *screen.Screen) error {
	l, err := bringUp(ctx, o, out)
	if err != nil {
		if l == nil {
			return err
		}
		out.Say("NOT TRUE: %v", err)
		showLogs(l, out)
		return errors.Join(exitError(1), l.Close())
	}
	return errors.Join(shell(ctx, l, out), l.Close())
}

// bringUp builds the two racks and starts everything in them. The lab is
// returned with an error, too, once it was built: its logs are the evidence.
func bringUp(ctx context.Context, o options, out *screen.Screen) (*lab.Lab, error) {
	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		return nil, fmt.Errorf("ask kernel release: %w", err)
	}
	out.Title("two racks, each with a switch, a top-of-rack router and two nodes; one reflector")
	out.Say("kernel %s", unix.ByteSliceToString(host.Release[:]))
	l, err := lab.Build(ctx, lab.Spec{Name: o.name, ToR: lab.ToRKind(o.tor)}, lab.Options{Bin: o.bin})
	if err != nil {
		return nil, err
	}
	for _, r := range l.Racks {
		for _, t := range r.ToRs {
			out.Say("rack %d: %s %s (AS %d, %s)", r.Number, t.Name, t.Addr, t.ASN, l.Spec.ToR)
		}
		for _, n := range r.Nodes {
			out.Say("rack %d: %s %s (AS %d%s)", r.Number, n.Name, n.Addr, lab.NodeASN, role(n))
		}
	}
	if err := l.StartToRs(ctx); err != nil {
		return l, err
	}
	out.Checked("ToRs", "%d x %s, eBGP between the racks is up", len(l.ToRs()), l.Spec.ToR)
	out.Say("starting onlinkd on %d nodes, the reflector first", len(l.Nodes()))
	if err := l.StartNodes(ctx); err != nil {
		return l, err
	}
	if err := l.WaitConverged(ctx); err != nil {
		return l, err
	}
	out.Checked("agents", "%d ready, every BGP session up, every block known everywhere", len(l.Nodes()))
	return l, addPods(ctx, l, out)
}

func role(n *lab.Node) string {
	if n.Reflector {
		return ", reflector and block registry"
	}
	return ""
}

// addPods makes the pods through CNI and waits until their blocks are known
// everywhere.
func addPods(ctx context.Context, l *lab.Lab, out *screen.Screen) error {
	out.Title("pods, by CNI ADD through libcni and onlink-cni")
	began := time.Now()
	for _, n := range l.Workers() {
		for i := range podsPerNode {
			p, err := n.AddPod(ctx, fmt.Sprintf("%s-pod%d", n.Name, i+1))
			if err != nil {
				return err
			}
			out.Say("%s on %s", p, n.Name)
		}
	}
	took := time.Since(began)
	for _, p := range l.Pods() {
		if err := p.Check(ctx); err != nil {
			return err
		}
	}
	if err := l.WaitConverged(ctx); err != nil {
		return err
	}
	out.Checked("CNI", "%d pods added in %s, CHECK finds each as it should be", len(l.Pods()), took.Round(time.Millisecond))
	return nil
}

// showLogs prints the end of every program's log.
func showLogs(l *lab.Lab, out *screen.Screen) {
	for _, t := range l.ToRs() {
		out.Title("log of " + t.Name)
		out.Block(t.Logs(10))
	}
	for _, n := range l.Nodes() {
		out.Title("log of onlinkd on " + n.Name)
		out.Block(n.Logs(15))
	}
}
