package admin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProcessText: a process is shown with its name and its parent, and the name cannot
// look like another author.
func TestProcessText(t *testing.T) {
	self, _ := processOf(int32(os.Getpid()))
	if self == "" {
		t.Fatal("this process has no name")
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	named := filepath.Join(t.TempDir(), "a), root (b")
	if err := os.Symlink(sleep, named); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), named, "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()         //nolint:errcheck // killed
	defer child.Process.Kill() //nolint:errcheck // it runs
	got := processText(int32(child.Process.Pid))
	if want := fmt.Sprintf(" a?? root ?b, of pid %d %s", os.Getpid(), self); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, pid := range []int32{0, -1, 1 << 30} {
		if got := processText(pid); got != "" {
			t.Errorf("process %d: %q", pid, got)
		}
	}
}
