package bed

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlanToEvents runs a plan, as the guest does, through the frames and the
// real test2json. The "test binaries" are shell scripts that print what a test
// binary prints.
func TestPlanToEvents(t *testing.T) {
	tests := []struct {
		name   string
		script string
		want   map[TestID]Outcome
	}{
		{
			"pass and skip", `printf '\026=== RUN   TestA\n\026--- PASS: TestA (0.10s)\n\026=== RUN   TestB\n\026--- SKIP: TestB (0.00s)\n    b_test.go:3: needs\n\026PASS\n'`,
			map[TestID]Outcome{{"p", "TestA"}: Passed, {"p", "TestB"}: Skipped, {"p", ""}: Passed},
		},
		{
			"fail", `printf '\026=== RUN   TestA\n\026--- FAIL: TestA (0.10s)\n\026FAIL\n'; exit 1`,
			map[TestID]Outcome{{"p", "TestA"}: Failed, {"p", ""}: Failed},
		},
		{
			"panic without newline at the end", `printf '\026=== RUN   TestA\npanic: oh no'; exit 2`,
			map[TestID]Outcome{{"p", "TestA"}: Unfinished, {"p", ""}: Failed},
		},
		{
			"killed after all passed", `printf '\026=== RUN   TestA\n\026--- PASS: TestA (0.10s)\n\026PASS\n'; kill -9 $$`,
			map[TestID]Outcome{{"p", "TestA"}: Passed, {"p", ""}: Failed},
		},
		{"no such binary", "", map[TestID]Outcome{{"p", ""}: Failed}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := step{Package: "p", Dir: dir, Binary: filepath.Join(dir, "p.test")}
			if tt.script != "" {
				if err := os.WriteFile(s.Binary, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := writePlan(dir, []step{s}); err != nil {
				t.Fatal(err)
			}
			l := NewLedger()
			conv := &converter{ctx: t.Context(), book: func(ev Event) { l.Add(UML, ev) }}
			if err := RunPlan(dir, oneByOne{conv.frames()}); err != nil {
				t.Fatal(err)
			}
			if err := conv.close(); err != nil {
				t.Fatal(err)
			}
			got := map[TestID]Outcome{}
			for id, rec := range l.beds[UML] {
				got[id] = rec.outcome
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// oneByOne cuts what is written into single bytes, as a slow line may.
type oneByOne struct {
	w interface{ Write([]byte) (int, error) }
}

func (o oneByOne) Write(p []byte) (int, error) {
	for i := range p {
		if n, err := o.w.Write(bytes.Clone(p[i : i+1])); err != nil {
			return i + n, err
		}
	}
	return len(p), nil
}

func TestMissing(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"/usr/sbin/bird", "/bin/ip"} {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := []debianPackage{debianPackages["iproute2"], debianPackages["bird2"], debianPackages["gcc"]}
	got := mapSlice(missing(root, list), func(p debianPackage) string { return p.name })
	// bird2 is half there: birdc is missing.
	if diff := cmp.Diff([]string{"bird2", "gcc"}, got); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

func TestPackagesFor(t *testing.T) {
	got := mapSlice(packagesFor([]Need{NeedUML, NeedRace, NeedUML}), func(p debianPackage) string { return p.name })
	seen := map[string]bool{}
	for _, name := range got {
		if seen[name] || name == "" {
			t.Errorf("packages = %q: a name is double or empty", got)
		}
		seen[name] = true
	}
	for _, name := range []string{"user-mode-linux", "kmod", "gcc", "libc6-dev"} {
		if !seen[name] {
			t.Errorf("packages = %q lack %s", got, name)
		}
	}
}

func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for path, keep := range map[string]bool{"a/b.go": true, "a/testdata/x": true, ".git/config": false, "bin/onlinkd": false, "a/bin/kept": true} {
		full := filepath.Join(from, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_, err := os.Stat(filepath.Join(to, path))
			if (err == nil) != keep {
				t.Errorf("%s: copied %t, want %t", path, err == nil, keep)
			}
		}()
	}
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
}
