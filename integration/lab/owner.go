package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// runDir holds one directory and one lock file per lab.
const runDir = "/run/onlink-lab"

// Folder is [Lab.Dir] of the lab of that name.
func Folder(name string) string { return filepath.Join(runDir, name) }

// lockName takes the lab's name for this process; the kernel gives it back
// when the process ends, however it ends.
func lockName(name string) (*os.File, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("create %s: %w", runDir, err)
	}
	f, err := os.OpenFile(filepath.Join(runDir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock of lab %s: %w", name, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(f.Name()) // only for the message
		f.Close()
		return nil, fmt.Errorf("lab %s, held by process %s: %w", name, strings.TrimSpace(string(holder)), ErrInUse)
	}
	if err == nil && !stillNamed(f) {
		f.Close()
		return lockName(name) // its holder ended, and removed the file, just now
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock lab %s: %w", name, err)
	}
	return f, nil
}

// stillNamed reports whether the open lock file is the one that others find
// under its name.
func stillNamed(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(mine, named)
}

// unlockName removes the lock file while it is still locked, then gives it
// back.
func unlockName(f *os.File) error {
	err := os.Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// RemoveDead does [Remove] for every lab whose process has ended without closing it:
// killed, or stopped by the time limit of its tests. The names of tests' labs hold the
// process, so that no later lab has the same one and removes them.
func RemoveDead() error {
	locks, err := filepath.Glob(filepath.Join(runDir, "*.lock"))
	for _, lock := range locks {
		text, readErr := os.ReadFile(lock)
		pid, numErr := strconv.Atoi(strings.TrimSpace(string(text)))
		if readErr != nil || numErr != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue // being made, in use, or gone meanwhile
		}
		removeErr := Remove(strings.TrimSuffix(filepath.Base(lock), ".lock"))
		if !errors.Is(removeErr, ErrInUse) { // another process removes it, too
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// Remove ends and deletes what a crashed lab of that name left behind; without
// leftovers it does nothing.
func Remove(name string) error {
	lock, err := lockName(name)
	if err != nil {
		return err
	}
	return errors.Join(removeLeftovers(name), unlockName(lock))
}

// removeLeftovers is Remove for the holder of the lock.
func removeLeftovers(name string) error {
	names, err := namesWithPrefix(name + ".")
	err = errors.Join(err, killInside(names))
	for _, n := range names {
		err = errors.Join(err, deleteNamed(n))
	}
	if rmErr := os.RemoveAll(filepath.Join(runDir, name)); rmErr != nil {
		err = errors.Join(err, fmt.Errorf("remove leftovers of lab %s: %w", name, rmErr))
	}
	return err
}
