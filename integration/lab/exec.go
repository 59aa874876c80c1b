package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is one run of a program of onlink to its end.
type Command struct {
	Program string // onlinkd, onlinkctl or onlink-cni
	Args    []string
	Env     []string // KEY=VALUE; nothing is inherited
	Stdin   []byte
	// Without is a capability (capabilities(7)) that the program shall lack,
	// although it runs as root; negative or 0 (CAP_CHOWN): none.
	Without int
}

// Output is what a finished program left.
type Output struct {
	Code           int // -1: ended by a signal
	Stdout, Stderr string
}

// Exec runs a command inside the node's namespace until it ends; it is killed
// when ctx is over.
func (n *Node) Exec(ctx context.Context, c Command) (Output, error) {
	var out, stderr bytes.Buffer
	err := n.NS.Do(func() error {
		// The thread ends after this, so what it drops is dropped for the
		// program only.
		if c.Without > 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c.Without), 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d: %w", c.Without, err)
			}
		}
		cmd := exec.CommandContext(ctx, filepath.Join(n.lab.Bin, c.Program), c.Args...)
		cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &out, &stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd.Run()
	})
	result := Output{Stdout: out.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		result.Code = exit.ExitCode()
		return result, nil
	}
	if err != nil {
		return result, fmt.Errorf("run %s on %s: %w\n%s", c.Program, n.Name, errors.Join(err, ctx.Err()), result.Stderr)
	}
	return result, nil
}

// Ctl runs onlinkctl against the node's agent.
func (n *Node) Ctl(ctx context.Context, args ...string) (Output, error) {
	return n.Exec(ctx, Command{Program: "onlinkctl", Args: append([]string{"--socket", n.AdminSocket()}, args...)})
}
