package uml

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SuperviseArg is the first argument that turns umlinit into the supervisor
// of a boot, on the host side.
const SuperviseArg = "supervise"

// The file descriptors the supervisor hands to the kernel, in this order.
const (
	stdoutFD = 3 + iota
	stderrFD
	controlFD
	shellInFD
	shellOutFD
)

// consoleTail is how much of the kernel's own console an error shows.
const consoleTail = 4096

// boot starts the supervisor and waits until every process of the boot is
// gone.
func boot(ctx context.Context, opts *Options, dir *runDir) (int, error) {
	var console, control tail
	console.limit, control.limit = consoleTail, consoleTail
	lines, err := openLines(opts, &control)
	if err != nil {
		return -1, err
	}

	cmd := exec.CommandContext(ctx, filepath.Join(dir.path, initName), append(
		[]string{SuperviseArg, dir.out, filepath.Join(dir.path, OutLink), opts.Kernel}, kernelArgs(opts, dir.path)...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "TMPDIR=" + memoryDir(dir.path)}
	if dir.shim != "" {
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+dir.shim) // the supervisor is static: only the kernel heeds it
	}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.ExtraFiles = lines.guest
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // Ctrl-C is for the caller; it ends the boot through ctx
	}
	runErr := runLocked(cmd, lines)
	lines.drain()
	return judge(ctx, runErr, parseControl(control.String()), console.String())
}

// runLocked starts and awaits cmd on one operating system thread: the kernel
// sends the parent-death signal when the starting thread ends, and Go ends
// threads whose goroutine exits locked.
func runLocked(cmd *exec.Cmd, l *lineSet) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	l.closeGuestEnds()
	if err != nil {
		return err
	}
	return cmd.Wait()
}

// judge turns what is known about a boot into Run's result. A verdict that
// arrived wins over how the kernel ended afterwards.
func judge(ctx context.Context, runErr error, v verdict, console string) (int, error) {
	switch {
	case v.exited:
		return v.code, nil
	case v.fault != "":
		return -1, fmt.Errorf("%w: %s", ErrDied, v.fault)
	case ctx.Err() != nil:
		return -1, fmt.Errorf("run in user-mode linux: %w", context.Cause(ctx))
	case runErr != nil:
		return -1, fmt.Errorf("%w (%w); its console ends:\n%s", ErrDied, runErr, console)
	default:
		return -1, fmt.Errorf("%w; its console ends:\n%s", ErrDied, console)
	}
}

func kernelArgs(opts *Options, runDir string) []string {
	args := []string{
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
		"init=" + filepath.Join(runDir, initName), RunDirEnv + "=" + runDir,
		"mem=" + opts.Memory, "quiet", "panic=1",
		"umid=u", "uml_dir=" + filepath.Join(runDir, "uml") + "/",
		"con=null", "con0=null,fd:1", "ssl=null",
		fmt.Sprintf("ssl0=null,fd:%d", stdoutFD),
		fmt.Sprintf("ssl1=null,fd:%d", stderrFD),
		fmt.Sprintf("ssl2=null,fd:%d", controlFD),
	}
	if opts.Interactive {
		args = append(args, fmt.Sprintf("con1=fd:%d,fd:%d", shellInFD, shellOutFD))
	}
	return args
}

// memoryDir picks where the kernel keeps the guest's memory: an unlinked file
// which it maps executable. Containers often have a /dev/shm of 64 MB or one
// mounted noexec, either of which kills the guest later on.
func memoryDir(fallback string) string {
	const shm = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(shm, &st); err != nil {
		return filepath.Join(fallback, "uml")
	}
	free := st.Bavail * uint64(st.Bsize)
	if st.Flags&unix.ST_NOEXEC != 0 || free < 1<<30 {
		return filepath.Join(fallback, "uml")
	}
	return shm
}

// lineSet is the host side of the guest's lines.
type lineSet struct {
	guest []*os.File     // write ends (and the shell's read end) for the kernel
	wg    sync.WaitGroup // the copiers of the guest's output
	typed *os.File       // where the pump writes; nil without one
}

// openLines makes one pipe per line; each is copied to its writer until the
// last process that holds the other end is gone.
func openLines(opts *Options, control io.Writer) (*lineSet, error) {
	l := &lineSet{}
	// Stdout and Stderr may be one writer, as os/exec allows.
	var mu sync.Mutex
	stdout, stderr := &lockedWriter{mu: &mu, w: opts.Stdout}, &lockedWriter{mu: &mu, w: opts.Stderr}
	sinks := []io.Writer{stdout, stderr, control}
	for _, sink := range sinks {
		if err := l.addOutput(sink); err != nil {
			return nil, l.abort(err)
		}
	}
	if !opts.Interactive {
		return l, nil
	}
	if err := l.addInput(opts.Stdin); err != nil {
		return nil, l.abort(err)
	}
	if err := l.addOutput(stdout); err != nil {
		return nil, l.abort(err)
	}
	return l, nil
}

func (l *lineSet) addOutput(sink io.Writer) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make line: %w", err)
	}
	l.guest = append(l.guest, w)
	l.wg.Go(func() {
		defer r.Close()
		// A sink that fails (a closed pager) must not stall the guest.
		if _, err := io.Copy(sink, r); err != nil {
			_, _ = io.Copy(io.Discard, r)
		}
	})
	return nil
}

// endOfTransmission is what Ctrl-D types.
const endOfTransmission = "\x04"

// addInput hands a file over as it is, so that no copier steals input meant
// for the next program; anything else is pumped through a pipe. The pump is
// not awaited: its read may never return. At the end of the source it types
// Ctrl-D; closing the pipe would hang up the terminal under the command.
func (l *lineSet) addInput(source io.Reader) error {
	if f, ok := source.(*os.File); ok {
		dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("duplicate stdin: %w", err)
		}
		l.guest = append(l.guest, os.NewFile(uintptr(dup), "stdin"))
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make line: %w", err)
	}
	l.guest, l.typed = append(l.guest, r), w
	go func() {
		// A guest that is gone makes both writes fail, which is fine.
		_, _ = io.Copy(w, source)
		_, _ = io.WriteString(w, endOfTransmission)
	}()
	return nil
}

func (l *lineSet) closeGuestEnds() {
	for _, f := range l.guest {
		_ = f.Close()
	}
}

// drain waits for the last output. All processes of the boot are gone by then.
func (l *lineSet) drain() {
	l.wg.Wait()
	if l.typed != nil {
		_ = l.typed.Close()
	}
}

func (l *lineSet) abort(err error) error {
	l.closeGuestEnds()
	l.drain()
	return err
}

// lockedWriter lets the copiers of several lines share one writer.
type lockedWriter struct {
	mu *sync.Mutex // serialises all writers of one boot
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// tail keeps the last limit bytes written to it.
type tail struct {
	limit int

	mu  sync.Mutex // guards buf
	buf []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.buf), "?")
}
