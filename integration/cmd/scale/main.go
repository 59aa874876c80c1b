// Command scale plays the BGP sessions and registry clients of thousands of nodes
// against two reflectors and a registry, see package onlink/integration/bench.
//
//	scale [-nodes 1000] [-o build/scale.json]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"onlink/integration/bench"
)

func main() {
	opts := bench.Options{Out: os.Stdout}
	nodes := flag.Int("nodes", 1000, "how many nodes, 80 to 62500")
	flag.StringVar(&opts.JSON, "o", "build/scale.json", "file to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench.Scale(ctx, opts, *nodes)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}
