package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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
	return m.Run()
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
