package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

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
	if a.watch == 0 {
		return once(cmd, a, conn, v)
	}
	tick := time.NewTicker(a.watch)
	defer tick.Stop()
	for first := true; ; first = false {
		if !first {
			if err := separate(cmd.OutOrStdout(), a.output); err != nil {
				return err
			}
		}
		if err := once(cmd, a, conn, v); err != nil && cmd.Context().Err() == nil && err != errUnreachable { //nolint:errorlint // our own value, never wrapped
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

// grid is a table in the form of kubectl's: upper-case headers, columns
// separated by three spaces.
type grid struct {
	out  io.Writer
	text bytes.Buffer
	w    *tabwriter.Writer
	err  error
}

func newGrid(out io.Writer, headers ...string) *grid {
	g := &grid{out: out}
	g.w = tabwriter.NewWriter(&g.text, 0, 8, 3, ' ', 0)
	g.row(headers...)
	return g
}

// row adds a line; an empty cell is shown as "-".
func (g *grid) row(cells ...string) {
	for i, c := range cells {
		if cells[i] = clean(c); cells[i] == "" {
			cells[i] = "-"
		}
	}
	g.line(cells)
}

// more adds a line that continues the one above: empty cells stay empty.
func (g *grid) more(cells ...string) {
	for i, c := range cells {
		cells[i] = clean(c)
	}
	g.line(cells)
}

func (g *grid) line(cells []string) {
	if g.err == nil {
		_, g.err = fmt.Fprintln(g.w, strings.Join(cells, "\t"))
	}
}

// flush writes the table, without the spaces that fill up a last column.
func (g *grid) flush() error {
	if g.err != nil {
		return g.err
	}
	if err := g.w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(g.text.String()) {
		if _, err := fmt.Fprintln(g.out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// clean makes text from the agent, which may quote a peer's text (RFC 9003),
// safe for a terminal and for one line of a table.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s))
}

// cleanText is clean for a text of many lines.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// age writes a duration with at most two units, as kubectl does: 45s, 3m5s,
// 42m, 5h10m, 2d3h.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d.Truncate(time.Second), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 10*time.Minute:
		return pair(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < day:
		return pair(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	case d < 10*day:
		return pair(d/day, "d", d%day/time.Hour, "h")
	}
	return fmt.Sprintf("%dd", d/day)
}

// pair leaves out a second unit that is zero.
func pair(a time.Duration, unitA string, b time.Duration, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%d%s", a, unitA, b, unitB)
}

// yesNo writes a truth value.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// num writes a counter.
func num[T uint32 | uint64](n T) string { return fmt.Sprint(n) }
