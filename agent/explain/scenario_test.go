package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"onlink/internal/scenario"
)

// TestScenarios runs testdata/*.txtar; see [scenario.Run]. Each scenario is a node
// with one thing out of order: commands (see world.do), and the chain of an
// explain.
func TestScenarios(t *testing.T) {
	scenario.Run(t, func(t *testing.T) func(string) []string {
		w := newWorld()
		return func(line string) []string {
			words := strings.Fields(line)
			if words[0] != "explain" {
				if err := w.do(words[0], words[1:]); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				return nil
			}
			r, err := Explain(t.Context(), w, netip.MustParseAddr(words[1]))
			if err != nil {
				t.Fatal(err)
			}
			return render(r)
		}
	})
}

// render is a result as a scenario has it.
func render(r Result) (lines []string) {
	for _, s := range r.Steps {
		mark := "ok    "
		if !s.OK {
			mark = "BROKEN"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", mark, s.Name, s.Detail))
	}
	word := "unreachable"
	if r.Reachable {
		word = "reachable"
	}
	return append(lines, fmt.Sprintf("%s: %s", word, r.Verdict))
}
