package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` looks for named namespaces.
const netnsDir = "/run/netns"

// NS is one named network namespace with its loopback device up. [Kernel] reads
// and changes its devices and routes; its own methods run programs and open
// sockets inside.
type NS struct {
	Kernel

	fd     netns.NsHandle
	thread *thread // starts programs
}

// newNS makes a namespace and pins it under /run/netns.
func newNS(name string) (*NS, error) {
	ns := &NS{Kernel: Kernel{Name: name}}
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
	if ns.thread, err = startThread(ns.fd); err != nil {
		return nil, errors.Join(fmt.Errorf("enter namespace %s: %w", name, err), ns.remove())
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

// OpenNS opens a namespace that another program made, by a file that names it;
// name is for errors. [NS.Leave] closes it.
func OpenNS(name, file string) (*NS, error) {
	ns := &NS{Kernel: Kernel{Name: name}}
	var err error
	if ns.fd, err = netns.GetFromPath(file); err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", name, err)
	}
	ns.Link, err = netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in %s: %w", name, err), ns.fd.Close())
	}
	if ns.thread, err = startThread(ns.fd); err != nil {
		ns.Link.Close()
		return nil, errors.Join(fmt.Errorf("enter namespace %s: %w", name, err), ns.fd.Close())
	}
	return ns, nil
}

// Leave closes what [OpenNS] opened; the namespace is its maker's.
func (ns *NS) Leave() error {
	ns.thread.end()
	ns.Link.Close()
	return ns.fd.Close()
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

// Sysctl writes /proc/sys/KEY (slashes, no dots) inside the namespace.
func (ns *NS) Sysctl(key, value string) error {
	return ns.Do(func() error {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl %s in %s: %w", key, ns.Name, err)
		}
		return nil
	})
}

// AskAgainSoon makes a device ask for an IPv6 neighbour that does not answer
// again after 0.1 s instead of 1 s. An address is tentative for an instant
// after its link came up, even without duplicate detection, and whoever asks
// for it in that instant gets no answer.
func (ns *NS) AskAgainSoon(dev string) error {
	return ns.Sysctl("net/ipv6/neigh/"+dev+"/retrans_time_ms", "100")
}

// close ends the namespace's thread and removes its name; the kernel frees it
// with everything inside once the last process in it is gone.
func (ns *NS) close() error {
	ns.thread.end()
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

// killInside kills the programs that run in pinned namespaces, other than this one.
// Most have died with the process that started them (Pdeathsig), but the kernel drops
// that signal from a program that changes its user, as BIRD and FRR do, and from the
// children of a shell; they would hold their namespace for ever.
func killInside(names []string) error {
	var namespaces []os.FileInfo
	for _, name := range names {
		if ns, err := os.Stat(filepath.Join(netnsDir, name)); err == nil {
			namespaces = append(namespaces, ns)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		ns, err := os.Stat(filepath.Join("/proc", e.Name(), "ns/net"))
		if err != nil || !slices.ContainsFunc(namespaces, func(its os.FileInfo) bool { return os.SameFile(its, ns) }) {
			continue // it has ended, or runs elsewhere
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d of a lab: %w", pid, err))
		}
	}
	return errors.Join(errs...)
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
