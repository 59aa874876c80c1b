// Command engine makes the BGP engine that onlink is built with: a copy of
// GoBGP's source with the overlay and the patches of this folder, and a go.mod
// that replaces the module by that copy.
//
//	go run ./bgp/engine                   make build/engine
//	go run ./bgp/engine edit              make build/engine-edit, a git work tree
//	go run ./bgp/engine save              write its commits back to this folder
//	go run ./bgp/engine check             vet, lint and test build/engine-edit
//	go run ./bgp/engine rebase VERSION    put the patches on another version
//
//	go build -modfile=$PWD/build/engine/go.mod ./...
//
// The copy is generated, never committed. Every make target builds with it; a
// plain go build takes the module as it is, and such an agent says that its
// engine is unpatched.
//
// The file series lists the patches in the order they apply, in groups, below
// the version they are for. A patch, patches/GROUP/NAME.patch, changes
// upstream's own files and nothing else. It begins with what it is for: the
// fault (Reason), the tests that prove it gone (Test), how upstream treats the
// same fault (Upstream) and why upstream does not have the patch (Status). The
// folder overlay holds the files that are ours, each at its path in the module.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `usage: go run ./bgp/engine [flags] [edit | save | check | rebase VERSION]
`

func main() {
	out := flag.String("o", filepath.Join("build", "engine"), "folder, inside the module, that receives go.mod, go.sum and the copy")
	lint := flag.String("lint", "go tool -modfile=tools/tools.mod golangci-lint", "the linter of check")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *out, *lint, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

// run does one command for the module around the working directory.
func run(ctx context.Context, out, lint string, args []string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	folder := filepath.Join(root, "bgp", "engine")
	tree := &editTree{git: git{dir: filepath.Join(root, "build", "engine-edit")}, folder: folder, source: source, out: os.Stdout}
	switch {
	case len(args) == 0:
		s, err := readSeries(os.DirFS(folder))
		if err != nil {
			return err
		}
		e, err := newEngine(root, out, s)
		if err != nil {
			return err
		}
		return e.ensure(ctx)
	case len(args) == 1 && args[0] == "edit":
		return tree.make(ctx)
	case len(args) == 1 && args[0] == "save":
		return tree.save(ctx)
	case len(args) == 1 && args[0] == "check":
		return (&checker{root: root, tree: tree, lint: lint, out: os.Stdout}).run(ctx)
	case len(args) == 2 && args[0] == "rebase":
		return tree.rebase(ctx, args[1])
	}
	return fmt.Errorf("no command %q\n%s", args, usage)
}
