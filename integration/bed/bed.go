// Package bed prepares the beds on which onlink's tests run and runs them: the
// native kernel first, and one boot of user-mode Linux for the tests that
// found a kernel feature missing. A test that was skipped in every bed fails
// the run.
//
// It also installs what Debian's base lacks (Install), finds and runs the fuzz
// targets (Fuzz) and compares the benchmarks of two commits (CompareBench).
// The command in integration/cmd/bed is its only caller; nothing here is safe
// for concurrent use, since each run has the machine to itself.
package bed

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ModulePath is the module whose packages are tested.
const ModulePath = "onlink"

// wholeSystem is the import path below which tests need the built binaries.
const wholeSystem = ModulePath + "/integration"

// alone are the packages whose tests start agents, runtimes and kernels, and wait for them:
// beside the rooms, which take both CPUs for minutes, they would wait too long.
var alone = []string{wholeSystem, wholeSystem + "/cri", wholeSystem + "/docs", wholeSystem + "/lab", wholeSystem + "/uml"}

// killDelay is how long a go command may take to end after an interrupt.
const killDelay = 10 * time.Second

// goCommand prepares a go command in dir that ends, with its children, when
// ctx does.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = killDelay
	return cmd
}

// goLines runs a go command and returns the lines of its output.
func goLines(ctx context.Context, dir string, args ...string) ([]string, error) {
	var stderr strings.Builder
	cmd := goCommand(ctx, dir, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// moduleRoot returns the folder of the module's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	lines, err := goLines(ctx, "", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if len(lines) != 1 || lines[0] == os.DevNull {
		return "", fmt.Errorf("find module: no go.mod above the working directory; run this inside a clone of %s", ModulePath)
	}
	return filepath.Dir(lines[0]), nil
}

// progress prints one line about what goes on now, with the seconds since the
// start.
type progress struct {
	w     io.Writer
	start time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) printf(format string, args ...any) {
	fmt.Fprintf(p.w, "[%4.0fs] %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
