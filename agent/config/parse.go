package config

import (
	"slices"

	"onlink/internal/strictyaml"
)

func parse(name string, data []byte, node Override) (*Config, error) {
	c, doc := read(name, data, node)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	c.BGP.Peers = slices.DeleteFunc(c.BGP.Peers, func(peer Peer) bool { return !peer.SelectsNode(c.Node.Labels) })
	return c, nil
}

// read reads and checks the file; the document holds its mistakes.
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
