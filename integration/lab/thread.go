package lab

import (
	"runtime"
	"sync"

	"github.com/vishvananda/netns"
)

// thread is the one thread in a namespace that lives as long as the lab:
// children started there with Pdeathsig die with the lab, however it ends.
type thread struct {
	calls chan func() // sent by run; closed by end; unbuffered: the sender waits for the thread
	ended sync.Once
}

// startThread returns a thread that has entered the namespace.
func startThread(ns netns.NsHandle) (*thread, error) {
	t := &thread{calls: make(chan func())}
	entered := make(chan error, 1)
	go t.serve(ns, entered)
	if err := <-entered; err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

// run runs f on the thread.
func (t *thread) run(f func() error) error {
	done := make(chan error, 1)
	t.calls <- func() { done <- f() }
	return <-done
}

// serve is the thread. It is never unlocked, so that the runtime ends the thread
// with it.
func (t *thread) serve(ns netns.NsHandle, entered chan<- error) {
	runtime.LockOSThread()
	entered <- netns.Set(ns)
	for f := range t.calls {
		f()
	}
}

// end ends the thread. It may be called more than once.
func (t *thread) end() { t.ended.Do(func() { close(t.calls) }) }

// onThread runs f on a fresh locked thread that ends with f: its namespace
// may have been changed, so no other goroutine may ever run on it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
