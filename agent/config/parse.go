package config

import (
	"onlink/internal/strictyaml"
)

func parse(name string, data []byte, node Override) (*Config, error) {
	c, doc := read(name, data, node)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	c.keepOwnPeers()
	return c, nil
}

// keepOwnPeers removes the peers of other nodes.
func (c *Config) keepOwnPeers() {
	var own []Peer
	for i, peer := range c.BGP.Peers {
		if peer.SelectsNode(c.Node.Labels) {
			own = append(own, peer)
			c.Places.peers = append(c.Places.peers, i)
		}
	}
	c.BGP.Peers = own
}

// read reads and checks the file; the document holds its mistakes.
func read(name string, data []byte, node Override) (*Config, *strictyaml.Document) {
	c := Default()
	doc := strictyaml.Parse(name, data, func(v strictyaml.Value) { readConfig(v, c) })
	c.Places.Places = doc.Places()
	p := &checker{doc}
	p.fillFilters(&c.BGP)
	node.apply(doc, &c.Node)
	if doc.Readable() {
		p.check(c)
	}
	return c, doc
}
