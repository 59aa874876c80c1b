package config

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

// maxFileSize bounds the file: a wrong path (a log, a disk image) is refused
// before it is parsed.
const maxFileSize = 4 << 20

// Load reads the configuration in the file path. A file that cannot be read
// gives the error of the os package (fs.ErrNotExist and so on); a file with
// mistakes gives [Errors].
func Load(path string) (*Config, error) { return File{Path: path}.Load() }

// Parse reads the configuration in data; name is the file's name for error
// messages. The error, if any, is of type [Errors] and lists the first 100
// mistakes, with the number of those beyond.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, Override{}) }

func parse(name string, data []byte, node Override) (*Config, error) {
	p := &parser{file: name, lines: map[string]int{}, keys: map[string]bool{}}
	c := Default()
	c.Places = Places{file: name, lines: p.lines}
	if root := p.document(data); root != nil {
		readConfig(value{p: p, n: root}, c)
	}
	node.apply(p, &c.Node)
	if !p.syntax {
		p.check(c)
	}
	if len(p.errs) > 0 {
		return nil, p.mistakes()
	}
	c.BGP.Peers = slices.DeleteFunc(c.BGP.Peers, func(peer Peer) bool { return !peer.SelectsNode(c.Node.Labels) })
	return c, nil
}

// parser collects the mistakes of one file.
type parser struct {
	file   string
	errs   Errors          // the first maxMistakes
	more   int             // mistakes beyond
	syntax bool            // the file is not YAML: nothing was read
	lines  map[string]int  // line of every field seen, by path
	keys   map[string]bool // every key of the schema that was offered, true when given; by path without list indexes
}

// document returns the root node, or nil for an empty file or one that is not
// a single YAML document.
func (p *parser) document(data []byte) *yaml.Node {
	if len(data) > maxFileSize {
		p.refuse(0, fmt.Sprintf("larger than %d MiB; is this the right file?", maxFileSize>>20))
		return nil
	}
	var doc, next yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		p.refuse(syntaxLine(err))
		return nil
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		p.refuse(next.Line, "a second YAML document; put everything into one, without \"---\"")
		return nil
	case !errors.Is(err, io.EOF):
		p.refuse(syntaxLine(err))
		return nil
	}
	if len(doc.Content) != 1 {
		return nil
	}
	return doc.Content[0]
}

// refuse reports a file of which nothing can be read.
func (p *parser) refuse(line int, text string) {
	p.syntax = true
	p.add(&Error{File: p.file, Line: line, Text: text})
}

const (
	// maxMistakes bounds the list of mistakes: a file of the wrong kind may have
	// more than anybody reads, or than an answer of the API carries.
	maxMistakes = 100
	// maxMistakeText and maxMistakeField bound one, which may quote a value or a
	// key of any length.
	maxMistakeText, maxMistakeField = 600, 200
)

// add takes a mistake down, or counts it when there are enough.
func (p *parser) add(e *Error) {
	if p.full() {
		p.more++
		return
	}
	e.Field, e.Text = clip(e.Field, maxMistakeField), clip(e.Text, maxMistakeText)
	p.errs = append(p.errs, e)
}

// full reports whether mistakes are only counted from now on: nobody needs to
// find words for them.
func (p *parser) full() bool { return len(p.errs) >= maxMistakes }

// clip cuts a text that is too long, between two characters, and says so. It
// keeps beginning and end, which has the fix.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const gap = " ... "
	half := (limit - len(gap)) / 2
	return strings.ToValidUTF8(s[:half], "") + gap + strings.ToValidUTF8(s[len(s)-half:], "")
}

// mistakes is the list in the order of the file, and how many are left out.
func (p *parser) mistakes() Errors {
	p.errs.sort()
	if p.more == 0 {
		return p.errs
	}
	return append(p.errs, &Error{File: p.file, Text: fmt.Sprintf("and %d more mistakes; correct these first", p.more)})
}

// yamlLine finds the line in the text of a yaml error, which has no other
// way to tell it.
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

// fail reports a mistake in the field path, at its line or at that of the
// nearest part of the path that is in the file.
func (p *parser) fail(path, format string, args ...any) {
	if p.full() {
		p.more++
		return
	}
	p.add(Places{p.file, p.lines}.mistake(path, format, args...))
}

// parent cuts the last segment off a path: a key or a list index.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

// failed reports whether the field, something inside it or around it already
// has a mistake, so that a check of its meaning would only repeat it.
func (p *parser) failed(path string) bool {
	for _, e := range p.errs {
		if within(e.Field, path) || within(path, e.Field) {
			return true
		}
	}
	return false
}

// within reports whether path is the field outer or inside it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
