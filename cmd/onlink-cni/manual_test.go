package main

import (
	"testing"

	"onlink/tools/manual"
)

// TestManual: the manual page has every section, and docs/reference is current. The
// program has no flags: it is called as CNI 1.1.0 says.
func TestManual(t *testing.T) {
	items := func(pairs ...string) manual.Block {
		var b manual.Block
		for n := 0; n < len(pairs); n += 2 {
			b.Items = append(b.Items, manual.Item{Term: pairs[n], Text: pairs[n+1]})
		}
		return b
	}
	page := manual.Page{
		Name: "onlink-cni", Section: 8, Short: "CNI plugin of the onlink agent",
		Parts: []manual.Part{
			{Title: "SYNOPSIS", Blocks: []manual.Block{{Verbatim: "CNI_COMMAND=ADD|DEL|CHECK|GC|STATUS|VERSION onlink-cni < CONFIGURATION"}}},
			{Title: "DESCRIPTION", Blocks: manual.Text(`A container runtime starts onlink-cni for each pod that it connects or disconnects. The program passes the call to onlinkd(8) of this node, and prints the answer. It speaks CNI 0.3.1, 0.4.0, 1.0.0 and 1.1.0.

Without an agent it answers with code 11, "try again later", and the runtime repeats the call: no pod is lost while the agent restarts.`)},
			{Title: "CONFIGURATION", Blocks: []manual.Block{items(
				"type", "onlink-cni.",
				"socket", "The agent's socket. Default: /run/onlink/cni.sock.",
				"timeout", "How long the agent may take, in seconds.",
				"mtu", "MTU of the pod's interface. Default: the largest that the underlay and the tunnels carry.",
				"pools", "Names of the pools to take addresses from, for pods and namespaces that choose none.",
				"dns", "Passed into the result.",
				"sysctls", "Further sysctls of the pod: an object of names, with dots, and values.",
			)}},
			{Title: "EXIT STATUS", Blocks: []manual.Block{items(
				"0", "The call did its work; the result is on the standard output.",
				"1", "An error, which is on the standard output as CNI has it: code, message and details.",
			)}},
			{Title: "ENVIRONMENT", Blocks: []manual.Block{items(
				"CNI_COMMAND", "ADD, DEL, CHECK, GC, STATUS or VERSION.",
				"CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH", "As CNI 1.1.0, section 2, defines them.",
			)}},
			{Title: "FILES", Blocks: []manual.Block{items(
				"/opt/cni/bin/onlink-cni", "The program, where runtimes look; cni.install.binDir of onlinkd.yaml(5) names another folder.",
				"/etc/cni/net.d/10-onlink.conflist", "The configuration, which onlinkd install-cni or cni.install writes.",
				"/run/onlink/cni.sock", "The agent's socket.",
			)}},
			{Title: "EXAMPLES", Blocks: manual.Text(`A configuration by hand:

  {
    "cniVersion": "1.0.0",
    "name": "onlink",
    "plugins": [{"type": "onlink-cni"}]
  }

Whether the agent of this node can connect a pod:

  echo '{"cniVersion": "1.1.0", "name": "onlink", "type": "onlink-cni"}' |
    CNI_COMMAND=STATUS CNI_PATH=/opt/cni/bin /opt/cni/bin/onlink-cni`)},
			{Title: "SEE ALSO", Blocks: []manual.Block{{Text: "onlinkd(8), onlinkd.yaml(5), onlinkd-install-cni(8)"}}},
		},
	}
	manual.Check(t, "../..", &manual.Reference{
		Name: "onlink-cni", Pages: []manual.Page{page},
		Intro: "The plugin; [cni.md](../cni.md) says what a pod gets, and which plugins chain.",
	})
}
