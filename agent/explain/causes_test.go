package explain

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCausesAreDocumented: docs/troubleshooting.md has a section for each cause, in
// their order, and no other.
func TestCausesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	causes, _, found := strings.Cut(string(page), "\n# Alerts\n")
	if !found {
		t.Error("no heading Alerts behind the causes")
	}
	var sections []Cause
	for line := range strings.Lines(causes) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			sections = append(sections, Cause(strings.TrimSpace(title)))
		}
	}
	if !slices.Equal(sections, Causes()) {
		t.Errorf("sections %q\nwant     %q", sections, Causes())
	}
}

// TestCausesHaveScenarios: each cause ends a scenario, and has a fix there.
func TestCausesHaveScenarios(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var all strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, c := range Causes() {
		_, after, found := strings.Cut(all.String(), "\n> unreachable ("+string(c)+"): ")
		_, after, _ = strings.Cut(after, "\n")
		if fix, _, _ := strings.Cut(after, "\n"); !found || len(fix) < len("> fix: ")+3 {
			t.Errorf("no scenario ends with the cause %s and a fix", c)
		}
	}
}

// TestOthers: what follows from the cause is not listed beside it, and what does not is.
func TestOthers(t *testing.T) {
	steps := []Step{
		{Name: "bgp-path", State: Broken, Cause: PathAbsent},
		{Name: "announced", State: Broken, Cause: AnnounceDrained, Node: "n2"},
		{Name: "host", State: Suspect, Cause: HostChain},
	}
	for _, c := range []struct {
		name  string
		steps []Step
		cause Cause
		want  []string
	}{
		{"a cause of the missing path", steps, AnnounceDrained, []string{"host"}},
		{"the missing path alone", []Step{steps[0], {Name: "far", State: Suspect, Cause: AgentSilent}}, PathAbsent, []string{"far"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := (&trail{steps: slices.Clone(c.steps)}).result()
			var got []string
			for _, s := range r.Others {
				got = append(got, s.Name)
			}
			if r.Cause != c.cause || !slices.Equal(got, c.want) {
				t.Errorf("cause %s, others %v; want %s, %v", r.Cause, got, c.cause, c.want)
			}
		})
	}
}
