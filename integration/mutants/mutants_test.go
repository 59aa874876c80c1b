package mutants

import (
	"go/parser"
	"go/token"
	"testing"
)

// TestMutantsFit: each fault still has its place in the sources, is another text, and
// leaves a file of Go; ten of them are promised.
func TestMutantsFit(t *testing.T) {
	names := map[string]bool{}
	for _, m := range All() {
		if names[m.Name] || m.Fault == "" || m.Old == m.New {
			t.Errorf("mutant %q: its name is taken, or it says or does nothing", m.Name)
		}
		names[m.Name] = true
		text, err := m.Apply("../..")
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, text, 0); err != nil {
			t.Errorf("mutant %q: %v", m.Name, err)
		}
	}
	if len(names) < 10 {
		t.Errorf("%d mutants, want ten", len(names))
	}
}

// TestReason: the line that says what was found is told from the rest of the output.
func TestReason(t *testing.T) {
	out := `    chaos_test.go:40: seed 7
    chaos_test.go:240: 21:30:01.000 agent killed r1n2
    chaos_oracle_test.go:120: agent killed r1n2: r1n2 to 10.244.1.5 lost 12 datagrams, from 21:30:01.100 to 21:30:01.700
--- FAIL: TestChaos (31.02s)
FAIL
`
	if got, want := reason(out), "agent killed r1n2: r1n2 to 10.244.1.5 lost 12 datagrams, from 21:30:01.100 to 21:30:01.700"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := reason("panic: it broke\n"); got != "panic: it broke" {
		t.Errorf("%q, want the last line", got)
	}
}
