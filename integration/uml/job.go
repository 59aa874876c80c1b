package uml

import (
	"fmt"
	"strings"
)

// The names under which host and guest meet. The guest finds the run folder in
// its environment (the kernel hands unknown "key=value" arguments to PID 1).
const (
	// RunDirEnv names the kernel argument that carries the run folder.
	RunDirEnv = "onlink_run"
	// JobFile is the name of the encoded Job inside the run folder.
	JobFile = "job.json"
	// OutLink is the name, inside the run folder, of the mount of Options.Out.
	OutLink = "out"
)

// The serial lines and terminal of the guest; each is a pipe of the runner.
const (
	// StdoutTTY carries the standard output of the command.
	StdoutTTY = "/dev/ttyS0"
	// StderrTTY carries the standard error of the command.
	StderrTTY = "/dev/ttyS1"
	// ControlTTY carries the lines of FormatExit and FormatFault.
	ControlTTY = "/dev/ttyS2"
	// ShellTTY is the terminal of an interactive command.
	ShellTTY = "/dev/tty1"
)

// Job is what the runner asks PID 1 of the guest to do.
type Job struct {
	// Argv is the command; Argv[0] is looked up in the guest's PATH.
	Argv []string `json:"argv"`
	// Env holds KEY=VALUE pairs which override the guest's defaults.
	Env []string `json:"env,omitempty"`
	// RunDir is the run folder's path on the host.
	RunDir string `json:"run_dir"`
	// Interactive gives the command ShellTTY as controlling terminal.
	Interactive bool `json:"interactive,omitempty"`
	// Rows and Cols are the size of the caller's terminal; zero: unknown.
	Rows uint16 `json:"rows,omitempty"`
	// Cols is the width that goes with Rows.
	Cols uint16 `json:"cols,omitempty"`
}

const (
	exitWord  = "exit"
	faultWord = "fault"
)

// FormatExit renders the control line that reports the command's exit code.
func FormatExit(code int) string { return fmt.Sprintf("%s %d\n", exitWord, code) }

// FormatFault renders the control line that reports why the guest could not
// run the command at all.
func FormatFault(err error) string { return fmt.Sprintf("%s %q\n", faultWord, err.Error()) }

// verdict is what the control line said.
type verdict struct {
	exited bool
	code   int
	fault  string
}

// parseControl reads all that came over the control line. Unknown lines are
// left out: only a whole, well-formed line counts as a verdict.
func parseControl(text string) verdict {
	var v verdict
	for line := range strings.Lines(text) {
		var code int
		var fault string
		if n, err := fmt.Sscanf(line, exitWord+" %d", &code); n == 1 && err == nil {
			v.exited, v.code = true, code
		}
		if n, err := fmt.Sscanf(line, faultWord+" %q", &fault); n == 1 && err == nil {
			v.fault = fault
		}
	}
	return v
}
