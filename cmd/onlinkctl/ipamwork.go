package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func ipamCheckCommand(a *app) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare the database, the agent's memory and the kernel",
		Long: `check compares the database, the agent's memory and the kernel: no address twice,
every address in a held block, and for every pod its interface and its route. It
prints a line per problem, and its exit code is 1 when there is one.

With --repair it first frees the addresses of ended pods.`,
		Example: `  onlinkctl ipam check
  onlinkctl ipam check --repair`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.CheckIPAMReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.CheckIPAMReply, error) {
					return c.CheckIPAM(ctx, &onlinkv1.CheckIPAMRequest{Repair: repair})
				},
				table:  checkTable,
				broken: func(r *onlinkv1.CheckIPAMReply) bool { return len(r.GetProblems()) > 0 },
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "free the addresses of ended pods")
	return cmd
}

func checkTable(w io.Writer, r *onlinkv1.CheckIPAMReply) error {
	for _, text := range r.GetRepaired() {
		if _, err := fmt.Fprintln(w, "repaired:", clean(text)); err != nil {
			return err
		}
	}
	for _, text := range r.GetProblems() {
		if _, err := fmt.Fprintln(w, clean(text)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d attachments in %d blocks checked, %d problems\n", r.GetAssignments(), r.GetBlocks(), len(r.GetProblems()))
	return err
}

func ipamReleaseCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "release ADDRESS",
		Short: "Free the address of an ended pod",
		Long: `release frees the addresses of the pod that has ADDRESS, if the pod has ended: its
network namespace and its interface are gone. With --force also of a running pod,
which loses its network.`,
		Example: `  onlinkctl ipam release 10.244.1.7
  onlinkctl ipam release 10.244.1.7 --force`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := addressOf(args[0])
			if err != nil {
				return err
			}
			return show(cmd, a, view[*onlinkv1.ReleaseAddressReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ReleaseAddressReply, error) {
					return c.ReleaseAddress(ctx, &onlinkv1.ReleaseAddressRequest{Address: addr.String(), Force: force})
				},
				table: func(w io.Writer, r *onlinkv1.ReleaseAddressReply) error {
					s := r.GetAssignment()
					_, err := fmt.Fprintf(w, "%s is free; it was %s/%s's\n", s.GetAddress(), clean(s.GetNamespace()), clean(s.GetPod()))
					return err
				},
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also of a running pod: it loses its network")
	return cmd
}

func ipamReleaseNodeCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "release-node NODE",
		Short: "Take all blocks from a node that will not return",
		Long: `release-node takes all blocks from a node that will not return, so that others
can claim them. It works on the agent that has the block registry, or on any when
the registry is etcd. If the node returns, its blocks are lost: it stops announcing
them and reports so, and its pods must be deleted. A node that asserted its blocks
lately, within two of its intervals (ipam.registry.assert), keeps them: it runs, and
would withdraw all of them. The database records the author and the time:
"onlinkctl ipam audit".`,
		Example: `  onlinkctl ipam release-node r2n7
  onlinkctl ipam release-node r2n7 --force   # it stopped a moment ago, and will not return`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd, a, view[*onlinkv1.ReleaseNodeReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ReleaseNodeReply, error) {
					return c.ReleaseNode(ctx, &onlinkv1.ReleaseNodeRequest{Node: args[0], Force: force})
				},
				table: func(w io.Writer, r *onlinkv1.ReleaseNodeReply) error {
					for _, b := range r.GetBlocks() {
						if _, err := fmt.Fprintln(w, b.GetCidr()); err != nil {
							return err
						}
					}
					_, err := fmt.Fprintf(w, "%d blocks of %s are free\n", len(r.GetBlocks()), clean(args[0]))
					return err
				},
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also from a node that runs: it withdraws its blocks")
	return cmd
}

func ipamTakeOverCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "take-over NODE",
		Short: "Give the name or the blocks of NODE to this machine",
		Long: `Run take-over on the machine that shall have the blocks. NODE is

  - its own name, when another machine has that name in the block registry and
    this one has replaced it;
  - the name in its database, when this machine was renamed: its blocks and pods
    continue under the new name.

Each block gets a new epoch, so its former machine has lost it. From a machine
that asserted within its last two intervals blocks are taken only with --force.
"onlinkctl ipam audit" lists the author and the time.`,
		Example: `  onlinkctl ipam take-over worker1
  onlinkctl ipam take-over worker1 --force`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd, a, view[*onlinkv1.ReleaseNodeReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ReleaseNodeReply, error) {
					return c.TakeOverNode(ctx, &onlinkv1.TakeOverNodeRequest{Node: args[0], Force: force})
				},
				table: func(w io.Writer, r *onlinkv1.ReleaseNodeReply) error {
					for _, b := range r.GetBlocks() {
						if _, err := fmt.Fprintln(w, b.GetCidr()); err != nil {
							return err
						}
					}
					_, err := fmt.Fprintf(w, "%d blocks belong to this machine\n", len(r.GetBlocks()))
					return err
				},
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also from a running machine: it loses its blocks, and its pods their network")
	return cmd
}

func ipamAuditCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "audit",
		Short: "Show forced releases and take-overs, newest first",
		Long: `audit lists forced actions on this agent, newest first: blocks taken from nodes
(release-node, take-over) and addresses taken from running pods (release --force),
with time, author and result. The agent's database records an action before it
happens: an entry without a result means that the agent ended during it. An agent
that serves the block registry also records the calls of other agents. The last
1,000 entries are kept.`,
		Example: `  onlinkctl ipam audit
  onlinkctl ipam audit -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.AuditIPAMReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.AuditIPAMReply, error) {
					return c.AuditIPAM(ctx, &onlinkv1.AuditIPAMRequest{})
				},
				table: auditTable,
			})
		},
	}
}

func auditTable(w io.Writer, r *onlinkv1.AuditIPAMReply) error {
	g := newGrid(w, "TIME", "ACTION", "TARGET", "BY", "RESULT", "BLOCKS")
	for _, e := range r.GetEntries() {
		result := "done"
		switch {
		case !e.GetDone():
			result = "unknown: the agent ended during the action"
		case e.GetFailed() != "":
			result = "failed: " + e.GetFailed()
		}
		g.row(e.GetBegan().AsTime().Format(time.RFC3339), e.GetAction(), e.GetTarget(), e.GetBy(), result, strings.Join(e.GetBlocks(), ","))
	}
	return g.flush()
}

func ipamBackupCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Save a consistent copy of the database while the agent runs",
		Long: `backup saves a consistent copy of the agent's database to FILE, which must not
exist, while the agent runs.

To restore: stop the agent, replace onlink.db in paths.state by the
copy, check it with "onlinkd fsck", and start the agent. It recovers pods
that started after the backup, and frees those that ended since.`,
		Example: `  onlinkctl ipam backup /var/backups/onlink.db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := a.connect()
			if err != nil {
				return err
			}
			defer conn.close() //nolint:errcheck // nothing was written
			n, err := a.backup(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", args[0], n)
			return err
		},
	}
}

// backup receives the copy into a temporary file next to path and gives it its
// name when it is whole and on disk.
func (a *app) backup(ctx context.Context, conn *connection, path string) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("make backup file: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // its second name, or a part
	if n, err = receive(ctx, conn, f); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("write backup file: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename, it replaces nothing
		return 0, fmt.Errorf("name backup file: %w", err)
	}
	return n, nil
}

// receive writes the stream to w.
func receive(ctx context.Context, conn *connection, w io.Writer) (int64, error) {
	stream, err := conn.BackupIPAM(ctx, &onlinkv1.BackupIPAMRequest{})
	if err != nil {
		return 0, conn.problem(err)
	}
	var n int64
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, conn.problem(err)
		}
		k, err := w.Write(chunk.GetData())
		n += int64(k)
		if err != nil {
			return n, fmt.Errorf("write backup file: %w", err)
		}
	}
}
