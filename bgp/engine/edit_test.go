package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// small is a module of two files with a series of two patches and one new file.
var small = map[string]string{
	seriesFile:                     "# Patches.\nupstream example.org/m v1.0.0\n\n[safety] to stay alive\nfirst\n\n[memory] to stay small\nsecond\n",
	"patches/safety/first.patch":   smallHeader("First.") + "diff --git a/m.go b/m.go\n--- a/m.go\n+++ b/m.go\n@@ -1,6 +1,6 @@\n package m\n \n-var a = 1\n+var a = 2\n \n \n \n",
	"patches/memory/second.patch":  smallHeader("Second.") + "diff --git a/m.go b/m.go\n--- a/m.go\n+++ b/m.go\n@@ -12,4 +12,4 @@ var a = 2\n \n \n \n-var b = 1\n+var b = c\n",
	"overlay/go.mod":               "module example.org/m\n",
	"overlay/sub/new.go":           "package sub\n\nconst c = 3\n",
	"../source/v1.0.0/m.go":        "package m\n\nvar a = 1\n\n\n\n\n\n\n\n\n\n\n\nvar b = 1\n",
	"../source/v1.0.0/m_test.go":   "package m\n",
	"../source/v1.1.0/m.go":        "package m\n\nvar a = 1\n\n// More.\n\n\n\n\n\n\n\n\n\n\nvar b = 1\n",
	"../source/v1.1.0/m_test.go":   "package m\n",
	"../source/v1.2.0/m.go":        "package m\n\nvar a = 9\n\n\n\n\n\n\n\n\n\n\n\nvar b = 1\n",
	"../source/v1.2.0/.gitignore":  "*.go\n",
	"../source/v1.2.0/cmd/main.go": "package main\n",
}

func smallHeader(subject string) string {
	return subject + "\n\nReason: to try.\n\nTest: none.\nUpstream: none.\nStatus: a try.\n\n"
}

// smallTree is an edit tree of the small module, just made.
func smallTree(t *testing.T) *editTree {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "engine")
	for name, text := range small {
		at := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, at, text)
	}
	tree := &editTree{
		git: git{dir: filepath.Join(t.TempDir(), "edit")}, folder: folder, out: t.Output(),
		source: func(_ context.Context, module, version string) (string, error) {
			if module != "example.org/m" {
				return "", fmt.Errorf("no module %s", module)
			}
			return filepath.Join(folder, "../source", version), nil
		},
	}
	mustMake(t, tree)
	return tree
}

