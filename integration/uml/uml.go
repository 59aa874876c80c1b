// Package uml runs one command inside user-mode Linux, for tests that need a
// kernel feature (ipip, ip6tnl, vrf) which the kernel of this machine lacks.
//
// The kernel is Debian's /usr/bin/linux.uml. It runs on the host as an
// unprivileged uid, in its own PID, mount, IPC and network namespaces, under a
// supervisor that is PID 1 there: whatever ends the supervisor (the command's
// end, the time limit, the death of the caller) ends every process of the
// boot. The guest sees the host's file system read-only under a tmpfs overlay;
// only Options.Out, seen as /out, is writable, so nothing stays behind. The
// price of the unprivileged uid: a file only root may read on the host cannot
// be read inside; copy it into Options.Out.
//
// PID 1 of the guest is onlink/integration/cmd/umlinit (package guest). The
// command's output crosses on serial lines, live; so does its exit code.
//
// Run may be called concurrently; each call is one boot.
package uml

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Run boots user-mode Linux, runs argv as root inside, and powers it off. The
// exit code is the command's own (128+n after signal n) and only meaningful
// when err is nil; otherwise it is -1 and err wraps ErrNoKernel, ErrNotRoot,
// ErrNoCompiler, ErrTimeLimit, ErrDied or the context's error.
func Run(ctx context.Context, opts Options, argv []string) (exit int, err error) {
	opts.withDefaults()
	if len(argv) == 0 {
		return -1, errors.New("run in user-mode linux: argv is empty; give a command")
	}
	if err := available(opts.Kernel); err != nil {
		return -1, err
	}
	dir, err := newRunDir(&opts)
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()

	if err := dir.installInit(ctx, opts.Init); err != nil {
		return -1, err
	}
	if dir.shim, err = dir.installShim(ctx); err != nil {
		return -1, err
	}
	job := Job{Argv: argv, Env: opts.Env, RunDir: dir.path, Interactive: opts.Interactive}
	restore, err := attachTerminal(&opts, &job)
	if err != nil {
		return -1, err
	}
	defer restore()
	if err := dir.writeJob(job); err != nil {
		return -1, err
	}

	limited, cancel := context.WithTimeoutCause(ctx, opts.Timeout, ErrTimeLimit)
	defer cancel()
	return boot(limited, &opts, dir)
}

// Available reports whether Run can work here: nil, or an error that wraps
// ErrNoKernel, ErrNotRoot or ErrNoCompiler and says what to do.
func Available() error { return available(Kernel) }

func available(kernel string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("run in user-mode linux: %w", ErrNotRoot)
	}
	if _, err := os.Stat(kernel); err != nil {
		return fmt.Errorf("run in user-mode linux: %w", ErrNoKernel)
	}
	if _, err := exec.LookPath("modprobe"); err != nil {
		return fmt.Errorf("run in user-mode linux: modprobe is missing: %w", ErrNoKernel)
	}
	if NeedsCompiler() {
		return fmt.Errorf("run in user-mode linux: %w", ErrNoCompiler)
	}
	return nil
}

// initPackage is the program that is PID 1 of the guest.
const initPackage = "onlink/integration/cmd/umlinit"

// installInit puts PID 1 of the guest into the run folder.
func (d *runDir) installInit(ctx context.Context, prebuilt string) error {
	target := filepath.Join(d.path, initName)
	if prebuilt != "" {
		return copyExecutable(prebuilt, target)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", target, initPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", initPackage, err, out)
	}
	return os.Chmod(target, 0o755)
}
