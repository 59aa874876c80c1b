package lab

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
	"time"
)

// stopTime is how long a program may take to end after SIGTERM.
const stopTime = 30 * time.Second

// Process is one program under test, running inside a namespace, its output
// in a file. It dies with the lab even when the lab is killed.
type Process struct {
	Name string
	Log  string // path of the file with its output, of earlier starts too

	cmd  *exec.Cmd
	done chan struct{} // closed by wait when the program has ended
}

// Start runs any program of the system inside the namespace; it dies with the
// lab. Output is appended to log.
func (ns *NS) Start(name, log string, argv ...string) (*Process, error) {
	return start(ns, name, log, argv...)
}

// start runs argv inside the namespace. Output is appended to log.
func start(ns *NS, name, log string, argv ...string) (*Process, error) {
	path, err := lookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer out.Close()
	cmd := exec.Command(path, argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	// Own process group: an interrupt typed at the lab reaches the lab only,
	// which then stops its programs in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := ns.thread.run(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	_ = p.cmd.Wait() // the exit code is in ProcessState
	close(p.done)
}

// Pid returns the process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited reports whether the program has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait blocks until the program has ended and returns its exit code, -1 for a
// signal.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for %s: %w", p.Name, ctx.Err())
	}
}

// Stop ends the program with SIGTERM, or SIGKILL after ten seconds, which is
// an error. Of an ended program it succeeds.
func (p *Process) Stop() error {
	if p.Exited() {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	late := time.NewTimer(stopTime)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-late.C:
		return errors.Join(fmt.Errorf("stop %s: %w: alive %s after SIGTERM", p.Name, ErrTimeout, stopTime), p.Kill())
	}
}

// Kill ends the program with SIGKILL and waits for its end.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	<-p.done
	return nil
}

// Tail returns the last n lines of the program's output.
func (p *Process) Tail(n int) string { return tail(p.Log, n) }

// tail returns the last n lines of a file, or why it cannot be read.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimRight(text, "\n")), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// lookPath finds a program in PATH or the system's sbin folders, which are
// missing from the PATH of many users.
func lookPath(name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/lib/frr", "/usr/local/sbin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("find program %s: %w", name, exec.ErrNotFound)
}

// poll calls check every 20 ms until it returns nil, the program in p (may be
// nil) ends, or ctx is over; the last reason is part of the error.
func poll(ctx context.Context, what string, p *Process, check func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // a check cut short by the deadline says nothing
		}
		var ended <-chan struct{}
		if p != nil {
			ended = p.done
		}
		select {
		case <-ended:
			return fmt.Errorf("%s: %w: %s\n%s", what, ErrExited, p.cmd.ProcessState, p.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ErrTimeout, last)
		case <-tick.C:
		}
	}
}

// Started polls check until it returns nil, ctx is over or the program has
// ended.
func Started(ctx context.Context, p *Process, check func() error) error {
	return poll(ctx, "start "+p.Name, p, check)
}

// Eventually polls check until it returns nil or the time is over.
func Eventually(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return poll(ctx, what, nil, check)
}
