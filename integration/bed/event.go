package bed

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Event is one line of `go test -json`; see `go doc test2json`. Fields which
// the runner does not use are left out.
type Event struct {
	// Action is run, pause, cont, pass, bench, fail, output, skip, start,
	// attr, build-output or build-fail.
	Action string
	// Package is the import path of the tested package.
	Package string
	// ImportPath is the package that build-output and build-fail speak of.
	ImportPath string
	// Test is the test's name; empty for events of the package as a whole.
	Test string
	// Elapsed is the duration in seconds of pass, fail and skip.
	Elapsed float64
	// Output is a part of what was printed; the parts of one test make its log.
	Output string
	// FailedBuild names, in a package's fail, the package that did not build.
	FailedBuild string
}

// ReadEvents calls each for every event of r until r ends. A line that is not
// an event (the go command prints some errors plainly) becomes an output event
// without package, so that nothing is lost.
func ReadEvents(r io.Reader, each func(Event)) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var ev Event
			if json.Unmarshal(line, &ev) != nil || ev.Action == "" {
				ev = Event{Action: "output", Output: string(line)}
			}
			each(ev)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
}
