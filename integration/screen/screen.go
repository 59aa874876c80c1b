// Package screen prints the stories of the demonstrations: what was done and when, the
// evidence, and at the end a table of what was found true.
package screen

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Screen prints one story: every line carries the seconds since the start.
type Screen struct {
	w     io.Writer
	began time.Time
	table []row
}

// row is one line of the closing table.
type row struct{ what, found string }

// New starts a story.
func New(w io.Writer) *Screen { return &Screen{w: w, began: time.Now()} }

// Say prints one line with the time.
func (s *Screen) Say(format string, args ...any) {
	fmt.Fprintf(s.w, "[%6.1fs] %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// Title prints the name of a chapter.
func (s *Screen) Title(text string) { fmt.Fprintln(s.w); s.Say("== %s", text) }

// Block prints lines of evidence, indented.
func (s *Screen) Block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(s.w, "           %s\n", strings.TrimRight(line, "\n"))
	}
}

// Checked prints one thing found true and keeps it for the closing table.
func (s *Screen) Checked(what, format string, args ...any) {
	found := fmt.Sprintf(format, args...)
	s.table = append(s.table, row{what, found})
	s.Say("ok: %s: %s", what, found)
}

// Columns prints rows of cells in aligned columns.
func (s *Screen) Columns(rows [][]string) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	_ = tw.Flush() // writes to memory
	s.Block(b.String())
}

// Summary prints the closing table.
func (s *Screen) Summary() {
	s.Title("what was checked")
	rows := [][]string{{"CHECK", "RESULT", "FOUND"}}
	for _, r := range s.table {
		rows = append(rows, []string{r.what, "ok", r.found})
	}
	s.Columns(rows)
}
