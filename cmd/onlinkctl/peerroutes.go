package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	onlinkv1 "onlink/proto/v1"
)

// peerRoutes prints the routes of a peer as they arrive. --timeout bounds the wait for
// each part of them, because there is no bound on their number.
func peerRoutes(cmd *cobra.Command, a *app, peer string, set onlinkv1.RouteSet, prefix []string) error {
	if a.watch != 0 {
		return errors.New("--watch does not repeat the routes of a peer: they are sent one by one; use onlinkctl peers --watch for their number")
	}
	req := &onlinkv1.ListPeerRoutesRequest{Peer: peer, Set: set}
	if len(prefix) > 0 {
		p, err := prefixOf(prefix[0])
		if err != nil {
			return err
		}
		req.Prefix = p.String()
	}
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	late := time.AfterFunc(a.timeout, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	stream, err := conn.ListPeerRoutes(ctx, req)
	if err == nil {
		out := printer(cmd.OutOrStdout(), a.output, set)
		err = receiveRoutes(stream, func() { late.Reset(a.timeout) }, out)
	}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fmt.Errorf("the agent at %s did not send more within %s; try a longer --timeout", a.socket, a.timeout)
	}
	var failed *writeError
	if err == nil || errors.As(err, &failed) {
		return err
	}
	return conn.problem(err)
}

// writeError is an error of the output, not of the agent.
type writeError struct{ err error }

func (e *writeError) Error() string { return "write output: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// receiveRoutes passes each part on. alive is called for each.
func receiveRoutes(stream grpc.ServerStreamingClient[onlinkv1.PeerRoutes], alive func(), out routePrinter) error {
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if err := out.end(); err != nil {
				return &writeError{err}
			}
			return nil
		}
		if err != nil {
			return err
		}
		alive()
		if err := out.print(part.GetRoutes()); err != nil {
			return &writeError{err}
		}
	}
}

// routePrinter prints routes part by part.
type routePrinter interface {
	print(routes []*onlinkv1.PeerRoute) error
	end() error
}

func printer(w io.Writer, format string, set onlinkv1.RouteSet) routePrinter {
	if format == "table" {
		return &routeTable{w: w, set: set}
	}
	return &routeLines{w: w, yaml: format == "yaml"}
}

// routeLines prints one JSON object a line, or the entries of a YAML list.
type routeLines struct {
	w    io.Writer
	yaml bool
	some bool
}

func (l *routeLines) print(routes []*onlinkv1.PeerRoute) error {
	for _, r := range routes {
		text, err := l.text(r)
		if err != nil {
			return err
		}
		if _, err := l.w.Write(text); err != nil {
			return err
		}
		l.some = true
	}
	return nil
}

// text is one route in the form of the output.
func (l *routeLines) text(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	if !l.yaml {
		return append(compact(text), '\n'), nil
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	return []byte("- " + strings.Join(lines, "\n  ") + "\n"), nil
}

func (l *routeLines) end() error {
	if l.yaml && !l.some {
		_, err := io.WriteString(l.w, "[]\n")
		return err
	}
	return nil
}

// routeTable prints columns. Their widths are those of the first part: what comes later
// and is longer moves its own line only.
type routeTable struct {
	w      io.Writer
	set    onlinkv1.RouteSet
	widths []int
}

func (t *routeTable) print(routes []*onlinkv1.PeerRoute) error {
	rows := make([][]string, 0, len(routes)+1)
	if t.widths == nil {
		rows = append(rows, []string{"PREFIX", "NEXT HOP", "AS PATH", "LOCAL_PREF", "MED", "ORIGIN", "COMMUNITIES", "AGE", "STATE", "RULE"})
	}
	for _, r := range routes {
		rows = append(rows, routeCells(r))
	}
	if t.widths == nil {
		t.widths = make([]int, len(rows[0]))
		for _, cells := range rows {
			for i, c := range cells {
				t.widths[i] = max(t.widths[i], len([]rune(c)))
			}
		}
	}
	for _, cells := range rows {
		var line strings.Builder
		for i, c := range cells {
			fmt.Fprintf(&line, "%-*s   ", t.widths[i], c)
		}
		if _, err := fmt.Fprintln(t.w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

func (t *routeTable) end() error {
	if t.widths == nil {
		return t.print(nil)
	}
	return nil
}

func routeCells(r *onlinkv1.PeerRoute) []string {
	optional := func(v *uint32) string {
		if v == nil {
			return ""
		}
		return num(*v)
	}
	state := r.GetState()
	if r.GetStale() {
		state += ", stale"
	}
	cells := []string{
		r.GetPrefix(), r.GetNextHop(), r.GetAsPath(), optional(r.LocalPref), optional(r.Med), r.GetOrigin(),
		strings.Join(r.GetCommunities(), " "), age(r.GetAge().AsDuration()), state, r.GetRule(),
	}
	for i := range cells {
		cells[i] = or(clean(cells[i]), "-")
	}
	return cells
}
