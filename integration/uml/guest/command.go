package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"onlink/integration/uml"
)

// workDir is where the command starts.
const workDir = "/out"

// notFoundExit is what a shell answers for a command it cannot find.
const notFoundExit = 127

// defaultEnv is the whole environment of a command, before Job.Env.
var defaultEnv = []string{
	"PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "TMPDIR=/tmp", "TERM=dumb", "USER=root", "ONLINK_BED=uml",
}

// command runs the job's command to its end, reaping whatever it orphans, and
// kills what it left behind so that nothing writes after the last line.
func command(job *uml.Job) (int, error) {
	env := mergeEnv(defaultEnv, job.Env)
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			if err := os.Setenv("PATH", value); err != nil {
				return 0, err
			}
		}
	}
	files, err := openFiles(job)
	if err != nil {
		return 0, err
	}
	if err := os.Chdir(workDir); err != nil {
		return 0, err
	}
	path, err := exec.LookPath(job.Argv[0])
	if err != nil {
		fmt.Fprintf(files[2], "umlinit: %v\n", err)
		return notFoundExit, errors.Join(drain(files[1]), drain(files[2]))
	}
	session, err := newSession(job, files[0])
	if err != nil {
		return 0, err
	}
	proc, err := os.StartProcess(path, job.Argv, &os.ProcAttr{Dir: workDir, Env: env, Files: files, Sys: session})
	if err != nil {
		fmt.Fprintf(files[2], "umlinit: %v\n", err)
		return notFoundExit, errors.Join(drain(files[1]), drain(files[2]))
	}
	code, err := reapUntil(proc.Pid)
	if err != nil {
		return 0, err
	}
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return 0, fmt.Errorf("kill leftovers: %w", err)
	}
	return code, errors.Join(drain(files[1]), drain(files[2]))
}

// newSession says in which session the command starts: one of its own, or for
// an interactive command in the foreground of ours. The kernel hangs up a
// terminal when the leader of its session ends, and drops what is not printed
// yet; PID 1 is a leader that lives until all is drained.
func newSession(job *uml.Job, tty *os.File) (*syscall.SysProcAttr, error) {
	if !job.Interactive {
		return &syscall.SysProcAttr{Setsid: true}, nil
	}
	if _, err := unix.Setsid(); err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	fd := int(tty.Fd())
	if err := unix.IoctlSetInt(fd, unix.TIOCSCTTY, 0); err != nil {
		return nil, fmt.Errorf("take terminal: %w", err)
	}
	return &syscall.SysProcAttr{Foreground: true, Ctty: fd}, nil
}

// reapUntil waits for children, own and adopted, until pid is one of them.
func reapUntil(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("wait for command: %w", err)
		case got != pid:
			continue
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// openFiles returns stdin, stdout and stderr of the command.
func openFiles(job *uml.Job) ([]*os.File, error) {
	if job.Interactive {
		tty, err := os.OpenFile(uml.ShellTTY, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return nil, fmt.Errorf("open terminal: %w", err)
		}
		if job.Rows != 0 && job.Cols != 0 {
			size := &unix.Winsize{Row: job.Rows, Col: job.Cols}
			if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, size); err != nil {
				return nil, fmt.Errorf("set terminal size: %w", err)
			}
		}
		return []*os.File{tty, tty, tty}, nil
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	stdout, err := openRaw(uml.StdoutTTY)
	if err != nil {
		return nil, err
	}
	stderr, err := openRaw(uml.StderrTTY)
	if err != nil {
		return nil, err
	}
	return []*os.File{null, stdout, stderr}, nil
}

// openRaw opens a serial line for bytes as they are: a terminal would turn
// every newline into two characters.
func openRaw(path string) (*os.File, error) {
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open line: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read settings of %s: %w", path, err)
	}
	uml.MakeRaw(t)
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("set %s raw: %w", path, err)
	}
	return tty, nil
}

// drain waits until the host has read what was written: tcdrain(3). A line
// whose other end hung up has nothing left to wait for.
func drain(tty *os.File) error {
	err := unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1)
	if errors.Is(err, unix.EIO) {
		return nil
	}
	return err
}

// mergeEnv returns base with the variables of override set instead.
func mergeEnv(base, override []string) []string {
	merged := slices.Clone(base)
	for _, kv := range override {
		key, _, _ := strings.Cut(kv, "=")
		merged = slices.DeleteFunc(merged, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		merged = append(merged, kv)
	}
	return merged
}
