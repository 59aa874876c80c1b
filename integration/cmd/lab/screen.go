package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// screen prints the story: every line carries the seconds since the start.
type screen struct {
	w     io.Writer
	began time.Time
	table []row
}

// row is one line of the closing table.
type row struct{ what, found string }

func newScreen(w io.Writer) *screen { return &screen{w: w, began: time.Now()} }

// say prints one line with the time.
func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s.w, "[%6.1fs] %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// title prints the name of a chapter.
func (s *screen) title(text string) { fmt.Fprintln(s.w); s.say("== %s", text) }

// block prints lines of evidence, indented.
func (s *screen) block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(s.w, "           %s\n", strings.TrimRight(line, "\n"))
	}
}

// checked prints one thing found true and keeps it for the closing table.
func (s *screen) checked(what, format string, args ...any) {
	found := fmt.Sprintf(format, args...)
	s.table = append(s.table, row{what, found})
	s.say("ok: %s: %s", what, found)
}

// columns prints rows of cells in aligned columns.
func (s *screen) columns(rows [][]string) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	_ = tw.Flush() // writes to memory
	s.block(b.String())
}

// summary prints the closing table.
func (s *screen) summary() {
	s.title("what was checked")
	rows := [][]string{{"CHECK", "RESULT", "FOUND"}}
	for _, r := range s.table {
		rows = append(rows, []string{r.what, "ok", r.found})
	}
	s.columns(rows)
}
