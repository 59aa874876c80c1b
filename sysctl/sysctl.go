// Package sysctl reads and writes the kernel's network settings
// (/proc/sys/net) of the calling thread's network namespace.
//
// In many containers /proc/sys is mounted read-only, although the agent may
// change the settings of the pods' namespaces: the mount protects the host's
// files, which are the same files. So the package has a mount of procfs of its
// own (fsopen(2), fsmount(2)), which is attached nowhere and lives in a file
// descriptor. It needs CAP_SYS_ADMIN and Linux 5.2; without them the host's
// /proc/sys has to do.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrReadOnly is returned by Write where /proc/sys is read-only and the kernel
// provides no other procfs; the error gives the reason.
var ErrReadOnly = errors.New("/proc/sys is read-only, and the kernel provides no procfs of this process's own (fsmount: needs CAP_SYS_ADMIN and Linux 5.2)")

// host is the procfs of the host.
const host = "/proc/sys"

// longest bounds the value of a setting: the kernel writes at most a page.
const longest = 4096

// own opens the process's own procfs, once.
var own = sync.OnceValues(mount)

func mount() (root int, err error) {
	fd, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // the mount no longer needs it
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, fmt.Errorf("fsconfig: %w", err)
	}
	root, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return root, nil
}

// Read returns a setting without the white space around it. name is its path
// below /proc/sys, such as net/ipv6/conf/eth0/accept_ra. An absent one is
// fs.ErrNotExist.
func Read(name string) (string, error) {
	root, err := own()
	if err != nil {
		return readHost(name)
	}
	fd, err := open(root, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, longest)
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", dotted(name), err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// Write gives a setting a value. name is as in [Read]. The kernel's refusal of
// the value is its errno, and a read-only /proc/sys is [ErrReadOnly].
func Write(name, value string) error {
	root, why := own()
	if why != nil {
		return writeHost(name, value, why)
	}
	fd, err := open(root, name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w", dotted(name), value, err)
	}
	return nil
}

// Set is Write unless the setting has the value already.
func Set(name, value string) error {
	if have, err := Read(name); err == nil && have == value {
		return nil
	}
	return Write(name, value)
}

func readHost(name string) (string, error) {
	b, err := os.ReadFile(host + "/" + name)
	return strings.TrimSpace(string(b)), err //nolint:wrapcheck // it names the file
}

// writeHost writes where there is no procfs of our own, because of why.
func writeHost(name, value string, why error) error {
	err := os.WriteFile(host+"/"+name, []byte(value), 0)
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("set sysctl %s=%s: %w: %w", dotted(name), value, ErrReadOnly, why)
	case err != nil:
		return fmt.Errorf("set sysctl %s=%s: %w", dotted(name), value, err)
	}
	return nil
}

func open(root int, name string, flags int) (int, error) {
	fd, err := unix.Openat(root, "sys/"+name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open sysctl", Path: name, Err: err}
	}
	return fd, nil
}

// dotted is a setting's name as sysctl(8) writes it.
func dotted(name string) string { return strings.ReplaceAll(name, "/", ".") }
