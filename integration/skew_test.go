package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"onlink/integration/labtest"
)

// TestPluginOfAnotherVersion: the agent serves a plugin of another version, and status has
// a note with both versions until the one of this version calls.
func TestPluginOfAnotherVersion(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("skew"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	labtest.StartNode(ctx, t, n)
	noted := func() bool {
		t.Helper()
		out, err := n.Ctl(ctx, "status")
		must(t, err)
		return strings.Contains(out.Stdout, `the runtime calls onlink-cni "v0.0.1", and the agent is "v`)
	}
	dir := t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-X onlink/cni/shim.Version=v0.0.1", "-o", filepath.Join(dir, "older"), "../cmd/onlink-cni")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	older := labtest.NewNetwork(t, n, "1.1.0", map[string]any{"type": "older", "socket": n.CNISocket()})
	older.AlsoIn(dir)
	must(t, older.Status(ctx))
	if !noted() {
		t.Error("a plugin of another version is no note")
	}
	must(t, labtest.NewNetwork(t, n, "1.1.0", labtest.Onlink(n)).Status(ctx))
	if noted() {
		t.Error("it is a note still, after a call of the agent's own version")
	}
}
