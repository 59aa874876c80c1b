// Command manifests renders the Helm chart with its defaults, for those who install
// with kubectl:
//
//	go run ./tools/manifests -chart deploy/kubernetes/chart -o deploy/kubernetes/onlink.yaml
//
// It knows the few functions of Helm that the chart uses, so that the rendering and
// its test need no Helm, which takes minutes to build; an unknown function is an error.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

// head is the beginning of the rendering.
const head = `# onlink on a Kubernetes cluster of version 1.32 or later, without an edit:
#
#   kubectl apply -f onlink.yaml
#
# Made by "make manifests" of the Helm chart beside it, deploy/kubernetes/chart, with
# the chart's defaults: edit the chart. See docs/kubernetes.md.
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("manifests", flag.ExitOnError)
	dir := flags.String("chart", "deploy/kubernetes/chart", "`folder` of the chart")
	out := flags.String("o", "deploy/kubernetes/onlink.yaml", "write the manifest to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := manifest(*dir)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, []byte(text), 0o644) //nolint:gosec // source
}

// manifest renders the chart as kubectl applies it: with the Namespace, in a
// namespace of the chart's name.
func manifest(dir string) (string, error) {
	c, err := load(dir)
	if err != nil {
		return "", err
	}
	if err := c.set("namespace", "create", true); err != nil {
		return "", err
	}
	docs, err := c.render("onlink")
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.WriteString(head)
	for _, d := range docs {
		text.WriteString("---\n" + d.text + "\n")
	}
	return text.String(), nil
}
