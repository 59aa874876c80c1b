package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"onlink/integration/uml"
)

// bootTimeout is the limit of the one boot: the whole of make test must fit
// into 15 minutes.
const bootTimeout = 12 * time.Minute

// guestOut is where the guest sees the folder that inUML fills.
const guestOut = "/out"

// inUML runs the top-level tests that ids belong to in one boot.
func (r *run) inUML(ctx context.Context, ids []TestID) (err error) {
	out, err := os.MkdirTemp("", "onlink-bed-")
	if err != nil {
		return fmt.Errorf("make bed: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	steps, err := r.fillBed(ctx, out, ids)
	if err != nil {
		return err
	}
	r.say.printf("uml: booting for %d tests of %d packages", len(ids), len(steps))
	conv := &converter{ctx: ctx, book: func(ev Event) { r.book(UML, ev) }}
	var stderr bytes.Buffer
	exit, err := uml.Run(ctx, uml.Options{
		Out: out, Timeout: bootTimeout, Init: filepath.Join(out, "umlinit"),
		Stdout: conv.frames(), Stderr: &stderr,
		Env: []string{"ONLINK_BIN=" + guestOut + "/bin"},
	}, []string{guestOut + "/bed", "run-plan", guestOut})
	// Whatever ended the boot, a package cut short must not stay unread.
	if cerr := conv.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("run tests in user-mode linux: %w", err)
	}
	if exit != 0 {
		return fmt.Errorf("run tests in user-mode linux: exit code %d: %s", exit, stderr.String())
	}
	r.say.printf("uml: powered off")
	return nil
}

// UMLTest is one test, or more, of a package, to run in user-mode Linux.
type UMLTest struct {
	Out     io.Writer
	Package string // as a path below the module's root
	Run     string // a pattern of go test
	Args    []string
	Timeout time.Duration
}

// TestInUML runs tests with arguments in user-mode Linux, with the binaries of make
// build, and shows what they print.
func TestInUML(ctx context.Context, test UMLTest) (err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	r := &run{root: root, bin: filepath.Join(root, "bin"), say: newProgress(test.Out)}
	out, err := os.MkdirTemp("", "onlink-bed-")
	if err != nil {
		return fmt.Errorf("make bed: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	r.say.printf("uml: building the tests of %s", test.Package)
	if err := r.fillGuest(ctx, out); err != nil {
		return err
	}
	if err := r.static(ctx, "test", "-c", "-o", filepath.Join(out, "this.test"), test.Package); err != nil {
		return err
	}
	r.say.printf("uml: booting")
	words := append([]string{
		"env", "-C", filepath.Join(guestOut, "src", test.Package), guestOut + "/this.test", "-test.v", "-test.timeout=" + test.Timeout.String(), "-test.run=" + test.Run,
	}, test.Args...)
	exit, err := uml.Run(ctx, uml.Options{
		Out: out, Timeout: test.Timeout + time.Minute, Init: filepath.Join(out, "umlinit"), Stdout: test.Out, Stderr: test.Out,
		Env: []string{"ONLINK_BIN=" + guestOut + "/bin"},
	}, words)
	if err != nil {
		return fmt.Errorf("run tests in user-mode linux: %w", err)
	}
	if exit != 0 {
		return fmt.Errorf("run tests in user-mode linux: exit code %d: %w", exit, ErrTests)
	}
	return nil
}

// fillGuest puts sources and programs into out: the clone may lie in a folder that the
// guest's uid may not enter.
func (r *run) fillGuest(ctx context.Context, out string) error {
	if err := copyTree(r.root, filepath.Join(out, "src")); err != nil {
		return err
	}
	if err := r.copyBinaries(filepath.Join(out, "bin")); err != nil {
		return err
	}
	for name, pkg := range map[string]string{"bed": "./integration/cmd/bed", "umlinit": "./integration/cmd/umlinit"} {
		if err := r.static(ctx, "build", "-o", filepath.Join(out, name), pkg); err != nil {
			return err
		}
	}
	return nil
}

// fillBed puts into out all that the guest needs.
func (r *run) fillBed(ctx context.Context, out string, ids []TestID) ([]step, error) {
	if err := r.fillGuest(ctx, out); err != nil {
		return nil, err
	}
	byPackage := map[string][]TestID{}
	for _, id := range ids {
		byPackage[id.Package] = append(byPackage[id.Package], id)
	}
	var steps []step
	for pkg, tests := range byPackage {
		r.say.printf("uml: building the tests of %s", pkg)
		binary := strings.ReplaceAll(pkg, "/", "-") + ".test"
		if err := r.static(ctx, "test", "-c", "-o", filepath.Join(out, binary), pkg); err != nil {
			return nil, err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(pkg, ModulePath), "/")
		steps = append(steps, step{
			Package: pkg, Dir: filepath.Join(guestOut, "src", rel), Binary: filepath.Join(guestOut, binary),
			Args: []string{"-test.v=test2json", "-test.timeout=" + r.opts.Timeout.String(), "-test.run=" + topPattern(tests)},
		})
	}
	slices.SortFunc(steps, func(a, b step) int { return strings.Compare(a.Package, b.Package) })
	return steps, writePlan(out, steps)
}

// copyBinaries copies bin/; it is not there when only rooms are tested.
func (r *run) copyBinaries(to string) error {
	err := os.CopyFS(to, os.DirFS(r.bin))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy binaries: %w", err)
	}
	return nil
}

// static runs a go command that builds without cgo: the race detector does not
// work in the guest, and a static binary needs nothing there.
func (r *run) static(ctx context.Context, args ...string) error {
	cmd := goCommand(ctx, r.root, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// copyTree copies the sources, so that a test finds its testdata and its
// neighbours by the paths it knows. Hidden folders and build results stay out.
func copyTree(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || rel == "bin" || rel == "build") {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o644)
	})
	if err != nil {
		return fmt.Errorf("copy sources: %w", err)
	}
	return nil
}
