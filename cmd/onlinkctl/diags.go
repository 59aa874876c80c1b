package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"onlink/diags"
	"onlink/internal/version"
	onlinkv1 "onlink/proto/v1"
)

// partPatience is how long the agent may be silent while it makes a bundle: more than
// one of its parts takes.
const partPatience = 30 * time.Second

func diagsCommand(a *app) *cobra.Command {
	var file, config string
	cmd := &cobra.Command{
		Use:   "diags",
		Short: "Write a bundle with the agent's and the node's state for the person on call",
		Long: `diags writes a tar.gz of what one needs to find a fault later: versions, configuration, status,
sessions, routes, addresses, the registry's blocks, the latest lines of the log, metrics,
goroutines and memory of the agent; links, addresses, routes, rules, neighbours, nftables,
settings and connection tracking of the kernel; the CNI configuration. No password, key or token
is in it. The agent collects; a part that fails or hangs leaves a file with the reason. Without an
agent on this machine, onlinkctl collects what it can itself, as root.`,
		Example: `  onlinkctl diags                                   # onlink-diags-HOST-TIME.tar.gz
  onlinkctl diags -o /tmp/r1n1.tar.gz
  onlinkctl diags -o - | tar tz
  onlinkctl --server r1n1:9180 --tls-ca ca.crt --tls-cert alice.crt --tls-key alice.key diags`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.diags(cmd, file, config)
		},
	}
	// The file takes the place of the form of the output, which a bundle has none of.
	cmd.Flags().StringVarP(&file, "output", "o", "", `file to write; "-": standard output (default: onlink-diags-HOST-TIME.tar.gz)`)
	cmd.Flags().StringVar(&config, "config", "/etc/onlink/onlinkd.yaml", "the agent's configuration file, where there is no agent that has it")
	return cmd
}

// diags writes a bundle to a file. A file of a bundle that failed is removed.
func (a *app) diags(cmd *cobra.Command, file, config string) (err error) {
	name := "onlink-diags-" + a.host() + "-" + a.now().UTC().Format("20060102T150405Z")
	if file == "-" {
		return a.collect(cmd, cmd.OutOrStdout(), name, config)
	}
	if file == "" {
		file = name + ".tar.gz"
	}
	to, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: remove it, or name another file with -o", file)
	}
	if err != nil {
		return fmt.Errorf("create the bundle: %w", err)
	}
	err = errors.Join(a.collect(cmd, to, name, config), to.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is written; index.txt in it lists its parts\n", file)
	return err
}

// host names the node in the bundle's name.
func (a *app) host() string {
	name, err := os.Hostname()
	if a.server != "" {
		name, _, _ = strings.Cut(a.server, ":")
	}
	if err != nil || name == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if r == '/' || r == os.PathSeparator {
			return '_'
		}
		return r
	}, name)
}

// collect writes a bundle: the agent's, or without one what this machine has.
func (a *app) collect(cmd *cobra.Command, w io.Writer, name, config string) error {
	local := newLocal(config)
	b := diags.New(w, name, local.redactor)
	ctx := cmd.Context()
	if err := b.Add(ctx, diags.Part{Name: "onlinkctl.txt", Write: func(_ context.Context, w io.Writer) error {
		_, err := fmt.Fprintf(w, "onlinkctl %s\nagent at %s\ntime %s\n", version.Get(), a.where(), time.Now().UTC().Format(time.RFC3339))
		return err
	}}); err != nil {
		return err
	}
	failed := a.copyAgent(cmd, b)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed != nil {
		if a.server != "" {
			return failed // the other machine's state is not here
		}
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "onlinkctl: %v; collects what this machine has\n", failed); err != nil {
			return err
		}
		why := diags.Part{Name: "agent.failed.txt", Write: func(_ context.Context, w io.Writer) error {
			_, err := fmt.Fprintln(w, failed)
			return err
		}}
		for _, p := range append([]diags.Part{why}, local.parts()...) {
			p.Name = "local/" + p.Name // beside what came from the agent
			if err := b.Add(ctx, p); err != nil {
				return err
			}
		}
	}
	return b.Close()
}

// copyAgent adds the agent's bundle. What came before an error is kept.
func (a *app) copyAgent(cmd *cobra.Command, b *diags.Bundle) error {
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	late := time.AfterFunc(a.timeout, cancel)
	stream, err := conn.CollectDiags(ctx, &onlinkv1.CollectDiagsRequest{})
	if !late.Stop() {
		return conn.problem(status.FromContextError(context.DeadlineExceeded).Err())
	}
	if err != nil {
		return conn.problem(err)
	}
	in := &bundleReader{from: stream, end: cancel, wait: a.timeout}
	err = b.Copy(in)
	switch {
	case in.late && in.part == "":
		return conn.problem(status.FromContextError(context.DeadlineExceeded).Err())
	case in.late:
		return fmt.Errorf("the agent at %s was silent for %s while it made %s", a.where(), in.wait, in.part)
	case in.err != nil:
		return conn.problem(in.err)
	}
	return err
}

// bundleReader reads the bundle in a stream, and ends the stream when the agent is
// silent for long.
type bundleReader struct {
	from grpc.ServerStreamingClient[onlinkv1.DiagsChunk]
	end  func()
	wait time.Duration // for the next message
	rest []byte
	part string // collected last
	err  error  // of the stream, but for its end
	late bool
}

// Read implements [io.Reader].
func (r *bundleReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		late := time.AfterFunc(r.wait, r.end)
		m, err := r.from.Recv()
		if !late.Stop() {
			r.late = true
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return 0, err
		}
		r.wait = max(r.wait, partPatience)
		if m.GetPart() != "" {
			r.part = m.GetPart()
		}
		r.rest = m.GetData()
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// journal writes the latest lines of the agent's log, where systemd keeps it.
func journal(ctx context.Context, w io.Writer) error {
	cmd := exec.CommandContext(ctx, "journalctl", "--unit=onlinkd", "--lines=2000", "--no-pager", "--output=short-iso")
	cmd.Stdout, cmd.Stderr = w, w
	cmd.WaitDelay = time.Second
	return cmd.Run()
}
