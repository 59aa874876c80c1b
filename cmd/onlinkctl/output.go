package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// view is one command: a call to the agent, and its answer as a table.
type view[M proto.Message] struct {
	fetch func(context.Context, *connection) (M, error)
	table func(io.Writer, M) error
	// broken, if set, reports whether the answer makes the command fail.
	broken func(M) bool
}

// show fetches and prints once, or repeatedly with --watch. A watch outlives a
// restart of the agent: it prints the error and continues.
func show[M proto.Message](cmd *cobra.Command, a *app, v view[M]) error {
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	return repeat(cmd, a, func() error { return once(cmd, a, conn, v) })
}

// repeat does one round, or with --watch one after the other.
func repeat(cmd *cobra.Command, a *app, round func() error) error {
	if a.watch == 0 {
		return round()
	}
	tick := time.NewTicker(a.watch)
	defer tick.Stop()
	for first := true; ; first = false {
		if !first {
			if err := separate(cmd.OutOrStdout(), a.output); err != nil {
				return err
			}
		}
		if err := round(); err != nil && cmd.Context().Err() == nil && err != errUnreachable { //nolint:errorlint // our own value, never wrapped
			if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "onlinkctl:", err); err != nil {
				return err
			}
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// once does one round.
func once[M proto.Message](cmd *cobra.Command, a *app, conn *connection, v view[M]) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	answer, err := v.fetch(ctx, conn)
	if err != nil {
		return conn.problem(err)
	}
	if err := write(cmd, a.output, answer, v.table); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if v.broken != nil && v.broken(answer) {
		return errUnreachable
	}
	return nil
}

// write prints an answer in the chosen form.
func write[M proto.Message](cmd *cobra.Command, format string, answer M, table func(io.Writer, M) error) error {
	out := cmd.OutOrStdout()
	if format == "table" {
		var b bytes.Buffer
		if err := table(&b, answer); err != nil {
			return err
		}
		_, err := out.Write(b.Bytes())
		return err
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		return err
	}
	if format == "yaml" {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	// protojson varies its spaces on purpose; programs that compare output
	// need one form.
	var b bytes.Buffer
	if err := json.Indent(&b, compact(text), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = out.Write(b.Bytes())
	return err
}

// encode prints a value that is none of the agent's messages as JSON or YAML.
func (a *app) encode(w io.Writer, v any) error {
	if a.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// compact removes the spaces between JSON tokens.
func compact(text []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return text // not JSON: Indent returns the error
	}
	return b.Bytes()
}

// separate prints what stands between two rounds of a watch.
func separate(out io.Writer, format string) (err error) {
	switch format {
	case "yaml":
		_, err = io.WriteString(out, "---\n")
	case "table":
		_, err = io.WriteString(out, "\n")
	}
	return err
}
