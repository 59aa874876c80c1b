package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func blocksCommand(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "blocks",
		Short: "Show the address blocks of this node, or of all",
		Long: `blocks shows the address blocks of this node and their use. With --all: every
node's, from the registry, which records owners but not their use ("-"). When the registry does
not answer: the blocks of this node, and MISSING.`,
		Example: `  onlinkctl blocks
  onlinkctl blocks --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.ListBlocksReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ListBlocksReply, error) {
					return c.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{All: all})
				},
				table: func(w io.Writer, r *onlinkv1.ListBlocksReply) error {
					if err := blocksTable(w, r.GetBlocks()); err != nil || r.GetMissing() == "" {
						return err
					}
					_, err := fmt.Fprintf(w, "\nMISSING: %s\n", clean(r.GetMissing()))
					return err
				},
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every node's blocks, from the registry")
	return cmd
}

func blocksTable(w io.Writer, blocks []*onlinkv1.Block) error {
	g := newGrid(w, "BLOCK", "POOL", "NODE", "EPOCH", "USED", "COOLING", "SIZE", "ANNOUNCED")
	for _, b := range blocks {
		if b.GetElsewhere() { // the registry records owners, not their use
			g.row(b.GetCidr(), b.GetPool(), b.GetNode(), num(b.GetEpoch()), "", "", "", "")
			continue
		}
		g.row(b.GetCidr(), b.GetPool(), b.GetNode(), num(b.GetEpoch()), num(b.GetUsed()),
			num(b.GetCooling()), num(b.GetSize()), yesNo(b.GetAnnounced()))
	}
	return g.flush()
}
