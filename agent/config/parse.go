package config

import (
	"slices"

	"onlink/internal/strictyaml"
)

// Mistakes in the file are those of the reader.
type (
	// Error is one mistake: file, line, field, and what to write instead.
	Error = strictyaml.Error
	// Errors is the mistakes of one file.
	Errors = strictyaml.Errors //nolint:errname // a list, as there
	// Places knows the lines of a file, for mistakes that are found when more is
	// known than the file: what networks the node has, say.
	Places = strictyaml.Places
)

// ErrInvalid is what every mistake in the file is: errors.Is(err, ErrInvalid)
// tells a file that must be corrected from one that could not be read.
var ErrInvalid = strictyaml.ErrInvalid

// Load reads the configuration in the file path. A file that cannot be read
// gives the error of the os package (fs.ErrNotExist and so on); a file with
// mistakes gives [Errors].
func Load(path string) (*Config, error) { return File{Path: path}.Load() }

// Parse reads the configuration in data; name is the file's name for error
// messages. The error, if any, is of type [Errors] and lists the first 100
// mistakes, with the number of those beyond.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, Override{}) }

func parse(name string, data []byte, node Override) (*Config, error) {
	c, doc := read(name, data, node)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	c.BGP.Peers = slices.DeleteFunc(c.BGP.Peers, func(peer Peer) bool { return !peer.SelectsNode(c.Node.Labels) })
	return c, nil
}

// read reads and checks the file, whose mistakes the document has.
func read(name string, data []byte, node Override) (*Config, *strictyaml.Document) {
	c := Default()
	doc := strictyaml.Parse(name, data, func(v strictyaml.Value) { readConfig(v, c) })
	c.Places = doc.Places()
	p := &checker{doc}
	p.fillFilters(&c.BGP)
	node.apply(doc, &c.Node)
	if doc.Readable() {
		p.check(c)
	}
	return c, doc
}

// checker finds the values that are fine alone and wrong together.
type checker struct {
	*strictyaml.Document
}
