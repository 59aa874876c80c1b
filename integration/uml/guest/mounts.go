package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"onlink/integration/uml"
)

// scratch is where the overlay is put together before it becomes the root. It
// is a mount point on the host's own file system, so it must exist on every
// Debian.
const scratch = "/mnt"

// hidden are folders which on the host only root may read: the unprivileged
// kernel would see them as broken. The guest gets empty ones.
var hidden = []string{"root", "tmp", "var/tmp", "var/lib/cni", "var/lib/containerd", "etc/cni", "run"}

// setUp turns the freshly booted kernel into a machine that looks like the
// host, with a writable root, /out, modules and the loopback device.
func setUp(runDir string) error {
	steps := []struct {
		name string
		do   func() error
	}{
		{"mount scratch", mountScratch},
		{"load overlay module", loadOverlay},
		{"mount overlay", mountOverlay},
		{"mount kernel file systems", mountKernelFS},
		{"hide root-only folders", hideFolders},
		{"mount /out", func() error { return mountOut(runDir) }},
		{"pivot root", pivot},
		{"link modules", linkModules},
		{"make device nodes", makeNodes},
		{"load modules", loadModules},
		{"raise loopback", raiseLoopback},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func newRoot(path string) string { return filepath.Join(scratch, "root", path) }

func mountScratch() error {
	if err := mount("proc", "/proc", "proc", ""); err != nil {
		return err
	}
	if err := mount("tmpfs", scratch, "tmpfs", "size=75%"); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(scratch, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func mountOverlay() error {
	return mount("overlay", newRoot(""), "overlay",
		"lowerdir=/,upperdir="+scratch+"/upper,workdir="+scratch+"/work")
}

func mountKernelFS() error {
	table := []struct{ source, target, kind, options string }{
		{"proc", "proc", "proc", ""},
		{"sysfs", "sys", "sysfs", ""},
		{"devtmpfs", "dev", "devtmpfs", "mode=0755"},
		{"devpts", "dev/pts", "devpts", "ptmxmode=0666"},
		{"tmpfs", "dev/shm", "tmpfs", "mode=1777"},
	}
	for _, m := range table {
		if err := mountAt(m.source, m.target, m.kind, m.options); err != nil {
			return err
		}
	}
	// Container runtimes want cgroups; a kernel without them is fine for
	// everything else.
	if err := mountAt("cgroup2", "sys/fs/cgroup", "cgroup2", ""); err != nil && !errors.Is(err, unix.ENODEV) && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func hideFolders() error {
	for _, dir := range hidden {
		options := "mode=0755"
		if strings.HasSuffix(dir, "tmp") {
			options = "mode=1777"
		}
		if err := mountAt("tmpfs", dir, "tmpfs", options); err != nil {
			return err
		}
	}
	for _, dir := range []string{"run/netns", "run/lock"} {
		if err := os.MkdirAll(newRoot(dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func mountOut(runDir string) error {
	return mountAt("none", "out", "hostfs", filepath.Join(runDir, uml.OutLink))
}

// pivot makes the overlay the root and lets go of the old one; the overlay
// itself keeps the layers it needs.
func pivot() error {
	if err := os.Chdir(newRoot("")); err != nil {
		return err
	}
	// pivot_root(2): with both names "." the old root ends up stacked over
	// the new one and can be detached without a folder of its own.
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach old root: %w", err)
	}
	return os.Chdir("/")
}

// mountAt mounts inside the coming root, making the mount point if needed.
func mountAt(source, target, kind, options string) error {
	at := newRoot(target)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	return mount(source, at, kind, options)
}

func mount(source, target, kind, options string) error {
	if err := unix.Mount(source, target, kind, 0, options); err != nil {
		return &os.PathError{Op: "mount " + kind, Path: target, Err: err}
	}
	return nil
}
