package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// apply changes the copy in dir. The copy has no tests, so a patch's changes of
// upstream's tests are left out.
func (p patch) apply(ctx context.Context, dir string) error {
	before, err := p.read(dir)
	if err != nil {
		return err
	}
	g := git{dir: dir, env: []string{"GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir)}}
	if _, err := g.input(ctx, p.diff, "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "--exclude=*_test.go", "-"); err != nil {
		return fmt.Errorf("apply %s: %w", p.id(), err)
	}
	after, err := p.read(dir)
	if err != nil {
		return err
	}
	// git apply skips, and reports success, what it takes to lie outside of a
	// surrounding repository's folder.
	for i := range after {
		if bytes.Equal(before[i], after[i]) {
			return fmt.Errorf("apply %s: file %d of the patch is unchanged", p.id(), i+1)
		}
	}
	return nil
}

var changed = regexp.MustCompile(`(?m)^diff --git a/(\S+) b/`)

// targets returns the paths of the files that the patch changes.
func (p patch) targets() []string {
	var names []string
	for _, m := range changed.FindAllStringSubmatch(p.diff, -1) {
		names = append(names, m[1])
	}
	return names
}

// read returns the contents of the files that the patch changes, without tests.
func (p patch) read(dir string) ([][]byte, error) {
	found := p.targets()
	if len(found) == 0 {
		return nil, fmt.Errorf("apply %s: it changes no file", p.id())
	}
	var texts [][]byte
	for _, name := range found {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("apply %s: %w", p.id(), err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// headerParts are what every header must say: why the patch is there, what
// proves it, how upstream treats the same fault and why it is not there.
var headerParts = []string{"Reason: ", "Test: ", "Upstream: ", "Status: "}

// check refuses a patch that this folder cannot hold.
func (p patch) check(s *series) error {
	for _, part := range headerParts {
		if !strings.Contains(p.header, "\n"+part) {
			return fmt.Errorf("patch %s: no line %q in its header", p.id(), part)
		}
	}
	if !patchWord.MatchString(p.name) || s.groups[p.group] == "" {
		return fmt.Errorf("patch %s: the name is group/name, lower case with hyphens, and the series file has a heading [group]", p.id())
	}
	names := p.targets()
	if len(names) == 0 {
		return fmt.Errorf("patch %s: it changes none of upstream's files; new files need no patch", p.id())
	}
	for _, name := range names {
		top, _, _ := strings.Cut(name, "/")
		if slices.Contains(leftOut, top) {
			return fmt.Errorf("patch %s: %s is not part of the engine that is built", p.id(), name)
		}
	}
	return nil
}

var hunkPlace = regexp.MustCompile(`(?m)^@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*$`)

// sameButPlaces reports whether two diffs differ in the line numbers of their
// hunks at most, and in the function named beside them, as they do after a
// change of an earlier patch.
func sameButPlaces(a, b string) bool {
	places := func(diff string) string { return hunkPlace.ReplaceAllString(diff, "@@ $1 $2") }
	return a == b || places(a) == places(b)
}
