package uml_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"onlink/integration/uml"
)

// needHost fails the test when it runs on a host that cannot boot a guest, and
// skips inside a guest: user-mode Linux does not nest.
func needHost(t *testing.T) {
	t.Helper()
	if os.Getenv("ONLINK_BED") == "uml" {
		t.Skip("user-mode Linux does not nest; this test passes natively")
	}
	if err := uml.Available(); err != nil {
		t.Fatal(err)
	}
}

type result struct {
	exit           int
	err            error
	stdout, stderr string
}

//nolint:revive // t first is the habit of helpers
func run(t *testing.T, ctx context.Context, opts uml.Options, argv ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	opts.Stdout, opts.Stderr = &stdout, &stderr
	exit, err := uml.Run(ctx, opts, argv)
	return result{exit, err, stdout.String(), stderr.String()}
}

func TestRun(t *testing.T) {
	needHost(t)
	temp := privateTemp(t)
	out := t.TempDir()
	script := `echo to stdout; echo to stderr >&2
id -u; uname -r; test "$ONLINK_BED $MARK" = "uml here" || exit 1
ip link add x type ipip local 192.0.2.1 || exit 2
ip -6 link add y type ip6tnl local 2001:db8::1 || exit 3
ip link show lo | grep -q UP || exit 4
echo kept > /out/file; echo lost > /etc/onlink-lost || exit 5
seq 1 20000
(sleep 1000 &) ; exit 7`
	got := run(t, t.Context(), uml.Options{Out: out, Env: []string{"MARK=here"}}, "sh", "-c", script)
	if got.err != nil || got.exit != 7 {
		t.Fatalf("exit %d, error %v, stderr %q; want exit 7", got.exit, got.err, got.stderr)
	}
	if !strings.HasPrefix(got.stdout, "to stdout\n0\n") || !strings.HasSuffix(got.stdout, "\n19999\n20000\n") {
		t.Errorf("stdout is not whole: %d bytes, starts %.40q", len(got.stdout), got.stdout)
	}
	if got.stderr != "to stderr\n" {
		t.Errorf("stderr = %q", got.stderr)
	}
	if text, err := os.ReadFile(filepath.Join(out, "file")); err != nil || string(text) != "kept\n" {
		t.Errorf("file in Out: %q, %v", text, err)
	}
	if _, err := os.Stat("/etc/onlink-lost"); !os.IsNotExist(err) {
		t.Errorf("the guest wrote to the host's /etc: %v", err)
	}
	checkNothingLeft(t, temp)
}

func TestRunFailures(t *testing.T) {
	needHost(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		opts uml.Options
		argv []string
		exit int
		want error
	}{
		{"command not found", t.Context(), uml.Options{}, []string{"no-such-command"}, 127, nil},
		{"killed by signal", t.Context(), uml.Options{}, []string{"sh", "-c", "kill -9 $$"}, 137, nil},
		{"time limit", t.Context(), uml.Options{Timeout: 6 * time.Second}, []string{"sleep", "1000"}, -1, uml.ErrTimeLimit},
		{"panic", t.Context(), uml.Options{Timeout: time.Minute}, []string{"sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000"}, -1, uml.ErrDied},
		{"cancelled", cancelled, uml.Options{}, []string{"true"}, -1, context.Canceled},
		{"no kernel", t.Context(), uml.Options{Kernel: "/nonexistent"}, []string{"true"}, -1, uml.ErrNoKernel},
		{"not a kernel", t.Context(), uml.Options{Kernel: "/bin/false"}, []string{"true"}, -1, uml.ErrDied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			temp := privateTemp(t)
			got := run(t, tt.ctx, tt.opts, tt.argv...)
			if got.exit != tt.exit || !errors.Is(got.err, tt.want) {
				t.Errorf("exit %d, error %v; want exit %d, error %v", got.exit, got.err, tt.exit, tt.want)
			}
			checkNothingLeft(t, temp)
		})
	}
}

