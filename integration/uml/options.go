package uml

import (
	"io"
	"strings"
	"time"
)

// Kernel is the path at which Debian's package user-mode-linux puts the kernel.
const Kernel = "/usr/bin/linux.uml"

const (
	defaultMemory  = "2G"
	defaultTimeout = 10 * time.Minute
)

// Options says how a command runs inside user-mode Linux.
type Options struct {
	// Out is a host folder, seen inside as /out: the working directory and
	// the only place where files survive. Made when absent; during the boot
	// its files belong to an unprivileged uid, after it to the caller again.
	// Empty: a temporary folder, removed at the end.
	Out string
	// Memory is the guest's memory as the kernel writes it. Default "2G";
	// only touched pages cost anything.
	Memory string
	// Timeout ends the boot. Default 10 minutes.
	Timeout time.Duration
	// Stdin is the terminal of an interactive command; otherwise unused (the
	// command reads /dev/null).
	Stdin io.Reader
	// Stdout receives the command's standard output as it is written. With
	// Interactive, all of the terminal's output.
	Stdout io.Writer
	// Stderr receives the command's standard error.
	Stderr io.Writer
	// Interactive gives the command a terminal joined to Stdin and Stdout. If
	// Stdin is a terminal it is in raw mode during the boot.
	Interactive bool
	// Env holds KEY=VALUE pairs for the command. PATH, HOME, TMPDIR, TERM and
	// ONLINK_BED=uml have defaults; nothing else is inherited.
	Env []string
	// Init is the built onlink/integration/cmd/umlinit. Empty: built with the
	// go command (the working directory must be inside the module).
	Init string
	// Kernel is the user-mode kernel to boot. Default Kernel.
	Kernel string
}

func (o *Options) withDefaults() {
	if o.Memory == "" {
		o.Memory = defaultMemory
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Kernel == "" {
		o.Kernel = Kernel
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Stdin == nil {
		o.Stdin = strings.NewReader("")
	}
}
