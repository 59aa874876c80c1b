package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func ipamCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Show, check and free addresses",
		Long:  `ipam shows, checks, frees and saves the addresses of this node's pods.`,
		Example: `  onlinkctl ipam show
  onlinkctl ipam show 10.244.1.7
  onlinkctl ipam check
  onlinkctl ipam backup /var/backups/onlink.db`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(ipamShowCommand(a), ipamCheckCommand(a), ipamReleaseCommand(a), ipamReleaseNodeCommand(a), ipamTakeOverCommand(a),
		ipamAuditCommand(a), ipamBackupCommand(a))
	return cmd
}

func ipamShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [ADDRESS]",
		Short: "Show this node's addresses in use, or the pod with one",
		Long: `show lists this node's blocks and the addresses in use, with the pod and the
device of each. With an address: only that one.`,
		Example: `  onlinkctl ipam show
  onlinkctl ipam show 10.244.1.7
  onlinkctl ipam show -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			address := ""
			if len(args) == 1 {
				addr, err := addressOf(args[0])
				if err != nil {
					return err
				}
				address = addr.String()
			}
			return show(cmd, a, view[*onlinkv1.ShowIPAMReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ShowIPAMReply, error) {
					return c.ShowIPAM(ctx, &onlinkv1.ShowIPAMRequest{Address: address})
				},
				table: func(w io.Writer, r *onlinkv1.ShowIPAMReply) error { return a.ipam(w, address, r) },
			})
		},
	}
}

// shortID is the shown length of a container ID, as in container tools.
const shortID = 12

func (a *app) ipam(w io.Writer, address string, r *onlinkv1.ShowIPAMReply) error {
	if address != "" && len(r.GetAssignments()) == 0 {
		_, err := fmt.Fprintf(w, "%s is not in use on this node; its owner: onlinkctl explain %s\n", address, address)
		return err
	}
	if len(r.GetBlocks()) > 0 {
		if err := blocksTable(w, r.GetBlocks()); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	g := newGrid(w, "ADDRESS", "POD", "CONTAINER", "INTERFACE", "DEVICE", "BLOCK", "AGE")
	for _, s := range r.GetAssignments() {
		pod := s.GetPod()
		if s.GetNamespace() != "" {
			pod = s.GetNamespace() + "/" + pod
		}
		id := s.GetContainerId()
		if len(id) > shortID {
			id = id[:shortID]
		}
		since := ""
		if s.GetAssigned().IsValid() {
			since = age(a.now().Sub(s.GetAssigned().AsTime()))
		}
		g.row(s.GetAddress(), pod, id, s.GetIfname(), s.GetHostDevice(), s.GetBlock(), since)
	}
	return g.flush()
}
