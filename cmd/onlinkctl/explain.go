package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func explainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain ADDRESS",
		Short: "Show whether and how a packet reaches an address",
		Long: `explain follows a packet to an address: the owner of its block, the BGP path,
the decision and its reason, the kernel's route, the neighbour. It marks the
step that is BROKEN, and exits with 1 when the address is unreachable.`,
		Example: `  onlinkctl explain 10.244.1.7
  onlinkctl explain fd00:244::17 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := addressOf(args[0])
			if err != nil {
				return err
			}
			return show(cmd, a, view[*onlinkv1.ExplainReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ExplainReply, error) {
					return c.Explain(ctx, &onlinkv1.ExplainRequest{Address: addr.String()})
				},
				table:  explainText,
				broken: func(r *onlinkv1.ExplainReply) bool { return !r.GetReachable() },
			})
		},
	}
}

// explainText writes one line per step, and the verdict.
func explainText(w io.Writer, r *onlinkv1.ExplainReply) error {
	g := newGrid(w, "STEP", "STATE", "DETAIL")
	for _, s := range r.GetSteps() {
		state := "ok"
		if !s.GetOk() {
			state = "BROKEN"
		}
		g.row(s.GetName(), state, s.GetDetail())
	}
	if err := g.flush(); err != nil {
		return err
	}
	state := "ok"
	if !r.GetReachable() {
		state = "UNREACHABLE"
	}
	_, err := fmt.Fprintf(w, "\n%s: %s\n", state, clean(r.GetVerdict()))
	return err
}
