package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// tree makes a module that requires version, inside a git repository whose
// settings would spoil patches, and returns its folder.
func tree(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{{"init", "-q"}, {"config", "core.autocrlf", "true"}, {"config", "apply.whitespace", "error-all"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", args[0], err, out)
		}
	}
	write(t, filepath.Join(dir, "go.mod"), "module try\n\ngo 1.26.0\n\nrequire "+gobgp+" "+version+"\n")
	write(t, filepath.Join(dir, "go.sum"), gobgp+" v3.37.0 h1:+ObuOdvj7G7nxrT0fKFta+EAupdWf/q1WzbXydr8IOY=\n"+
		gobgp+" v3.37.0/go.mod h1:kVHVFy1/fyZHJ8P32+ctvPeJogn9qKwa1YCeMRXXrP0=\n")
	return dir
}

const gobgp = "github.com/osrg/gobgp/v3"

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func engineOf(t *testing.T, root string, s *series) *engine {
	t.Helper()
	e, err := newEngine(root, "build/engine", s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ourSeries is the one of this folder.
func ourSeries(t *testing.T) *series {
	t.Helper()
	s, err := readSeries(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// seriesOf is a series of one patch.
func seriesOf(diff string) *series {
	return &series{module: gobgp, version: "v3.37.0", patches: []patch{{group: "safety", name: "no", diff: diff}}}
}

// TestEnsure: the copy is patched, licensed and free of tests; a second run
// changes nothing; an edited copy is made again; go.sum is not touched.
func TestEnsure(t *testing.T) {
	root := tree(t, ourSeries(t).version)
	sums := read(t, filepath.Join(root, "go.sum"))
	e := engineOf(t, root, ourSeries(t))
	if err := e.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(root, "build/engine/go.mod")); !strings.Contains(got, "replace "+gobgp+" => ./build/engine/gobgp-") {
		t.Errorf("no replacement in\n%s", got)
	}
	fsm := filepath.Join(e.copyPath, "pkg/server/fsm.go")
	if got := read(t, fsm); !strings.Contains(got, "tell(panicEvent(") || strings.Contains(got, "\r") {
		t.Error("fsm.go is not patched, or its line ends are changed")
	}
	read(t, filepath.Join(e.copyPath, "LICENSE"))
	for _, f := range e.series.overlay {
		if !strings.HasSuffix(f.name, "_test.go") && read(t, filepath.Join(e.copyPath, f.name)) != f.text {
			t.Errorf("%s is not as in the overlay", f.name)
		}
	}
	err := filepath.WalkDir(e.copyPath, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s is in the copy", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(e.copyPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(e.copyPath); err != nil || !os.SameFile(before, after) {
		t.Errorf("the second run made the copy again (%v)", err)
	}
	write(t, fsm, "package server\n")
	if err := e.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read(t, fsm), "tell(panicEvent(") {
		t.Error("an edited copy was kept")
	}
	if read(t, filepath.Join(root, "go.sum")) != sums {
		t.Error("go.sum of the tree changed")
	}
}

// TestEnsureAtOnce: runs side by side neither fail nor see half a copy.
func TestEnsureAtOnce(t *testing.T) {
	s := ourSeries(t)
	root := tree(t, s.version)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			e, err := newEngine(root, "build/engine", s)
			if err == nil {
				err = e.ensure(t.Context())
			}
			if err != nil {
				t.Error(err)
			} else if !e.whole() {
				t.Error("the copy is not whole")
			}
		})
	}
	wg.Wait()
	halves, err := filepath.Glob(filepath.Join(root, "build/engine/half-*"))
	if err != nil || len(halves) > 0 {
		t.Errorf("left behind: %v, %v", halves, err)
	}
}

// TestRefusals: another version, a patch that does not apply, and a run that
// was stopped leave no engine behind.
func TestRefusals(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, tt := range []struct {
		name, version string
		ctx           context.Context
		series        *series
		want          string
	}{
		{"another version", "v3.36.0", t.Context(), ourSeries(t), "v3.36.0"},
		{"patch of other lines", "v3.37.0", t.Context(), seriesOf("diff --git a/LICENSE b/LICENSE\n--- a/LICENSE\n+++ b/LICENSE\n@@ -1,1 +1,1 @@\n-no such line\n+x\n"), "safety/no"},
		{"patch of nothing", "v3.37.0", t.Context(), seriesOf("text\n"), "changes no file"},
		{"overlay of a file of upstream's", "v3.37.0", t.Context(), &series{module: gobgp, version: "v3.37.0", overlay: []file{{"LICENSE", "x"}}}, "LICENSE too"},
		{"stopped", "v3.37.0", stopped, ourSeries(t), "canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.version)
			e := engineOf(t, root, tt.series)
			if err := e.ensure(tt.ctx); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			left, err := filepath.Glob(filepath.Join(root, "build/engine/[gh]*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if _, err := newEngine(t.TempDir(), "../outside", &series{}); err == nil {
		t.Error("a folder outside of the module was taken")
	}
}

var testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+`)

// TestHeaders: every patch says why it is there, what proves it, what upstream
// does and why upstream does not have it, and the tests it names exist; so do
// those that a file of the overlay names.
func TestHeaders(t *testing.T) {
	var tests strings.Builder
	for _, pattern := range []string{"../*_test.go", "../*/*_test.go", "../../integration/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", pattern, err)
		}
		for _, f := range files {
			tests.WriteString(read(t, f))
		}
	}
	s := ourSeries(t)
	texts := map[string]string{}
	for _, p := range s.patches {
		if err := p.check(s); err != nil {
			t.Error(err)
		}
		texts[p.id()] = p.header
	}
	for _, f := range s.overlay {
		texts[f.name] = f.text
		head, _, _ := strings.Cut(f.text, "\n")
		id := strings.TrimSuffix(strings.TrimPrefix(head, "// Part of the patch "), ".")
		if texts[id] == "" && !strings.HasPrefix(head, "// Part of no patch: ") {
			t.Errorf("%s begins with %q, which names no patch that it is part of", f.name, head)
		}
	}
	for name, text := range texts {
		for _, test := range testName.FindAllString(text, -1) {
			if !strings.Contains(tests.String(), "func "+test+"(") {
				t.Errorf("%s names %s, which is neither in bgp nor in integration", name, test)
			}
		}
	}
}
