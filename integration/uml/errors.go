package uml

import "errors"

var (
	// ErrNoKernel is returned when the user-mode kernel is not installed.
	ErrNoKernel = errors.New("user-mode linux is not installed (apt-get install --no-install-recommends user-mode-linux kmod)")

	// ErrNotRoot is returned when the caller lacks the rights to make the
	// namespaces that keep a boot from leaving processes behind.
	ErrNotRoot = errors.New("must run as root (sudo)")

	// ErrTimeLimit is returned when the boot was killed because
	// Options.Timeout was over.
	ErrTimeLimit = errors.New("time limit reached")

	// ErrDied is returned when user-mode Linux ended without an exit code of
	// the command: a panic, a kill, or a failure before the command started.
	ErrDied = errors.New("user-mode linux ended before the command did")
)
