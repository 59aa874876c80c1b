package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// header is the first line of the file.
const header = "# Rendered from the objects of the cluster: kubectl edit those, not this file.\n"

// encode writes the file as YAML, with the keys in the order of the types: a file
// that a person reads has name first, and one change is one changed line.
func encode(f *file) ([]byte, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode onlinkd.yaml: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	root, err := readTree(dec)
	if err != nil {
		return nil, fmt.Errorf("encode onlinkd.yaml: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(header)
	root.block(&b, "")
	return b.Bytes(), nil
}

// tree is a value of the file: a mapping (keys and values), a list (values) or a
// scalar.
type tree struct {
	kind   byte // '{', '[' or 0
	keys   []string
	values []tree
	scalar string
}

// readTree reads JSON and keeps the order of its keys.
func readTree(dec *json.Decoder) (tree, error) {
	token, err := dec.Token()
	if err != nil {
		return tree{}, err
	}
	switch v := token.(type) {
	case json.Delim:
		t := tree{kind: byte(v)}
		for dec.More() {
			if v == '{' {
				key, err := dec.Token()
				if err != nil {
					return tree{}, err
				}
				t.keys = append(t.keys, fmt.Sprint(key))
			}
			child, err := readTree(dec)
			if err != nil {
				return tree{}, err
			}
			t.values = append(t.values, child)
		}
		_, err := dec.Token() // the closing one
		return t, err
	case string:
		return tree{scalar: quote(v)}, nil
	default:
		return tree{scalar: fmt.Sprint(v)}, nil
	}
}

// block writes the lines of a mapping.
func (t tree) block(b *bytes.Buffer, indent string) {
	for i, key := range t.keys {
		b.WriteString(indent + key + ":")
		t.values[i].after(b, indent+"  ")
	}
}

// after writes a value after its key.
func (t tree) after(b *bytes.Buffer, indent string) {
	switch {
	case t.leaf():
		b.WriteString(" ")
		t.flow(b)
		b.WriteString("\n")
	case t.kind == '{':
		b.WriteString("\n")
		t.block(b, indent)
	default:
		b.WriteString("\n")
		for _, v := range t.values {
			v.entry(b, indent)
		}
	}
}

// entry writes an entry of a list.
func (t tree) entry(b *bytes.Buffer, indent string) {
	b.WriteString(indent + "- ")
	if t.kind == '[' || len(t.keys) <= 2 && t.leaf() {
		t.flow(b)
		b.WriteString("\n")
		return
	}
	var lines bytes.Buffer
	t.block(&lines, indent+"  ")
	b.Write(lines.Bytes()[len(indent)+2:]) // the first line stands behind the dash
}

// leaf reports whether a value is written in one line: a scalar, or a list or
// mapping of nothing but scalars.
func (t tree) leaf() bool {
	return t.kind == 0 || len(t.values) == 0 ||
		(t.kind == '[' || len(t.keys) <= 3) && !slices.ContainsFunc(t.values, func(v tree) bool { return v.kind != 0 })
}

// flow writes a value in one line.
func (t tree) flow(b *bytes.Buffer) {
	if t.kind == 0 {
		b.WriteString(t.scalar)
		return
	}
	b.WriteByte(t.kind)
	for i, v := range t.values {
		if i > 0 {
			b.WriteString(", ")
		}
		if t.kind == '{' {
			b.WriteString(t.keys[i] + ": ")
		}
		v.flow(b)
	}
	b.WriteByte(t.kind + 2) // '}' after '{', ']' after '['
}

// plain matches the texts that are the same with and without quotes for every
// reader of YAML: words, paths, IPv4 addresses and prefixes, durations.
var plain = regexp.MustCompile(`^(?:[A-Za-z][A-Za-z0-9_.-]*|/[A-Za-z0-9_./-]*|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:/[0-9]+)?|(?:[0-9]+(?:ms|s|m|h))+)$`)

// words are the words that YAML 1.1 or 1.2 reads as something else than text.
var words = []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}

// quote writes a text as a scalar.
func quote(s string) string {
	if plain.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return strconv.QuoteToASCII(s) // Go's escapes are those of a double-quoted scalar
}
