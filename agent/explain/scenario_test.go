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
			q := Question{To: netip.MustParseAddr(words[len(words)-1])}
			if len(words) > 2 {
				q.From = netip.MustParseAddr(words[1])
			}
			r, err := Explain(t.Context(), w.parts(), q)
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
		mark := map[State]string{OK: "ok     ", Suspect: "suspect", Broken: "BROKEN "}[s.State]
		name := s.Name
		if s.Cause != "" {
			name += " (" + string(s.Cause) + ")"
		}
		if s.Node != "" {
			name += " of " + s.Node
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", mark, name, s.Detail))
	}
	if r.Reachable {
		return append(lines, "reachable: "+r.Verdict)
	}
	if r.Node != "" {
		lines = append(lines, "found by "+r.Node)
	}
	return append(lines, fmt.Sprintf("unreachable (%s): %s", r.Cause, r.Verdict), "fix: "+r.Fix)
}
