package labtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestMakeLint: without a LINT of the caller's, make runs the linter that tools.mod
// names, not lint(1), which is make's own value of the variable.
func TestMakeLint(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "-n", "lint", "engine-check")
	cmd.Dir = "../.."
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "LINT=") || strings.HasPrefix(kv, "MAKE") || strings.HasPrefix(kv, "MFLAGS=")
	})
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, want := range []string{"go tool -modfile=tools/tools.mod golangci-lint run", "-lint 'go tool -modfile=tools/tools.mod golangci-lint'"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("make -n lint engine-check does not run %q:\n%s", want, text)
		}
	}
}
