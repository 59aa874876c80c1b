package uml

import (
	"context"
	_ "embed" // the shim's source
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoCompiler is returned when this processor needs the ptrace shim and no C
// compiler is there to build it.
var ErrNoCompiler = errors.New("this processor has AMX, which user-mode linux 6.1 cannot save; the fix needs a C compiler (apt-get install --no-install-recommends gcc)")

// fpBuffer is the size of the floating-point state which user-mode Linux 6.1
// knows (arch/x86/um/user-offsets.c).
const fpBuffer = 2696

//go:embed shim/fpregs.c
var shimSource []byte

// NeedsCompiler reports whether Run needs a C compiler on this processor and
// finds none.
func NeedsCompiler() bool {
	if compiler() != "" {
		return false
	}
	size, err := xstateSize()
	return err == nil && size > fpBuffer
}

// installShim builds the ptrace shim into the run folder where the processor
// needs it and returns its path, or "" where it does not.
func (d *runDir) installShim(ctx context.Context) (string, error) {
	size, err := xstateSize()
	if err != nil {
		return "", err
	}
	if size <= fpBuffer {
		return "", nil
	}
	cc := compiler()
	if cc == "" {
		return "", fmt.Errorf("run in user-mode linux: %w", ErrNoCompiler)
	}
	source, target := filepath.Join(d.path, "fpregs.c"), filepath.Join(d.path, "fpregs.so")
	if err := os.WriteFile(source, shimSource, 0o644); err != nil {
		return "", fmt.Errorf("write shim: %w", err)
	}
	cmd := exec.CommandContext(ctx, cc, "-O2", "-fPIC", "-shared", "-nostdlib", "-ffreestanding", "-o", target, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build shim with %s: %w: %s", cc, err, out)
	}
	return target, os.Chmod(target, 0o755)
}

func compiler() string {
	for _, name := range []string{"cc", "gcc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// xstateSize asks the kernel, by tracing a child as user-mode Linux does, how
// many bytes of floating-point state this machine has. Zero: no such state,
// which user-mode Linux copes with.
func xstateSize() (int, error) {
	// ptrace(2): all requests must come from the thread that traces.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("measure floating-point state: %w", err)
	}
	var status unix.WaitStatus
	_, waitErr := unix.Wait4(cmd.Process.Pid, &status, 0, nil) // stopped at its exec
	size, err := traceeXstate(cmd.Process.Pid)
	// The child never ran an instruction of its own; it is killed at the stop.
	killErr := cmd.Process.Kill()
	_ = cmd.Wait() // reports the kill
	if err := errors.Join(waitErr, err, killErr); err != nil {
		return 0, fmt.Errorf("measure floating-point state: %w", err)
	}
	return size, nil
}

func traceeXstate(pid int) (int, error) {
	const ntX86Xstate = 0x202 // elf.h: NT_X86_XSTATE
	buf := make([]byte, 1<<16)
	iov := unix.Iovec{Base: &buf[0]}
	iov.SetLen(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(pid), ntX86Xstate,
		uintptr(unsafe.Pointer(&iov)), 0, 0)
	runtime.KeepAlive(buf)
	switch {
	case errors.Is(errno, unix.ENODEV):
		return 0, nil
	case errno != 0:
		return 0, errno
	}
	return int(iov.Len), nil
}
