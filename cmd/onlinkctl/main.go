//go:debug multipathtcp=0

// Command onlinkctl shows and controls the onlink agent of this node: sessions,
// routes and their reasons, blocks and addresses. It is a client of the agent's
// admin API (proto/v1/admin.proto).
//
// The exit code is 0, or 1 after an error and after an explain that ends with
// "unreachable".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(time.Now).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, errUnreachable) {
		fmt.Fprintln(os.Stderr, "onlinkctl:", err)
	}
	os.Exit(1)
}
