package labtest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/uml"
)

// Alone returns a topology of one node and its ToR.
func Alone(name string) lab.Spec {
	return lab.Spec{Name: name, Racks: 1, NodesPerRack: 1, Reflectors: -1, Pool: lab.Pool{Tunnel: "none"}}
}

// Build makes the topology of a test, without anything running in it, and
// takes it down at the end. The logs of a failed test are shown.
func Build(t *testing.T, spec lab.Spec) (context.Context, *lab.Lab) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	ctx := Context(t, limit)
	spec.Name = fmt.Sprintf("i%d-%s", os.Getpid(), spec.Name)
	l, err := lab.Build(ctx, spec, lab.Options{Bin: Bin()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range l.Nodes() {
				t.Logf("log of onlinkd on %s:\n%s", n.Name, n.Logs(30))
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, l
}

// Start is [Build] and [StartAll], and adds two pods to every worker.
func Start(t *testing.T, spec lab.Spec) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, l := Build(t, spec)
	StartAll(ctx, t, l)
	addPods(ctx, t, l, 2)
	Must(t, l.WaitConverged(ctx))
	return ctx, l
}

// StartNode starts a node's agent and waits until it is ready.
func StartNode(ctx context.Context, t *testing.T, n *lab.Node) {
	t.Helper()
	Must(t, n.Start(ctx))
	Must(t, n.WaitReady(ctx))
}

// StartAll starts the ToRs and all agents, and waits until every node has a route
// to every other one's blocks.
func StartAll(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	Must(t, l.StartToRs(ctx))
	Must(t, l.StartNodes(ctx))
	Must(t, l.WaitConverged(ctx))
}

// StartWithPods is [StartAll], and adds a pod to every worker.
func StartWithPods(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	Must(t, l.StartToRs(ctx))
	Must(t, l.StartNodes(ctx))
	addPods(ctx, t, l, 1)
	Must(t, l.WaitConverged(ctx))
}

// addPods adds each pods to every worker.
func addPods(ctx context.Context, t *testing.T, l *lab.Lab, each int) {
	t.Helper()
	for _, n := range l.Workers() {
		for i := range each {
			_, err := n.AddPod(ctx, fmt.Sprintf("%s-pod%d", n.Name, i+1))
			Must(t, err)
		}
	}
}

// InRack returns a topology that needs no tunnel device: it runs on every kernel.
func InRack(name string) lab.Spec {
	return lab.Spec{Name: name, Racks: 1, NodesPerRack: 2, Pool: lab.Pool{Tunnel: "none"}}
}

// NeedIPIP skips the test where the kernel has no ipip devices.
func NeedIPIP(t *testing.T) {
	t.Helper()
	if !uml.HasIPIP() {
		t.Skip("needs kernel feature: ipip")
	}
}

// PodOf returns the first pod of a node; it panics when there is none.
func PodOf(l *lab.Lab, node string) *lab.Pod {
	for _, p := range l.Pods() {
		if p.Node.Name == node {
			return p
		}
	}
	panic("no pod on " + node)
}

// Mesh returns a rack of nodes without a reflector: each has a session to every
// other one.
func Mesh(name string, nodes int) lab.Spec {
	return lab.Spec{Name: name, Racks: 1, NodesPerRack: nodes, Reflectors: -1, Pool: lab.Pool{Tunnel: "none"}}
}

// Pool6 is the lab's usual IPv6 pool.
var Pool6 = netip.MustParsePrefix("fd44::/48")
