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
