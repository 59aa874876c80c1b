// Command objects makes the reference of onlink's Kubernetes objects of their CRDs:
//
//	go run ./tools/objects -crds deploy/kubernetes/crds -o docs/reference/kubernetes-objects.md
//
// A field without a description is an error: kubectl explain has nothing to say of it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "objects:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("objects", flag.ExitOnError)
	crds := flags.String("crds", "deploy/kubernetes/crds", "`folder` of the CRDs")
	out := flags.String("o", "docs/reference/kubernetes-objects.md", "write the page to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := page(*crds)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil { //nolint:gosec // source
		return err
	}
	return os.WriteFile(*out, []byte(text), 0o644) //nolint:gosec // source
}
