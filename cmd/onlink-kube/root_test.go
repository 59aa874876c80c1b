package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommands: every command explains itself, with an example, and names the flag
// of a mistake.
func TestCommands(t *testing.T) {
	for _, c := range command().Commands() {
		if c.Short == "" || c.Example == "" || !strings.Contains(c.Example, "onlink-kube") {
			t.Errorf("%s has no text or example", c.Name())
		}
	}
	t.Setenv("NODE_NAME", "")
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, c := range []struct{ args, want string }{
		{"node", "--node-name is empty: set it, or NODE_NAME"},
		{"init", "--node-name is empty"},
		{"node --node-name n1 --log-level loud", `--log-level "loud" is none of debug, info, warn, error`},
		{"node --node-name n1 --kubeconfig /nowhere", "set --kubeconfig"},
		{"node n1", "unknown command"},
		{"init --node-name n1 --certificates=", "--certificates is empty: set it"},
		{"controller --identity me --certificate-life 1s", "--certificate-life 1s: use 1m to 8760h"},
		{"controller --identity me --certificate-life 8761h", "--certificate-life 8761h0m0s: use 1m to 8760h"},
		{"queue x", `NUMBER "x"`},
	} {
		cmd := command()
		cmd.SetArgs(strings.Fields(c.args))
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}

// TestKubeconfig: the flag goes before $KUBECONFIG, that before the service account of
// a pod, and the help says so.
func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: \"https://%s:6443\"}}]\n", name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	t.Setenv("KUBECONFIG", file("variable"))
	for flag, want := range map[string]string{"": "https://variable:6443", file("flag"): "https://flag:6443"} {
		cfg, err := (&app{kubeconfig: flag}).config()
		if err != nil || cfg.Host != want {
			t.Errorf("--kubeconfig %q: %v, %v; want %s", flag, cfg, err, want)
		}
	}
	help := command().PersistentFlags().Lookup("kubeconfig").Usage
	last := -1
	for _, word := range []string{"$KUBECONFIG", "service account", "~/.kube/config"} {
		at := strings.Index(help, word)
		if at <= last {
			t.Errorf("the help of --kubeconfig has %s not in its order: %s", word, help)
		}
		last = at
	}
}
