package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is one network namespace that goes with the process: it has no name.
type space struct {
	link *netlink.Handle
	fd   netns.NsHandle

	calls chan func() // from keep to the thread that stays; closed by close
	once  sync.Once
}

// ownSpace is the namespace of this process, for programs whose clients are in it.
func ownSpace() (*space, error) {
	s := &space{calls: make(chan func())}
	ready := make(chan error)
	go s.stay(ready, 0)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return s, nil
}

// newSpace makes a namespace with its loopback device up.
func newSpace() (*space, error) {
	s := &space{calls: make(chan func())}
	ready := make(chan error)
	go s.stay(ready, unix.CLONE_NEWNET)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	var err error
	if s.link, err = netlink.NewHandleAt(s.fd, unix.NETLINK_ROUTE); err != nil {
		s.close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	lo, err := s.link.LinkByName("lo")
	if err == nil {
		err = s.link.LinkSetUp(lo)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("set lo up: %w", err)
	}
	return s, nil
}

// stay is the thread that lives as long as the namespace, which it makes with
// CLONE_NEWNET: children started on it may die with it. It is never unlocked, so the
// runtime ends it.
func (s *space) stay(ready chan<- error, unshare int) {
	runtime.LockOSThread()
	err := unix.Unshare(unshare)
	if err == nil {
		s.fd, err = netns.Get()
	}
	ready <- err
	if err != nil {
		return
	}
	for f := range s.calls {
		f()
	}
}

// keep runs f on the thread that stays.
func (s *space) keep(f func() error) error {
	done := make(chan error, 1)
	s.calls <- func() { done <- f() }
	return <-done
}

// do runs f on a thread of its own inside the namespace.
func (s *space) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		if err := netns.Set(s.fd); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// close frees the namespace once the last program in it has ended.
func (s *space) close() {
	s.once.Do(func() {
		if s.link != nil {
			s.link.Close()
		}
		close(s.calls)
		_ = s.fd.Close() // only our reference
	})
}

// pin mounts the namespace on a file below dir, for programs that take a path.
func (s *space) pin(dir, name string) (path string, err error) {
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return "", fmt.Errorf("pin network namespace: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", int(s.fd)), path, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("pin network namespace: %w", err)
	}
	return path, nil
}

// start starts a program inside the namespace; it dies with this process.
func (s *space) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return s.keep(cmd.Start)
}

// Addresses of the wire between the two spaces of a pair.
var (
	nearAddr = netip.MustParseAddr("10.200.0.1") // the side under test
	farAddr  = netip.MustParseAddr("10.200.0.2") // the feeder
	wireNet  = netip.MustParsePrefix("10.200.0.0/16")
)

// pair is the bed of most figures: a namespace for the receiver under test
// and one for the feeder, joined by a veth.
type pair struct{ near, far *space }

func newPair() (*pair, error) {
	near, err := newSpace()
	if err != nil {
		return nil, err
	}
	far, err := newSpace()
	if err != nil {
		near.close()
		return nil, err
	}
	p := &pair{near, far}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up0", PeerNamespace: netlink.NsFd(far.fd)}
	if err := near.link.LinkAdd(veth); err != nil {
		p.close()
		return nil, fmt.Errorf("create veth: %w", err)
	}
	if err := errors.Join(near.address("up0", nearAddr), far.address("up0", farAddr)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// close removes the wire first, and with it the routes over it: the kernel takes
// a namespace apart behind our back, under the lock that the next round's
// receiver writes its routes with.
func (p *pair) close() {
	if l, err := p.near.link.LinkByName("up0"); err == nil {
		_ = p.near.link.LinkDel(l) // the namespace's end would do it
	}
	p.near.close()
	p.far.close()
}

// address gives a device an address of the wire and sets it up.
func (s *space) address(dev string, a netip.Addr) error {
	l, err := s.link.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s: %w", dev, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, wireNet.Bits()))}
	if err := errors.Join(s.link.AddrAdd(l, addr), s.link.LinkSetUp(l)); err != nil {
		return fmt.Errorf("set up %s: %w", dev, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
