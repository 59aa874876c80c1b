// Command patches makes the BGP engine that onlink is built with: a copy of
// GoBGP's source with the patches of this folder applied, and a go.mod that
// replaces the module by that copy.
//
//	go run ./bgp/patches -o build/engine
//	go build -modfile=$PWD/build/engine/go.mod ./...
//
// The copy is generated, never committed. Every make target builds with it; a
// plain go build takes the module as it is, and such an agent says that its
// engine is unpatched.
//
// Each patch begins with what it is for: the fault, the test that proves it
// gone, and where upstream treats the same fault. They apply in the order of
// their numbers: below 50 what keeps the agent alive and correct, from 50 up
// what makes it fast.
package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

//go:embed *.patch
var patchFiles embed.FS

func main() {
	out := flag.String("o", "build/engine", "folder, inside the module, that receives go.mod, go.sum and the copy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "patches:", err)
		os.Exit(1)
	}
}

// run makes the engine for the module around the working directory.
func run(ctx context.Context, out string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	patches, err := readPatches(patchFiles)
	if err != nil {
		return err
	}
	e, err := newEngine(root, out, patches)
	if err != nil {
		return err
	}
	return e.ensure(ctx)
}
