package pod

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Reasons that the file at a path is no pod's namespace.
var (
	errNotNamespace = errors.New("not a namespace")
	errNotNetwork   = errors.New("a namespace, but not of network kind")
	errOwnNetns     = errors.New("the agent's own namespace")
)

// openNetns opens the network namespace at path, which root gave us but which may
// be anything: a FIFO that never opens, a namespace of another kind, or the
// agent's own, in which a pod's addresses and default route would cut off the
// node.
func openNetns(path string, home *os.File) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := checkNetns(fd, int(home.Fd())); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func checkNetns(fd, home int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return errNotNamespace
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("ioctl NS_GET_NSTYPE: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return errNotNetwork
	}
	own, err := sameFile(fd, home)
	if err != nil {
		return err
	}
	if own {
		return errOwnNetns
	}
	return nil
}

// ownNetns is the network namespace of the calling thread.
const ownNetns = "/proc/thread-self/ns/net"

// sameFile reports whether two descriptors are of one file, or namespace.
func sameFile(a, b int) (bool, error) {
	var one, other unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &one), unix.Fstat(b, &other)); err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	return one.Dev == other.Dev && one.Ino == other.Ino, nil
}

// NetnsGone reports whether no namespace is at path: the pod's namespace is gone
// and its addresses can be freed. An error other than absence does not prove
// that.
func NetnsGone(path string) bool {
	if path == "" {
		return false
	}
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	switch err {
	case nil:
		return fs.Type != unix.NSFS_MAGIC
	case unix.ENOENT, unix.ENOTDIR:
		return true
	}
	return false
}

// newNetns makes a network namespace that ends when the file is closed.
func newNetns(th *thread) (*os.File, error) {
	th.at = nil
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, errors.Join(fmt.Errorf("make a network namespace: %w", err), th.leave())
	}
	f, err := os.Open(ownNetns)
	if err := errors.Join(err, th.leave()); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return f, nil
}
