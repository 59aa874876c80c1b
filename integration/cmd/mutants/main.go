// Command mutants plants faults into the programs, one at a time, and has the chaos test
// find them; see package onlink/integration/mutants.
//
//	mutants [-seed 7] [-time 5m] [-only NAME]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"onlink/integration/mutants"
)

func main() {
	h := mutants.Hunt{Root: ".", Out: os.Stdout}
	flag.Uint64Var(&h.Seed, "seed", 7, "seed of the chaos test")
	flag.DurationVar(&h.Length, "time", 5*time.Minute, "length of the chaos test")
	flag.StringVar(&h.Only, "only", "", "the one mutant to try")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, h)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, h mutants.Hunt) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	h.Root = root
	return h.Run(ctx)
}
