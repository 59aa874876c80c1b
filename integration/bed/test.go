package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/integration/uml"
)

// TestOptions says what Test runs.
type TestOptions struct {
	// Patterns are the packages, as the go command writes them. Default "./...".
	Patterns []string
	// Out receives progress, the table and the failures.
	Out io.Writer
	// Timeout is the limit of one test binary. Default 25 minutes: the whole-system
	// tests take a dozen on two CPUs.
	Timeout time.Duration
	// NoRace leaves the race detector out of the native run.
	NoRace bool
}

// run is one call of Test.
type run struct {
	opts   TestOptions
	root   string     // module root
	bin    string     // folder of the built binaries
	mu     sync.Mutex // held while an event is booked
	ledger *Ledger
	say    *progress
}

// Test builds the binaries, runs the tests natively with the race detector,
// runs what was skipped there in one boot of user-mode Linux, and writes what
// ran where. It returns an error wrapping ErrTests when any test failed or ran
// nowhere. The last line of the output is Counts.
func Test(ctx context.Context, opts TestOptions) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("run tests: %w: they make network namespaces; use sudo, or make test-unit for the part that needs no root", ErrNotRoot)
	}
	if len(opts.Patterns) == 0 {
		opts.Patterns = []string{"./..."}
	}
	if opts.Timeout == 0 {
		opts.Timeout = 25 * time.Minute
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	r := &run{opts: opts, root: root, bin: filepath.Join(root, "bin"), ledger: NewLedger(), say: newProgress(opts.Out)}
	needs := []Need{NeedLab, NeedFRR, NeedUML, NeedEtcd, NeedRuntime, NeedPrometheus, NeedCollector}
	if !opts.NoRace {
		needs = append(needs, NeedRace)
	}
	if err := Install(ctx, opts.Out, needs...); err != nil {
		return err
	}
	rooms, systems, binaries, err := r.packages(ctx)
	if err != nil {
		return err
	}
	if binaries {
		if err := r.buildBinaries(ctx); err != nil {
			return err
		}
	}
	if err := r.native(ctx, rooms, systems); err != nil {
		return err
	}
	if err := r.elsewhere(ctx); err != nil {
		r.ledger.WriteTroubles(opts.Out)
		return err
	}
	return r.conclude()
}

// buildBinaries makes the three programs that whole-system tests start.
func (r *run) buildBinaries(ctx context.Context) error {
	r.say.printf("building the binaries into bin/")
	cmd := exec.CommandContext(ctx, "make", "--silent", "--no-print-directory", "build")
	cmd.Dir = r.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build binaries: %w\n%s", err, out)
	}
	return nil
}

// packages lists what is to be tested: the rooms, which share the machine, the packages
// that have it for themselves, and whether there are tests of the binaries.
func (r *run) packages(ctx context.Context) (rooms, systems []string, binaries bool, err error) {
	all, err := goLines(ctx, r.root, append([]string{"list"}, r.opts.Patterns...)...)
	if err != nil {
		return nil, nil, false, err
	}
	for _, p := range all {
		binaries = binaries || p == wholeSystem || strings.HasPrefix(p, wholeSystem+"/")
		if slices.Contains(alone, p) {
			systems = append(systems, p)
		} else {
			rooms = append(rooms, p)
		}
	}
	return rooms, systems, binaries, nil
}

// The room whose tests wait most of their nine minutes for timers of BGP runs in two
// processes, with the tests whose names match firstHalf and with the others: each
// process has a network namespace of its own. In one process they cannot run side by
// side, because the engine has settings in package variables.
const (
	waiting   = ModulePath + "/bgp"
	firstHalf = "^(Test|Fuzz|Example)[A-L]"
)

// labsAtOnce is how many of the whole-system tests that are marked as parallel run at
// once, behind the others: they wait for timers of BGP and of the agent, and time nothing.
const labsAtOnce = "3"

