package labtest_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestContributing: the first test in CONTRIBUTING.md equals the one that runs.
func TestContributing(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	test, err := os.ReadFile("../first_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if shown := "```go\n" + string(test) + "```\n"; !strings.Contains(string(text), shown) {
		t.Errorf("CONTRIBUTING.md does not show integration/first_test.go; it must have\n%s", shown)
	}
}

// TestWhereIsIt: the files and names in the answers of CONTRIBUTING.md exist.
func TestWhereIsIt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## Where is it?")
	section, _, _ = strings.Cut(section, "\n## ")
	answers := regexp.MustCompile("`([a-z0-9_/]+\\.go)` \\(`(\\w+)`\\)").FindAllStringSubmatch(section, -1)
	if len(answers) < 10 {
		t.Fatalf("%d answers are read, want at least 10", len(answers))
	}
	for _, a := range answers {
		source, err := os.ReadFile("../../" + a[1])
		if err != nil {
			t.Errorf("CONTRIBUTING.md: %v", err)
			continue
		}
		if !regexp.MustCompile(`\b` + a[2] + `\b`).Match(source) {
			t.Errorf("CONTRIBUTING.md: %s has no %s", a[1], a[2])
		}
	}
}
