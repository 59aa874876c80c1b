package uml

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweepStale(t *testing.T) {
	base := t.TempDir()
	old := time.Now().Add(-2 * staleAge)
	dirs := map[string]struct {
		modified time.Time
		locked   bool
		kept     bool
	}{
		runDirPrefix + "left":    {modified: old, kept: false},
		runDirPrefix + "running": {modified: old, locked: true, kept: true},
		runDirPrefix + "young":   {modified: time.Now(), kept: true},
		"onlink-other":           {modified: old, kept: true},
	}
	for name, d := range dirs {
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, d.modified, d.modified); err != nil {
			t.Fatal(err)
		}
		if d.locked {
			lock, err := lockDir(path)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
		}
	}
	sweepStale(base)
	for name, d := range dirs {
		if _, err := os.Stat(filepath.Join(base, name)); (err == nil) != d.kept {
			t.Errorf("%s: kept %t, want %t", name, err == nil, d.kept)
		}
	}
}

func TestOthersMayEnter(t *testing.T) {
	root := t.TempDir()
	private := filepath.Join(root, "private")
	inside := filepath.Join(private, "inside")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/": true, "/usr": true, inside: false, private: false, "/nonexistent": false} {
		if got := othersMayEnter(path); got != want {
			t.Errorf("othersMayEnter(%s) = %t, want %t", path, got, want)
		}
	}
}
