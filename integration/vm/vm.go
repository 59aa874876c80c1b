// Package vm runs one command on Debian's stock kernel in QEMU, for tests that
// need ipip and nftables at once: the kernel of this machine may lack the one,
// user-mode Linux the other. It needs no KVM; QEMU interprets, and a boot takes
// ten seconds.
//
// The guest sees the host's file system read-only under a tmpfs overlay; only
// Options.Out, seen as /out, is written to. PID 1 of the guest is
// onlink/integration/cmd/vminit (package guest). There is no network but what
// the command makes inside; with Options.Network also one to the host's loopback.
//
// The kernel comes from Debian's package of it, which is unpacked and not
// installed: an installed one would become the machine's.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The names under which host and guest meet.
const (
	// HostTag and OutTag name the two 9p file systems.
	HostTag = "host"
	OutTag  = "out"
	// JobFile is what to run, a [Job] as JSON, in the folder of OutTag.
	JobFile = ".job.json"
	// ExitFile is where the guest writes the exit code, in the same folder.
	ExitFile = ".exit"
	// OutputTTY carries what the command prints, standard error too.
	OutputTTY = "/dev/ttyS1"
	// HostAddress is where the guest finds what listens on the host's 127.0.0.1, and
	// GuestAddress is its own, both in a /24 and with Options.Network.
	HostAddress  = "10.0.2.2"
	GuestAddress = "10.0.2.15"
)

var (
	// ErrNoQEMU is returned when QEMU is not installed.
	ErrNoQEMU = errors.New("qemu is not installed (apt-get install --no-install-recommends qemu-system-x86)")
	// ErrDied is returned when the guest ended without an exit code.
	ErrDied = errors.New("the guest ended before the command did")
)

const qemu = "qemu-system-x86_64"

// Job is what PID 1 of the guest is to do.
type Job struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"` // the whole environment
	Dir  string   `json:"dir"` // where the command starts
	// Modules is the folder of the kernel's modules, as the guest sees it.
	Modules string `json:"modules"`
	// Network gives the guest a device with GuestAddress.
	Network bool `json:"network"`
}

// Options says how a command runs.
type Options struct {
	// Kernel is what [Unpack] returned.
	Kernel Kernel
	// Out is a folder, seen as /out: the only place where files survive.
	Out string
	// Init is the built onlink/integration/cmd/vminit.
	Init string
	// Dir is where the command starts; a folder of the host's.
	Dir string
	// Accel is QEMU's accelerator: "tcg,thread=multi" interprets and works
	// everywhere; "kvm" is fast, and where virtual machines are nested it may
	// hang at the first instruction.
	Accel string
	// Network lets the command reach the host's loopback at HostAddress. There is no
	// route beyond.
	Network bool
	// Env is added to PATH, HOME, TMPDIR and ONLINK_BED=vm.
	Env []string
	// Output receives what the command prints, as it is printed.
	Output io.Writer
}

// Run boots, runs argv as root, and powers off. It returns the command's exit
// code (128+n after signal n), which means something only without an error.
func Run(ctx context.Context, opts Options, argv []string) (exit int, err error) {
	path, err := exec.LookPath(qemu)
	if err != nil {
		return -1, ErrNoQEMU
	}
	job := Job{Argv: argv, Dir: opts.Dir, Modules: opts.Kernel.Modules, Network: opts.Network, Env: append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "TERM=dumb", "ONLINK_BED=vm",
	}, opts.Env...)}
	if err := writeJob(opts.Out, &job); err != nil {
		return -1, err
	}
	initrd := filepath.Join(opts.Out, ".initrd")
	if err := writeInitrd(initrd, opts.Init, opts.Kernel.early); err != nil {
		return -1, err
	}
	var console strings.Builder // the kernel's own words
	cmd := exec.CommandContext(ctx, path, arguments(&opts, initrd)...)
	cmd.Stdout, cmd.Stderr = opts.Output, &console
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return -1, fmt.Errorf("run qemu: %w: %s", errors.Join(err, context.Cause(ctx)), tail(&console, opts.Out))
	}
	text, err := os.ReadFile(filepath.Join(opts.Out, ExitFile))
	if err != nil {
		return -1, fmt.Errorf("%w; its console ends: %s", ErrDied, tail(&console, opts.Out))
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// arguments returns QEMU's: two serial lines, two file systems, a network or none.
func arguments(opts *Options, initrd string) []string {
	share := func(tag, path, more string) []string {
		return []string{
			"-fsdev", "local,id=" + tag + ",path=" + path + ",security_model=none,multidevs=remap" + more,
			"-device", "virtio-9p-pci,fsdev=" + tag + ",mount_tag=" + tag,
		}
	}
	nic := "none"
	if opts.Network {
		nic = "user,model=virtio-net-pci"
	}
	args := []string{
		"-accel", opts.Accel, "-cpu", "max", "-smp", "2", "-m", "4G", "-nodefaults", "-display", "none", "-no-reboot", "-nic", nic,
		"-kernel", opts.Kernel.image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-serial", "file:" + consoleFile(opts.Out), "-serial", "stdio",
	}
	args = append(args, share(HostTag, "/", ",readonly=on")...)
	return append(args, share(OutTag, opts.Out, "")...)
}

func consoleFile(out string) string { return filepath.Join(out, "console.log") }

// tail returns the end of what QEMU and the guest's kernel said.
func tail(qemuSaid *strings.Builder, out string) string {
	text, err := os.ReadFile(consoleFile(out))
	if err != nil {
		text = []byte(err.Error())
	}
	const most = 2000
	all := qemuSaid.String() + string(text)
	return all[max(0, len(all)-most):]
}
