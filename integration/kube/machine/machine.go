// Package machine makes a set of namespaces look like a machine of its own: its
// files, host name, boot ID and the settings that kubelet wants.
package machine

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine says what the first process of a node mounts.
type Machine struct {
	Hostname string
	// Disk is a folder on a file system that survives the machine.
	Disk string
	// Share is a folder below /run that the machine sees too, read and write; the
	// rest of its /run is empty at every boot.
	Share string
	// Blank says that the disk was never used: what the host has installed at the
	// places below is hidden.
	Blank bool
}

// overlays are the folders of the host that the machine sees, and whose changes
// stay on its disk.
var overlays = []string{"/etc", "/var", "/opt"}

// own are folders that the machine has for itself. Programs in the first ones mount
// overlays of their own, which is impossible on an overlay; those of CNI, which on a
// host only root may read, cannot be emptied in user-mode Linux, which sees the
// host's files as another user.
var own = []string{"/var/lib/containerd", "/var/lib/kubelet", "/var/log", "/etc/cni", "/var/lib/cni"}

// blank are paths that a host may have and a new machine must not.
var blank = []string{"/etc/onlink", "/etc/kubernetes", "/opt/cni", "/var/lib/onlink"}

// made are folders that are there before any program runs.
var made = []string{"/etc/cni/net.d", "/opt/cni/bin", "/etc/kubernetes/manifests", "/run/netns"}

// settings are values that kubelet and kube-proxy set for the whole kernel, which
// is the host's: a file with that value is mounted over each, so that neither
// the host changes nor the program fails.
var settings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// forwarding are settings of the machine's network namespace: it forwards for
// its pods, as kubeadm demands.
var forwarding = []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"}

// Set makes the machine of the namespaces that the calling process is in.
func (m Machine) Set() error {
	steps := []func() error{
		func() error { return unix.Sethostname([]byte(m.Hostname)) },
		func() error {
			return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		},
		m.overlay, m.bind, m.run, m.settings,
		// Pods see mounts that kubelet makes later.
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("make machine %s: %w", m.Hostname, err)
		}
	}
	return nil
}

func (m Machine) overlay() error {
	for _, dir := range overlays {
		up, work := filepath.Join(m.Disk, "up", dir), filepath.Join(m.Disk, "work", dir)
		if err := mkdirs(up, work); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, up, work)
		if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
			return fmt.Errorf("mount overlay at %s: %w", dir, err)
		}
	}
	if m.Blank {
		for _, path := range blank {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m Machine) bind() error {
	for _, dir := range own {
		from := filepath.Join(m.Disk, "own", dir)
		if err := mkdirs(from, dir); err != nil {
			return err
		}
		if err := unix.Mount(from, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

// run makes /run last, because the disk is below the host's.
func (m Machine) run() error {
	dir := filepath.Join(m.Disk, "run")
	share := filepath.Join(dir, strings.TrimPrefix(m.Share, "/run"))
	if err := mkdirs(dir); err != nil {
		return err
	}
	if err := unix.Mount("run", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount run: %w", err)
	}
	if err := mkdirs(share); err != nil {
		return err
	}
	if err := unix.Mount(m.Share, share, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", m.Share, err)
	}
	if err := unix.Mount(dir, "/run", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move run: %w", err)
	}
	return mkdirs(made...)
}

func (m Machine) settings() error {
	for _, key := range forwarding {
		if err := os.WriteFile("/proc/sys/"+key, []byte("1"), 0o644); err != nil {
			return err
		}
	}
	for key, value := range settings {
		if err := cover("/proc/sys/"+key, value); err != nil {
			return err
		}
	}
	if err := clock(); err != nil {
		return err
	}
	r := make([]byte, 16)
	_, _ = rand.Read(r) // never fails
	return cover("/proc/sys/kernel/random/boot_id", fmt.Sprintf("%x-%x-%x-%x-%x", r[:4], r[4:6], r[6:8], r[8:10], r[10:]))
}

// clock gives the CPUs a frequency where the kernel names none, as user-mode Linux does:
// kubelet does not start without one.
func clock() error {
	const file = "/proc/cpuinfo"
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "MHz") {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		out.WriteString(line)
		if strings.HasPrefix(line, "processor") {
			out.WriteString("cpu MHz\t\t: 1000.000\n")
		}
	}
	return cover(file, strings.TrimRight(out.String(), "\n"))
}

// cover mounts a file with the text over another one.
func cover(path, text string) error {
	file := "/run/cover-" + filepath.Base(path)
	if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", path, err)
	}
	return nil
}

func mkdirs(paths ...string) error {
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}
