// Command launch starts a program many times and prints, for each time, its
// wall time from exec to exit in nanoseconds and its peak memory in KB.
//
//	launch COUNT STDIN PROGRAM [ARGUMENT...]
//
// It is small on purpose: the kernel counts the memory of the process that
// forks as part of the child's peak (getrusage(2), ru_maxrss). The child's
// environment is the launcher's; STDIN is the file it reads.
package main

import (
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 4 {
		fail("usage: launch COUNT STDIN PROGRAM [ARGUMENT...]")
	}
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fail(err.Error())
	}
	null, err := syscall.Open("/dev/null", syscall.O_WRONLY, 0)
	if err != nil {
		fail(err.Error())
	}
	env := syscall.Environ()
	for range count {
		stdin, err := syscall.Open(os.Args[2], syscall.O_RDONLY, 0)
		if err != nil {
			fail(err.Error())
		}
		begin := time.Now()
		pid, err := syscall.ForkExec(os.Args[3], os.Args[3:], &syscall.ProcAttr{Env: env, Files: []uintptr{uintptr(stdin), uintptr(null), 2}})
		if err != nil {
			fail(err.Error())
		}
		var status syscall.WaitStatus
		var usage syscall.Rusage
		if _, err := syscall.Wait4(pid, &status, 0, &usage); err != nil {
			fail(err.Error())
		}
		took := time.Since(begin)
		_ = syscall.Close(stdin)
		if status != 0 {
			fail("exit status " + strconv.Itoa(int(status)))
		}
		_, _ = os.Stdout.WriteString(strconv.FormatInt(took.Nanoseconds(), 10) + " " + strconv.FormatInt(usage.Maxrss, 10) + "\n")
	}
}

func fail(text string) {
	_, _ = os.Stderr.WriteString("launch: " + text + "\n")
	os.Exit(1)
}
