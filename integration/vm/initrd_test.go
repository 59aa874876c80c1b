package vm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInitrd reads back what was written, by the format's description.
func TestInitrd(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"vminit": "PID 1", "9p.ko": "odd", "virtio.ko": strings.Repeat("x", 4096)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "initrd")
	if err := writeInitrd(path, filepath.Join(dir, "vminit"), []string{filepath.Join(dir, "virtio.ko"), filepath.Join(dir, "9p.ko")}); err != nil {
		t.Fatalf("writeInitrd: %v", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"proc 40755 0", "sys 40755 0", "dev 40755 0", "modules 40755 0", "lower 40755 0", "upper 40755 0", "root 40755 0",
		"init 100755 5", "modules/00-virtio.ko 100755 4096", "modules/01-9p.ko 100755 3",
	}
	if diff := cmp.Diff(want, entries(t, raw)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	if !bytes.Contains(raw, []byte("PID 1")) {
		t.Error("the archive lacks init's content")
	}
}

// entries lists an archive of the form newc.
func entries(t *testing.T, raw []byte) []string {
	t.Helper()
	up := func(n int) int { return (n + 3) &^ 3 }
	var list []string
	for at := 0; ; {
		var ino, mode, size, nameSize, skip int
		_, err := fmt.Sscanf(string(raw[at:at+110]), "070701%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x",
			&ino, &mode, &skip, &skip, &skip, &skip, &size, &skip, &skip, &skip, &skip, &nameSize, &skip)
		if err != nil {
			t.Fatalf("header at %d: %v", at, err)
		}
		name := string(raw[at+110 : at+110+nameSize-1])
		if name == "TRAILER!!!" {
			return list
		}
		list = append(list, fmt.Sprintf("%s %o %d", name, mode, size))
		at = up(up(at+110+nameSize) + size)
	}
}
