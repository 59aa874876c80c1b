package labtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"onlink/integration/lab"
)

// BinVariable names the environment variable with the folder of the programs
// under test.
const BinVariable = "ONLINK_BIN"

// Bin is the folder with the programs under test.
func Bin() string { return os.Getenv(BinVariable) }

// Main runs a package's tests with the programs in $ONLINK_BIN, or with those
// that it builds for this run, and returns the exit code. TestMain of a package
// with lab tests calls it.
func Main(m *testing.M) int {
	dir := os.Getenv(BinVariable)
	if dir == "" {
		made, err := os.MkdirTemp("", "onlink-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "make folder for programs:", err)
			return 1
		}
		defer func() { _ = os.RemoveAll(made) }() // a leftover in the temporary folder fails no test
		cmd := exec.Command("go", "build", "-o", made+"/", "onlink/cmd/...")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build programs: %v\n%s", err, text)
			return 1
		}
		dir = made
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.Setenv(BinVariable, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "find programs:", err)
		return 1
	}
	if os.Geteuid() == 0 {
		if err := lab.RemoveDead(); err != nil { // no fault of these tests
			fmt.Fprintln(os.Stderr, "remove what killed tests left:", err)
		}
	}
	return m.Run()
}

// reserve is the time to end a lab before the time limit of a run, at which Go ends the
// process without running any clean-up.
const reserve = 30 * time.Second

// Context is the context of one test: it is over after limit, and in any case in time
// for the clean-up before the time limit of the run.
func Context(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	end := time.Now().Add(limit)
	if last, ok := t.Deadline(); ok && last.Add(-reserve).Before(end) {
		end = last.Add(-reserve)
	}
	ctx, cancel := context.WithDeadline(t.Context(), end)
	t.Cleanup(cancel)
	return ctx
}

// Must fails the test at once when err is not nil.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// limit bounds one test; user-mode Linux on a busy machine needs most of it.
const limit = 6 * time.Minute
