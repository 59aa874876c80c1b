package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// checker holds the edit tree, saved or not, against vet, the linter,
// upstream's tests and ours.
type checker struct {
	root string // of the main module
	tree *editTree
	lint string    // the linter's command
	out  io.Writer // two steps write to it at once
}

const (
	// lintConfig and testList are files of the engine's folder.
	lintConfig = "golangci.yml"
	testList   = "upstream-tests"
)

// quickTests are those of ours that say in a few seconds whether sessions,
// reflection, restarts and malformed messages still end as they should. All of
// them take minutes, and run with make test.
const quickTests = "^(TestHostileSet|TestUpdateRules|TestDecoders|TestEndBeforeOpen|TestFaultsAreCounted|TestContainedOperation|" +
	"TestBestSetsAreWhole|TestReflectorTellsWhatIsBest|TestRestartKeepsRoutes|TestAdvisories)$"

// run makes or keeps the edit tree and runs all checks; it goes on after one
// that fails. Ours run beside the others: both wait for sessions more than
// they compute, and one after the other took longer than two minutes in a
// fresh clone.
func (c *checker) run(ctx context.Context) error {
	if err := c.tree.make(ctx); err != nil {
		return err
	}
	root, err := c.tree.run(ctx, "rev-list", "--max-parents=0", "HEAD")
	if err != nil {
		return err
	}
	packages, err := c.changed(ctx, root)
	if err != nil {
		return err
	}
	skip, err := readTestList(filepath.Join(c.tree.folder, testList))
	if err != nil {
		return err
	}
	linter, err := c.linter(ctx)
	if err != nil {
		return err
	}
	modfile, err := c.modfile(ctx)
	if err != nil {
		return err
	}
	ours := make(chan error, 1)
	go func() {
		ours <- c.step(ctx, "our tests", c.root, "go", "test", "-short", "-run="+quickTests, "-modfile="+modfile, "./bgp")
	}()
	return errors.Join(
		c.step(ctx, "vet", c.tree.dir, slices.Concat([]string{"go", "vet"}, packages)...),
		c.step(ctx, "lint", c.tree.dir, slices.Concat([]string{
			linter, "run", "--allow-parallel-runners", "--config=" + filepath.Join(c.tree.folder, lintConfig), "--new-from-rev=" + root,
		}, packages)...),
		c.step(ctx, "upstream's tests", c.tree.dir, slices.Concat([]string{"go", "test", "-short", "-skip=" + skip}, packages)...),
		<-ours,
	)
}

// step runs one command and says how long it took.
func (c *checker) step(ctx context.Context, name, dir string, args ...string) error {
	begin := time.Now()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, goEnv()
	out, err := cmd.CombinedOutput()
	verdict := "passed"
	if err != nil {
		verdict = "FAILED"
		err = fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	fmt.Fprintf(c.out, "%-18s %s in %s\n", name, verdict, time.Since(begin).Round(100*time.Millisecond))
	return err
}

// changed lists the packages that the overlay, the patches and the edits in
// the work tree change, as patterns for the go command.
func (c *checker) changed(ctx context.Context, root string) ([]string, error) {
	names, err := c.tree.run(ctx, "diff", "--name-only", "--no-renames", root)
	if err != nil {
		return nil, err
	}
	more, err := c.tree.run(ctx, "ls-files", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	var packages []string
	for name := range strings.FieldsSeq(names + "\n" + more) {
		if strings.HasSuffix(name, ".go") {
			packages = append(packages, "./"+path.Dir(name))
		}
	}
	slices.Sort(packages)
	return slices.Compact(packages), nil
}

// readTestList reads upstream's tests that are left out, "TestName: reason" a
// line, and makes them a pattern for go test -skip.
func readTestList(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read list of tests: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		test, reason, ok := strings.Cut(line, ": ")
		if !ok || reason == "" {
			return "", fmt.Errorf("read list of tests: %q is not \"TestName: reason\"", line)
		}
		names = append(names, test)
	}
	return "^(" + strings.Join(names, "|") + ")$", nil
}

// linter returns the path of the linter's binary: go tool runs only inside of
// its own module.
func (c *checker) linter(ctx context.Context) (string, error) {
	args := strings.Fields(c.lint)
	if len(args) < 2 || args[0] != "go" || args[1] != "tool" {
		return c.lint, nil
	}
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"tool", "-n"}, args[2:])...)
	cmd.Dir, cmd.Env = c.root, goEnv()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build linter: %s: %w", c.lint, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// modfile makes a go.mod that replaces the engine's module by the edit tree.
// Its path stays the same, so that little is compiled again after an edit.
func (c *checker) modfile(ctx context.Context) (string, error) {
	s, _, err := c.tree.current(ctx)
	if err != nil {
		return "", err
	}
	text, err := (&engine{root: c.root, series: s}).goMod(c.tree.dir)
	if err != nil {
		return "", err
	}
	sums, err := os.ReadFile(filepath.Join(c.root, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("make go.mod: %w", err)
	}
	dir := filepath.Join(c.root, "build", "engine-check")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make go.mod: %w", err)
	}
	return filepath.Join(dir, "go.mod"), errors.Join(
		replaceFile(filepath.Join(dir, "go.sum"), sums),
		replaceFile(filepath.Join(dir, "go.mod"), text),
	)
}
