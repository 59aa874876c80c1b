package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// wiringThreads is how many pods are wired at once. The kernel's RTNL lock
// lets one through at a time; the second thread fills the gaps, more lose.
const wiringThreads = 2

// errThreadLost is returned by a thread that could not return to the agent's
// namespace and therefore ended.
var errThreadLost = errors.New("wiring thread could not return to the agent's network namespace")

// thread is an operating system thread that may enter other namespaces. Only
// functions passed to [threads.do] hold one.
type thread struct {
	home  *os.File        // the agent's network namespace
	away  bool            // in another namespace than home, or not known to be there
	host  *rtnl           // socket in the agent's namespace
	links *netlink.Handle // the same for look-ups off the fast path
}

// threads owns the wiring threads.
type threads struct {
	home  *os.File
	count int
	jobs  chan job // unbuffered: do sends, threads receive, nobody closes
}

// job is one function to run on a thread.
type job struct {
	run  func(*thread) error
	done chan error // buffered: the thread never waits for the caller
}

func newThreads(home *os.File, count int) *threads {
	return &threads{home: home, count: count, jobs: make(chan job)}
}

// run keeps the threads running until ctx is cancelled. A job that a thread
// has taken is always finished.
func (t *threads) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range t.count {
		g.Go(func() error {
			for {
				result := make(chan error, 1)
				go func() { result <- t.serve(ctx) }()
				if err := <-result; !errors.Is(err, errThreadLost) {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// do runs f on a thread that is in the agent's namespace. It waits for a free
// thread until ctx is cancelled, and then for f, which must bound itself.
func (t *threads) do(ctx context.Context, f func(*thread) error) error {
	return t.doWhile(ctx, f, func() {})
}

// doWhile is do that calls meanwhile once the thread is at work, beside f.
func (t *threads) doWhile(ctx context.Context, f func(*thread) error, meanwhile func()) error {
	j := job{run: f, done: make(chan error, 1)}
	select {
	case t.jobs <- j:
		meanwhile()
		return <-j.done
	case <-ctx.Done():
		return fmt.Errorf("wait for a wiring thread: %w", ctx.Err())
	}
}

// serve is one thread's life. The goroutine never unlocks its thread, so the
// runtime ends the thread with it: no other goroutine ever runs in a namespace
// that is not its own.
func (t *threads) serve(ctx context.Context) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime cannot end the main thread and would leave it behind in
		// whatever namespace it was in. As long as this goroutine holds it,
		// another one gets another thread.
		defer runtime.UnlockOSThread()
		result := make(chan error, 1)
		go func() { result <- t.serve(ctx) }()
		return <-result
	}
	th := &thread{home: t.home, away: true}
	if err := th.open(); err != nil {
		return err
	}
	defer th.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-t.jobs:
			err := j.run(th)
			lost := th.leave()
			j.done <- err
			if lost != nil {
				return errThreadLost
			}
		}
	}
}

// open enters the agent's namespace, which need not be the one the process
// started in, and opens the sockets there.
func (th *thread) open() error {
	if err := th.leave(); err != nil {
		return err
	}
	var err error
	if th.host, err = dialRtnl(); err != nil {
		return err
	}
	if th.links, err = newHandle(); err != nil {
		th.host.close()
	}
	return err
}

func (th *thread) close() {
	th.host.close()
	th.links.Close()
}

// enter moves the thread into a pod's namespace until leave, which the thread
// calls by itself after the job.
func (th *thread) enter(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
	}
	th.away = true
	return nil
}

// leave moves the thread back into the agent's namespace.
func (th *thread) leave() error {
	if !th.away {
		return nil
	}
	err := th.enter(th.home)
	th.away = err != nil
	return err
}

// newHandle opens a netlink handle in the thread's current namespace. It names
// the family: without, the package also opens sockets that small kernels lack.
func newHandle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink handle: %w", err)
	}
	return h, nil
}
