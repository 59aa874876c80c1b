package main

import (
	"testing"

	"onlink/tools/manual"
)

// TestManual: the manual pages have every section, and docs/reference is current.
func TestManual(t *testing.T) {
	p := manual.Program{
		Root: command(), Section: 8,
		Exit: []manual.Item{
			{Term: "0", Text: "The command did its work; of the agent: a signal ended it."},
			{Term: "1", Text: "An error, which is on the standard error output; of --check-config: the file has mistakes; of fsck: the database has problems."},
		},
		Environment: []manual.Item{
			{Term: envName + ", " + envAddress, Text: "The node's name and address, over those of the file and below the flags."},
		},
		Files: []manual.Item{
			{Term: defaultConfig, Text: "The configuration: onlinkd.yaml(5)."},
			{Term: "/var/lib/onlink/onlink.db", Text: "The database of blocks and addresses (paths.state). Without it an agent rebuilds what the kernel and the registry still have."},
			{Term: "/run/onlink/admin.sock", Text: "The socket that onlinkctl(1) uses (api.admin.socket)."},
			{Term: "/run/onlink/cni.sock", Text: "The socket that onlink-cni(8) uses (cni.socket)."},
			{Term: "/etc/cni/net.d/10-onlink.conflist", Text: "The plugin's configuration, which install-cni or cni.install writes."},
		},
		SeeAlso: []string{"onlinkctl(1)", "onlinkd.yaml(5)", "onlink-cni(8)", "systemd.service(5)"},
		More: map[string][]manual.Part{"onlinkd": {{Title: "SIGNALS", Blocks: []manual.Block{{Items: []manual.Item{
			{Term: "SIGHUP", Text: "The agent takes a changed file; a file with a mistake changes nothing, and onlinkctl status names it."},
			{Term: "SIGTERM, SIGINT", Text: "The agent ends. Routes, tunnels and pods stay, and peers keep the routes for their restart time (RFC 4724): a restart or an upgrade loses no packet."},
		}}}}}},
	}
	manual.Check(t, "../..", &manual.Reference{
		Name: "onlinkd", Pages: p.Pages(),
		Intro: "The agent and its commands; `onlinkd help COMMAND` and the manual pages of the package have the same text.",
	})
}
