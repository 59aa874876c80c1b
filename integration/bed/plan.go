package bed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// planFile is the plan's name in the guest's /out.
const planFile = "plan.json"

// mark starts the driver's own lines in the guest's output. A test that prints
// this control character at the start of a line does not exist by accident.
const mark = "\x02bed "

// step is one test binary to run inside the guest.
type step struct {
	Package string   // import path
	Dir     string   // working directory inside the guest
	Binary  string   // path inside the guest
	Args    []string // of the test binary
}

// topPattern is the -test.run pattern of the top-level tests of ids.
func topPattern(ids []TestID) string {
	var names []string
	for _, id := range ids {
		names = append(names, regexp.QuoteMeta(id.Top()))
	}
	slices.Sort(names)
	return "^(" + strings.Join(slices.Compact(names), "|") + ")$"
}

func writePlan(dir string, steps []step) error {
	text, err := json.MarshalIndent(steps, "", "  ")
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, planFile), text, 0o644); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}

// RunPlan is the driver inside the guest: it runs the steps of the plan in dir
// one after the other and writes their output to w, framed. A failing step is
// no error; the frame carries its exit code.
func RunPlan(dir string, w io.Writer) error {
	text, err := os.ReadFile(filepath.Join(dir, planFile))
	if err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	var steps []step
	if err := json.Unmarshal(text, &steps); err != nil {
		return fmt.Errorf("decode plan: %w", err)
	}
	for _, s := range steps {
		if err := runStep(s, w); err != nil {
			return err
		}
	}
	return nil
}

func runStep(s step, w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%sstart %s\n", mark, s.Package); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	cmd := exec.Command(s.Binary, s.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, w, w
	err := cmd.Run()
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode() // -1 after a signal
	case err != nil:
		fmt.Fprintf(w, "%v\n", err)
		code = -1
	}
	if _, err := fmt.Fprintf(w, "\n%send %d\n", mark, code); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// frameReader takes the guest's output apart again.
type frameReader struct {
	start func(pkg string) error
	text  func(line []byte) error
	end   func(code int) error

	partial []byte
}

// Write implements io.Writer over whole lines.
func (f *frameReader) Write(p []byte) (int, error) {
	f.partial = append(f.partial, p...)
	for {
		i := bytes.IndexByte(f.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := f.partial[:i+1]
		f.partial = f.partial[i+1:]
		if err := f.line(line); err != nil {
			return 0, err
		}
	}
}

func (f *frameReader) line(line []byte) error {
	rest, framed := strings.CutPrefix(string(line), mark)
	if !framed {
		return f.text(line)
	}
	var pkg string
	var code int
	if n, _ := fmt.Sscanf(rest, "start %s", &pkg); n == 1 {
		return f.start(pkg)
	}
	if n, _ := fmt.Sscanf(rest, "end %d", &code); n == 1 {
		return f.end(code)
	}
	return f.text(line)
}
