package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// ErrUnknownFigure is a selection that no figure matches.
var ErrUnknownFigure = errors.New("no such figure")

// Options say what to measure.
type Options struct {
	// Figures are prefixes of figure names; empty: all.
	Figures []string
	// Out receives the progress and the table.
	Out io.Writer
	// JSON is the file for the figures.
	JSON string
	// Rounds is how often each measurement is repeated; default 3.
	Rounds int
}

// run is one run of the benchmarks.
type run struct {
	opts    Options
	began   time.Time
	figures []Figure
	noisy   int    // groups that were measured while others used the machine
	bin     string // folder of the programs under test and their peers
	dir     string // scratch, on the disk of the source tree
	sockets string // scratch with a short name, for sockets
}

// group is a set of figures that are measured together.
type group struct {
	figures []string // what it reports, without those for information
	measure func(ctx context.Context, r *run) error
}

// groups is in the order of the table in docs/performance.md.
func groups() []group {
	return []group{
		{[]string{"fib.writer_1k", "fib.writer_10k", "fib.writer_100k"}, writerFigures},
		{[]string{"fib.nodes5000"}, nodesFigure},
		{[]string{"fib.resync_100k"}, resyncFigure},
		{[]string{"fib.load_packed_100k", "fib.withdraw_100k", "fib.single_p50", "agent.rss_100k"}, packedFigures},
		{[]string{"fib.load_calico_100k"}, calicoFigure},
		{[]string{"fib.churn_60s"}, churnFigures},
		{[]string{"agent.idle_rss", "agent.idle_cpu"}, idleFigures},
		{[]string{"ipam.assign_c32", "ipam.assign_fsync", "ipam.commit_c1"}, ipamFigures},
		{[]string{"ipam.start_65536"}, startFigure},
		{[]string{"cni.add_c1", "cni.add_c8", "cni.add_c32", "cni.del_c1", "cni.del_c32"}, chainFigures},
		{[]string{"cni.shim", "cni.shim_rss"}, shimFigures},
		{[]string{"cni.wire"}, wireFigure},
		{[]string{"bgp.reflect_burst_500"}, reflect500},
		{[]string{"bgp.reflect_burst_1000", "bgp.reflect_rss_1000", "bgp.cold_start_1000"}, reflect1000},
	}
}

// Run measures the selected figures, writes them to Options.JSON and prints
// them. A figure that cannot be measured is reported with the reason and does
// not stop the others; the error joins those reasons. A missed goal is no
// error.
func Run(ctx context.Context, opts Options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("run benchmarks: must be root: network namespaces are made")
	}
	if opts.Rounds == 0 {
		opts.Rounds = 3
	}
	selected := selectGroups(opts.Figures)
	if len(selected) == 0 {
		return fmt.Errorf("%w: %v; names begin with fib., agent., ipam., cni. or bgp", ErrUnknownFigure, opts.Figures)
	}
	r := &run{opts: opts, began: time.Now()}
	defer func() { err = errors.Join(err, r.clean()) }()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	for _, g := range selected {
		r.say("measuring %s", strings.Join(g.figures, ", "))
		if gerr := r.measure(ctx, g); gerr != nil {
			r.missing(g, gerr)
			err = errors.Join(err, fmt.Errorf("measure %s: %w", g.figures[0], gerr))
		}
		debug.FreeOSMemory() // what one group leaves must not slow the next
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return errors.Join(err, writeJSON(opts.JSON, r.figures), r.table())
}

// measure measures a group on a machine that is as quiet as it becomes, and notes at
// each of its figures how quiet that was.
func (r *run) measure(ctx context.Context, g group) error {
	share, err := quiet(ctx)
	if err != nil {
		return err
	}
	if share > quietShare {
		r.noisy++
		r.say("  WARNING: the machine is not quiet: others use %.0f %% of its cores", share)
	}
	before, err := readClock()
	if err != nil {
		return err
	}
	first := len(r.figures)
	gerr := g.measure(ctx, r)
	after, err := readClock()
	_, stolen := after.since(before)
	for i := range r.figures[first:] {
		f := &r.figures[first+i]
		f.Load, f.Stolen = round(share), round(stolen)
	}
	return errors.Join(gerr, err)
}

func selectGroups(prefixes []string) []group {
	if len(prefixes) == 0 {
		return groups()
	}
	return slices.DeleteFunc(groups(), func(g group) bool {
		return !slices.ContainsFunc(g.figures, func(name string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		})
	})
}

// prepare builds the programs and makes the scratch folders.
func (r *run) prepare(ctx context.Context) error {
	build := filepath.Dir(r.opts.JSON)
	if err := os.MkdirAll(build, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	var err error
	if r.dir, err = os.MkdirTemp(build, "bench-"); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return fmt.Errorf("find folder: %w", err)
	}
	if r.sockets, err = os.MkdirTemp("", "onlink-bench-"); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	r.bin = filepath.Join(r.dir, "bin")
	r.say("building the programs")
	if err := r.goBuild(ctx, ".", "./cmd/onlinkd", "./cmd/onlink-cni", "./integration/cmd/bench/empty", "./integration/cmd/bench/launch"); err != nil {
		return err
	}
	return nil
}

// goBuild builds static programs of the module in dir into r.bin, as make
// build does.
func (r *run) goBuild(ctx context.Context, dir string, packages ...string) error {
	argv := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", r.bin + "/"}
	if dir != "." {
		argv = append(argv, "-modfile=go.mod") // GOFLAGS may name that of this module's engine
	}
	argv = append(argv, packages...)
	cmd := exec.CommandContext(ctx, "go", argv...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", packages, err, out)
	}
	return nil
}

func (r *run) clean() error {
	var err error
	for _, dir := range []string{r.dir, r.sockets} {
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// say prints one line of progress.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.opts.Out, "[%5.1fs] %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// report adds a figure and prints it.
func (r *run) report(name, unit string, ours samples, peer versus) {
	f := makeFigure(name, unit, ours, peer)
	r.figures = append(r.figures, f)
	r.say("  %s = %s %s, %s %s, ratio %s %s", f.Name, spread(f.Value, f.Min, f.Max), f.Unit,
		f.Peer, spread(f.PeerValue, f.PeerMin, f.PeerMax), number(f.Ratio), f.Goal)
}

// missing reports the figures of a group that its error kept from being
// measured.
func (r *run) missing(g group, err error) {
	r.say("  failed: %v", err)
	for _, name := range g.figures {
		if !slices.ContainsFunc(r.figures, func(f Figure) bool { return f.Name == name }) {
			r.figures = append(r.figures, makeFigure(name, "", nil, versus{why: firstLine(err)}))
		}
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (r *run) table() error {
	fmt.Fprintln(r.opts.Out)
	if r.noisy > 0 {
		fmt.Fprintf(r.opts.Out, "The machine was not quiet before %d of the measurements (see load): stop what else runs, and measure again.\n\n", r.noisy)
	}
	return writeTable(r.opts.Out, r.figures)
}

// rounds calls each measurement once per round, in turn, so that a slow moment
// of the machine hits both sides.
func (r *run) rounds(ctx context.Context, each ...func(ctx context.Context) error) error {
	for range r.opts.Rounds {
		for _, f := range each {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits for a time in which the programs under test settle.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
