package strictyaml

import "go.yaml.in/yaml/v3"

// Parse reads data with a schema; file is the file's name for messages. read is
// not called for an empty file, nor for one that is not YAML. The mistakes are
// in [Document.Err].
func Parse(file string, data []byte, read func(Value)) *Document {
	d := &Document{file: file, lines: map[string]int{}}
	if root := d.root(data); root != nil {
		read(Value{d: d, n: root})
	}
	return d
}

// Scalar returns a value that stands outside the file, such as the argument of
// a flag, which path names. It is read by the rules of the file.
func (d *Document) Scalar(path, text string) Value {
	return Value{d: d, path: path, n: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}}
}
