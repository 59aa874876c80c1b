package labtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// peoples are words for people that texts about machines once used: an operator
// finds none of them in an RFC or a man page.
var peoples = regexp.MustCompile(`(?i)\b(nobody|somebody|anybody|everybody|whoever|told|heard|given out|gives out|did not succeed)\b`)

// TestWords: the texts that operators read (errors, problems, log lines, help,
// metrics, pages) use the field's words, as CONTRIBUTING.md says under "Style".
func TestWords(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	texts := 0
	for _, file := range operatorsGo(t, root) {
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				texts++
				if word := peoples.FindString(lit.Value); word != "" {
					t.Errorf("%s: %q in %s", set.Position(lit.Pos()), word, lit.Value)
				}
			}
			return true
		})
	}
	if texts < 1000 {
		t.Errorf("only %d texts were found", texts)
	}
	operators, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(operators) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range append(operators, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		for i, line := range strings.Split(read(t, page), "\n") {
			if word := peoples.FindString(line); word != "" {
				t.Errorf("%s:%d: %q in %s", page, i+1, word, line)
			}
		}
	}
}

// operatorsGo returns the Go files whose texts operators read: no tests, no tools,
// nothing generated, and not the engine, whose files are upstream's in part.
func operatorsGo(t *testing.T, root string) (list []string) {
	t.Helper()
	others := []string{"build", ".git", "tools", "integration", "proto", filepath.Join("bgp", "engine"), filepath.Join("bgp", "hostile"), filepath.Join("ipam", "ipamtest")}
	skip := map[string]bool{}
	for _, dir := range others {
		skip[filepath.Join(root, dir)] = true
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skip[path]:
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go"):
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
