package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"onlink/integration/screen"
	"onlink/integration/uml"
)

// exitError is the exit code after an error that is printed already: by the
// story, or by the same command inside user-mode Linux.
type exitError int

func (c exitError) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// bootLimit ends a demo that hangs; a shell may stay open for a day.
const (
	bootLimit  = 5 * time.Minute
	shellLimit = 24 * time.Hour
)

// programs is where the programs under test are, and on which kernel they run.
type programs struct {
	bin   string
	guest bool
	temp  string // folder to remove at the end; empty: none
}

// prepare chooses the kernel and builds what is missing.
func (o options) prepare(ctx context.Context, out *screen.Screen) (*programs, error) {
	p := &programs{bin: o.bin}
	switch here := uml.HasIPIP(); {
	case o.uml:
		p.guest = true
	case o.native && !here:
		return nil, errors.New("this kernel has no ipip devices: load the module (modprobe ipip), or leave --native out to use user-mode Linux")
	case !here:
		out.Say("this kernel has no ipip devices: using user-mode Linux")
		p.guest = true
	}
	if p.guest {
		if err := uml.Available(); err != nil {
			return nil, err
		}
	}
	if p.bin != "" && !p.guest {
		return p, nil
	}
	if err := p.build(ctx, o, out); err != nil {
		return nil, err
	}
	return p, nil
}

// build makes a temporary folder with the programs.
func (p *programs) build(ctx context.Context, o options, out *screen.Screen) error {
	// The guest's unprivileged uid must be able to enter the folder, so it is
	// not made under a TMPDIR that may be private.
	temp, err := os.MkdirTemp("/tmp", "onlink-lab-")
	if err != nil {
		return fmt.Errorf("make folder for programs: %w", err)
	}
	p.temp = temp
	if err := p.fill(ctx, o, out); err != nil {
		p.remove()
		return err
	}
	return nil
}

// fill puts the programs into the temporary folder.
func (p *programs) fill(ctx context.Context, o options, out *screen.Screen) error {
	if err := os.Chmod(p.temp, 0o755); err != nil {
		return fmt.Errorf("open folder for programs: %w", err)
	}
	p.bin = filepath.Join(p.temp, "bin")
	if err := os.Mkdir(p.bin, 0o755); err != nil {
		return fmt.Errorf("make folder for programs: %w", err)
	}
	wanted := []string{"./integration/cmd/lab"}
	if o.bin == "" {
		wanted = append(wanted, "./cmd/...")
	} else if err := copyPrograms(o.bin, p.bin); err != nil {
		return err
	}
	out.Say("building onlinkd, onlinkctl, onlink-cni and the lab")
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-o", p.bin + "/"}, wanted...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build programs (run it inside onlink's source tree): %w\n%s", err, text)
	}
	return nil
}

// remove deletes what prepare made.
func (p *programs) remove() {
	if p.temp != "" {
		_ = os.RemoveAll(p.temp) // a leftover in /tmp is not worth an error
	}
}

// boot runs the same command inside user-mode Linux, live on this terminal.
func (p *programs) boot(ctx context.Context, o options, verb string, out *screen.Screen) error {
	out.Say("booting user-mode Linux")
	argv := []string{"/out/bin/lab", verb, "--native", "--bin", "/out/bin", "--tor", o.tor, "--name", o.name}
	opts := uml.Options{Out: p.temp, Timeout: bootLimit, Stdout: os.Stdout, Stderr: os.Stderr}
	if o.keep {
		argv = append(argv, "--keep")
	}
	if o.keep || verb == "up" {
		opts.Interactive, opts.Stdin, opts.Timeout = true, os.Stdin, shellLimit
	}
	code, err := uml.Run(ctx, opts, argv)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError(code)
	}
	out.Say("user-mode Linux has ended")
	return nil
}

// copyPrograms copies the three programs from one folder to another.
func copyPrograms(from, to string) error {
	for _, name := range []string{"onlinkd", "onlinkctl", "onlink-cni"} {
		if err := copyProgram(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
