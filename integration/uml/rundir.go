package uml

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// guestUID is the host identity of the user-mode kernel: nobody on Debian. A
// guest that remounts the host's root read-write still may change nothing.
const guestUID = 65534

const (
	initName     = "umlinit"
	runDirPrefix = "onlink-uml-"
)

// runDir is the private folder of one boot: PID 1 of the guest, the job, the
// kernel's own socket folder and the mount point of Out.
type runDir struct {
	path    string
	out     string // absolute path of Options.Out
	ownsOut bool   // out is ours to delete
	shim    string // library to preload into the kernel; empty: none needed
	lock    *os.File
}

// newRunDir makes the folders of a boot, readable by the guest's uid. Long
// paths would not fit a unix socket's name, so the folder is short.
func newRunDir(opts *Options) (*runDir, error) {
	base, err := sharedTemp()
	if err != nil {
		return nil, err
	}
	sweepStale(base)
	path, err := os.MkdirTemp(base, runDirPrefix)
	if err != nil {
		return nil, fmt.Errorf("make run folder: %w", err)
	}
	d := &runDir{path: path, out: opts.Out, ownsOut: opts.Out == ""}
	if d.lock, err = lockDir(path); err != nil {
		return nil, errors.Join(fmt.Errorf("lock run folder: %w", err), d.remove())
	}
	if err := d.populate(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare run folder: %w", err), d.remove())
	}
	return d, nil
}

func (d *runDir) populate() error {
	if err := os.Chmod(d.path, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{OutLink, "uml"} {
		if err := os.Mkdir(filepath.Join(d.path, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(filepath.Join(d.path, "uml"), guestUID, guestUID); err != nil {
		return err
	}
	if d.ownsOut {
		d.out = filepath.Join(d.path, "tmpout")
	}
	abs, err := filepath.Abs(d.out)
	if err != nil {
		return err
	}
	d.out = abs
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return err
	}
	return chownTree(d.out, guestUID)
}

func (d *runDir) writeJob(job Job) error {
	text, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("encode job: %w", err)
	}
	if err := os.WriteFile(filepath.Join(d.path, JobFile), text, 0o644); err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	return nil
}

// remove gives Out back to the caller and deletes the rest. It is called with
// every process of the boot dead.
func (d *runDir) remove() error {
	var errs []error
	if !d.ownsOut && d.out != "" {
		errs = append(errs, chownTree(d.out, os.Geteuid()))
	}
	errs = append(errs, os.RemoveAll(d.path))
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// staleAge is how old a run folder without a lock must be to count as left: a
// younger one may be about to be locked.
const staleAge = time.Minute

// sweepStale removes the run folders of callers that were killed: the kernel
// ended their boots and dropped their locks, but nobody removed the files. It
// is no error if that does not work; the next caller tries again.
func sweepStale(base string) {
	left, err := filepath.Glob(filepath.Join(base, runDirPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < staleAge {
			continue
		}
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path)
			_ = lock.Close()
		}
	}
}

// lockDir takes the folder's lock, which the kernel drops when the process
// ends however it ends (flock(2)).
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sharedTemp picks a temporary folder that the guest's uid may enter; TMPDIR
// may lie under a folder which is the caller's alone.
func sharedTemp() (string, error) {
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if filepath.IsAbs(dir) && othersMayEnter(dir) {
			return dir, nil
		}
	}
	return "", errors.New("find temporary folder: none of $TMPDIR, /tmp, /var/tmp may be entered by all users; set TMPDIR to one that may")
}

func othersMayEnter(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

func chownTree(root string, uid int) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}

func copyExecutable(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy executable: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("copy executable: %w", err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		return errors.Join(fmt.Errorf("copy %s: %w", from, err), dst.Close())
	}
	if err := dst.Close(); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return os.Chmod(to, 0o755)
}
