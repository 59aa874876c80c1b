// Package scenario runs the scenarios of a package's tests: testdata/*.txtar, in
// the words of an operator, with what must come of each command below it. Tests
// alone import it.
package scenario

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// update is a flag of every test that imports this package.
var update = flag.Bool("update", false, "write what the scenarios yield into testdata")

// Run runs testdata/*.txtar: each file of an archive is a scenario, a list of
// commands, each followed by the output it must have, marked with "> ". Lines
// that are empty or begin with "#" are no commands. For each scenario begin makes
// a world in which nothing has happened yet, and returns what runs one command
// there and returns the lines of its output.
func Run(t *testing.T, begin func(t *testing.T) (command func(line string) []string)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios found: %v", err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(archive.Files) == 0 {
			t.Errorf("%s: no scenario in it", path)
		}
		for i := range archive.Files {
			file := &archive.Files[i]
			t.Run(filepath.Base(path)+"/"+file.Name, func(t *testing.T) { check(t, file, begin(t)) })
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil { //nolint:gosec // a source file
				t.Fatal(err)
			}
		}
	}
}

// check compares what a scenario yields with what it must, or with -update makes
// it that.
func check(t *testing.T, scenario *txtar.File, command func(line string) []string) {
	t.Helper()
	got := play(string(scenario.Data), command)
	if *update {
		scenario.Data = []byte(got)
		return
	}
	if diff := cmp.Diff(strings.Split(string(scenario.Data), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// play runs the commands of a scenario and returns them with their output.
func play(script string, command func(line string) []string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, ">") {
			continue
		}
		out.WriteString(line + "\n")
		if words := strings.Fields(line); len(words) == 0 || words[0] == "#" {
			continue
		}
		for _, l := range command(line) {
			out.WriteString("> " + l + "\n")
		}
	}
	return out.String()
}
