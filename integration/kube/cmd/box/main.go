// Command box is the first process of a node of the test cluster. The harness
// (package cluster) starts it twice for a node:
//
//	box disk FOLDER    holds a mount namespace with an empty file system at FOLDER
//	box node           with a [Machine] as JSON on stdin, in that mount namespace
//	                   and in mount, PID and UTS namespaces of its own
//
// Both print "ready" when they are, and stay until they are killed. The end of
// the second is the end of every process of the node, and of all it mounted; the
// disk stays, and the next node process starts with it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"onlink/integration/kube/machine"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	// Before anything is mounted: what the host mounts later must not come in,
	// and nothing of the box's may go out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	switch {
	case len(args) == 2 && args[0] == "disk":
		if err := unix.Mount("disk", args[1], "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount disk at %s: %w", args[1], err)
		}
	case len(args) == 1 && args[0] == "node":
		var m machine.Machine
		if err := json.NewDecoder(os.Stdin).Decode(&m); err != nil {
			return fmt.Errorf("read machine: %w", err)
		}
		if err := m.Set(); err != nil {
			return err
		}
	default:
		return errors.New("usage: box disk FOLDER | box node <MACHINE.json")
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	if _, err := fmt.Println("ready"); err != nil {
		return fmt.Errorf("report ready: %w", err)
	}
	for range children {
		reap()
	}
	return nil
}

// reap takes the exit codes of orphans, which are children of the first process.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}
