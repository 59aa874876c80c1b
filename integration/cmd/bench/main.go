// Command bench measures onlink next to its peers, see package
// onlink/integration/bench.
//
//	bench [-figures fib.,cni.add] [-rounds 3] [-o build/bench.json]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"onlink/integration/bench"
)

func main() {
	opts := bench.Options{Out: os.Stdout}
	figures := flag.String("figures", "", "comma separated beginnings of figure names; default all")
	flag.IntVar(&opts.Rounds, "rounds", 3, "how often each measurement is repeated")
	flag.StringVar(&opts.JSON, "o", "build/bench.json", "file to write")
	flag.Parse()
	opts.Figures = strings.FieldsFunc(*figures, func(c rune) bool { return c == ',' || c == ' ' })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench.Run(ctx, opts)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
