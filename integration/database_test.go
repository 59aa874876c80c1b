package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestDatabase takes the database away from under running pods in every way:
// none of their addresses is given out again, and all of them still answer.
func TestDatabase(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("database"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx)) // without its peer an agent waits a while
	labtest.StartNode(ctx, t, n)
	file, copied := filepath.Join(n.StateDir(), "onlink.db"), filepath.Join(t.TempDir(), "copy.db")
	add := func(name string) {
		t.Helper()
		_, err := n.AddPod(ctx, name)
		must(t, err)
		labtest.CheckUnique(ctx, t, l)
	}
	add("one")
	labtest.WantCtl(ctx, t, n, 0, "bytes", "ipam", "backup", copied)
	add("two")

	t.Run("fsck", func(t *testing.T) {
		out, err := n.Exec(ctx, lab.Command{Program: "onlinkd", Args: []string{"fsck", "--config", n.ConfigFile()}})
		must(t, err)
		if out.Code == 0 || !strings.Contains(out.Stderr, "in use by process") {
			t.Errorf("of a running agent: exit code %d, %s; want that it is in use", out.Code, out.Stderr)
		}
		must(t, n.Stop())
		out, err = n.Exec(ctx, lab.Command{Program: "onlinkd", Args: []string{"fsck", "--config", n.ConfigFile()}})
		must(t, err)
		if out.Code != 0 || out.Stdout != "ok\n" {
			t.Errorf("exit code %d, want 0\n%s%s", out.Code, out.Stdout, out.Stderr)
		}
	})
	t.Run("older backup restored", func(t *testing.T) {
		text, err := os.ReadFile(copied)
		must(t, err)
		must(t, os.WriteFile(file, text, 0o600))
		out, err := n.Exec(ctx, lab.Command{Program: "onlinkd", Args: []string{"fsck", "--config", n.ConfigFile()}})
		must(t, err)
		if out.Code == 0 || !strings.Contains(out.Stdout, "lab/two") {
			t.Errorf("fsck does not miss the newer pod: exit code %d\n%s", out.Code, out.Stdout)
		}
		labtest.StartNode(ctx, t, n)
		labtest.WantCtl(ctx, t, n, 0, " 0 problems", "ipam", "check")
		add("three")
	})
	t.Run("file lost", func(t *testing.T) {
		must(t, n.Kill())
		must(t, os.Remove(file))
		labtest.StartNode(ctx, t, n)
		labtest.WantCtl(ctx, t, n, 0, "3 attachments", "ipam", "check")
		add("four") // from a recovered block: claims wait
		must(t, labtest.Problem(ctx, n, "it was lost"))
	})
	t.Run("file damaged", func(t *testing.T) {
		must(t, n.Kill())
		must(t, os.WriteFile(file, []byte(strings.Repeat("garbage ", 4096)), 0o600))
		p, err := n.Run("onlinkd", n.LogFile(), "onlinkd", "--config", n.ConfigFile(), "--repair-database")
		must(t, err)
		defer func() { must(t, p.Stop()) }()
		must(t, lab.Eventually(ctx, labtest.SettleLimit, "the repaired agent answers", func() error {
			_, err := n.Status(ctx)
			return err
		}))
		labtest.WantCtl(ctx, t, n, 0, "4 attachments", "ipam", "check")
		add("five")
		aside, err := filepath.Glob(file + ".corrupt-*")
		if err != nil || len(aside) != 1 {
			t.Errorf("moved aside: %v, %v; want one file", aside, err)
		}
		labtest.WantCtl(ctx, t, n, 1, "", "ipam", "release", l.Pods()[0].Addr().String())
		labtest.WantCtl(ctx, t, n, 0, "is free", "ipam", "release", l.Pods()[0].Addr().String(), "--force")
		labtest.WantCtl(ctx, t, n, 0, "4 attachments", "ipam", "check")
	})
}
