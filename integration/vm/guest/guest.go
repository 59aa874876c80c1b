// Package guest is PID 1 of the virtual machine that package vm boots: it
// loads the modules of its initrd, builds a writable view of the host's
// read-only file system, runs the job's command, reports its exit code and
// powers off.
//
// It must never run on a real machine: Main refuses unless it is PID 1 beside
// an initrd of package vm.
package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"onlink/integration/uml"
	"onlink/integration/vm"
)

// ErrNotGuest is returned by Main when it was not started by package vm.
var ErrNotGuest = errors.New("vminit is PID 1 of a virtual machine started by onlink/integration/vm; it cannot be run by hand")

// wanted are modules that no request names in time; all others load on demand.
var wanted = []string{"ipip", "ip6_tunnel", "vxlan", "bonding", "8021q", "nf_tables", "nf_conntrack"}

// Main does everything the guest does. It returns only when it was called
// outside a guest, or if powering off failed.
func Main() error {
	if _, err := os.Stat(vm.ModuleDir); os.Getpid() != 1 || err != nil {
		return ErrNotGuest
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "vminit:", err) // the console, whose end the runner shows
	}
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func work() error {
	if err := enter(); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join("/out", vm.JobFile))
	if err != nil {
		return err
	}
	var job vm.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return fmt.Errorf("decode job: %w", err)
	}
	if err := furnish(job.Modules); err != nil {
		return err
	}
	if job.Network {
		if err := plug(); err != nil {
			return err
		}
	}
	code, err := command(&job)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("/out", vm.ExitFile), []byte(strconv.Itoa(code)), 0o644)
}

// mount is one mount(2).
type mount struct {
	source, target, kind, data string
	flags                      uintptr
}

func mountAll(list ...mount) error {
	for _, m := range list {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// enter makes the host's file system, with a tmpfs over it, the root.
func enter() error {
	if err := loadEarly(); err != nil {
		return err
	}
	const over9p = "trans=virtio,version=9p2000.L,msize=262144"
	if err := mountAll(
		mount{source: vm.HostTag, target: "/lower", kind: "9p", data: over9p + ",cache=loose", flags: unix.MS_RDONLY},
		mount{source: "tmpfs", target: "/upper", kind: "tmpfs"},
	); err != nil {
		return err
	}
	for _, dir := range []string{"/upper/files", "/upper/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll(
		mount{source: "overlay", target: "/root", kind: "overlay", data: "lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work"},
		mount{source: "proc", target: "/root/proc", kind: "proc"},
		mount{source: "sysfs", target: "/root/sys", kind: "sysfs"},
		mount{source: "devtmpfs", target: "/root/dev", kind: "devtmpfs"},
		mount{source: vm.OutTag, target: "/root/out", kind: "9p", data: over9p},
	); err != nil {
		return err
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil { // as switch_root(8) does
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

func loadEarly() error {
	files, err := filepath.Glob(filepath.Join(vm.ModuleDir, "*.ko"))
	if err != nil {
		return err
	}
	for _, file := range files { // Glob sorts
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := unix.InitModule(content, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

// furnish makes what a booted system has.
func furnish(modules string) error {
	if err := mountAll(
		mount{source: "tmpfs", target: "/run", kind: "tmpfs"},
		mount{source: "devpts", target: "/dev/pts", kind: "devpts"},
		mount{source: "tmpfs", target: "/dev/shm", kind: "tmpfs"},
		mount{source: "cgroup2", target: "/sys/fs/cgroup", kind: "cgroup2"},
	); err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	link := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(modules, link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := load(wanted...); err != nil {
		return err
	}
	return raise("lo")
}

// load loads modules.
func load(names ...string) error {
	out, err := exec.Command("/sbin/modprobe", append([]string{"-a"}, names...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("modprobe: %w: %s", err, out)
	}
	return nil
}

// plug sets the device up by which the guest reaches the host.
func plug() error {
	if err := load("virtio_net"); err != nil {
		return err
	}
	const device = "eth0"
	for _, one := range []struct {
		request uint
		value   netip.Addr
	}{
		{unix.SIOCSIFADDR, netip.MustParseAddr(vm.GuestAddress)},
		{unix.SIOCSIFNETMASK, netip.MustParseAddr("255.255.255.0")},
	} {
		err := setLink(device, one.request, func(req *unix.Ifreq) error { return req.SetInet4Addr(one.value.AsSlice()) })
		if err != nil {
			return err
		}
	}
	return raise(device)
}

// raise sets a device up.
func raise(name string) error {
	return setLink(name, unix.SIOCSIFFLAGS, func(req *unix.Ifreq) error {
		req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

// setLink makes one request about a device, with the value that fill gives it.
func setLink(name string, request uint, fill func(*unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := fill(req); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, request, req); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// command runs the job's command, reaping whatever it orphans.
func command(job *vm.Job) (int, error) {
	line, err := openLine()
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	proc, err := os.StartProcess(job.Argv[0], job.Argv, &os.ProcAttr{
		Dir: job.Dir, Env: job.Env, Files: []*os.File{null, line, line}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start command: %w", err)
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for command: %w", err)
		case pid != proc.Pid:
		case status.Signaled():
			return 128 + int(status.Signal()), drain(line)
		default:
			return status.ExitStatus(), drain(line)
		}
	}
}

// openLine opens the line of the command's output for bytes as they are: a
// terminal would turn every newline into two characters.
func openLine() (*os.File, error) {
	line, err := os.OpenFile(vm.OutputTTY, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open line: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read settings of line: %w", err)
	}
	uml.MakeRaw(t)
	if err := unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("set line raw: %w", err)
	}
	return line, nil
}

// drain waits until the host has read what was written: tcdrain(3).
func drain(tty *os.File) error { return unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1) }
