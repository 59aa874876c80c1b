package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxFileSize bounds a file, in bytes: a wrong path (a log, a disk image) is
	// refused before it is parsed.
	MaxFileSize = 4 << 20
	// MaxMistakes bounds the list of mistakes: a file of the wrong kind may have
	// more than a reader needs.
	MaxMistakes = 100
	// maxText and maxField bound one mistake, in bytes, which may quote a value
	// or a key of any length.
	maxText, maxField = 600, 200
)

// Document is one file, its mistakes, and the lines of its fields.
type Document struct {
	file   string
	errs   Errors          // the first MaxMistakes
	more   int             // mistakes beyond
	unread bool            // not YAML: no value was read
	lines  map[string]int  // line of every field seen, by path
	keys   map[string]bool // of the schema, for Keys; nil: a file is read
}

// Readable reports whether the file is YAML. Of one that is not no value was
// read, so that a check of values would judge the defaults.
func (d *Document) Readable() bool { return !d.unread }

// root returns the root node, or nil for an empty file or one that is not a
// single YAML document.
func (d *Document) root(data []byte) *yaml.Node {
	if len(data) > MaxFileSize {
		d.refuse(0, fmt.Sprintf("larger than %d MiB; is this the right file?", MaxFileSize>>20))
		return nil
	}
	var doc, next yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		d.refuse(syntaxLine(err))
		return nil
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		d.refuse(next.Line, "a second YAML document; put everything into one, without \"---\"")
		return nil
	case !errors.Is(err, io.EOF):
		d.refuse(syntaxLine(err))
		return nil
	}
	if len(doc.Content) != 1 {
		return nil
	}
	return doc.Content[0]
}

// refuse reports a file of which nothing can be read.
func (d *Document) refuse(line int, text string) {
	d.unread = true
	d.Add(&Error{File: d.file, Line: line, Text: text})
}

// yamlLine finds the line in the text of a yaml error, which has no other way
// to report it.
var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

// syntaxLine splits the error of a file that is not YAML.
func syntaxLine(err error) (line int, text string) {
	text = strings.ReplaceAll(err.Error(), "\n", " ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	// The library counts some mistakes to the line before them.
	return line, "not valid YAML in this line or the next: " + text + "; check indentation (spaces, no tabs), colons and quotes"
}

// Add takes a mistake down, or counts it when there are enough.
func (d *Document) Add(e *Error) {
	if d.full() {
		d.more++
		return
	}
	e.Field, e.Text = clip(e.Field, maxField), clip(e.Text, maxText)
	d.errs = append(d.errs, e)
}

// Fail reports a mistake in the field path, at its line or at that of the
// nearest part of the path that is in the file. The text names the mistake and,
// after a semicolon, the remedy.
func (d *Document) Fail(path, format string, args ...any) {
	switch {
	case d.keys != nil: // there is no file
	case d.full():
		d.more++ // only the number of those is reported
	default:
		d.Add(d.Places().Mistake(path, format, args...))
	}
}

// full reports whether mistakes are only counted from now on.
func (d *Document) full() bool { return len(d.errs) >= MaxMistakes }

// Failed reports whether the field, something inside it or around it already
// has a mistake, so that a check of its meaning would only repeat it.
func (d *Document) Failed(path string) bool {
	for _, e := range d.errs {
		if Within(e.Field, path) || Within(path, e.Field) {
			return true
		}
	}
	return false
}

// Err returns the mistakes so far in the order of the file, of type [Errors],
// or nil.
func (d *Document) Err() error {
	if len(d.errs) == 0 {
		return nil
	}
	d.errs.Sort()
	if d.more == 0 {
		return d.errs
	}
	last := &Error{File: d.file, Text: fmt.Sprintf("and %d more errors; correct these first", d.more)}
	return append(slices.Clip(d.errs), last)
}

// Places returns the lines of the file's fields.
func (d *Document) Places() Places { return Places{d.file, d.lines} }

// Places keeps the lines of a file, for mistakes that are found only with facts
// from outside the file. Comparisons ignore it.
type Places struct {
	file  string
	lines map[string]int
}

// Equal reports true: where a value stands does not matter.
func (Places) Equal(Places) bool { return true }

// Mistake makes an error about a field, at its line or at that of the nearest
// part of its path that is in the file.
func (p Places) Mistake(path, format string, args ...any) *Error {
	line := 0
	for at := path; line == 0 && at != ""; at = parent(at) {
		line = p.lines[at]
	}
	return &Error{File: p.file, Line: line, Field: path, Text: fmt.Sprintf(format, args...)}
}

// Join appends a key to a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Within reports whether path is the field outer or inside it.
func Within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// parent cuts the last segment off a path: a key or a list index.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

// clip cuts a text that is too long, between two characters, and marks the cut.
// It keeps the end, which has the remedy.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const gap = " ... "
	half := (limit - len(gap)) / 2
	return strings.ToValidUTF8(s[:half], "") + gap + strings.ToValidUTF8(s[len(s)-half:], "")
}
