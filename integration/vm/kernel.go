package vm

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// metaPackage is the package that depends on Debian's newest kernel.
const metaPackage = "linux-image-amd64"

// early are the modules without which the guest has no root, in the order in
// which they depend on each other.
var early = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"netfs", "fscache", "9pnet", "9p", "9pnet_virtio", "overlay",
}

// Kernel is an unpacked kernel package.
type Kernel struct {
	Release string // as uname -r says it
	Modules string // its folder of modules, with modules.dep
	image   string
	early   []string // files of the modules in early; those built in are left out
}

// Unpack returns Debian's kernel, downloaded and unpacked below dir when it is
// not there yet.
func Unpack(ctx context.Context, dir string) (Kernel, error) {
	if k, err := find(dir); err == nil {
		return k, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return Kernel{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Kernel{}, err
	}
	name, err := kernelPackage(ctx)
	if err != nil {
		return Kernel{}, err
	}
	if _, err := output(ctx, dir, "apt-get", "download", name); err != nil {
		return Kernel{}, err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(packages) != 1 {
		return Kernel{}, fmt.Errorf("download %s: %d packages in %s, want one", name, len(packages), dir)
	}
	if _, err := output(ctx, dir, "dpkg-deb", "-x", packages[0], dir); err != nil {
		return Kernel{}, err
	}
	if err := os.Remove(packages[0]); err != nil {
		return Kernel{}, err
	}
	release, err := releaseOf(dir)
	if err != nil {
		return Kernel{}, err
	}
	if _, err := output(ctx, dir, "depmod", "-b", dir, release); err != nil {
		return Kernel{}, err
	}
	return find(dir)
}

// kernelPackage returns what the meta package depends on.
func kernelPackage(ctx context.Context) (string, error) {
	text, err := output(ctx, "", "apt-cache", "depends", metaPackage)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", fmt.Errorf("package %s depends on no kernel: run apt-get update", metaPackage)
}

// releaseOf returns the release of the kernel unpacked in dir.
func releaseOf(dir string) (string, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return "", fmt.Errorf("find kernel: %d in %s, want one", len(images), dir)
	}
	return strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-"), nil
}

// find returns the kernel unpacked in dir.
func find(dir string) (Kernel, error) {
	release, err := releaseOf(dir)
	if err != nil {
		return Kernel{}, err
	}
	k := Kernel{Release: release, Modules: filepath.Join(dir, "lib", "modules", release), image: filepath.Join(dir, "boot", "vmlinuz-"+release)}
	if _, err := os.Stat(filepath.Join(k.Modules, "modules.dep")); err != nil {
		return Kernel{}, fmt.Errorf("find kernel: unpacked in part only: %w", err)
	}
	files := map[string]string{}
	err = filepath.WalkDir(k.Modules, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && slices.Contains(early, name) {
			files[name] = path
		}
		return err
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("find modules: %w", err)
	}
	for _, name := range early {
		if path, ok := files[name]; ok {
			k.early = append(k.early, path)
		}
	}
	return k, nil
}

// output runs a command and returns what it printed.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
