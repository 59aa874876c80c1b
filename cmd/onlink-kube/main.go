// Command onlink-kube connects onlink with a Kubernetes cluster: beside the agent
// of every node (init, node) and once in the cluster (controller). It has the
// credentials and no privileges; onlinkd has the privileges and no credentials.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "onlink-kube:", err)
		os.Exit(1)
	}
}
