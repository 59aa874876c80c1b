package ipam

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockFile takes the flock(2) that bbolt will take, on the same open file, but
// returns the process that has it. It waits at most wait.
func lockFile(f *os.File, shared bool, wait time.Duration) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock: %w", err)
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("%w by %s: stop that one first or give this one its own state path", ErrLocked, holder(f))
		case <-again.C:
		}
	}
}

// holder names the process that has the lock of f, from /proc/locks
// (proc_locks(5)). In another PID namespace than the holder's it is unknown.
func holder(f *os.File) string {
	const unknown = "another process"
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return unknown
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return unknown
	}
	inode := ":" + strconv.FormatUint(st.Ino, 10)
	for sc := bufio.NewScanner(bytes.NewReader(locks)); sc.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 4711 fd:00:123456 0 EOF; a waiter has "->".
		// The device is not compared: some file systems show another one here.
		w := strings.Fields(sc.Text())
		if len(w) < 6 || w[1] != "FLOCK" || !strings.HasSuffix(w[5], inode) {
			continue
		}
		pid, err := strconv.Atoi(w[4])
		if err != nil || pid <= 0 {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
	}
	return unknown
}
