package preflight

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"onlink/fib/underlay"
)

// Setup is what [Machine] needs of the agent.
type Setup struct {
	// OwnDevice reports whether a device is onlink's, and no part of the underlay.
	OwnDevice func(underlay.Device) bool
	// Database is the path of the node's database.
	Database string
}

// machine is a report with the machine that the configuration is to start on.
type machine struct {
	report

	Setup
	watch *underlay.Watcher
	// runs: an agent runs with this configuration's sockets. Its own ports and
	// files are in use then.
	runs bool
}

// unseen reports whether an error says nothing of the configuration: this process
// lacks a right that the agent has.
func unseen(err error) bool {
	return os.Geteuid() != 0 && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EPERM))
}

// folder returns why a folder could not be made or written, nil when it can.
func folder(path string) error {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != "/":
			continue
		case errors.Is(err, syscall.ENOTDIR): // a parent is a file
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return &fs.PathError{Op: "open folder", Path: at, Err: syscall.ENOTDIR}
		}
		return writable(at)
	}
}

// writable returns why files cannot be made in a folder.
func writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}
