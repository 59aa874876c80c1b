// Package mutants plants faults into the programs, one at a time, and has the chaos
// test run against each: a fault that it does not find is a hole in the test.
//
//	make chaos-mutants                              all of them, and none first
//	go run ./integration/cmd/mutants -only "lost commit" -seed 7
package mutants

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Mutant is a fault in one place of the sources.
type Mutant struct {
	Name  string
	Fault string // what it does, for people
	File  string // below the module's root
	Old   string // occurs there once
	New   string
}

// ErrApply says that a mutant does not fit the sources any more.
var ErrApply = errors.New("the sources do not have the place of the fault once")

// Apply returns the mutant's file with the fault in it.
func (m Mutant) Apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return "", fmt.Errorf("mutant %q: %w: %d times in %s", m.Name, ErrApply, n, m.File)
	}
	return strings.Replace(string(text), m.Old, m.New, 1), nil
}

// Hunt runs the chaos test against mutants.
type Hunt struct {
	Root   string // of the module
	Out    io.Writer
	Seed   uint64
	Length time.Duration // of a test
	Only   string        // the name of one mutant; "": all, and first the programs without a fault
}

// ErrSurvived says that the chaos test did not find a mutant.
var ErrSurvived = errors.New("not found")

// ErrHealthy says that the chaos test fails without a mutant.
var ErrHealthy = errors.New("the test fails without a fault")

// programs are those that the test starts.
var programs = []string{"./cmd/onlinkd", "./cmd/onlinkctl", "./cmd/onlink-cni"}

// Run runs the test against each mutant and says how it was found.
func (h Hunt) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "onlink-mutants-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	test := filepath.Join(dir, "chaos.test")
	if err := h.command(ctx, "go", "test", "-c", "-o", test, "./integration"); err != nil {
		return err
	}
	if h.Only == "" {
		why, err := h.try(ctx, dir, test, Mutant{})
		if err != nil || why != "" {
			return errors.Join(err, fmt.Errorf("%w: %s", ErrHealthy, why))
		}
		fmt.Fprintln(h.Out, "no fault: the test passes")
	}
	var errs []error
	for _, m := range All() {
		if h.Only != "" && m.Name != h.Only {
			continue
		}
		begin := time.Now()
		why, err := h.try(ctx, dir, test, m)
		if err == nil && why == "" {
			err = fmt.Errorf("mutant %q: %w with seed %d in %v", m.Name, ErrSurvived, h.Seed, h.Length)
		}
		errs = append(errs, err)
		fmt.Fprintf(h.Out, "%s (%s): seed %d, %v: %s\n", m.Name, m.Fault, h.Seed, time.Since(begin).Round(time.Second), why)
	}
	return errors.Join(errs...)
}

// try builds the programs with a fault, and returns why the test fails; "": it passes.
func (h Hunt) try(ctx context.Context, dir, test string, m Mutant) (why string, err error) {
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	args := []string{"go", "build", "-o", bin + "/"}
	if m.File != "" {
		text, err := m.Apply(h.Root)
		if err != nil {
			return "", err
		}
		overlay, err := writeOverlay(dir, filepath.Join(h.Root, m.File), text)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	if err := h.command(ctx, append(args, programs...)...); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, test, "-test.run=^TestChaos$", "-test.timeout="+(h.Length+30*time.Minute).String(),
		fmt.Sprintf("-chaos.time=%v", h.Length), fmt.Sprintf("-chaos.seed=%d", h.Seed))
	cmd.Dir, cmd.Env = filepath.Join(h.Root, "integration"), append(os.Environ(), "ONLINK_BIN="+bin)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return reason(string(out)), nil
	}
	if err != nil {
		return "", fmt.Errorf("run the test: %w", err)
	}
	return "", nil
}

// failure is the first line of the test that says what is wrong.
var failure = regexp.MustCompile(`(?m)^\s+\w+\.go:\d+: (.*(?: lost \d+ datagrams|still not|duplicate|reached a pod|gave|ends with code|broke after|belongs to).*)$`)

func reason(out string) string {
	if found := failure.FindStringSubmatch(out); found != nil {
		return found[1]
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// writeOverlay writes the file of go build -overlay that has another text for a source.
func writeOverlay(dir, source, text string) (string, error) {
	other, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write mutant: %w", err)
	}
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace": {%q: %q}}`, source, other), 0o600); err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	return overlay, nil
}

func (h Hunt) command(ctx context.Context, words ...string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = h.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return nil
}
