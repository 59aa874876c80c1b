package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func namespacesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "namespaces",
		Short: "Show the pools that namespaces have their addresses from",
		Long: `namespaces shows the namespaces that have a choice of pools, and the pools in their order. Others
have the default.`,
		Example: `  onlinkctl namespaces
  onlinkctl namespaces -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.ListNamespacesReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ListNamespacesReply, error) {
					return c.ListNamespaces(ctx, &onlinkv1.ListNamespacesRequest{})
				},
				table: func(w io.Writer, r *onlinkv1.ListNamespacesReply) error {
					g := newGrid(w, "NAMESPACE", "POOLS")
					for _, n := range r.GetNamespaces() {
						g.row(n.GetNamespace(), strings.Join(n.GetPools(), ", "))
					}
					return g.flush()
				},
			})
		},
	}
}
