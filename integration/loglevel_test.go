package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestLogLevel: an operator makes parts of a running agent talk, the BGP engine too;
// status, the log and the audit have the author, and the level of the configuration,
// which a reload changes, comes back.
func TestLogLevel(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("loglevel"))
	n := l.Node("r1n1")
	ctl := func(want string, args ...string) {
		t.Helper()
		out, err := n.Ctl(ctx, args...)
		must(t, err)
		if out.Code != 0 || !strings.Contains(strings.Join(strings.Fields(out.Stdout), " "), want) {
			t.Fatalf("onlinkctl %v: exit code %d, want %q in\n%s%s", args, out.Code, want, out.Stdout, out.Stderr)
		}
	}
	logged := func(want string) {
		t.Helper()
		must(t, lab.Eventually(ctx, labtest.Patience, want+" in the log", func() error { return logHas(n, want) }))
	}
	ctl("bgp info - - ", "log")
	if logHas(n, "level=DEBUG") == nil {
		t.Error("the log has lines of debug before one asked for them")
	}
	ctl("engine debug root (uid 0", "log", "debug", "--part", "engine,cni", "--for", "1h")
	logged(`msg="log level set" parts=engine,cni to=debug lasts=1h0m0s by="root (uid 0`)
	ctl("the log level of cni, engine is debug until", "status")
	ctl("log-level", "ipam", "audit")
	ctl("", "peers", l.Reflectors()[0].Addr.String(), "reset")
	logged(`level=DEBUG msg="bgp engine" part=engine`)

	// A reload has its author.
	labtest.Reload(ctx, t, n, n.Config())
	logged(`msg="configuration taken" part=reload by=SIGHUP file=` + n.ConfigFile())
	ctl("is in force", "config", "reload")
	logged(`msg="configuration taken" part=reload by="root (uid 0, pid `)
	logged(` onlinkctl, of pid `)
	quiet := n.Config()
	quiet.Log.Level = "warn"
	_, err := n.WriteConfig("onlinkd.yaml", quiet)
	must(t, err)
	ctl("is in force", "config", "reload")
	ctl("bgp warn - - ", "log")
	ctl("engine debug root (uid 0", "log")
	ctl("engine warn - - ", "log", "config")
	logged(`msg="log level is the configuration's again" parts=all to=warn by="root (uid 0`)
	out, err := n.Ctl(context.WithoutCancel(ctx), "log", "debug", "--part", "bpg")
	must(t, err)
	if out.Code == 0 || !strings.Contains(out.Stderr, `"bpg": the log has no such part: use address, agent, announce`) {
		t.Errorf("an unknown part: exit code %d, %s", out.Code, out.Stderr)
	}
}

// logHas returns an error when the log of a node has no line with text.
func logHas(n *lab.Node, text string) error {
	have, err := os.ReadFile(n.LogFile())
	if err == nil && !strings.Contains(string(have), text) {
		err = fmt.Errorf("no such line:\n%s", n.Logs(5))
	}
	return err
}
