package bed

import (
	"maps"
	"slices"
	"strings"
)

// Place is a bed: a kernel on which tests run.
type Place string

// The beds, in the order in which they are tried.
const (
	Native Place = "native"
	UML    Place = "uml"
)

// Outcome is how one test ended in one bed.
type Outcome string

// The outcomes. Unfinished is a test that started and never ended: its process
// died, or the bed did.
const (
	Passed     Outcome = "pass"
	Failed     Outcome = "FAIL"
	Skipped    Outcome = "skip"
	Unfinished Outcome = "DIED"
)

// TestID names one test or subtest. A Name of "" is the package itself: its
// build, its init functions, its process.
type TestID struct {
	Package string
	Name    string
}

// Top returns the name of the top-level test that id belongs to.
func (id TestID) Top() string {
	top, _, _ := strings.Cut(id.Name, "/")
	return top
}

// String renders "package.Test/sub".
func (id TestID) String() string {
	if id.Name == "" {
		return id.Package
	}
	return id.Package + "." + id.Name
}

// record is what one bed told of one test.
type record struct {
	outcome Outcome
	seconds float64
	output  strings.Builder
}

// Ledger collects the outcomes of all tests in all beds. Not for concurrent
// use.
type Ledger struct {
	beds  map[Place]map[TestID]*record
	plain strings.Builder             // output that belongs to no package
	build map[string]*strings.Builder // compiler output by import path
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{beds: map[Place]map[TestID]*record{}, build: map[string]*strings.Builder{}}
}

// Add books one event of a bed. It returns the outcome the event brought a
// test, or "" for any other event.
func (l *Ledger) Add(bed Place, ev Event) Outcome {
	if ev.ImportPath != "" {
		l.buildLog(ev.ImportPath).WriteString(ev.Output)
		return ""
	}
	if ev.Package == "" {
		l.plain.WriteString(ev.Output)
		return ""
	}
	rec := l.record(bed, TestID{ev.Package, ev.Test})
	switch ev.Action {
	case "output":
		rec.output.WriteString(ev.Output)
		return ""
	case "pass":
		if rec.outcome != Failed { // a package that runs in two processes, of which one failed
			rec.outcome = Passed
		}
	case "fail":
		rec.outcome = Failed
		if ev.FailedBuild != "" {
			rec.output.WriteString(l.buildLog(ev.FailedBuild).String())
		}
	case "skip":
		rec.outcome = Skipped
	default:
		return ""
	}
	rec.seconds = ev.Elapsed
	return rec.outcome
}

func (l *Ledger) buildLog(importPath string) *strings.Builder {
	if l.build[importPath] == nil {
		l.build[importPath] = &strings.Builder{}
	}
	return l.build[importPath]
}

func (l *Ledger) record(bed Place, id TestID) *record {
	if l.beds[bed] == nil {
		l.beds[bed] = map[TestID]*record{}
	}
	rec := l.beds[bed][id]
	if rec == nil {
		rec = &record{outcome: Unfinished}
		l.beds[bed][id] = rec
	}
	return rec
}

// Outcome returns how id ended in bed; "" when it did not run there.
func (l *Ledger) Outcome(bed Place, id TestID) Outcome {
	if rec := l.beds[bed][id]; rec != nil {
		return rec.outcome
	}
	return ""
}

// Verdict merges the beds: a failure anywhere is a failure; otherwise one pass
// is a pass; otherwise the test was skipped in every bed it met.
func (l *Ledger) Verdict(id TestID) Outcome {
	merged := Outcome("")
	for _, bed := range []Place{Native, UML} {
		switch o := l.Outcome(bed, id); {
		case o == Failed || o == Unfinished:
			return o
		case o == Passed, merged == "":
			merged = o
		}
	}
	return merged
}

// Tests returns the tests and subtests of all beds in order. Packages
// themselves are left out.
func (l *Ledger) Tests() []TestID { return l.ids(func(id TestID) bool { return id.Name != "" }) }

// Troubles returns every test and package that failed or died anywhere.
func (l *Ledger) Troubles() []TestID {
	return l.ids(func(id TestID) bool {
		v := l.Verdict(id)
		return v == Failed || v == Unfinished
	})
}

// SkippedIn returns the tests that bed skipped.
func (l *Ledger) SkippedIn(bed Place) []TestID {
	return l.ids(func(id TestID) bool { return id.Name != "" && l.Outcome(bed, id) == Skipped })
}

// SkippedEverywhere returns the tests that ran in no bed.
func (l *Ledger) SkippedEverywhere() []TestID {
	return l.ids(func(id TestID) bool { return id.Name != "" && l.Verdict(id) == Skipped })
}

// Output returns what id printed in bed.
func (l *Ledger) Output(bed Place, id TestID) string {
	if rec := l.beds[bed][id]; rec != nil {
		return rec.output.String()
	}
	return ""
}

func (l *Ledger) ids(keep func(TestID) bool) []TestID {
	all := map[TestID]bool{}
	for _, records := range l.beds {
		for id := range records {
			if keep(id) {
				all[id] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b TestID) int {
		return strings.Compare(a.Package+"\x00"+a.Name, b.Package+"\x00"+b.Name)
	})
}
