package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestHeldFile: a file that would end every session, and one that would withdraw most
// of what is announced, change nothing until they are confirmed: one problem of status
// says why, and sessions and announcements stay.
func TestHeldFile(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("held"))
	n, other := l.Node("r1n1"), l.Node("r1n2")
	with := n.Config()
	with.BGP.Originate = []string{"192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26", "192.0.2.192/26"}
	labtest.Reload(ctx, t, n, with)
	before := labtest.Sessions(ctx, t, n)
	mine := labtest.BlockOf(ctx, t, n)

	silent := n.Config()
	silent.BGP.Originate = with.BGP.Originate
	silent.BGP.Filters = []conf.Filter{{Name: "nothing", Rules: []conf.FilterRule{{Action: "reject"}}}}
	for _, p := range silent.BGP.Peers {
		p.Export.Filters = []string{"nothing"}
	}
	alone := n.Config()
	alone.BGP.Peers = nil
	for _, c := range []struct {
		name string
		next *conf.Config
		want string
	}{
		{"no session", alone, "it would remove every session"},
		{"no announcement", silent, " announcements ("},
	} {
		text, err := c.next.YAML()
		must(t, err)
		must(t, os.WriteFile(n.ConfigFile(), text, 0o600))
		must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
		must(t, lab.Eventually(ctx, labtest.Patience, c.name+" is held", func() error { return labtest.Problem(ctx, n, c.want) }))
		st, err := n.Status(ctx)
		must(t, err)
		held := 0
		for _, p := range st.GetProblems() {
			if strings.Contains(p, "held") || strings.Contains(p, "not in force") {
				held++
			}
		}
		if held != 1 {
			t.Errorf("%s: %d alarms, want one: %q", c.name, held, st.GetProblems())
		}
		out, err := n.Ctl(ctx, "config", "reload")
		must(t, err)
		if out.Code == 0 || !strings.Contains(out.Stderr, c.want) || !strings.Contains(out.Stderr, "onlinkctl config confirm") {
			t.Errorf("%s: exit code %d, %s", c.name, out.Code, out.Stderr)
		}
		for name, was := range before {
			same(t, name, was, labtest.Sessions(ctx, t, n)[name])
		}
		must(t, labtest.ThroughHops(other, mine, n.Addr))
	}
	if out, err := n.Ctl(ctx, "config", "confirm"); err != nil || out.Code != 0 {
		t.Fatalf("confirm: %v, %s", err, out.Stderr)
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the confirmed file withdraws", func() error { return labtest.ThroughHops(other, mine) }))
	if err := labtest.Problem(ctx, n, "held"); err == nil {
		t.Error("the alarm outlives the confirmation")
	}
	labtest.Reload(ctx, t, n, with)
	must(t, lab.Eventually(ctx, labtest.Patience, "announced again", func() error { return labtest.ThroughHops(other, mine, n.Addr) }))

	out, err := n.Ctl(ctx, "config", "remove-peer", "nobody")
	must(t, err)
	if out.Code == 0 {
		t.Error("an unknown peer was removed")
	}
	text, err := alone.YAML()
	must(t, err)
	path, err := n.WriteText("alone.yaml", text)
	must(t, err)
	if out, err = n.Ctl(ctx, "config", "apply", path); err != nil || out.Code == 0 || !strings.Contains(out.Stdout, "held, nothing changed: it would remove every session") {
		t.Errorf("apply: %v, exit code %d, %s%s", err, out.Code, out.Stdout, out.Stderr)
	}
	if got := len(labtest.Sessions(ctx, t, n)); got != len(before) {
		t.Errorf("%d sessions, want %d", got, len(before))
	}
	if out, err = n.Ctl(ctx, "config", "apply", path, "--confirm"); err != nil || out.Code != 0 {
		t.Errorf("apply --confirm: %v, %s", err, out.Stderr)
	}
}

// TestHeldRestart: a restart takes the file as it is, also one that was held, as status
// said before; what was held from the API is in no file, and forgotten.
func TestHeldRestart(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("heldstart"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	start := func(want int) {
		t.Helper()
		must(t, n.Start(ctx)) // without a peer it is never in sync
		must(t, lab.Eventually(ctx, labtest.Patience, "the sessions of the file", func() error {
			st, err := n.Status(ctx)
			if err == nil && (int(st.GetPeersTotal()) != want || int(st.GetPeersEstablished()) != want || len(st.GetHeld()) > 0) {
				err = fmt.Errorf("%d of %d sessions up, held %v", st.GetPeersEstablished(), st.GetPeersTotal(), st.GetHeld())
			}
			return err
		}))
	}
	start(1)
	alone := n.Config()
	alone.BGP.Peers = nil
	text, err := alone.YAML()
	must(t, err)
	path, err := n.WriteText("alone.yaml", text)
	must(t, err)
	out, err := n.Ctl(ctx, "config", "apply", path)
	if err != nil || out.Code == 0 {
		t.Errorf("config apply: %v, exit code %d, %s", err, out.Code, out.Stdout)
	}
	must(t, labtest.Problem(ctx, n, "it would remove every session"))
	must(t, n.Stop())
	start(1)
	if out, err = n.Ctl(ctx, "config", "confirm"); err != nil || out.Code == 0 {
		t.Errorf("a change of the agent before is confirmed: %v, %s", err, out.Stdout)
	}

	must(t, os.Rename(path, n.ConfigFile()))
	must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
	must(t, lab.Eventually(ctx, labtest.Patience, "the file is held", func() error {
		return labtest.Problem(ctx, n, "correct the file, which a restart of onlinkd takes as it is, or confirm it")
	}))
	must(t, n.Stop())
	n.Edit = func(c *conf.Config) { *c = *alone } // the start writes the same text
	start(0)
}
