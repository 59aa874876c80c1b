package strictyaml

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Value is one value and its place in the file.
type Value struct {
	d    *Document
	path string
	n    *yaml.Node // nil: Keys reads the schema, there is no file
}

// Fields is the schema of a mapping: the reader of each key's value.
type Fields map[string]func(Value)

// Path returns the value's place, such as servers[1].port.
func (v Value) Path() string { return v.path }

// Fail reports a mistake in the value: see [Document.Fail].
func (v Value) Fail(format string, args ...any) { v.d.Fail(v.path, format, args...) }

// FailKey reports a mistake in a key of the mapping.
func (v Value) FailKey(key, format string, args ...any) {
	v.d.Fail(Join(v.path, key), format, args...)
}

// Failed reports whether the value already has a mistake: see [Document.Failed].
func (v Value) Failed() bool { return v.d.Failed(v.path) }

// resolve follows an alias (*name) to its anchor.
func (v Value) resolve() Value {
	v.n = target(v.n)
	return v
}

// target follows an alias.
func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// IsNull reports whether the key was written without a value, which is the same
// as leaving it out.
func (v Value) IsNull() bool {
	n := target(v.n)
	return n != nil && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// IsMapping reports whether the value is a mapping; true for [Keys].
func (v Value) IsMapping() bool {
	n := target(v.n)
	return n == nil || n.Kind == yaml.MappingNode
}

// IsList reports whether the value is a list; false for [Keys].
func (v Value) IsList() bool {
	n := target(v.n)
	return n != nil && n.Kind == yaml.SequenceNode
}

// IsScalar reports whether the value is one word, number or text, or empty;
// false for [Keys].
func (v Value) IsScalar() bool {
	n := target(v.n)
	return n != nil && n.Kind == yaml.ScalarNode
}

// Kind names the value's type, for messages.
func (v Value) Kind() string {
	switch {
	case v.IsNull():
		return "empty"
	case v.IsMapping():
		return "a mapping"
	case v.IsList():
		return "a list"
	}
	return fmt.Sprintf("%q", target(v.n).Value)
}

// Decode stores the value as the yaml package does, for values without a schema.
func (v Value) Decode(into any) error {
	if v.n == nil {
		return nil
	}
	return v.n.Decode(into)
}

// Mapping reads a mapping by its schema; unknown and repeated keys are
// mistakes.
func (v Value) Mapping(schema Fields) {
	if v.n == nil {
		v.describe(schema)
		return
	}
	v.Pairs(func(key string, child Value) {
		read, ok := schema[key]
		switch {
		case ok:
			read(child)
		case v.d.full():
			v.d.more++
		default:
			child.Fail("unknown key; %s", Suggest(key, slices.Sorted(maps.Keys(schema))))
		}
	})
}

// describe records the keys of a mapping and of the values inside it.
func (v Value) describe(schema Fields) {
	for key, read := range schema {
		child := Value{d: v.d, path: Join(v.path, key)}
		v.d.keys[child.path] = true
		read(child)
	}
}

// Pairs calls read for every key of a mapping that was given once, in the order
// of the file.
func (v Value) Pairs(read func(key string, child Value)) {
	v = v.resolve()
	if v.n == nil || v.IsNull() {
		return
	}
	if v.n.Kind != yaml.MappingNode {
		v.Fail("%s is not a mapping; write keys below it, one \"key: value\" a line", v.Kind())
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		k, n := v.n.Content[i], v.n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
			v.d.Add(&Error{
				File: v.d.file, Line: k.Line, Field: v.path,
				Text: "a key must be a plain word; write the keys out (no \"<<\" and no list or mapping as a key)",
			})
			continue
		}
		child := Value{d: v.d, path: Join(v.path, k.Value), n: n}
		if line, dup := first[k.Value]; dup {
			v.d.Add(&Error{
				File: v.d.file, Line: k.Line, Field: child.path,
				Text: fmt.Sprintf("given twice, first in line %d; remove one", line),
			})
			continue
		}
		first[k.Value] = k.Line
		v.d.lines[child.path] = k.Line
		read(k.Value, child.resolve())
	}
}

// Get returns the value of a key of the mapping, for a schema that depends on
// one key before it reads the others. It reports false where there is none.
func (v Value) Get(key string) (Value, bool) {
	v = v.resolve()
	for i := 0; v.n != nil && v.n.Kind == yaml.MappingNode && i+1 < len(v.n.Content); i += 2 {
		if k := v.n.Content[i]; k.Value == key {
			child := Value{d: v.d, path: Join(v.path, key), n: v.n.Content[i+1]}
			v.d.lines[child.path] = k.Line
			return child.resolve(), true
		}
	}
	return Value{}, false
}

// With returns the mapping with the keys of more that it does not have itself;
// inside mappings that both have, key by key. Lists are not joined.
func (v Value) With(more Value) Value {
	if v.n != nil && more.n != nil {
		v.n = merged(v.n, more.n)
	}
	return v
}

// merged returns own with the keys of more that it does not have.
func merged(own, more *yaml.Node) *yaml.Node {
	own, more = target(own), target(more)
	if own.Kind != yaml.MappingNode || more.Kind != yaml.MappingNode {
		return own
	}
	out := *own
	out.Content = slices.Clone(own.Content)
	at := map[string]int{} // place of the value of each key
	for i := 0; i+1 < len(own.Content); i += 2 {
		at[own.Content[i].Value] = i + 1
	}
	for i := 0; i+1 < len(more.Content); i += 2 {
		key, n := more.Content[i], more.Content[i+1]
		if place, has := at[key.Value]; has {
			out.Content[place] = merged(own.Content[place], n)
		} else {
			out.Content = append(out.Content, key, n)
		}
	}
	return &out
}

// List calls read for every element of a list.
func (v Value) List(read func(Value)) {
	v = v.resolve()
	switch {
	case v.n == nil:
		read(Value{d: v.d, path: v.path + "[]"})
		return
	case v.IsNull():
		return
	case v.n.Kind != yaml.SequenceNode:
		v.Fail("%s is not a list; write [a, b] or one \"- a\" a line", v.Kind())
		return
	}
	for i, n := range v.n.Content {
		child := Value{d: v.d, path: fmt.Sprintf("%s[%d]", v.path, i), n: n}
		v.d.lines[child.path] = n.Line
		child = child.resolve()
		if child.IsNull() {
			child.Fail("is empty; fill it in or remove the \"-\"")
			continue
		}
		read(child)
	}
}

// Text returns the text of a scalar; want names the expected type, for messages.
// It reports false for an empty value, which leaves the default, and for anything
// but a scalar, which is a mistake.
func (v Value) Text(want string) (string, bool) {
	v = v.resolve()
	switch {
	case v.n == nil || v.IsNull():
		return "", false
	case v.n.Kind != yaml.ScalarNode:
		v.Fail("%s where one value is expected; use %s", v.Kind(), want)
		return "", false
	case v.n.Style&yaml.TaggedStyle != 0:
		v.Fail("has the YAML tag %s; remove it", v.n.Tag)
		return "", false
	}
	return v.n.Value, true
}
