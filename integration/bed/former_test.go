package bed

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLastVersion: a tag goes before the branch, and main is compared with the commit
// before.
func TestLastVersion(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@onlink.invalid"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commit := func() string {
		git("commit", "-q", "--allow-empty", "-m", "x")
		return git("rev-parse", "HEAD")
	}
	want := func(name, ref, hash string) {
		t.Helper()
		got, err := lastVersion(t.Context(), dir)
		if err != nil || got != ref || git("rev-parse", got+"^{commit}") != hash {
			t.Errorf("%s: %q, %v; want %s", name, got, err, ref)
		}
	}
	git("init", "-q", "-b", "main")
	first := commit()
	second := commit()
	want("on main", "HEAD^", first)
	git("checkout", "-q", "-b", "topic")
	commit()
	want("on a branch", second, second)
	git("tag", "v0.1.0", first)
	want("with a tag", "v0.1.0", first)
	git("tag", "v0.2.0")
	want("at the next tag", "v0.1.0", first)
	if _, err := lastVersion(t.Context(), filepath.Join(dir, "..")); err == nil {
		t.Error("a version without git")
	}
}
