package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"onlink/integration/kube/machine"
	"onlink/integration/lab"
)

// box is a running first process of a set of namespaces: see command box.
type box struct {
	pid  int
	done chan struct{} // closed when it has ended
}

// startBox starts the program box on a thread that enter has brought into the
// right namespaces, and returns when it is ready. It dies with this process.
func startBox(enter func() error, flags uintptr, program, log string, stdin []byte, args ...string) (*box, error) {
	b := &box{done: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(b.done)
		// Not unlocked: the namespaces are the thread's, so it must end; and not
		// before the program does, which the kernel ends with the thread.
		runtime.LockOSThread()
		if err := enter(); err != nil {
			ready <- err
			return
		}
		b.run(ready, flags, program, log, stdin, args...)
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("start box %s: %w", strings.Join(args, " "), err)
	}
	return b, nil
}

func (b *box) run(ready chan<- error, flags uintptr, program, log string, stdin []byte, args ...string) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		ready <- err
		return
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL, Setsid: true}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		ready <- err
		return
	}
	b.pid = cmd.Process.Pid
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if line == "ready\n" {
		ready <- nil
	} else {
		text, _ := os.ReadFile(log) // only for the message
		ready <- fmt.Errorf("%w: %s", errors.Join(errors.New("it does not get ready"), err), text)
	}
	_, _ = io.Copy(io.Discard, stdout)
	_ = cmd.Wait() // it is killed: nothing to learn
}

// kill ends the box and with it every process of its PID namespace.
func (b *box) kill() error {
	if err := unix.Kill(b.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill box %d: %w", b.pid, err)
	}
	<-b.done
	return nil
}

// enter brings the calling thread, which must be locked and never unlocked, into
// namespaces of the box: what it starts is in all of them.
func (b *box) enter(kinds ...string) error {
	select {
	case <-b.done: // its PID may be another process's
		return errors.New("the machine is off")
	default:
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, kind := range kinds { // all before the first changes what /proc is
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", b.pid, kind))
		if err != nil {
			return fmt.Errorf("open namespace: %w", err)
		}
		files = append(files, f)
	}
	// A thread that shares its working directory cannot enter a mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare working directory: %w", err)
	}
	for _, f := range files {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("enter %s: %w", f.Name(), err)
		}
	}
	return nil
}

// startDisk starts what holds a node's files while the node is off.
func startDisk(program, dir, log string) (*box, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start disk: %w", err)
	}
	nowhere := func() error { return nil }
	return startBox(nowhere, unix.CLONE_NEWNS, program, log, nil, "disk", dir)
}

// startMachine starts the machine of a node.
func startMachine(disk *box, ns *lab.NS, program, log string, m machine.Machine) (*box, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write machine: %w", err)
	}
	enter := func() error {
		if err := enterNetwork(ns); err != nil {
			return err
		}
		return disk.enter("mnt")
	}
	return startBox(enter, unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWPID, program, log, text, "node")
}

// enterNetwork brings the calling thread into a network namespace of the lab.
func enterNetwork(ns *lab.NS) error {
	f, err := os.Open(ns.Path())
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", ns.Name, err)
	}
	return nil
}

// Programs builds the harness's own programs (box, hello and pause) into a folder,
// which it makes.
func Programs(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of programs: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+string(filepath.Separator),
		"onlink/integration/kube/cmd/box", "onlink/integration/kube/cmd/hello", "onlink/integration/cri/pause")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build programs: %w\n%s", err, text)
	}
	return nil
}
