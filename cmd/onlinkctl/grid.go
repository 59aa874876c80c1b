package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// grid is a table in the form of kubectl's: upper-case headers, columns
// separated by three spaces.
type grid struct {
	out  io.Writer
	text bytes.Buffer
	w    *tabwriter.Writer
	err  error
	lead []string // cells before those of each row: the node
}

func newGrid(out io.Writer, headers ...string) *grid {
	g := &grid{out: out}
	g.w = tabwriter.NewWriter(&g.text, 0, 8, 3, ' ', 0)
	g.row(headers...)
	return g
}

// row adds a line; an empty cell is shown as "-".
func (g *grid) row(cells ...string) {
	cells = slices.Concat(g.lead, cells)
	for i, c := range cells {
		if cells[i] = clean(c); cells[i] == "" {
			cells[i] = "-"
		}
	}
	g.line(cells)
}

// more adds a line that continues the one above: empty cells stay empty.
func (g *grid) more(cells ...string) {
	cells = slices.Concat(make([]string, len(g.lead)), cells)
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
