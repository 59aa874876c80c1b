package cni

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The plugin's budget over a Go program that does nothing. All of it is
// counted, none timed: it holds on a loaded machine as on an idle one.
const (
	// budgetCalls is the system calls of one STATUS. It takes 18 when the answer
	// arrives in one part; a part more takes three or four.
	budgetCalls = 26
	// budgetThreads is the number of threads beyond those of the empty program. The
	// runtime may start one when a call takes long.
	budgetThreads = 2
	// budgetSize is the program's size over the empty one's.
	budgetSize = 1.3
	// budgetMemory is the number of bytes that package initialisation allocates.
	budgetMemory = 2 << 10
)

// budgetInits are the packages that may run code before main, beyond those of
// the empty program. Package time would add the reading of GODEBUG, package os
// a dozen more.
var budgetInits = []string{"errors", "iter", "sync", "syscall"}

// TestStartBudget holds the cost of starting the plugin to a budget.
func TestStartBudget(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the Go toolchain")
	}
	if inUML() {
		t.Skip("needs a native kernel: a build takes a minute in user-mode Linux")
	}
	n := newNode(t)
	plugin, empty := filepath.Join(n.dir, "real"), filepath.Join(n.dir, "empty")
	source := filepath.Join(t.TempDir(), "empty.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, what := range map[string]string{plugin: "onlink/cmd/onlink-cni", empty: source} {
		build := exec.CommandContext(t.Context(), tool, "build", "-trimpath", "-ldflags=-s -w", "-o", path, what)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", what, err, out)
		}
	}
	status := n.command(t.Context(), call{verb: "STATUS"})
	t.Run("size", func(t *testing.T) {
		if ours, least := fileSize(t, plugin), fileSize(t, empty); float64(ours) > budgetSize*float64(least) {
			t.Errorf("the plugin has %d bytes, the empty program %d: more than %v times", ours, least, budgetSize)
		}
	})
	t.Run("inits", func(t *testing.T) {
		allowed, _ := packageInits(t, empty, nil)
		allowed = append(allowed, budgetInits...)
		inits, allocated := packageInits(t, plugin, status.Env)
		for _, name := range inits {
			if !slices.Contains(allowed, name) {
				t.Errorf("package %s is initialised at every start", name)
			}
		}
		if allocated > budgetMemory {
			t.Errorf("initialisation allocates %d bytes, want at most %d", allocated, budgetMemory)
		}
	})
	t.Run("system calls", func(t *testing.T) {
		// The least of some runs each: on a busy machine an answer comes in parts,
		// and the runtime starts threads.
		least, most := trace(t, empty, nil, nil), trace(t, plugin, status.Env, n.config(call{}))
		for range 4 {
			if again := trace(t, empty, nil, nil); again.own() < least.own() {
				least = again
			}
			if again := trace(t, plugin, status.Env, n.config(call{})); again.own() < most.own() {
				most = again
			}
		}
		calls := most.own() - least.own()
		t.Logf("%d system calls and %d threads more than the empty program", calls, most.threads-least.threads)
		if calls > budgetCalls {
			t.Errorf("%d system calls, want at most %d: %v", calls, budgetCalls, most.calls)
		}
		if most.threads > least.threads+budgetThreads {
			t.Errorf("%d threads, the empty program has %d", most.threads, least.threads)
		}
		for _, want := range []uint64{unix.SYS_CONNECT, unix.SYS_SOCKET} {
			if most.calls[want] != 1 {
				t.Errorf("system call %d was counted %d times, want once: did the plugin run?", want, most.calls[want])
			}
		}
	})
}

// inUML reports whether this is user-mode Linux.
func inUML() bool {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && bytes.Contains(cpu, []byte("User Mode Linux"))
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// packageInits returns the packages whose initialisation the runtime runs, and
// the bytes that allocates (GODEBUG=inittrace).
func packageInits(t *testing.T, path string, env []string) (names []string, allocated int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = append(slices.Clone(env), "GODEBUG=inittrace=1")
	var text bytes.Buffer
	cmd.Stderr = &text
	_ = cmd.Run() // the plugin has no stdin and fails
	for line := range strings.Lines(text.String()) {
		var name string
		var at, clock float64
		var size, allocs int
		if n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &name, &at, &clock, &size, &allocs); n == 5 {
			names = append(names, name)
			allocated += size
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s says nothing of its initialisation: %q", path, text.String())
	}
	return names, allocated
}

// traced counts the requests of a process to the kernel.
type traced struct {
	calls   map[uint64]int // by number
	threads int            // beside the first
}

// own counts the calls that only the program itself makes: the empty program
// makes those of the runtime too, and their number depends on the machine.
func (c traced) own() (n int) {
	for _, number := range []uint64{
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
		unix.SYS_CLOCK_GETTIME, unix.SYS_CLOSE,
	} {
		n += c.calls[number]
	}
	return n
}

// trace runs a program to its end and counts its system calls (ptrace(2)).
func trace(t *testing.T, path string, env []string, stdin []byte) traced {
	t.Helper()
	in := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(in, stdin, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := traced{calls: map[uint64]int{}}
	done := make(chan error, 1)
	go func() {
		// Only the thread that started the process may trace it; it stays locked,
		// because other goroutines must not get it.
		runtime.LockOSThread()
		done <- c.follow(path, env, f)
	}()
	if err := <-done; err != nil {
		t.Fatalf("trace %s: %v", path, err)
	}
	return c
}

// follow starts the program and counts until its first thread has ended.
func (c *traced) follow(path string, env []string, stdin *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{
		Env: env, Files: []*os.File{stdin, null, null},
		// A group of its own: the test has other children to wait for.
		Sys: &unix.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return err
	}
	pid := p.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return err
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return err
	}
	for {
		tid, err := unix.Wait4(-pid, &status, unix.WALL, nil)
		if err != nil {
			return err
		}
		if status.Exited() || status.Signaled() {
			if tid != pid {
				continue
			}
			if status.Exited() && status.ExitStatus() == 0 {
				return nil
			}
			return fmt.Errorf("%w: %v", errTraced, status)
		}
		if err := c.stopped(tid, status); err != nil {
			return err
		}
	}
}

// stopped handles one stop of a thread and lets it continue.
func (c *traced) stopped(tid int, status unix.WaitStatus) error {
	deliver := 0
	switch sig := status.StopSignal(); {
	case sig == unix.SIGTRAP|0x80:
		number, begins, err := callOf(tid)
		if errors.Is(err, unix.ESRCH) { // another thread has just ended the process
			return nil
		} else if err != nil {
			return err
		}
		if begins {
			c.calls[number]++
		}
	case sig == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_CLONE:
		c.threads++
	case sig == unix.SIGSTOP: // the first stop of a new thread
	case sig != unix.SIGTRAP:
		deliver = int(sig)
	}
	err := unix.PtraceSyscall(tid, deliver)
	if err == unix.ESRCH { // the process has just ended
		return nil
	}
	return err
}

// callOf returns the number of the call a thread has stopped at, and reports
// whether it is the stop at its beginning.
func callOf(tid int) (number uint64, begins bool, err error) {
	var info struct { // struct ptrace_syscall_info of linux/ptrace.h
		op     uint8
		_      [3]uint8
		_      uint32
		_, _   uint64
		number uint64
		_      [6]uint64
	}
	const entry = 1
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return 0, false, errno
	}
	return info.number, info.op == entry, nil
}

// errTraced is a program that did not end well.
var errTraced = errors.New("the program did not end well")
