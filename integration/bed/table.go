package bed

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Counts are the numbers of the last line, over all beds, each test once.
type Counts struct {
	Passed, Failed, Skipped int
}

// Counts counts tests and subtests; a package that failed without a failing
// test (it did not build, or its process died) counts as one failure.
func (l *Ledger) Counts() Counts {
	var c Counts
	blamed := map[string]bool{}
	for _, id := range l.Tests() {
		switch l.Verdict(id) {
		case Passed:
			c.Passed++
		case Skipped:
			c.Skipped++
		default:
			c.Failed++
			blamed[id.Package] = true
		}
	}
	for _, id := range l.Troubles() {
		if id.Name == "" && !blamed[id.Package] {
			c.Failed++
		}
	}
	return c
}

// String renders the plain last line of a run.
func (c Counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.Passed, c.Failed, c.Skipped)
}

// WriteTable writes what ran where: a line for each package with its count in
// each bed, and below it each test that the native kernel could not run.
func (l *Ledger) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT RAN WHERE\tnative\tuml\tnowhere")
	packages := slices.Compact(mapSlice(l.Tests(), func(id TestID) string { return id.Package }))
	for _, pkg := range packages {
		var native, uml, nowhere int
		var elsewhere []TestID
		for _, id := range l.Tests() {
			if id.Package != pkg {
				continue
			}
			native += one(ran(l.Outcome(Native, id)))
			uml += one(ran(l.Outcome(UML, id)))
			nowhere += one(l.Verdict(id) == Skipped)
			if l.Outcome(Native, id) == Skipped {
				elsewhere = append(elsewhere, id)
			}
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\n", pkg, native, uml, nowhere)
		for _, id := range elsewhere {
			fmt.Fprintf(tw, "    %s\t%s\t%s\t\n", id.Name, l.Outcome(Native, id), orDash(l.Outcome(UML, id)))
		}
	}
	return tw.Flush()
}

// WriteTroubles writes the output of every failure, and the reason of every
// test that was skipped in all beds.
func (l *Ledger) WriteTroubles(w io.Writer) {
	if text := l.plain.String(); strings.TrimSpace(text) != "" {
		fmt.Fprintf(w, "--- go command\n%s", text)
	}
	for _, id := range l.Troubles() {
		for _, bed := range []Place{Native, UML} {
			if o := l.Outcome(bed, id); o == Failed || o == Unfinished {
				fmt.Fprintf(w, "--- %s %s (%s)\n%s", o, id, bed, l.Output(bed, id))
			}
		}
	}
	for _, id := range l.SkippedEverywhere() {
		fmt.Fprintf(w, "--- skipped in every bed: %s\n", id)
		for _, bed := range []Place{Native, UML} {
			if text := l.Output(bed, id); text != "" {
				fmt.Fprintf(w, "  %s:\n%s", bed, text)
			}
		}
	}
}

func ran(o Outcome) bool { return o != "" && o != Skipped }

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func orDash(o Outcome) Outcome {
	if o == "" {
		return "-"
	}
	return o
}

func mapSlice[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}
