// Package integration holds the whole-system tests: the real programs in the
// lab's racks. What needs ipip devices says so and is skipped on kernels
// without; the test bed runs it in user-mode Linux.
//
//go:debug multipathtcp=0
package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/uml"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// binVariable names the environment variable with the folder of the programs
// under test.
const binVariable = "ONLINK_BIN"

// bin is the folder with the programs under test.
func bin() string { return os.Getenv(binVariable) }

// run runs a package's tests with the programs in $ONLINK_BIN, or with those
// that it builds for this run, and returns the exit code: it is what TestMain
// of a package with lab tests calls.
func run(m *testing.M) int {
	dir := os.Getenv(binVariable)
	if dir == "" {
		made, err := os.MkdirTemp("", "onlink-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "make folder for programs:", err)
			return 1
		}
		defer func() { _ = os.RemoveAll(made) }() // a leftover in the temporary folder fails no test
		cmd := exec.Command("go", "build", "-o", made+"/", "onlink/cmd/...")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build programs: %v\n%s", err, text)
			return 1
		}
		dir = made
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.Setenv(binVariable, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "find programs:", err)
		return 1
	}
	return m.Run()
}

// limit bounds one test; user-mode Linux on a busy machine needs most of it.
const limit = 6 * time.Minute

// build makes the topology of a test, without anything running in it, and
// takes it down at the end. The logs of a failed test are shown.
func build(t *testing.T, spec lab.Spec) (context.Context, *lab.Lab) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	spec.Name = fmt.Sprintf("i%d-%s", os.Getpid(), spec.Name)
	l, err := lab.Build(ctx, spec, lab.Options{Bin: bin()})
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

// start builds a topology, starts everything and makes two pods a worker.
func start(t *testing.T, spec lab.Spec) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, l := build(t, spec)
	upAll(ctx, t, l)
	for _, n := range l.Workers() {
		for i := range 2 {
			_, err := n.AddPod(ctx, fmt.Sprintf("%s-pod%d", n.Name, i+1))
			must(t, err)
		}
	}
	must(t, l.WaitConverged(ctx))
	return ctx, l
}

// up starts a node's agent and waits until it is ready.
func up(ctx context.Context, t *testing.T, n *lab.Node) {
	t.Helper()
	must(t, n.Start(ctx))
	must(t, n.WaitReady(ctx))
}

// upAll starts the ToRs and all agents, and waits until every node has a route
// to every other one's blocks.
func upAll(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	must(t, l.WaitConverged(ctx))
}

// inRack is a topology that needs no tunnel device: it runs on every kernel.
func inRack(name string) lab.Spec {
	return lab.Spec{Name: name, Racks: 1, NodesPerRack: 2, Pool: lab.Pool{Tunnel: "none"}}
}

// needIPIP skips the test where the kernel has no ipip devices.
func needIPIP(t *testing.T) {
	t.Helper()
	if !uml.HasIPIP() {
		t.Skip("needs kernel feature: ipip")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
