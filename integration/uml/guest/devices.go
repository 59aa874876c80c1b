package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// debianModules is where the package user-mode-linux keeps its modules.
const debianModules = "/usr/lib/uml/modules"

// modules are loaded before the command runs. All others still load on
// demand; these are the ones no request names in time.
var modules = []string{
	"ipv6", "veth", "ipip", "ip6_tunnel", "sit", "vxlan", "bridge", "dummy",
	"vrf", "8021q", "bonding", "sch_netem", "nf_conntrack",
	"nf_conntrack_netlink", "nf_tables", "iptable_nat", "iptable_filter",
	"iptable_mangle", "xt_MASQUERADE", "xt_conntrack", "xt_comment",
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// loadOverlay loads the one module needed before the root is writable, from a
// module tree built in the scratch tmpfs.
func loadOverlay() error {
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if strings.Contains(string(known), "\toverlay\n") {
		return nil
	}
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	tree := filepath.Join(scratch, "modules")
	if err := os.MkdirAll(filepath.Join(tree, "lib/modules"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(debianModules, release), filepath.Join(tree, "lib/modules", release)); err != nil {
		return err
	}
	return modprobe("-d", tree, "overlay")
}

// linkModules lets modprobe, and the kernel's own module requests, find the
// modules of the running kernel.
func linkModules() error {
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	source := filepath.Join(debianModules, release)
	if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) {
		return nil // a kernel with everything built in
	} else if err != nil {
		return err
	}
	if err := os.MkdirAll("/lib/modules", 0o755); err != nil {
		return err
	}
	if err := os.Symlink(source, filepath.Join("/lib/modules", release)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// loadModules loads what the kernel has of the list in one process (a fork
// and exec costs up to 150 ms here). A module that is absent is no error: the
// tests probe for features.
func loadModules() error {
	err := modprobe(append([]string{"-a", "-q"}, modules...)...)
	if _, absent := errors.AsType[*exec.ExitError](err); absent {
		return nil
	}
	return err
}

func modprobe(args ...string) error {
	path := "/usr/sbin/modprobe"
	if _, err := os.Stat(path); err != nil {
		path = "/sbin/modprobe"
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("modprobe %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// makeNodes adds what udev would have made.
func makeNodes() error {
	if err := os.MkdirAll("/dev/net", 0o755); err != nil {
		return err
	}
	tun := int(unix.Mkdev(10, 200))
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o666, tun); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make /dev/net/tun: %w", err)
	}
	links := map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	}
	for name, target := range links {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