func mustMake(t *testing.T, tree *editTree) {
	t.Helper()
	if err := tree.make(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mustGit(t *testing.T, tree *editTree, args ...string) string {
	t.Helper()
	out, err := tree.run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// edit replaces a text in a file of the tree.
func edit(t *testing.T, tree *editTree, name, from, to string) {
	t.Helper()
	at := filepath.Join(tree.dir, name)
	text := read(t, at)
	if !strings.Contains(text, from) {
		t.Fatalf("%s has no %q", name, from)
	}
	write(t, at, strings.Replace(text, from, to, 1))
}

// folderOf returns all files of a folder.
func folderOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := walkFiles(os.DirFS(dir), ".", func(name string) error {
		all[name] = read(t, filepath.Join(dir, name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRoundTrip: the tree has one commit a patch; saving it untouched changes
// no byte; an edit of the first patch changes that patch only, though it moves
// the lines of the second; a new file and a new patch arrive.
func TestRoundTrip(t *testing.T) {
	tree := smallTree(t)
	if got, want := mustGit(t, tree, "log", "--format=%s", "--reverse"), "example.org/m v1.0.0\noverlay\nFirst.\nSecond."; got != want {
		t.Fatalf("commits\n%s\nwant\n%s", got, want)
	}
	before := folderOf(t, tree.folder)
	if err := tree.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := folderOf(t, tree.folder); !maps.Equal(before, after) {
		t.Errorf("an untouched tree was saved as\n%v\nwant\n%v", after, before)
	}

	edit(t, tree, "m.go", "var a = 2\n", "var a = 2\n\n// More lines.\n\nvar d = 4\n")
	mustGit(t, tree, "commit", "--quiet", "--all", "--fixup=:/First")
	edit(t, tree, "sub/new.go", "3", "5")
	write(t, filepath.Join(tree.dir, "other.go"), "package m\n\nconst c = 7\n")
	mustGit(t, tree, "add", ".")
	mustGit(t, tree, "commit", "--quiet", "--fixup=:/overlay")
	edit(t, tree, "m_test.go", "package m\n", "package m\n\n// Tests.\n")
	mustGit(t, tree, "commit", "--quiet", "--all", "--message="+smallHeader("Third.")+"Patch: memory/third")
	if err := tree.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := folderOf(t, tree.folder)
	if got := after["patches/safety/first.patch"]; !strings.HasPrefix(got, smallHeader("First.")+"diff") || !strings.Contains(got, "+var d = 4\n") {
		t.Errorf("first.patch is\n%s", got)
	}
	if after["overlay/sub/new.go"] != "package sub\n\nconst c = 5\n" || after["overlay/other.go"] == "" || !strings.Contains(after[seriesFile], "second\nthird\n") {
		t.Errorf("saved\n%v", after)
	}
	var changedFiles []string
	for name, text := range after {
		if before[name] != text {
			changedFiles = append(changedFiles, name)
		}
	}
	slices.Sort(changedFiles)
	if want := []string{"overlay/other.go", "overlay/sub/new.go", "patches/memory/third.patch", "patches/safety/first.patch", seriesFile}; !slices.Equal(changedFiles, want) {
		t.Errorf("changed %v, want %v", changedFiles, want)
	}
	if unsaved, err := tree.unsaved(t.Context()); err != nil || unsaved {
		t.Errorf("after saving: unsaved %t, %v", unsaved, err)
	}
	// Of two trees with the same patches one cannot tell which was edited.
	again := *tree
	again.dir = filepath.Join(t.TempDir(), "again")
	mustMake(t, &again)
	if a, b := mustGit(t, tree, "rev-parse", "HEAD^{tree}"), mustGit(t, &again, "rev-parse", "HEAD^{tree}"); a != b {
		t.Errorf("saved tree %s, made again %s", a, b)
	}
}

// TestUnsavedEditsStay: nothing but a person throws away what is not saved.
func TestUnsavedEditsStay(t *testing.T) {
	tree := smallTree(t)
	edit(t, tree, "m.go", "var a = 2", "var a = 4")
	mustMake(t, tree)
	if !strings.Contains(read(t, filepath.Join(tree.dir, "m.go")), "var a = 4") {
		t.Error("an edit is lost")
	}
	// The patches change meanwhile, as after a pull.
	name := filepath.Join(tree.folder, "patches/safety/first.patch")
	write(t, name, strings.Replace(read(t, name), "+var a = 2", "+var a = 3", 1))
	if err := tree.make(t.Context()); !errors.Is(err, errMoved) {
		t.Errorf("made with unsaved edits of older patches: %v", err)
	}
	mustGit(t, tree, "commit", "--quiet", "--all", "--fixup=:/First")
	if err := tree.save(t.Context()); !errors.Is(err, errMoved) {
		t.Errorf("saved over newer patches: %v", err)
	}
	if !strings.Contains(read(t, name), "+var a = 3") {
		t.Error("the newer patch is lost")
	}
	mustGit(t, tree, "reset", "--quiet", "--hard", "series")
	mustMake(t, tree)
	if !strings.Contains(read(t, filepath.Join(tree.dir, "m.go")), "var a = 3") {
		t.Error("a saved tree does not follow the patches")
	}
}

// TestSaveRefuses: what the folder cannot hold, or would not give back.
func TestSaveRefuses(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, tree *editTree)
		want string
	}{
		{"what is not committed", func(t *testing.T, tree *editTree) { edit(t, tree, "m.go", "var a", "var x") }, "--fixup"},
		{"a commit that is no patch", func(t *testing.T, tree *editTree) {
			edit(t, tree, "m.go", "var a", "var x")
			mustGit(t, tree, "commit", "--quiet", "--all", "--message=Something")
		}, "Patch: group/name"},
		{"a patch without its reasons", func(t *testing.T, tree *editTree) {
			edit(t, tree, "m.go", "var a", "var x")
			mustGit(t, tree, "commit", "--quiet", "--all", "--message=Something\n\nReason: x\n\nPatch: safety/some")
		}, "\"Test: \""},
		{"a patch of no group", func(t *testing.T, tree *editTree) {
			edit(t, tree, "m.go", "var a", "var x")
			mustGit(t, tree, "commit", "--quiet", "--all", "--message="+smallHeader("Some.")+"Patch: nogroup/some")
		}, "heading"},
		{"a name that is taken", func(t *testing.T, tree *editTree) {
			edit(t, tree, "m.go", "var a", "var x")
			mustGit(t, tree, "commit", "--quiet", "--all", "--message="+smallHeader("Some.")+"Patch: safety/second")
		}, "taken"},
		{"a patch of new files alone", func(t *testing.T, tree *editTree) {
			edit(t, tree, "sub/new.go", "3", "5")
			mustGit(t, tree, "commit", "--quiet", "--all", "--message="+smallHeader("Some.")+"Patch: safety/some")
		}, "none of upstream's files"},
		{"a fixup that conflicts", func(t *testing.T, tree *editTree) {
			edit(t, tree, "m.go", "var b = c", "var b = 2")
			mustGit(t, tree, "commit", "--quiet", "--all", "--fixup=:/First")
		}, "conflict"},
		{"what git does not give back", func(t *testing.T, tree *editTree) {
			write(t, filepath.Join(tree.dir, ".gitattributes"), "*.go export-ignore\n")
			if err := os.Symlink("new.go", filepath.Join(tree.dir, "sub/link.go")); err != nil {
				t.Fatal(err)
			}
			mustGit(t, tree, "add", ".")
			mustGit(t, tree, "commit", "--quiet", "--fixup=:/overlay")
		}, "make this tree again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree := smallTree(t)
			before := folderOf(t, tree.folder)
			tt.do(t, tree)
			if err := tree.save(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if after := folderOf(t, tree.folder); !maps.Equal(before, after) {
				t.Errorf("something was saved:\n%v", after)
			}
		})
	}
}

// TestRebase: the patches move to another version, whose name the series file
// has then; a conflict is left to be resolved, and another major version and
// unsaved edits are refused.
func TestRebase(t *testing.T) {
	tree := smallTree(t)
	if err := tree.rebase(t.Context(), "v1.1.0"); err != nil {
		t.Fatal(err)
	}
	if err := tree.rebase(t.Context(), "v1.2.0"); !errors.Is(err, errUnsaved) {
		t.Errorf("rebased with unsaved edits: %v", err)
	}
	if err := tree.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(tree.folder, seriesFile)); got != strings.Replace(small[seriesFile], "v1.0.0", "v1.1.0", 1) {
		t.Errorf("series\n%s", got)
	}
	if got := read(t, filepath.Join(tree.dir, "m.go")); !strings.Contains(got, "var a = 2\n\n// More.") {
		t.Errorf("m.go is\n%s", got)
	}
	if err := tree.rebase(t.Context(), "v2.0.0"); err == nil || !strings.Contains(err.Error(), "major") {
		t.Errorf("another major version: %v", err)
	}
	if err := tree.rebase(t.Context(), "v1.2.0"); err == nil || !strings.Contains(err.Error(), "conflicts in m.go") {
		t.Errorf("conflict: %v", err)
	}
	if err := tree.save(t.Context()); err == nil || !strings.Contains(err.Error(), "resolve") {
		t.Errorf("saved within a rebase: %v", err)
	}
	edit(t, tree, "m.go", read(t, filepath.Join(tree.dir, "m.go")), strings.Replace(small["../source/v1.2.0/m.go"], "a = 9", "a = 2", 1))
	mustGit(t, tree, "add", "m.go")
	mustGit(t, tree, "rebase", "--continue")
	if err := tree.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := folderOf(t, tree.folder); !strings.Contains(got[seriesFile], "m v1.2.0\n") || !strings.Contains(got["patches/safety/first.patch"], "-var a = 9\n") {
		t.Errorf("saved\n%v", got)
	}
}

// TestOurRoundTrip: the series of this folder makes an edit tree, which makes
// the same series, and the tree has all that the copy has.
func TestOurRoundTrip(t *testing.T) {
	s := ourSeries(t)
	folder := t.TempDir()
	if err := s.write(folder); err != nil {
		t.Fatal(err)
	}
	written := folderOf(t, folder)
	for name, text := range written {
		if read(t, name) != text {
			t.Errorf("%s is written back in other words", name)
		}
	}
	tree := &editTree{git: git{dir: filepath.Join(t.TempDir(), "edit")}, folder: folder, source: source, out: t.Output()}
	mustMake(t, tree)
	if err := tree.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if saved := folderOf(t, folder); !maps.Equal(saved, written) {
		t.Error("an untouched tree was saved as another series")
	}
	if n := strings.Count(mustGit(t, tree, "log", "--format=%h")+"\n", "\n"); n != len(s.patches)+2 {
		t.Errorf("%d commits, want upstream's, the overlay's and one for each of %d patches", n, len(s.patches))
	}
	root := gobgpTree(t)
	for name, text := range folderOf(t, root) {
		if got := read(t, filepath.Join(tree.dir, name)); got != text {
			t.Errorf("%s differs between the copy and the edit tree", name)
		}
	}
}

// gobgpTree makes the copy and returns its folder.
func gobgpTree(t *testing.T) string {
	t.Helper()
	e := engineOf(t, tree(t, ourSeries(t).version), ourSeries(t))
	if err := e.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e.copyPath
}
