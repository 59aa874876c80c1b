package labtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinks: every link between pages leads to a file, and a heading named behind
// a link or a page's path exists. Moved pages and renamed headings would
// otherwise leave dead ends.
func TestLinks(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	checked := 0
	for _, page := range pages(t, root) {
		text := read(t, page)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)(?:,\s+"([^"]+)")?`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			checked++
			if anchor, here := strings.CutPrefix(m[1], "#"); here {
				if !hasAnchor(text, anchor) {
					t.Errorf("%s has no heading for its link to #%s", page, anchor)
				}
				continue
			}
			target := filepath.Join(filepath.Dir(page), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			} else if m[2] != "" && !hasHeading(read(t, target), m[2]) {
				t.Errorf("%s: %s has no heading %q", page, m[1], m[2])
			}
		}
		for _, m := range regexp.MustCompile(`\b(docs/[\w/-]+\.md)(?:,\s+"([^"]+)")?`).FindAllStringSubmatch(text, -1) {
			checked++
			target := filepath.Join(root, m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			} else if m[2] != "" && !hasHeading(read(t, target), m[2]) {
				t.Errorf("%s: %s has no heading %q", page, m[1], m[2])
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d links were found", checked)
	}
}

// hasAnchor reports whether a heading of the page has this anchor, as web pages of
// Markdown make it: lower case, with "-" for spaces.
func hasAnchor(page, anchor string) bool {
	for line := range strings.Lines(page) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// TestIndex: docs/README.md lists every page under docs.
func TestIndex(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "docs")
	index := read(t, filepath.Join(root, "README.md"))
	for _, page := range pages(t, root) {
		name, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		if name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

// pages returns the Markdown files under root, except built ones.
func pages(t *testing.T, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == ".git"):
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(path) == ".md":
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatalf("no page under %s", root)
	}
	return list
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hasHeading reports whether a line of the page is a heading that begins with the
// words, or a bold term at the beginning of a paragraph.
func hasHeading(page, words string) bool {
	words = strings.Join(strings.Fields(words), " ")
	return regexp.MustCompile(`(?m)^(#+ |\*\*)` + regexp.QuoteMeta(words)).MatchString(page)
}
