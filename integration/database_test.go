package integration

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"onlink/integration/lab"
)

// TestDatabase takes the database away from under running pods in every way:
// none of their addresses is given out again, and all of them still answer.
func TestDatabase(t *testing.T) {
	ctx, l := build(t, alone("database"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx)) // without its peer an agent waits a while
	up(ctx, t, n)
	file, copied := filepath.Join(n.StateDir(), "onlink.db"), filepath.Join(t.TempDir(), "copy.db")
	add := func(name string) {
		t.Helper()
		_, err := n.AddPod(ctx, name)
		must(t, err)
		checkUnique(ctx, t, l)
	}
	add("one")
	wantCtl(ctx, t, n, 0, "bytes", "ipam", "backup", copied)
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
		up(ctx, t, n)
		wantCtl(ctx, t, n, 0, " 0 problems", "ipam", "check")
		add("three")
	})
	t.Run("file lost", func(t *testing.T) {
		must(t, n.Kill())
		must(t, os.Remove(file))
		up(ctx, t, n)
		wantCtl(ctx, t, n, 0, "3 attachments", "ipam", "check")
		add("four") // from a recovered block: claims wait
		must(t, problem(ctx, n, "it was lost"))
	})
	t.Run("file damaged", func(t *testing.T) {
		must(t, n.Kill())
		must(t, os.WriteFile(file, []byte(strings.Repeat("garbage ", 4096)), 0o600))
		p, err := n.Run("onlinkd", n.LogFile(), "onlinkd", "--config", n.ConfigFile(), "--repair-database")
		must(t, err)
		defer func() { must(t, p.Stop()) }()
		must(t, lab.Eventually(ctx, settleLimit, "the repaired agent answers", func() error {
			_, err := n.Status(ctx)
			return err
		}))
		wantCtl(ctx, t, n, 0, "4 attachments", "ipam", "check")
		add("five")
		aside, err := filepath.Glob(file + ".corrupt-*")
		if err != nil || len(aside) != 1 {
			t.Errorf("moved aside: %v, %v; want one file", aside, err)
		}
		wantCtl(ctx, t, n, 1, "", "ipam", "release", l.Pods()[0].Addr().String())
		wantCtl(ctx, t, n, 0, "is free", "ipam", "release", l.Pods()[0].Addr().String(), "--force")
		wantCtl(ctx, t, n, 0, "4 attachments", "ipam", "check")
	})
}

// checkUnique wants every pod to have an address of its own, and to answer.
func checkUnique(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	var seen []string
	for _, p := range l.Pods() {
		if slices.Contains(seen, p.Addr().String()) {
			t.Errorf("%s has %v, as another pod", p.Name, p.Addr())
		}
		seen = append(seen, p.Addr().String())
		if _, err := p.Node.NS.Ping(ctx, p.Addr(), 1, back); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

// wantCtl runs onlinkctl and wants an exit code and a word of output.
func wantCtl(ctx context.Context, t *testing.T, n *lab.Node, code int, word string, args ...string) {
	t.Helper()
	out, err := n.Ctl(ctx, args...)
	must(t, err)
	if out.Code != code || !strings.Contains(out.Stdout, word) {
		t.Errorf("onlinkctl %v: exit code %d, want %d with %q\n%s%s", args, out.Code, code, word, out.Stdout, out.Stderr)
	}
}
