package pod

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/cni/pod/podtest"
)

// TestThreads compares the namespaces of functions, and of their goroutine
// afterwards, also when a function fails in a pod's namespace, and when the
// thread cannot return.
func TestThreads(t *testing.T) {
	host, pod := podtest.New(t), podtest.New(t)
	home, err := os.Open(host.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = home.Close() }()
	netns, err := openNetns(pod.Path, home)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = netns.Close() }()
	th := testThreads(t, home, 2)
	outside := here(t)
	if outside == inode(t, home) {
		t.Fatal("the test itself is in the agent's namespace")
	}
	errWanted := errors.New("wanted")
	err = th.do(t.Context(), func(th *thread) error {
		if here(t) != inode(t, home) {
			t.Error("a function does not begin in the agent's namespace")
		}
		if err := th.enter(netns); err != nil {
			return err
		}
		if here(t) != inode(t, netns) {
			t.Error("enter does not lead into the pod's namespace")
		}
		return errWanted
	})
	if !errors.Is(err, errWanted) || here(t) != outside {
		t.Errorf("do returned %v, in namespace %d, want %d", err, here(t), outside)
	}

	lost := make(chan string)
	go func() {
		broken := &threads{home: home, free: th.free} // the way back leads to a file that is no network namespace
		file, err := os.Open(os.DevNull)
		if err != nil {
			lost <- err.Error()
			return
		}
		defer func() { _ = file.Close() }()
		broken.base = file
		err = broken.do(t.Context(), func(*thread) error { return nil })
		// The goroutine keeps its thread, and the next function runs in the right
		// namespace.
		next := th.do(t.Context(), func(*thread) error {
			if here(t) != inode(t, home) {
				return errors.New("began elsewhere")
			}
			return nil
		})
		switch {
		case !errors.Is(err, errThreadLost):
			lost <- fmt.Sprintf("a lost thread is reported as %v", err)
		case next != nil:
			lost <- fmt.Sprintf("the next function after a lost thread: %v", next)
		default:
			lost <- ""
		}
	}()
	if text := <-lost; text != "" {
		t.Error(text)
	}
	if here(t) != outside {
		t.Error("the test's goroutine is on a thread in another namespace")
	}
}

// here returns the network namespace of the calling thread.
func here(t *testing.T) uint64 {
	t.Helper()
	f, err := os.Open(ownNetns)
	if err != nil {
		t.Error(err) // not Fatal: the caller may be another goroutine than the test's own
		return 0
	}
	defer func() { _ = f.Close() }()
	return inode(t, f)
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}
