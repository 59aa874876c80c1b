package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const forwarding = "net/ipv4/conf/lo/forwarding"

// inContainer runs f in network and mount namespaces of its own, in which
// /proc/sys is read-only.
func inContainer(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := errors.Join(
			unix.Unshare(unix.CLONE_NEWNET|unix.CLONE_NEWNS),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount(host, host, "", unix.MS_BIND, ""),
			unix.Mount("", host, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestReadOnly sets what a container's /proc/sys lets nobody set, in the
// namespace of the thread and in no other.
func TestReadOnly(t *testing.T) {
	before, err := Read(forwarding)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"0": "1", "1": "0"}[before]
	inContainer(t, func() {
		if err := os.WriteFile(host+"/"+forwarding, []byte(want), 0); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing to %s: %v, want it read-only", host, err)
		}
		if err := Write(forwarding, want); err != nil {
			t.Error(err)
		}
		for name, read := range map[string]func(string) (string, error){"own": Read, "the host's": readHost} {
			if got, err := read(forwarding); err != nil || got != want {
				t.Errorf("%s file holds %q (%v), want %q", name, got, err, want)
			}
		}
		if err := Set(forwarding, want); err != nil {
			t.Error(err)
		}
	})
	if after, err := Read(forwarding); err != nil || after != before {
		t.Errorf("this namespace has %q now (%v), want %q as before", after, err, before)
	}
}

// TestRefused: what is absent, what the kernel refuses, and a read-only
// /proc/sys without a way around it are three errors, each with its name.
func TestRefused(t *testing.T) {
	if _, err := Read("net/ipv4/conf/none/forwarding"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent setting: %v", err)
	}
	if err := Write("net/ipv4/conf/none/forwarding", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent setting written: %v", err)
	}
	inContainer(t, func() {
		if err := Write("net/ipv4/tcp_rmem", "many"); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "net.ipv4.tcp_rmem=many") {
			t.Errorf("a wrong value: %v", err)
		}
		err := writeHost(forwarding, "1", unix.EPERM)
		if !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "net.ipv4.conf.lo.forwarding=1") || !errors.Is(err, unix.EPERM) {
			t.Errorf("without a procfs of our own: %v", err)
		}
	})
}