// TestRunStreams proves that output arrives while the command runs: the
// command ends only after the host answered what it read.
func TestRunStreams(t *testing.T) {
	needHost(t)
	out := t.TempDir()
	answer := writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("ready")) {
			if err := os.WriteFile(filepath.Join(out, "go"), nil, 0o644); err != nil {
				return 0, err
			}
		}
		return len(p), nil
	})
	exit, err := uml.Run(t.Context(), uml.Options{Out: out, Stdout: answer, Timeout: time.Minute},
		[]string{"sh", "-c", "echo ready; until [ -e /out/go ]; do sleep 0.1; done; exit 3"})
	if err != nil || exit != 3 {
		t.Errorf("exit %d, error %v; want exit 3", exit, err)
	}
}

func TestRunInteractive(t *testing.T) {
	needHost(t)
	typed := strings.NewReader("tty; exit 5\n")
	var screen bytes.Buffer
	exit, err := uml.Run(t.Context(), uml.Options{Interactive: true, Stdin: typed, Stdout: &screen, Timeout: time.Minute},
		[]string{"sh", "-i"})
	if err != nil || exit != 5 {
		t.Fatalf("exit %d, error %v; want exit 5; screen:\n%s", exit, err, screen.String())
	}
	if !strings.Contains(screen.String(), uml.ShellTTY) {
		t.Errorf("the shell has no terminal; screen:\n%s", screen.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// callerEnv makes the test binary boot a guest which its caller then kills.
const callerEnv = "ONLINK_UML_TEST_CALLER"

func TestMain(m *testing.M) {
	if out := os.Getenv(callerEnv); out != "" {
		_, err := uml.Run(context.Background(), uml.Options{Out: out},
			[]string{"sh", "-c", "touch /out/up; sleep 1000"})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestCallerKilled kills the process that called Run, and nothing else: the
// kernel must end the whole boot.
func TestCallerKilled(t *testing.T) {
	needHost(t)
	out := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	caller := exec.Command(self)
	caller.Env = append(os.Environ(), callerEnv+"="+out, "TMPDIR="+t.TempDir())
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = caller.Wait() }()
	poll(t, "the guest is up", func() bool {
		_, err := os.Stat(filepath.Join(out, "up"))
		return err == nil
	})
	if len(processesOf(t, out)) == 0 {
		t.Fatal("no process of the boot found: this test cannot see leftovers")
	}
	if err := caller.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	poll(t, "all processes of the boot are gone", func() bool { return len(processesOf(t, out)) == 0 })
}

// TestOutInPrivateFolder keeps a clone under a 0700 folder usable.
func TestOutInPrivateFolder(t *testing.T) {
	needHost(t)
	private := t.TempDir()
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(private, "out")
	got := run(t, t.Context(), uml.Options{Out: out}, "sh", "-c", "pwd; touch here")
	if got.err != nil || got.exit != 0 || got.stdout != "/out\n" {
		t.Fatalf("exit %d, error %v, stdout %q, stderr %q", got.exit, got.err, got.stdout, got.stderr)
	}
	info, err := os.Stat(filepath.Join(out, "here"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		t.Errorf("the file belongs to uid %d after the boot, want the caller's %d", owner, os.Geteuid())
	}
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not so after 30 s: %s", what)
		}
	}
}

// processesOf returns the command lines of all processes that name path, the
// supervisor of a boot among them, but for the caller's.
func processesOf(t *testing.T, path string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Fatalf("read /proc: %d processes, %v", len(files), err)
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(path)) {
			found = append(found, string(bytes.ReplaceAll(text, []byte{0}, []byte(" "))))
		}
	}
	return found
}

// privateTemp gives a test a temporary folder of its own to look for leftovers
// in: other test binaries boot at the same time. It is short, for the kernel's
// socket, and open, for its uid.
func privateTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "oltest") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	return dir
}

// checkNothingLeft fails when a file or process of a boot outlived it.
func checkNothingLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(temp, "onlink-uml-*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("run folders left: %q", left)
	}
	if procs := processesOf(t, temp+"/"); len(procs) > 0 {
		t.Errorf("processes left: %q", procs)
	}
}
