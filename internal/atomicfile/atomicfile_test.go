package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.conf")
	var file fs.FileInfo
	for _, step := range []struct {
		name string
		data string
		mode fs.FileMode
		same bool // the file is the one of the step before
	}{
		{"new", "one", 0o600, false},
		{"other content", "two", 0o600, false},
		{"nothing to do", "two", 0o600, true},
		{"other mode", "two", 0o644, false},
		{"empty", "", 0o644, false},
	} {
		if err := Replace(path, []byte(step.data), step.mode); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != step.data {
			t.Errorf("%s: the file holds %q (%v)", step.name, got, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != step.mode {
			t.Errorf("%s: mode %v, want %v", step.name, info.Mode(), step.mode)
		}
		if file != nil && os.SameFile(file, info) != step.same {
			t.Errorf("%s: the same file: %v, want %v", step.name, !step.same, step.same)
		}
		file = info
	}
	onlyFile(t, dir, "a.conf")
}

// TestReplaceFails: what cannot take the place of path leaves nothing behind.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "folder", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "folder"), []byte("x"), 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	onlyFile(t, dir, "folder")
	if err := Replace(filepath.Join(dir, "none", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	if err := SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("syncing a folder that is not there: %v", err)
	}
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the folder holds %v (%v)", entries, err)
	}
}
