package main

import (
	"testing"
	"time"

	"onlink/tools/manual"
)

// TestManual: the manual pages have every section, and docs/reference is current.
func TestManual(t *testing.T) {
	p := manual.Program{
		Root: command(time.Now), Section: 1,
		Exit: []manual.Item{
			{Term: "0", Text: "The command did its work."},
			{Term: "1", Text: "An error, which is on the standard error output; of explain also: the path is broken."},
		},
		Environment: []manual.Item{
			{Term: serverEnv, Text: "Address of an agent on another machine, as --server."},
			{Term: caEnv + ", " + certEnv + ", " + keyEnv, Text: "Files of the certificate for it, as --tls-ca, --tls-cert and --tls-key."},
		},
		Files: []manual.Item{
			{Term: defaultSocket, Text: "Socket of this node's agent: root and the group of api.admin.group may use it."},
		},
		SeeAlso: []string{"onlinkd(8)", "onlinkd.yaml(5)"},
	}
	manual.Check(t, "../..", &manual.Reference{
		Name: "onlinkctl", Pages: p.Pages(),
		Intro: "The command line of the agent, command by command; `onlinkctl help COMMAND` and the manual pages of the package have the same text.",
	})
}
