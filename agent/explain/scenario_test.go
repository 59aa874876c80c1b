package explain

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the scenarios yield into testdata")

// TestScenarios runs testdata/*.txtar: each file of an archive is a node with
// one thing out of order. It is a list of commands (see world.do); the chain of
// an `explain` follows it, marked with "> ".
func TestScenarios(t *testing.T) {
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
		for i, file := range archive.Files {
			t.Run(filepath.Base(path)+"/"+file.Name, func(t *testing.T) {
				got := newWorld().play(t, string(file.Data))
				if *update {
					archive.Files[i].Data = []byte(got)
					return
				}
				if diff := cmp.Diff(strings.Split(string(file.Data), "\n"), strings.Split(got, "\n")); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// play runs the commands and returns them with their output.
func (w *world) play(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, ">") {
			continue
		}
		out.WriteString(line + "\n")
		switch words := strings.Fields(line); {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "explain":
			r, err := Explain(t.Context(), w, netip.MustParseAddr(words[1]))
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(render(r))
		default:
			if err := w.do(words[0], words[1:]); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	return out.String()
}

// render is a result as a scenario has it.
func render(r Result) string {
	var out strings.Builder
	for _, s := range r.Steps {
		mark := "ok    "
		if !s.OK {
			mark = "BROKEN"
		}
		fmt.Fprintf(&out, "> %s %s: %s\n", mark, s.Name, s.Detail)
	}
	word := "unreachable"
	if r.Reachable {
		word = "reachable"
	}
	fmt.Fprintf(&out, "> %s: %s\n", word, r.Verdict)
	return out.String()
}
