package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	onlinkv1 "onlink/proto/v1"
)

// nodesFlag asks the agents of several nodes.
const nodesFlag = "nodes"

// allNodes is its value for every node.
const allNodes = "all"

// atOnce bounds the agents that are asked at the same time.
const atOnce = 16

// addNodes adds the flag to a command that can ask several nodes.
func (a *app) addNodes(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&a.nodes, nodesFlag, "", "ask the agents of these nodes at their api.admin.tcp: all, or names separated by commas; needs --tls-ca, --tls-cert and --tls-key")
	return cmd
}

// fan is one command for several agents: a call to each, and the answers as one table
// with the column NODE.
type fan[M proto.Message] struct {
	key     string // of the answer in JSON
	fetch   func(context.Context, *connection) (M, error)
	headers []string
	rows    func(*grid, M)
	// below, if set, writes what follows the table, of one node.
	below func(w io.Writer, node string, m M) error
}

// nodeAnswer is the answer of one node.
type nodeAnswer[M proto.Message] struct {
	node, at string
	answer   M
	err      error
}

// showNodes asks the agents of the nodes and prints once, or repeatedly with --watch.
func showNodes[M proto.Message](cmd *cobra.Command, a *app, f fan[M]) error {
	return repeat(cmd, a, func() error {
		list, missing, err := a.listNodes(cmd.Context())
		if err != nil {
			return err
		}
		answers := make([]nodeAnswer[M], len(list))
		slots := make(chan struct{}, atOnce)
		var all sync.WaitGroup
		for i, n := range list {
			slots <- struct{}{}
			all.Go(func() {
				answers[i] = askNode(cmd.Context(), a, f, n)
				<-slots
			})
		}
		all.Wait()
		write := nodesTable[M]
		if a.output != "table" {
			write = nodesJSON[M]
		}
		var b bytes.Buffer
		if err := write(&b, a.output, f, answers, missing); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		if _, err := cmd.OutOrStdout().Write(b.Bytes()); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		if slices.ContainsFunc(answers, func(n nodeAnswer[M]) bool { return n.err != nil }) {
			return errUnreachable
		}
		return nil
	})
}

// target is a node to ask.
type target struct{ node, at string }

// listNodes returns the nodes that the flag selects, in the order of their names, as
// the agent of this node, or of --server, lists them; missing says what it does not.
func (a *app) listNodes(ctx context.Context) (list []target, missing string, err error) {
	conn, err := a.connect()
	if err != nil {
		return nil, "", err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	r, err := conn.ListNodes(ctx, &onlinkv1.ListNodesRequest{})
	if err != nil {
		return nil, "", conn.problem(err)
	}
	port := strconv.FormatUint(uint64(r.GetPort()), 10)
	if a.server != "" {
		_, port, _ = net.SplitHostPort(a.server) // validated
	}
	if port == "0" {
		return nil, "", fmt.Errorf("the agent at %s has no api.admin.tcp, so the port of the others is not known; name one of them with --server", a.where())
	}
	wanted := strings.Split(a.nodes, ",")
	for _, n := range r.GetNodes() {
		i := slices.Index(wanted, n.GetNode())
		if i < 0 && a.nodes != allNodes {
			continue
		}
		if i >= 0 {
			wanted = slices.Delete(wanted, i, i+1)
		}
		one := target{node: n.GetNode()}
		if len(n.GetAddresses()) > 0 {
			one.at = net.JoinHostPort(n.GetAddresses()[0], port)
		}
		list = append(list, one)
	}
	if a.nodes != allNodes && len(wanted) > 0 {
		return nil, "", fmt.Errorf("--nodes: no node has the name %s; onlinkctl status --nodes all lists them", strings.Join(wanted, ", "))
	}
	slices.SortFunc(list, func(a, b target) int { return strings.Compare(a.node, b.node) })
	return list, r.GetMissing(), nil
}

// askNode asks one agent.
func askNode[M proto.Message](ctx context.Context, a *app, f fan[M], n target) nodeAnswer[M] {
	out := nodeAnswer[M]{node: n.node, at: n.at}
	if n.at == "" {
		out.err = errors.New("its address is not known: its agent has not called the block registry yet")
		return out
	}
	one := *a
	one.server = n.at
	conn, err := one.connect()
	if err != nil {
		out.err = err
		return out
	}
	defer conn.close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if out.answer, err = f.fetch(ctx, conn); err != nil {
		out.err = conn.problem(err)
	}
	return out
}

// nodesTable writes the answers as one table, and a line for each node without one.
func nodesTable[M proto.Message](w io.Writer, _ string, f fan[M], answers []nodeAnswer[M], missing string) error {
	g := newGrid(w, append([]string{"NODE"}, f.headers...)...)
	for _, n := range answers {
		if n.err == nil {
			g.lead = []string{n.node}
			f.rows(g, n.answer)
		}
	}
	if err := g.flush(); err != nil {
		return err
	}
	for _, n := range answers {
		var err error
		switch {
		case n.err != nil:
			_, err = fmt.Fprintf(w, "%s: no answer: %s\n", clean(n.node), clean(n.err.Error()))
		case f.below != nil:
			err = f.below(w, n.node, n.answer)
		}
		if err != nil {
			return err
		}
	}
	if missing != "" {
		if _, err := fmt.Fprintf(w, "Missing: %s\n", clean(missing)); err != nil {
			return err
		}
	}
	return nil
}

// nodesJSON writes the answers as one object: a list of nodes, each with its answer or
// an error.
func nodesJSON[M proto.Message](w io.Writer, format string, f fan[M], answers []nodeAnswer[M], missing string) error {
	list := make([]map[string]any, len(answers))
	for i, n := range answers {
		list[i] = map[string]any{"node": n.node, "server": n.at}
		if n.err != nil {
			list[i]["error"] = n.err.Error()
			continue
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(n.answer)
		if err != nil {
			return err
		}
		list[i][f.key] = json.RawMessage(compact(text))
	}
	text, err := json.MarshalIndent(map[string]any{"nodes": list, "missing": missing}, "", "  ")
	if err != nil {
		return err
	}
	if format == "yaml" {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}