// native runs the packages on this kernel: first the rooms, side by side; then
// the whole-system tests alone, and the other packages with agents or kernels.
func (r *run) native(ctx context.Context, rooms, systems []string) error {
	r.say.printf("native: %d packages", len(rooms))
	var g errgroup.Group
	if i := slices.Index(rooms, waiting); i >= 0 {
		rooms = slices.Delete(slices.Clone(rooms), i, i+1)
		g.Go(func() error { return r.goTest(ctx, []string{waiting}, "-run", firstHalf) })
		g.Go(func() error { return r.goTest(ctx, []string{waiting}, "-skip", firstHalf) })
	}
	// Those that build programs come first: at the end they would have a CPU idle beside them.
	slices.SortStableFunc(rooms, func(a, b string) int { return strings.Count(b, "/tools/") - strings.Count(a, "/tools/") })
	g.Go(func() error { return r.goTest(ctx, rooms) })
	if err := g.Wait(); err != nil {
		return err
	}
	r.say.printf("native: %d whole-system packages", len(systems))
	if i := slices.Index(systems, wholeSystem); i >= 0 {
		systems = slices.Delete(slices.Clone(systems), i, i+1)
		if err := r.goTest(ctx, []string{wholeSystem}, "-parallel", labsAtOnce); err != nil {
			return err
		}
	}
	return r.goTest(ctx, systems, "-p", "2", "-parallel", labsAtOnce)
}

// goTest runs go test on packages and books its events. Failing tests are no
// error here; a go command that says nothing about why it failed is.
func (r *run) goTest(ctx context.Context, packages []string, flags ...string) error {
	if len(packages) == 0 {
		return nil
	}
	args := append([]string{"test", "-json", "-count=1", "-timeout", r.opts.Timeout.String()}, flags...)
	if !r.opts.NoRace {
		args = append(args, "-race")
	}
	cmd := goCommand(ctx, r.root, append(args, packages...)...)
	cmd.Env = append(os.Environ(), "ONLINK_BIN="+r.bin, "ONLINK_BED=native")
	var plain strings.Builder
	cmd.Stderr = &plain
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	said := false
	readErr := ReadEvents(stdout, func(ev Event) {
		said = said || ev.Action == "fail"
		r.book(Native, ev)
	})
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("go test: %w", context.Cause(ctx))
	}
	if waitErr != nil && !said {
		return fmt.Errorf("go test: %w\n%s", waitErr, plain.String())
	}
	return readErr
}

// book enters an event and prints what a waiting reader wants to know: each
// package, each failure, and each top-level test of the slow kind.
func (r *run) book(bed Place, ev Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	outcome := r.ledger.Add(bed, ev)
	if outcome == "" {
		return
	}
	id := TestID{ev.Package, ev.Test}
	slow := bed == UML || ev.Package == wholeSystem
	switch {
	case id.Name == "" && outcome == Skipped:
	case id.Name == "":
		r.say.printf("%-6s %-4s %s (%.1fs)", bed, outcome, ev.Package, ev.Elapsed)
	case outcome == Failed, slow && id.Name == id.Top():
		r.say.printf("%-6s %-4s   %s (%.1fs)", bed, outcome, id, ev.Elapsed)
	}
}

// elsewhere runs in user-mode Linux what the native kernel could not.
func (r *run) elsewhere(ctx context.Context) error {
	skipped := r.ledger.SkippedIn(Native)
	if len(skipped) == 0 {
		r.say.printf("native: nothing was skipped, no other bed is needed")
		return nil
	}
	if err := uml.Available(); err != nil {
		return fmt.Errorf("%d tests were skipped natively: %w", len(skipped), err)
	}
	return r.inUML(ctx, skipped)
}

// conclude writes the table, then what is wrong, then the counts.
func (r *run) conclude() error {
	fmt.Fprintln(r.opts.Out)
	if err := r.ledger.WriteTable(r.opts.Out); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	fmt.Fprintln(r.opts.Out)
	r.ledger.WriteTroubles(r.opts.Out)
	counts := r.ledger.Counts()
	if counts.Passed+counts.Failed+counts.Skipped == 0 {
		return errors.New("run tests: the packages have no test")
	}
	fmt.Fprintln(r.opts.Out, counts)
	if counts.Failed > 0 || counts.Skipped > 0 {
		return fmt.Errorf("%w: %d failed, %d skipped in every bed", ErrTests, counts.Failed, counts.Skipped)
	}
	return nil
}
