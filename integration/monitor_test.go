package integration

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/labtest"
	"onlink/internal/identity"
)

// TestMonitor: an operator watches a reflector on the whole screen of a terminal: drills
// down, filters, resizes, sees a session go and come, the agent go and come, and finds the
// terminal as it was.
func TestMonitor(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.InRack("monitor"))
	rr, n := l.Reflectors()[0], l.Node("r1n1")
	client := n.Addr.String()
	ca := labtest.NewAuthority(t)
	server := ca.Issue(t, identity.Node, rr.Name, rr.Addr)
	rr.Edit = func(c *conf.Config) {
		c.API.Admin.TCP, c.API.Admin.TLS = netip.AddrPortFrom(rr.Addr, 9180).String(), server
	}
	labtest.StartAll(ctx, t, l)
	argv := []string{filepath.Join(labtest.Bin(), "onlinkctl"), "--socket", rr.AdminSocket(), "monitor", "--interval", "500ms"}
	env := []string{"TERM=xterm-256color", "LANG=C.UTF-8"}
	x := labtest.OpenTerminal(t, rr.NS, 80, 24, env, argv...)

	x.Shows(ctx, rr.Name+" ("+rr.Addr.String()+")", "route reflector", "Agent   live", "ready, in sync, serving", "sessions 2/2", client, "Established", "POOL")
	t.Logf("the overview:\n%s", x.Screen())
	if n := x.Colours(); n < 2 {
		t.Errorf("text in %d colours, want those of its meaning too", n)
	}

	// Down to the session of the client, and back.
	x.Type("/" + client + "\r")
	x.Shows(ctx, `SESSIONS with "`+client+`"`, "> "+client)
	x.Type("\r")
	x.Shows(ctx, "── SESSION "+client+"*", "Established for", "graceful restart")
	t.Logf("a session:\n%s", x.Screen())
	x.Type("\x1b[6~") // PgDn
	x.Shows(ctx, "KEEPALIVE", "upd/s")
	x.Type("\x7f") // Backspace: back
	x.Shows(ctx, "ADDRESSES")
	x.Type("\x1b") // ends the filter
	x.Shows(ctx, "SESSIONS ─", l.Node("r1n2").Addr.String())

	// The blocks of a pool: two panes further.
	x.Type("\t\t\r")
	x.Shows(ctx, "BLOCKS of pool")
	x.Type("\x7f?")
	x.Shows(ctx, "Shift-Tab")
	x.Type("?")

	x.Resize(160, 50)
	x.Shows(ctx, "PEER         ADDRESS        AS", client+"*  "+client)
	x.Resize(40, 10)
	x.Shows(ctx, "The terminal is 40x10")
	x.Resize(80, 24)
	x.Shows(ctx, "Agent   live")

	// The events pane, where a peer that is killed shows with the reason.
	x.Type("\t")
	must(t, n.Kill())
	x.Shows(ctx, "session "+client+"* went down")
	t.Logf("a peer went down:\n%s", x.Screen())
	must(t, n.Start(ctx))
	x.Shows(ctx, "session "+client+"* came up")

	// The agent is gone: the last data stays. It is back: so is the monitor.
	must(t, rr.Kill())
	x.Shows(ctx, "Agent   no answer for", "the agent is not running", client)
	t.Logf("no agent:\n%s", x.Screen())
	must(t, rr.Start(ctx))
	x.Shows(ctx, "Agent   live", "the agent answers again", "the agent was started again")

	if x.Restored() == nil {
		t.Error("the terminal of a running monitor is as before: the check below proves nothing")
	}
	x.Type("q")
	if code := x.Ended(ctx); code != 0 {
		t.Errorf("exit code %d after q", code)
	}
	x.WantRestored(ctx)

	// The same from another machine, for which the role viewer suffices; a signal ends it
	// as orderly.
	env = slices.Concat(env, []string{"NO_COLOR=1"}, remoteEnv(ca.Issue(t, identity.Viewer, "bob"), rr))
	y := labtest.OpenTerminal(t, n.NS, 80, 24, env, argv[0], "monitor", "--interval", "500ms")
	y.Shows(ctx, rr.Name+" ("+rr.Addr.String()+")", "Agent   live", "Established")
	must(t, rr.Kill())
	y.Shows(ctx, "Agent   no answer for", "no process listens on "+rr.Addr.String())
	must(t, rr.Start(ctx))
	y.Shows(ctx, "Agent   live", "the agent was started again")
	y.Type("/" + client + "\r\r")
	y.Shows(ctx, "── SESSION "+client+"*", "Established for")
	if n := y.Colours(); n != 1 {
		t.Errorf("text in %d colours in spite of NO_COLOR", n)
	}
	y.Signal(syscall.SIGTERM)
	y.Ended(ctx)
	y.WantRestored(ctx)

	out, err := rr.Ctl(ctx, "monitor")
	must(t, err)
	if out.Code != 1 || !strings.Contains(out.Stderr, "use onlinkctl monitor --once, or onlinkctl status -o json") {
		t.Errorf("without a terminal: exit code %d, %s", out.Code, out.Stderr)
	}
	out, err = rr.Ctl(ctx, "monitor", "--once")
	must(t, err)
	if out.Code != 0 || !strings.Contains(out.Stdout, client) || strings.Contains(out.Stdout, "\x1b") {
		t.Errorf("--once: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
}
