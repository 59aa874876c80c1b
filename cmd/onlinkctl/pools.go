package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func poolsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "pools",
		Short: "Show the address pools and this node's use of them",
		Long:  `pools shows the address pools of onlinkd.yaml and this node's use of them.`,
		Example: `  onlinkctl pools
  onlinkctl pools -o yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.ListPoolsReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ListPoolsReply, error) {
					return c.ListPools(ctx, &onlinkv1.ListPoolsRequest{})
				},
				table: poolsTable,
			})
		},
	}
}

func poolsTable(w io.Writer, r *onlinkv1.ListPoolsReply) error {
	g := newGrid(w, "NAME", "CIDR", "BLOCK SIZE", "ENCAPSULATION", "TUNNEL", "NAT", "BLOCKS", "USED")
	for _, p := range r.GetPools() {
		g.row(p.GetName(), p.GetCidr(), "/"+num(p.GetBlockSize()), p.GetEncapsulation(), p.GetTunnel(),
			yesNo(p.GetNatOutgoing()), num(p.GetBlocks()), num(p.GetUsed()))
	}
	return g.flush()
}
