package bfd

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceness of the monitor's thread: it works for microseconds, and when its packets
// are late a neighbour takes the session down.
const niceness = -15

// urgent gives the calling goroutine a thread of its own with a better priority
// than ordinary work, see setpriority(2); release undoes both. Without
// CAP_SYS_NICE the priority stays as it is.
func urgent(log *slog.Logger) (release func()) {
	runtime.LockOSThread()
	tid := unix.Gettid()
	was, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, tid, niceness)
	}
	if err != nil {
		log.Info("bfd runs with ordinary priority", "err", err)
		return runtime.UnlockOSThread
	}
	return func() {
		// getpriority(2) returns 20 less the niceness.
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, 20-was); err == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with its goroutine
		}
	}
}

// realtime is the scheduling of the helper's threads: before all ordinary
// work, whatever its niceness, session (sched_autogroup) or control group.
// Round-robin and the lowest priority keep it behind every other real-time
// program.
var realtime = unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}

// hurry schedules every thread of this process before ordinary work, see
// sched_setattr(2); later threads inherit it. Where real-time scheduling is not
// allowed (a control group without a share of it), it sets a better niceness.
func hurry() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("list threads: %w", err)
		}
		if unix.SchedSetAttr(tid, &realtime, 0) == nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, niceness); err != nil {
			return fmt.Errorf("set priority: %w", err)
		}
	}
	return nil
}
