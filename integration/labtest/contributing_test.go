package labtest_test

import (
	"os"
	"strings"
	"testing"
)

// TestContributing: the first test in CONTRIBUTING.md is the one that runs.
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
