package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	onlinkv1 "onlink/proto/v1"
)

// defaultDrainWait is the time for other nodes to move to other paths. BGP needs
// a second or two for that, a large fabric some more.
const defaultDrainWait = 10 * time.Second

func drainCommand(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Withdraw this node's prefixes after a graceful shutdown",
		Long: `drain announces this node's prefixes with GRACEFUL_SHUTDOWN (RFC 8326), so that
other nodes move to other paths if there are any, waits, and withdraws them. Sessions,
routes and pods of this node stay. A drain outlives restarts, until onlinkctl undrain.`,
		Example: `  onlinkctl drain
  onlinkctl drain --wait 60s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.timeout += wait
			return show(cmd, a, view[*onlinkv1.DrainReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.DrainReply, error) {
					return c.Drain(ctx, &onlinkv1.DrainRequest{Wait: durationpb.New(wait)})
				},
				table: drainLine,
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", defaultDrainWait, "how long to announce with GRACEFUL_SHUTDOWN before withdrawing")
	return cmd
}

func undrainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain",
		Short: "Announce this node's prefixes again after drain",
		Long: `undrain announces this node's prefixes as before onlinkctl drain, and returns when the
announcements are sent.`,
		Example: `  onlinkctl undrain`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.DrainReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.DrainReply, error) {
					return c.Undrain(ctx, &onlinkv1.UndrainRequest{})
				},
				table: drainLine,
			})
		},
	}
}

func drainLine(w io.Writer, r *onlinkv1.DrainReply) error {
	_, err := fmt.Fprintf(w, "%s, %d prefixes announced\n", r.GetPhase(), r.GetPrefixes())
	return err
}
