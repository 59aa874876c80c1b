package bed

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestWaitingTests: the tests that are marked as parallel are those that run side by side,
// beside user-mode Linux. Another one would run behind the others, one of at most two.
func TestWaitingTests(t *testing.T) {
	files, err := filepath.Glob("../*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	marked := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\) \{\n\tt\.Parallel\(\)$`)
	all := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\) \{$`)
	waiting := regexp.MustCompile(waitingTests)
	var have, want []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range marked.FindAllStringSubmatch(string(text), -1) {
			have = append(have, m[1])
		}
		for _, m := range all.FindAllStringSubmatch(string(text), -1) {
			if waiting.MatchString(m[1]) {
				want = append(want, m[1])
			}
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) || len(have) != strings.Count(waitingTests, "|")+1 {
		t.Errorf("marked as parallel are %v, and waitingTests matches %v", have, want)
	}
}
