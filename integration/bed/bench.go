package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// BenchOptions says which benchmarks CompareBench runs, and how.
type BenchOptions struct {
	// Ref is the commit to compare with.
	Ref string
	// Pattern selects benchmarks. Default ".".
	Pattern string
	// Time is the length of one benchmark, as -benchtime has it.
	Time string
	// Count is how often each runs; benchstat wants six.
	Count int
	// Out receives the progress and the comparison.
	Out io.Writer
}

// CompareBench runs the benchmarks of a past commit, from a temporary work
// tree, and those of this tree, and compares them with benchstat.
func CompareBench(ctx context.Context, opts BenchOptions) (err error) {
	if opts.Ref == "" {
		return errors.New("compare benchmarks: REF is empty; use make bench-compare REF=<commit>")
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "onlink-bench-")
	if err != nil {
		return fmt.Errorf("compare benchmarks: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	past := filepath.Join(tmp, "past")
	if err := gitIn(ctx, root, "worktree", "add", "--detach", "--quiet", past, opts.Ref); err != nil {
		return err
	}
	defer func() {
		// Not ctx: the work tree is registered in the clone and must go.
		err = errors.Join(err, gitIn(context.WithoutCancel(ctx), root, "worktree", "remove", "--force", past))
	}()
	say := newProgress(opts.Out)
	files := []string{filepath.Join(tmp, "old.txt"), filepath.Join(tmp, "new.txt")}
	for i, dir := range []string{past, root} {
		say.printf("benchmarks of %s", []string{opts.Ref, "this tree"}[i])
		if err := benchInto(ctx, dir, files[i], opts); err != nil {
			return err
		}
	}
	cmd := goCommand(ctx, root, append([]string{"tool", "-modfile=tools/tools.mod", "benchstat"}, files...)...)
	cmd.Stdout, cmd.Stderr = opts.Out, opts.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("benchstat: %w", err)
	}
	return nil
}

func benchInto(ctx context.Context, dir, file string, opts BenchOptions) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("run benchmarks: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	pattern := opts.Pattern
	if pattern == "" {
		pattern = "."
	}
	env, err := engineEnv(ctx, dir)
	if err != nil {
		return err
	}
	cmd := goCommand(ctx, dir, "test", "-run", "^$", "-bench", pattern, "-benchmem",
		"-benchtime", opts.Time, "-count", strconv.Itoa(opts.Count), "./...")
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = f, opts.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run benchmarks in %s: %w", dir, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("run benchmarks: %w", err)
	}
	if !bytes.Contains(text, []byte("\nBenchmark")) {
		return fmt.Errorf("run benchmarks in %s: none matches %q", dir, pattern)
	}
	return nil
}

// engineEnv is the environment to build the tree in dir with its own patched
// BGP engine, as its make does: make's GOFLAGS here name this tree's. A commit
// without patches is built as it is.
func engineEnv(ctx context.Context, dir string) ([]string, error) {
	flags, byMake := os.LookupEnv("ONLINK_GOFLAGS")
	if !byMake {
		return os.Environ(), nil
	}
	env := append(os.Environ(), "GOFLAGS="+flags)
	tool := "engine"
	if _, err := os.Stat(filepath.Join(dir, "bgp", tool, "main.go")); err != nil {
		tool = "patches" // of an older commit
	}
	if _, err := os.Stat(filepath.Join(dir, "bgp", tool, "main.go")); err != nil {
		return env, nil //nolint:nilerr // not there: nothing to patch
	}
	cmd := goCommand(ctx, dir, "run", "./bgp/"+tool, "-o", "build/engine")
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("patch engine in %s: %w: %s", dir, err, out)
	}
	return append(env, "GOFLAGS="+flags+" '-modfile="+filepath.Join(dir, "build", "engine", "go.mod")+"'"), nil
}

func gitIn(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return nil
}
