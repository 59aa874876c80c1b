package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inside calls f, which opens a socket, in the network namespace at path: a
// socket stays in the namespace where it was opened. "" is the namespace of the
// calling thread.
func inside(path string, f func() error) error {
	if path == "" {
		return f()
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }() // only a reference
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = home.Close() }() // only a reference
	done := make(chan error, 1)
	go func() { done <- enter(fd, int(home.Fd()), f) }()
	return <-done
}

// enter runs f on a thread in another namespace. The thread of a goroutine that
// cannot return to home stays locked, and the runtime ends it with the goroutine:
// no other goroutine ever runs in a namespace that is not its own.
func enter(fd, home int, f func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime cannot end the main thread: as long as this goroutine holds
		// it, another one gets another thread.
		defer runtime.UnlockOSThread()
		done := make(chan error, 1)
		go func() { done <- enter(fd, home, f) }()
		return <-done
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err := f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}
