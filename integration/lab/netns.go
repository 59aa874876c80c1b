package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` looks for named namespaces.
const netnsDir = "/run/netns"

// NS is one named network namespace with its loopback device up.
type NS struct {
	Name string          // as in `ip netns exec NAME`
	Link *netlink.Handle // route netlink inside the namespace

	fd     netns.NsHandle
	calls  chan func() // sent by keep; closed by close; unbuffered: the sender waits for the thread
	closed sync.Once
}

// newNS makes a namespace and pins it under /run/netns.
func newNS(name string) (*NS, error) {
	ns := &NS{Name: name, calls: make(chan func())}
	err := onThread(func() error {
		fd, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		ns.fd = fd
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", name, err)
	}
	ns.Link, err = netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in %s: %w", name, err), ns.remove())
	}
	entered := make(chan error, 1)
	go ns.serve(entered)
	if err := <-entered; err != nil {
		return nil, errors.Join(fmt.Errorf("enter namespace %s: %w", name, err), ns.close())
	}
	lo, err := ns.Link.LinkByName("lo")
	if err == nil {
		err = ns.Link.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set lo up in %s: %w", name, err), ns.close())
	}
	return ns, nil
}

// Path returns the file that names the namespace, as CNI_NETNS wants it.
func (ns *NS) Path() string { return filepath.Join(netnsDir, ns.Name) }

// Do runs f on a thread of its own inside the namespace; sockets opened by f
// stay in the namespace when used elsewhere later.
func (ns *NS) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns.fd); err != nil {
			return fmt.Errorf("enter namespace %s: %w", ns.Name, err)
		}
		return f()
	})
}

// keep runs f on the one thread that lives as long as the namespace: children
// started there with Pdeathsig die with the lab, however it ends.
func (ns *NS) keep(f func() error) error {
	done := make(chan error, 1)
	ns.calls <- func() { done <- f() }
	return <-done
}

// serve is the long-lived thread behind keep. It is never unlocked, so that
// the runtime ends the thread with it.
func (ns *NS) serve(entered chan<- error) {
	runtime.LockOSThread()
	entered <- netns.Set(ns.fd)
	for f := range ns.calls {
		f()
	}
}

// Sysctl writes /proc/sys/KEY (slashes, no dots) inside the namespace.
func (ns *NS) Sysctl(key, value string) error {
	return ns.Do(func() error {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl %s in %s: %w", key, ns.Name, err)
		}
		return nil
	})
}

// close ends the namespace's thread and removes its name; the kernel frees it
// with everything inside once the last process in it is gone.
func (ns *NS) close() error {
	ns.closed.Do(func() { close(ns.calls) })
	return ns.remove()
}

func (ns *NS) remove() error {
	if ns.Link != nil {
		ns.Link.Close()
	}
	_ = ns.fd.Close() // only our reference; the name below is what counts
	return deleteNamed(ns.Name)
}

// deleteNamed removes a pinned namespace; of an absent one it succeeds.
func deleteNamed(name string) error {
	err := netns.DeleteNamed(name)
	if errors.Is(err, unix.EINVAL) { // a crash between file and mount
		err = os.Remove(filepath.Join(netnsDir, name))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// namesWithPrefix lists the pinned namespaces of one lab.
func namesWithPrefix(prefix string) ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

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
