package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program is one program under test in a namespace.
type program struct {
	cmd  *exec.Cmd
	log  bytes.Buffer  // its output; complete once done is closed
	done chan struct{} // closed by the waiter when the program has ended
	with *program      // the other half of a router of two programs, or nil
}

// launch starts argv inside a namespace.
func launch(s *space, argv ...string) (*program, error) {
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := s.start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code is of no interest: stop ends it
		close(p.done)
	}()
	return p, nil
}

// stop kills the program: nothing that happens after it is measured.
func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // may have ended
	<-p.done
	if p.with != nil {
		p.with.stop()
	}
}

// ended returns an error with the end of the output when the program is gone.
func (p *program) ended() error {
	select {
	case <-p.done:
		text := p.log.String()
		return fmt.Errorf("%s has ended: %s\n%s", p.cmd.Path, p.cmd.ProcessState, text[max(0, len(text)-2000):])
	default:
	}
	if p.with != nil {
		return p.with.ended()
	}
	return nil
}

// cpu returns the processor time used so far, in seconds, to the nanosecond: the
// ticks of /proc/PID/stat are 10 ms, as much as an idle agent uses in as many
// seconds.
func (p *program) cpu() (float64, error) {
	// The clock of another process's CPU time, threads that have ended included:
	// clock_getcpuclockid(3), MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel.
	const sched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|sched), &t); err != nil { //nolint:gosec // pid_max is 1<<22
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	used := time.Duration(t.Nano()).Seconds()
	if p.with == nil {
		return used, nil
	}
	others, err := p.with.cpu()
	return used + others, err
}

// memory returns the resident memory now and at its peak, in MB.
func (p *program) memory() (now, peak float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		kb, perr := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch {
		case perr != nil:
		case key == "VmRSS":
			now = kb / 1024
		case key == "VmHWM":
			peak = kb / 1024
		}
	}
	if now == 0 {
		return 0, 0, errors.New("read memory: /proc/PID/status has no VmRSS")
	}
	if p.with == nil {
		return now, peak, nil
	}
	othersNow, othersPeak, err := p.with.memory()
	return now + othersNow, peak + othersPeak, err
}

// until calls check every step until it reports true; the program must live,
// and limit bounds the wait.
func (p *program) until(ctx context.Context, what string, step, limit time.Duration, check func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: not within %v", what, limit))
	defer cancel()
	for {
		ok, err := check()
		if ok {
			return nil
		}
		if err := errors.Join(err, p.ended()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if pause(ctx, step) != nil {
			return context.Cause(ctx)
		}
	}
}
