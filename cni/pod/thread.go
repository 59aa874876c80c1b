package pod

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wiringThreads is how many pods are wired at once. The kernel's RTNL lock admits
// one at a time; the second thread fills the gaps, more threads are slower.
const wiringThreads = 2

// errThreadLost: the thread of a function could not return.
var errThreadLost = errors.New("thread could not return to the process's network namespace")

// thread is an operating system thread that may enter other namespaces. Only
// functions passed to [threads.do] hold one.
type thread struct {
	home *os.File // the agent's network namespace
	at   *os.File // the thread's namespace: home, a pod's, or nil: another

	host  *socket         // socket in the agent's namespace; nil until the first use
	links *netlink.Handle // the same for look-ups off the fast path

	podBuffer []byte // for the socket in the pod
	nextIndex uint32 // of the host ends it makes; see chooseIndexes
}

// threads lets functions enter namespaces, so many at a time.
type threads struct {
	home *os.File     // the agent's network namespace, which tests have for themselves
	base *os.File     // that of the process's other threads; home itself if it is the same
	free chan *thread // buffered for all: do takes them and puts them back, nothing closes it
}

func newThreads(home *os.File, count int) (*threads, error) {
	t := &threads{home: home, free: make(chan *thread, count)}
	// The calling thread may be in another namespace than most.
	opened := make(chan error, 1)
	go func() {
		var err error
		t.base, err = os.Open(ownNetns)
		opened <- err
	}()
	if err := <-opened; err != nil {
		return nil, fmt.Errorf("open the process's network namespace: %w", err)
	}
	same, err := sameFile(int(home.Fd()), int(t.base.Fd()))
	if err != nil {
		return nil, errors.Join(err, t.base.Close())
	}
	if same {
		_ = t.base.Close() // only our reference
		t.base = home
	}
	for range count {
		// At a random index: those of other threads and earlier agents are in use.
		t.free <- &thread{home: home, podBuffer: make([]byte, socketBuffer), nextIndex: rand.Uint32()}
	}
	return t, nil
}

// close frees the resources of the threads. No function may run any more.
func (t *threads) close() error {
	for range cap(t.free) {
		th := <-t.free
		if th.host != nil {
			th.host.close()
			th.links.Close()
		}
	}
	if t.base == t.home {
		return nil
	}
	return t.base.Close()
}

// do runs f on the calling goroutine's thread, in the agent's namespace, while no
// other goroutine can. The caller is in the process's own namespace, as every
// goroutine of gRPC is. It waits for its turn until ctx is cancelled, and then
// for f, which must bound itself. It uses the caller's thread because that one is
// awake: to wake another one and to be woken by it takes a quarter of the time of
// wiring a pod.
func (t *threads) do(ctx context.Context, f func(*thread) error) error {
	return t.doWhile(ctx, f, nil)
}

// doWhile is do that calls meanwhile beside f.
func (t *threads) doWhile(ctx context.Context, f func(*thread) error, meanwhile func()) error {
	select {
	case th := <-t.free:
		var beside sync.WaitGroup
		if meanwhile != nil {
			beside.Go(meanwhile)
		}
		err := t.run(th, f)
		t.free <- th
		beside.Wait()
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for a wiring thread: %w", ctx.Err())
	}
}

// run lends the calling goroutine's thread to f. A thread that cannot return
// stays locked to its goroutine, and the runtime ends it with the goroutine: no
// other goroutine ever runs in a namespace that is not its own.
func (t *threads) run(th *thread, f func(*thread) error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// Other programs read the process's network through the main thread
		// (/proc/self/net), and the runtime cannot end it. As long as this goroutine
		// holds it, another one gets another thread.
		defer runtime.UnlockOSThread()
		done := make(chan error, 1)
		go func() { done <- t.run(th, f) }()
		return <-done
	}
	th.at = nil
	err := th.open()
	if err == nil {
		err = f(th)
	}
	if back := th.move(t.base); back != nil {
		return errors.Join(err, fmt.Errorf("%w: %w", errThreadLost, back))
	}
	runtime.UnlockOSThread()
	return err
}

// open enters the agent's namespace and opens the sockets there.
func (th *thread) open() (err error) {
	if err := th.leave(); err != nil || th.host != nil {
		return err
	}
	if th.host, err = dialSocket(make([]byte, socketBuffer)); err != nil {
		return err
	}
	if th.links, err = newHandle(); err != nil {
		th.host.close()
		th.host = nil
	}
	return err
}

// enter moves the thread into a pod's namespace until leave.
func (th *thread) enter(ns *os.File) error { return th.move(ns) }

// leave moves the thread back into the agent's namespace.
func (th *thread) leave() error { return th.move(th.home) }

func (th *thread) move(to *os.File) error {
	if th.at == to {
		return nil
	}
	th.at = nil
	if err := unix.Setns(int(to.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", to.Name(), err)
	}
	th.at = to
	return nil
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
