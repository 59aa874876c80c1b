package main

import (
	"testing"

	"onlink/tools/manual"
)

// TestManual: the manual pages have every section, and docs/reference is current.
func TestManual(t *testing.T) {
	// Defaults of this machine are not those of a reader's.
	for _, name := range []string{"NODE_NAME", "ONLINK_NAMESPACE"} {
		t.Setenv(name, "")
	}
	t.Setenv("POD_NAME", "POD")
	p := manual.Program{
		Root: command(), Section: 8,
		Exit: []manual.Item{
			{Term: "0", Text: "The command did its work, or a signal ended it."},
			{Term: "1", Text: "An error, which is on the standard error output; of queue also: no program has bound the queue."},
		},
		Environment: []manual.Item{
			{Term: "NODE_NAME", Text: "Name of this machine's Node, as --node-name."},
			{Term: "POD_NAME", Text: "Name of this replica of the controller, as --identity."},
			{Term: "ONLINK_NAMESPACE", Text: "Namespace of onlink's objects, as --namespace."},
			{Term: "KUBECONFIG", Text: "Where the API server and the credentials are, when --kubeconfig is not given."},
		},
		Files: []manual.Item{
			{Term: "/var/lib/onlink/onlinkd.yaml", Text: "The rendered configuration, which init writes once; node changes it through the agent."},
			{Term: "/run/onlink/admin.sock", Text: "The socket of the agent (onlinkd(8))."},
			{Term: "/run/onlink-kube/registry.sock", Text: "The socket of the block registry, which node serves to the agent."},
		},
		SeeAlso: []string{"onlinkd(8)", "onlinkctl(1)", "onlink-cni(8)"},
	}
	manual.Check(t, "../..", &manual.Reference{
		Name: "onlink-kube", Pages: p.Pages(),
		Intro: "The part for Kubernetes ([kubernetes.md](../kubernetes.md)), command by command; `onlink-kube help COMMAND` and the manual pages of the package have the same text.",
	})
}
