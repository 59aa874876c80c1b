// Package guest is PID 1 inside user-mode Linux: it builds a writable view of
// the host's read-only file system, loads kernel modules, runs the job's
// command with its output on serial lines, reports the exit code on the
// control line and powers the machine off.
//
// It runs once per boot, on one goroutine, and must never run on a real
// machine: Main refuses unless it is PID 1 with a run folder in its
// environment.
package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"onlink/integration/uml"
)

// ErrNotGuest is returned by Main when it was not started by package uml.
var ErrNotGuest = errors.New("umlinit is PID 1 of a user-mode kernel started by onlink/integration/uml; it cannot be run by hand")

// Main does everything the guest does. It returns only when it was called
// outside a guest, or if powering off failed.
func Main() error {
	runDir := os.Getenv(uml.RunDirEnv)
	if os.Getpid() != 1 || runDir == "" {
		return ErrNotGuest
	}
	report := runJob(runDir)
	if err := sendControl(report); err != nil {
		// The console is all that is left; the runner shows its end.
		fmt.Fprintln(os.Stderr, "umlinit:", err, report)
	}
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// runJob returns the control line that ends the boot.
func runJob(runDir string) string {
	text, err := os.ReadFile(filepath.Join(runDir, uml.JobFile))
	if err != nil {
		return uml.FormatFault(fmt.Errorf("read job: %w", err))
	}
	var job uml.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return uml.FormatFault(fmt.Errorf("decode job: %w", err))
	}
	if err := setUp(job.RunDir); err != nil {
		return uml.FormatFault(err)
	}
	code, err := command(&job)
	if err != nil {
		return uml.FormatFault(err)
	}
	return uml.FormatExit(code)
}

// sendControl writes one line and waits until the host has it: the serial
// driver loses what it still holds when the machine powers off.
func sendControl(line string) error {
	tty, err := openRaw(uml.ControlTTY)
	if err != nil {
		return err
	}
	if _, err := tty.WriteString(line); err != nil {
		return fmt.Errorf("write control line: %w", err)
	}
	if err := drain(tty); err != nil {
		return fmt.Errorf("drain control line: %w", err)
	}
	return nil
}
