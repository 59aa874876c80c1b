package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Edit changes one entry of a list of a file.
type Edit struct {
	List string // path of the list, with dots: web.servers
	// By are the keys that identify an entry, such as name: the first one that
	// an entry has names it.
	By []string
	// Name is the entry's.
	Name string
	// Entry is the entry as YAML, which replaces the one of that name or is
	// appended; "" removes it.
	Entry string
}

// Apply returns the text with all edits made, in their order; comments stay,
// indentation and blank lines become uniform. It does not judge the result: see
// [Parse]. Lists and the mappings around them that are missing are made.
func Apply(text []byte, edits []Edit) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("the file is not valid YAML, correct it first: %w", err)
	}
	var out bytes.Buffer
	if doc.Kind == 0 { // nothing, or comments alone, which belong to no node
		if head := bytes.TrimSpace(text); len(head) > 0 {
			fmt.Fprintf(&out, "%s\n", head)
		}
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	for _, e := range edits {
		if err := e.apply(doc.Content[0]); err != nil {
			return nil, fmt.Errorf("%s %q: %w", e.List, e.Name, err)
		}
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// EntryName returns the name in an entry's YAML, by the first of some keys that
// it has. An entry without any of them is an error.
func EntryName(entry string, by ...string) (string, error) {
	n, err := entryNode(entry)
	if err != nil {
		return "", err
	}
	name := nameOf(n, by)
	if name == "" {
		return "", fmt.Errorf("the entry has no %s; write one, such as {%s: tor1, ...}", by[0], by[0])
	}
	return name, nil
}

func entryNode(entry string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(entry), &doc); err != nil {
		return nil, fmt.Errorf("the entry is not valid YAML: %w", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("the entry is not a mapping; write {name: tor1, ...}")
	}
	return doc.Content[0], nil
}

func (e Edit) apply(root *yaml.Node) error {
	list, err := descend(root, e.List)
	if err != nil {
		return err
	}
	at := -1
	for i, n := range list.Content {
		if nameOf(n, e.By) != e.Name {
			continue
		}
		if at >= 0 {
			return errors.New("several entries have this name; edit the file instead")
		}
		at = i
	}
	if e.Entry == "" {
		if at < 0 {
			return errors.New("there is no such entry")
		}
		list.Content = append(list.Content[:at], list.Content[at+1:]...)
		return nil
	}
	entry, err := entryNode(e.Entry)
	if err != nil {
		return err
	}
	if at < 0 {
		list.Content = append(list.Content, entry)
		return nil
	}
	old := list.Content[at]
	entry.HeadComment, entry.FootComment = old.HeadComment, old.FootComment
	list.Content[at] = entry
	return nil
}

// descend returns the list at a path.
func descend(at *yaml.Node, path string) (*yaml.Node, error) {
	for {
		key, rest, more := strings.Cut(path, ".")
		if !more {
			return child(at, key, yaml.SequenceNode)
		}
		next, err := child(at, key, yaml.MappingNode)
		if err != nil {
			return nil, err
		}
		at, path = next, rest
	}
}

// child returns the value of a mapping's key, made where it is missing or
// empty.
func child(m *yaml.Node, key string, kind yaml.Kind) (*yaml.Node, error) {
	if m.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("the parent of %s is not a mapping; correct the file first", key)
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value != key {
			continue
		}
		n := m.Content[i+1]
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
			*n = yaml.Node{Kind: kind}
		}
		if n.Kind != kind {
			return nil, fmt.Errorf("%s is an alias or of another kind; edit the file instead", key)
		}
		return n, nil
	}
	n := &yaml.Node{Kind: kind}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, n)
	return n, nil
}

// nameOf returns the value of the first of the keys that an entry has; "" when
// it has none of them.
func nameOf(n *yaml.Node, by []string) string {
	n = target(n)
	text := map[string]string{}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		text[n.Content[i].Value] = n.Content[i+1].Value
	}
	for _, key := range by {
		if text[key] != "" {
			return text[key]
		}
	}
	return ""
}
