//go:debug multipathtcp=0
package bgp

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The engine opens its sockets on threads of its own choice, so a namespace
// of one locked thread would not hold them. TestMain therefore runs the
// whole test binary once more inside a fresh network namespace.
const insideEnv = "ONLINK_BGP_TEST_INSIDE"

// TestMain runs the tests, or, for some of them, one child speaker.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		fmt.Fprintln(os.Stderr, "enter network namespace:", reexecInside())
		os.Exit(1)
	}
	if spec := os.Getenv(childEnv); spec != "" {
		runChild(spec)
		return
	}
	if spec := os.Getenv(corpusEnv); spec != "" {
		runCorpus(spec)
		return
	}
	os.Exit(m.Run())
}

// reexecInside replaces the process; it returns only with an error.
func reexecInside() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for _, a := range []string{"fd00::1/128", "fd00::2/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("parse %s: %w", a, err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	return unix.Exec(self, os.Args, append(os.Environ(), insideEnv+"=1"))
}
