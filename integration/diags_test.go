package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestDiags: one command collects the state of a running agent and of its node, without
// the password of a session; with a stopped agent it collects what the node has.
func TestDiags(t *testing.T) {
	const secret = "correct-horse-battery"
	ctx, l := labtest.Start(t, labtest.InRack("diags"))
	n := l.Node("r1n1")
	key := filepath.Join(t.TempDir(), "rr.key")
	must(t, os.WriteFile(key, []byte(secret+"\n"), 0o600))
	c := n.Config()
	c.BGP.Peers[0].PasswordFile = key // the session with this peer ends: the other end has none
	labtest.Reload(ctx, t, n, c)

	collect := func() map[string]string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "b.tar.gz")
		out, err := n.Ctl(ctx, "diags", "-o", file, "--config", n.ConfigFile())
		must(t, err)
		if out.Code != 0 {
			t.Fatalf("exit code %d: %s%s", out.Code, out.Stdout, out.Stderr)
		}
		text, err := os.ReadFile(file)
		must(t, err)
		return unpackBundle(t, text)
	}
	has := func(files map[string]string, want map[string]string) {
		t.Helper()
		for name, text := range want {
			if !strings.Contains(files[name], text) {
				t.Errorf("%s has no %q: %.500s\nindex:\n%s", name, text, files[name], files["index.txt"])
			}
		}
		for name, text := range files {
			if strings.Contains(text, secret) {
				t.Errorf("%s has the password", name)
			}
		}
	}
	block := labtest.BlockOf(ctx, t, n).String()
	kernel := map[string]string{
		"kernel/links.txt": "eth0", "kernel/addresses.txt": n.Addr.String(), "kernel/routes4.txt": "protocol 179", "kernel/rules.txt": "protocol",
		"kernel/sysctls.txt": "net/ipv4/ip_forward = 1", "host/system.txt": "Linux",
	}
	has(collect(), kernel)
	has(collect(), map[string]string{
		"versions.txt": "onlinkd ", "agent/config.yaml": "passwordFile: " + key, "agent/log.txt": "configuration taken", "agent/status.json": `"node"`,
		"agent/peers.json": c.BGP.Peers[0].Address, "agent/peers-in-detail.json": `"last_error"`, "agent/routes.txt": block, "agent/blocks.json": block,
		"agent/registry.json": block, "agent/addresses.json": "r1n1-pod1", "agent/metrics.txt": "onlink_", "process/goroutines.txt": "goroutine profile",
		"agent/audit.json": `"diags"`, "onlinkctl.txt": "onlinkctl",
	})
	must(t, lab.Eventually(ctx, labtest.Patience, "the author in the log", func() error {
		return logHas(n, `msg="bundle for the person on call requested" part=api by="root (uid 0`)
	}))

	must(t, syscall.Kill(n.Process().Pid(), syscall.SIGSTOP)) // it has sockets, and answers nothing
	local := map[string]string{"local/agent.failed.txt": "did not answer", "local/agent/processes.txt": "T (stopped)", "local/agent/config.yaml": "passwordFile: " + key}
	for name, text := range kernel {
		local["local/"+name] = text
	}
	has(collect(), local)
	must(t, syscall.Kill(n.Process().Pid(), syscall.SIGCONT))
}

// unpackBundle returns the files of a bundle, and what is packed in them.
func unpackBundle(t *testing.T, b []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(b))
	must(t, err)
	out := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		text, err := io.ReadAll(in)
		must(t, err)
		if strings.HasSuffix(h.Name, ".gz") {
			inner, err := gzip.NewReader(bytes.NewReader(text))
			must(t, err)
			text, err = io.ReadAll(inner)
			must(t, err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[name] = string(text)
	}
}
