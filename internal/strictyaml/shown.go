package strictyaml

import (
	"bytes"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// errNotShown is the error of a text that is no YAML: a parser's own may quote it.
var errNotShown = errors.New("the file is not valid YAML, and is left out: what is secret in it is not known")

// Shown returns a text for others than its owner: without comments, and with removed in
// place of each key and its value for which shown reports false. The path of a value is
// as in [Keys], such as servers[].port; value is "" for a list or a mapping.
func Shown(text []byte, removed string, shown func(path, value string) bool) ([]byte, error) {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil {
		return nil, errNotShown
	}
	if doc.Kind == 0 {
		return nil, nil
	}
	hide(&doc, "", removed, shown)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if enc.Encode(&doc) != nil {
		return nil, errNotShown
	}
	return out.Bytes(), enc.Close()
}

// hide removes what is not shown from a node and those in it.
func hide(n *yaml.Node, path, removed string, shown func(path, value string) bool) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	// An anchor is a word of the author; an alias is the node that it stands for, which is
	// hidden at its own place.
	n.Anchor = ""
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			below := Join(path, key.Value)
			if !shown(below, value.Value) {
				*key = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: removed}
				*value = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: removed}
				continue
			}
			hide(key, below, removed, func(string, string) bool { return true })
			hide(value, below, removed, shown)
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			hide(e, path+"[]", removed, shown)
		}
	case yaml.AliasNode:
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: removed}
	case yaml.DocumentNode:
		for _, e := range n.Content {
			hide(e, path, removed, shown)
		}
	case yaml.ScalarNode:
		n.Value = strings.ToValidUTF8(n.Value, "?")
	}
}
