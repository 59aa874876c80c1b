package uml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Supervise is the host side's PID 1 of one boot, started by Run in fresh
// namespaces as root. It mounts out at mountPoint (which frees the guest from
// the permissions of out's parents), starts the kernel without privileges and
// returns its exit code. It stays root itself: a change of uid would clear the
// parent-death signal by which the caller's death ends the boot.
func Supervise(args []string) (int, error) {
	if len(args) < 3 {
		return 1, errors.New("supervise: three arguments are needed: out, mount point, kernel")
	}
	out, mountPoint, kernel := args[0], args[1], args[2]
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("supervise: make mounts private: %w", err)
	}
	if err := unix.Mount(out, mountPoint, "", unix.MS_BIND, ""); err != nil {
		return 1, fmt.Errorf("supervise: mount %s: %w", out, err)
	}
	// no_new_privs belongs to a thread and passes to what it starts.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 1, fmt.Errorf("supervise: set no_new_privs: %w", err)
	}
	cmd := exec.Command(kernel, args[3:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = inheritedLines()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: guestUID, Gid: guestUID},
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("supervise: start %s: %w", kernel, err)
	}
	return 0, nil
}

// inheritedLines returns the descriptors Run passed on, in order.
func inheritedLines() []*os.File {
	var files []*os.File
	for fd := stdoutFD; fd <= shellOutFD; fd++ {
		// Go's runtime may have taken the number for itself (epoll) when the
		// caller passed fewer lines; only pipes, files and terminals count.
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			break
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFIFO && kind != unix.S_IFCHR && kind != unix.S_IFREG && kind != unix.S_IFSOCK {
			break
		}
		files = append(files, os.NewFile(uintptr(fd), fmt.Sprintf("line%d", fd)))
	}
	return files
}
