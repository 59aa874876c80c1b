// Command manifests renders the Helm chart with its defaults, for those who install
// with kubectl:
//
//	go run ./tools/manifests -chart deploy/kubernetes/chart -o deploy/kubernetes/onlink.yaml
//
// With -set networkPolicy.enabled=true, and other values, it is for those who install
// the chart with such values and without Helm.
//
// It knows the few functions of Helm that the chart uses, so that the rendering and
// its test need no Helm, which takes minutes to build; an unknown function is an error.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
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
	var sets []string
	flags.Func("set", "set a value of the chart, `SECTION.KEY=VALUE`, as helm does; may be repeated", func(s string) error {
		sets = append(sets, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := manifest(*dir, sets...)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, []byte(text), 0o644) //nolint:gosec // source
}

// manifest renders the chart as kubectl applies it: with the Namespace, in a
// namespace of the chart's name. Values of the chart are replaced by those in sets,
// SECTION.KEY=VALUE.
func manifest(dir string, sets ...string) (string, error) {
	c, err := load(dir)
	if err != nil {
		return "", err
	}
	for _, s := range sets {
		path, text, isSet := strings.Cut(s, "=")
		section, key, isKey := strings.Cut(path, ".")
		if !isSet || !isKey {
			return "", fmt.Errorf("set %q: use SECTION.KEY=VALUE", s)
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return "", fmt.Errorf("set %s: %w", path, err)
		}
		if err := c.set(section, key, value); err != nil {
			return "", err
		}
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
