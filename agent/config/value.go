package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is one YAML node and its place in the file.
type value struct {
	p    *parser
	path string
	n    *yaml.Node
}

// fields is the schema of a mapping: what reads each key.
type fields map[string]func(value)

// resolve follows an alias (*name) to what it stands for.
func (v value) resolve() value {
	if v.n.Kind == yaml.AliasNode && v.n.Alias != nil {
		v.n = v.n.Alias
	}
	return v
}

// null reports whether the key was written without a value, which is the same
// as leaving it out.
func (v value) null() bool {
	return v.n.Kind == yaml.ScalarNode && v.n.ShortTag() == "!!null"
}

func (v value) fail(format string, args ...any) { v.p.fail(v.path, format, args...) }

// kind names what was written, for messages.
func (v value) kind() string {
	switch v.n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		if v.null() {
			return "empty"
		}
		return fmt.Sprintf("%q", v.n.Value)
	}
}

// indexes matches the list indexes of a path.
var indexes = regexp.MustCompile(`\[[0-9]+\]`)

// mapping reads a mapping by its schema; unknown and repeated keys are
// mistakes.
func (v value) mapping(schema fields) {
	v = v.resolve()
	for key := range schema {
		name := indexes.ReplaceAllString(join(v.path, key), "[]")
		if _, known := v.p.keys[name]; !known {
			v.p.keys[name] = false
		}
	}
	v.pairs(func(key string, child value) {
		read, ok := schema[key]
		if !ok {
			if v.p.full() {
				v.p.more++
				return
			}
			child.fail("unknown key; %s", suggest(key, slices.Sorted(maps.Keys(schema))))
			return
		}
		v.p.keys[indexes.ReplaceAllString(child.path, "[]")] = true
		read(child)
	})
}

// pairs calls read for every key of a mapping that was given once.
func (v value) pairs(read func(key string, child value)) {
	v = v.resolve()
	if v.null() {
		return
	}
	if v.n.Kind != yaml.MappingNode {
		v.fail("%s is not a mapping; write keys below it, one \"key: value\" a line", v.kind())
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		k, n := v.n.Content[i], v.n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
			v.p.add(&Error{
				File: v.p.file, Line: k.Line, Field: v.path,
				Text: "a key must be a plain word; write the keys out (no \"<<\" and no list or mapping as a key)",
			})
			continue
		}
		child := value{p: v.p, path: join(v.path, k.Value), n: n}
		if line, dup := first[k.Value]; dup {
			v.p.add(&Error{
				File: v.p.file, Line: k.Line, Field: child.path,
				Text: fmt.Sprintf("given twice, first in line %d; remove one", line),
			})
			continue
		}
		first[k.Value] = k.Line
		v.p.lines[child.path] = k.Line
		read(k.Value, child.resolve())
	}
}

// list calls read for every element of a list.
func (v value) list(read func(value)) {
	v = v.resolve()
	if v.null() {
		return
	}
	if v.n.Kind != yaml.SequenceNode {
		v.fail("%s is not a list; write [a, b] or one \"- a\" a line", v.kind())
		return
	}
	for i, n := range v.n.Content {
		child := value{p: v.p, path: fmt.Sprintf("%s[%d]", v.path, i), n: n}
		v.p.lines[child.path] = n.Line
		child = child.resolve()
		if child.null() {
			child.fail("is empty; fill it in or remove the \"-\"")
			continue
		}
		read(child)
	}
}

// text returns the text of a scalar. It reports false for an empty value,
// which leaves the default, and for anything but a scalar, which is a mistake.
func (v value) text(want string) (string, bool) {
	v = v.resolve()
	switch {
	case v.null():
		return "", false
	case v.n.Kind != yaml.ScalarNode:
		v.fail("%s where one value is expected; use %s", v.kind(), want)
		return "", false
	case v.n.Style&yaml.TaggedStyle != 0:
		v.fail("has the YAML tag %s; remove it", v.n.Tag)
		return "", false
	}
	return v.n.Value, true
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// suggest names the key that was probably meant, else all that would do.
func suggest(key string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		typed, right := strings.ToLower(key), strings.ToLower(k)
		d := editDistance(typed, right)
		if len(typed) > 2 && strings.HasPrefix(right, typed) {
			d = 1 // cut short
		}
		if d < distance && 2*d <= len(k) {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "use one of " + strings.Join(known, ", ")
}

// editDistance returns the number of inserted, removed and changed bytes
// between a and b (Levenshtein), counted no further than long words need.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
