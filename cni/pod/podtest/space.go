// Package podtest makes network namespaces for the tests of cni and cni/pod.
package podtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// closeLimit bounds the wait for the end of a namespace.
const closeLimit = 10 * time.Second

// Space is a network namespace that one locked thread holds.
type Space struct {
	Path string // under /proc; gone once the space is closed
	jobs chan func()
}

// New makes a network namespace with lo up, which ends with the test.
func New(t testing.TB) *Space {
	t.Helper()
	s := &Space{jobs: make(chan func())}
	ready := make(chan error)
	go s.hold(ready)
	if err := <-ready; err != nil {
		t.Fatalf("unshare network namespace (root is needed): %v", err)
	}
	t.Cleanup(s.Close)
	s.Do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return s
}

// hold is the thread's life.
func (s *Space) hold(ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread would not end. While this goroutine holds it, another
		// one gets another thread.
		defer runtime.UnlockOSThread()
		ended := make(chan struct{})
		go func() { s.hold(ready); close(ended) }()
		<-ended
		return
	}
	err := unix.Unshare(unix.CLONE_NEWNET)
	s.Path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	ready <- err
	for f := range s.jobs {
		f()
	}
}

// Do runs f on the space's thread and fails the test with its error.
func (s *Space) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := s.Try(f); err != nil {
		t.Fatal(err)
	}
}

// Try runs f on the space's thread and returns its error.
func (s *Space) Try(f func() error) error {
	done := make(chan error, 1)
	s.jobs <- func() { done <- f() }
	return <-done
}

// Close ends the thread and waits until the namespace's path is gone.
func (s *Space) Close() {
	if s.jobs == nil {
		return
	}
	close(s.jobs)
	s.jobs = nil
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(closeLimit); time.Now().Before(end); {
		if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
			return
		}
		<-tick.C
	}
}
