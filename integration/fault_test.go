package integration

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestStartErrors starts an agent that cannot work: one line on stderr that
// names the trouble, and exit code 1.
func TestStartErrors(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("faults"))
	n := l.Node("r1n1")
	tests := []struct {
		name    string
		prepare func(t *testing.T) *conf.Config
		more    string // text behind it
		without int
		want    []string // parts of the line
	}{
		{"unknown key", func(*testing.T) *conf.Config { return n.Config() }, "bpg: {asn: 1}\n", 0, []string{"bpg", "fault.yaml:"}},
		{"bad value", func(*testing.T) *conf.Config {
			c := n.Config()
			c.BGP = conf.BGP{}
			return c
		}, "bgp: {asn: many}\n", 0, []string{"bgp.asn", "many"}},
		{"busy BGP port", func(t *testing.T) *conf.Config {
			occupy(t, n.NS, 179)
			return n.Config()
		}, "", 0, []string{"179"}},
		{"corrupt database", func(t *testing.T) *conf.Config {
			c := n.Config()
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "onlink.db"), []byte(strings.Repeat("not a database\n", 4096)), 0o600))
			c.Paths = conf.Paths{State: dir, Run: dir}
			return c
		}, "", 0, []string{"onlink.db"}},
		{"missing capability", func(*testing.T) *conf.Config { return n.Config() }, "", unix.CAP_NET_ADMIN, []string{"CAP_NET_ADMIN"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, err := tt.prepare(t).YAML()
			must(t, err)
			path, err := n.WriteText("fault.yaml", append(text, tt.more...))
			must(t, err)
			checkRefused(ctx, t, n, path, tt.without, tt.want)
		})
	}
}

// TestSecondAgentOnOneDatabase: the second one says who holds it, the first
// does not notice.
func TestSecondAgentOnOneDatabase(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("second"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx)) // without its peer an agent waits a while
	labtest.StartNode(ctx, t, n)
	c := n.Config()
	c.BGP = conf.Silent()
	c.API = conf.API{Metrics: "off"}
	path, err := n.WriteConfig("second.yaml", c)
	must(t, err)
	checkRefused(ctx, t, n, path, 0, []string{"onlink.db"})
	if n.Process().Exited() {
		t.Error("the first agent has ended")
	}
	_, err = n.AddPod(ctx, "after")
	must(t, err)
}

// checkRefused runs onlinkd and wants exit code 1 and one line of error.
func checkRefused(ctx context.Context, t *testing.T, n *lab.Node, config string, without int, want []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := n.Exec(ctx, lab.Command{Program: "onlinkd", Args: []string{"--config", config}, Without: without})
	must(t, err)
	if out.Code != 1 {
		t.Errorf("exit code %d, want 1", out.Code)
	}
	var lines []string
	for line := range strings.Lines(out.Stderr) {
		if !strings.HasPrefix(line, "time=") { // what the running agent logs
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "onlinkd: ") {
		t.Fatalf("error is %d lines, want one that begins with onlinkd:\n%s", len(lines), out.Stderr)
	}
	t.Log(lines[0])
	for _, w := range want {
		if !strings.Contains(lines[0], w) {
			t.Errorf("error lacks %q: %s", w, lines[0])
		}
	}
}

// occupy listens on a TCP port of the namespace until the test's end.
func occupy(t *testing.T, ns *lab.NS, port uint16) {
	t.Helper()
	must(t, ns.Do(func() error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		lis, err := lc.Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { lis.Close() })
		return nil
	}))
}

// TestCNIGarbage feeds the real plugin with what no runtime should send: each
// time a CNI error object on stdout and exit code 1; the agent goes on.
func TestCNIGarbage(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("garbage"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx)) // without its peer an agent waits a while
	labtest.StartNode(ctx, t, n)
	conf := `{"cniVersion":"1.0.0","name":"onlink","type":"onlink-cni","socket":"` + n.CNISocket() + `"}`
	env := func(kv ...string) []string {
		return append([]string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=/run/netns/none", "CNI_PATH=" + labtest.Bin()}, kv...)
	}
	tests := []struct {
		name  string
		env   []string
		stdin string
	}{
		{"garbage", env(), "\x00\xff{]"},
		{"nothing", env(), ""},
		{"a megabyte of garbage", env(), strings.Repeat("x", 1<<20)},
		{"a megabyte of JSON", env(), strings.Replace(conf, "{", `{"pad":"`+strings.Repeat("y", 1<<20)+`",`, 1)},
		{"deep JSON", env(), strings.Repeat("[", 100_000)},
		{"wrong version", env(), strings.Replace(conf, "1.0.0", "9.9.9", 1)},
		{"no such namespace", env(), conf},
		{"not a namespace", env("CNI_NETNS=/etc/passwd"), conf},
		{"the agent's own namespace", env("CNI_NETNS=" + n.NS.Path()), conf},
		{"bad interface name", env("CNI_IFNAME=../../eth0"), conf},
		{"bad container", env("CNI_CONTAINERID=../x"), conf},
		{"unknown verb", env("CNI_COMMAND=EXPLODE"), conf},
		{"no environment", nil, conf},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := n.Exec(ctx, lab.Command{Program: "onlink-cni", Env: tt.env, Stdin: []byte(tt.stdin)})
			must(t, err)
			var object struct {
				CNIVersion string `json:"cniVersion"`
				Code       int    `json:"code"`
				Msg        string `json:"msg"`
			}
			if err := json.Unmarshal([]byte(out.Stdout), &object); err != nil {
				t.Fatalf("stdout is not a CNI error object: %v\n%.300s", err, out.Stdout)
			}
			if out.Code != 1 || object.Code == 0 || object.Msg == "" {
				t.Errorf("exit code %d, object %+v; want 1, a code and a message", out.Code, object)
			}
			if n.Process().Exited() {
				t.Fatalf("the agent has ended:\n%s", n.Logs(20))
			}
		})
	}
	p, err := n.AddPod(ctx, "after")
	must(t, err)
	if _, err := n.NS.Ping(ctx, p.Addr(), 1, 5*time.Second); err != nil {
		t.Error(err)
	}
	t.Run("the agent is down", func(t *testing.T) {
		must(t, n.Stop())
		out, err := n.Exec(ctx, lab.Command{Program: "onlink-cni", Env: env("CNI_NETNS=" + p.NS.Path()), Stdin: []byte(conf)})
		must(t, err)
		if out.Code == 0 || !strings.Contains(strings.ReplaceAll(out.Stdout, " ", ""), `"code":11`) {
			t.Errorf("ADD: exit code %d, %s; want code 11 (try again later)", out.Code, out.Stdout)
		}
		out, err = n.Exec(ctx, lab.Command{Program: "onlink-cni", Env: env("CNI_COMMAND=DEL"), Stdin: []byte(conf)})
		must(t, err)
		if out.Code == 0 {
			t.Errorf("DEL succeeded without an agent: %s", out.Stdout)
		}
	})
}
