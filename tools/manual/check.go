package manual

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The flags of TestManual.
var (
	write   = flag.Bool("manual.write", false, "write docs/reference instead of comparing it")
	out     = flag.String("manual.out", "", "write the manual pages into this `folder`")
	version = flag.String("manual.version", "", "`version` in the manual pages")
	epoch   = flag.Int64("manual.epoch", 0, "`second` (Unix) of their date")
)

// Check holds docs/reference/NAME.md, below the folder root, to the pages, and the
// pages to what a reader expects. It writes what the flags want.
func Check(t *testing.T, root string, r *Reference) {
	t.Helper()
	file, text := filepath.Join(root, "docs/reference", r.Name+".md"), r.markdown()
	if *write {
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // source
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, text) {
		t.Errorf("%s is not current (%v): run make reference", file, err)
	}
	e := edition{time.Unix(*epoch, 0), *version}
	dir := *out
	if dir == "" {
		dir = t.TempDir()
	}
	var files []string
	for _, p := range r.Pages {
		if err := p.check(); err != nil {
			t.Errorf("%s(%d): %v", p.Name, p.Section, err)
		}
		to := filepath.Join(dir, fmt.Sprintf("man%d", p.Section), fmt.Sprintf("%s.%d", p.Name, p.Section))
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, p.roff(e), 0o644)); err != nil { //nolint:gosec // for everyone
			t.Fatal(err)
		}
		files = append(files, to)
	}
	if err := lint(t, files); err != nil {
		t.Error(err)
	}
}

// wanted are the sections that every page has, in this order (man-pages(7)).
var wanted = []string{"SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"}

// check returns what a page lacks.
func (p *Page) check() error {
	var errs []error
	if p.Short == "" || strings.HasSuffix(p.Short, ".") {
		errs = append(errs, fmt.Errorf("NAME has %q: use a few words without a full stop", p.Short))
	}
	last := -1
	for _, title := range wanted {
		if p.Section == 5 && title == "EXIT STATUS" {
			continue // of a file
		}
		n := slices.IndexFunc(p.Parts, func(part Part) bool { return part.Title == title })
		switch {
		case n < 0:
			errs = append(errs, fmt.Errorf("no section %s", title))
		case n < last:
			errs = append(errs, fmt.Errorf("section %s is before the one that it follows", title))
		default:
			last = n
		}
	}
	// A request in a text, or a break in a line of ours, would be lost by man(1).
	for n, line := range bytes.Split(p.roff(edition{}), []byte("\n")) {
		switch {
		case bytes.HasPrefix(line, []byte("'")), bytes.HasPrefix(line, []byte(".")) && !slices.Contains(macros, string(bytes.Fields(line)[0])):
			errs = append(errs, fmt.Errorf("line %d is a request: %q", n+1, line))
		case len(line) > 0 && line[len(line)-1] == ' ', bytes.ContainsRune(line, '\t'):
			errs = append(errs, fmt.Errorf("line %d has a space at its end, or a tab: %q", n+1, line))
		}
	}
	return errors.Join(errs...)
}

// macros are those of man(7) that pages use.
var macros = []string{".TH", ".SH", ".PP", ".TP", ".IP", ".EX", ".EE"}

// lint has mandoc(1) read the pages, where it is installed.
func lint(t *testing.T, files []string) error {
	t.Helper()
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		return nil //nolint:nilerr // the structure was checked
	}
	text, err := exec.CommandContext(t.Context(), mandoc, append([]string{"-T", "lint", "-W", "warning"}, files...)...).CombinedOutput()
	if err != nil || len(text) > 0 {
		return fmt.Errorf("mandoc -T lint: %w\n%s", err, text)
	}
	return nil
}
