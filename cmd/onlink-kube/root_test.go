package main

import (
	"bytes"
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
