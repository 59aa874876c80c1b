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
		Use:   "explain [FROM] ADDRESS",
		Short: "Show whether and how a packet reaches an address, and what breaks it",
		Long: `explain follows a packet to an address: the owner of its block, the BGP path,
the decision and its reason, the kernel's route, the next hop, the settings and
chains of the host, the tunnel, the pod, and a probe of the path. Packets come
from a pod of this node, or from FROM: then the way back is explained, too. Where the
cause may be on another node, the agents of the address's node and of the reflectors are
asked (api.admin.tcp with TLS, on every node); what they find names their node.

A step is ok, BROKEN, or suspect: it may break the path, and does when the probe
has no answer. The end is one cause, with its code and the fix, and what else is
not right. The exit code is 1 when the address is unreachable.`,
		Example: `  onlinkctl explain 10.244.1.7
  onlinkctl explain 10.244.3.9 10.244.1.7
  onlinkctl explain fd00:244::17 -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req onlinkv1.ExplainRequest
			for i, arg := range args {
				addr, err := addressOf(arg)
				if err != nil {
					return err
				}
				if i == len(args)-1 {
					req.Address = addr.String()
				} else {
					req.From = addr.String()
				}
			}
			return show(cmd, a, view[*onlinkv1.ExplainReply]{
				fetch:  func(ctx context.Context, c *connection) (*onlinkv1.ExplainReply, error) { return c.Explain(ctx, &req) },
				table:  explainText,
				broken: func(r *onlinkv1.ExplainReply) bool { return !r.GetReachable() },
			})
		},
	}
}

// explainText writes one line per step, the verdict, its cause and fix, and the
// other findings.
func explainText(w io.Writer, r *onlinkv1.ExplainReply) error {
	g := newGrid(w, "STEP", "STATE", "DETAIL")
	for _, s := range r.GetSteps() {
		g.row(s.GetName(), stepState(s), s.GetDetail())
	}
	if err := g.flush(); err != nil {
		return err
	}
	state := "ok"
	if !r.GetReachable() {
		state = "UNREACHABLE"
	}
	_, err := fmt.Fprintf(w, "\n%s: %s\n", state, clean(r.GetVerdict()))
	if err == nil && r.GetCause() != "" {
		_, err = fmt.Fprintf(w, "Cause: %s\nFix: %s\n", clean(r.GetCause()), clean(r.GetFix()))
	}
	for _, s := range r.GetOthers() {
		if err == nil {
			_, err = fmt.Fprintf(w, "Also %s (%s): %s; fix: %s\n", stepState(s), clean(s.GetCause()), clean(s.GetDetail()), clean(s.GetFix()))
		}
	}
	return err
}

// stepState is the state of a step as the table has it.
func stepState(s *onlinkv1.ExplainStep) string {
	switch {
	case !s.GetOk():
		return "BROKEN"
	case s.GetState() == "suspect":
		return "suspect"
	}
	return "ok"
}
