package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"onlink/integration/lab"
)

// Daemon is a program that runs in a node.
type Daemon struct {
	Name string
	Log  string // path of the file with its output, of earlier starts too

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Daemon starts a program in the node, with the node's files, network and
// processes; its output is appended to NAME.log in the node's folder. It ends with
// the node's power.
func (n *Node) Daemon(name string, argv ...string) (*Daemon, error) {
	d := &Daemon{Name: name, Log: n.file(name + ".log"), done: make(chan struct{})}
	started := make(chan error, 1)
	machine := n.running()
	go func() {
		defer close(d.done)
		runtime.LockOSThread() // not unlocked: the thread ends, after the program
		if machine == nil {
			started <- errOff
			return
		}
		if err := machine.enter("net", "uts", "mnt", "pid"); err != nil {
			started <- err
			return
		}
		out, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			started <- err
			return
		}
		defer out.Close()
		d.cmd = exec.Command(n.find(argv[0]), argv[1:]...)
		d.cmd.Env, d.cmd.Dir = n.env(), "/"
		d.cmd.Stdout, d.cmd.Stderr = out, out
		d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := d.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		_ = d.cmd.Wait() // the exit code is in ProcessState
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, n.Name, err)
	}
	// It may have ended already, which is for the caller to see.
	if err := join(n.daemonCgroup(), d.cmd.Process.Pid); err != nil && !errors.Is(err, syscall.ESRCH) {
		return nil, errors.Join(fmt.Errorf("start %s on %s: %w", name, n.Name, err), d.cmd.Process.Kill())
	}
	return d, nil
}

// Exited reports whether the program has ended.
func (d *Daemon) Exited() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the program.
func (d *Daemon) Signal(s os.Signal) error {
	if err := d.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", d.Name, err)
	}
	return nil
}

// Stop ends the program with SIGTERM and waits for its end, until ctx is over.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := d.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", d.Name, ctx.Err())
	}
}

// Tail returns the last lines of the program's output.
func (d *Daemon) Tail(lines int) string { return tail(d.Log, lines) }

// Exec runs a command inside the node, with its files, network and processes, to
// its end, and returns its output. It is killed when ctx is over.
func (n *Node) Exec(ctx context.Context, argv ...string) (string, error) {
	var out, stderr bytes.Buffer
	done := make(chan error, 1)
	machine := n.running()
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends
		if machine == nil {
			done <- errOff
			return
		}
		if err := machine.enter("net", "uts", "mnt", "pid"); err != nil {
			done <- err
			return
		}
		cmd := exec.CommandContext(ctx, n.find(argv[0]), argv[1:]...)
		cmd.Env, cmd.Dir = n.env(), "/"
		cmd.Stdout, cmd.Stderr = &out, &stderr
		// No Pdeathsig: its parent has no number in the PID namespace, so that the
		// program would take it for dead. It ends with the machine.
		done <- cmd.Run()
	}()
	if err := <-done; err != nil {
		return out.String(), fmt.Errorf("run %s on %s: %w: %s", strings.Join(argv, " "), n.Name, errors.Join(err, ctx.Err()), stderr.String())
	}
	return out.String(), nil
}

// path lists the folders of the node's programs.
func (n *Node) path() []string {
	return []string{n.cluster.Options.Bin, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// find finds a program as a shell in the node does, on a thread that is there.
func (n *Node) find(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	for _, dir := range n.path() {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return name
}

// env is the environment of programs in the node.
func (n *Node) env() []string {
	return []string{"PATH=" + strings.Join(n.path(), ":"), "HOME=/root"}
}

// tail returns the last lines of a file, or why it cannot be read.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// alive returns an error when a program of the control plane has ended.
func alive(p *lab.Process) error {
	if p.Exited() {
		return fmt.Errorf("%s has ended:\n%s", p.Name, p.Tail(20))
	}
	return nil
}
