package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// checkConfig runs --check-config on a file of a node.
func checkConfig(ctx context.Context, t *testing.T, n *lab.Node, file string) lab.Output {
	t.Helper()
	out, err := n.Exec(ctx, lab.Command{Program: "onlinkd", Args: []string{"--check-config", "--config", file}})
	must(t, err)
	return out
}

// TestCheckConfig: the files of running agents pass, beside the agents, and change
// nothing; a file that would fail at the start does not. A running agent accepts
// what only one of its sessions suffers from, and reports it.
func TestCheckConfig(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("check"))
	for _, n := range l.Nodes() {
		if out := checkConfig(ctx, t, n, n.ConfigFile()); out.Code != 0 || !strings.HasSuffix(out.Stdout, ": ok\n") {
			t.Errorf("%s: exit code %d, %s%s", n.Name, out.Code, out.Stdout, out.Stderr)
		}
	}
	n := l.Node("r1n1")
	for _, c := range []struct {
		name   string
		change func(*conf.Config)
		want   string
	}{
		{"password", func(c *conf.Config) { c.BGP.Peers[0].PasswordFile = "/nonexistent" }, "bgp.peers[0].passwordFile: open /nonexistent: no such file or directory; "},
		{"address", func(c *conf.Config) { c.API.Metrics = "192.0.2.1:9179" }, "api.metrics: this machine does not have 192.0.2.1; "},
		{"itself", func(c *conf.Config) { c.BGP.Peers = append(c.BGP.Peers, n.Peer()) }, "is this node's own address: it would be its own peer; "},
	} {
		next := n.Config()
		c.change(next)
		text, err := next.YAML()
		must(t, err)
		file := filepath.Join(t.TempDir(), "onlinkd.yaml")
		must(t, os.WriteFile(file, text, 0o600))
		if out := checkConfig(ctx, t, n, file); out.Code != 1 || !strings.Contains(out.Stderr, c.want) || !strings.Contains(out.Stderr, file+":") {
			t.Errorf("%s: exit code %d, %s%s; want %q", c.name, out.Code, out.Stdout, out.Stderr, c.want)
		}
	}

	self := n.Config()
	self.BGP.Peers = append(self.BGP.Peers, n.Peer())
	labtest.Reload(ctx, t, n, self)
	must(t, labtest.Problem(ctx, n, "it would be its own peer"))
	labtest.Reload(ctx, t, n, n.Config())
	if err := labtest.Problem(ctx, n, "it would be its own peer"); err == nil {
		t.Error("the problem outlives its file")
	}
}
