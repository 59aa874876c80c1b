package config

import "onlink/internal/strictyaml"

// Override holds the node's settings from the command line or the environment.
// They win over the file, also when the file is read again: one file can then
// serve nodes that get their names and addresses from elsewhere.
type Override struct {
	Name, Address Setting
}

// Setting is one value and its origin.
type Setting struct {
	Value string // empty: not given
	From  string // such as --node-name, for messages
}

// First returns the first setting that was given.
func First(settings ...Setting) Setting {
	for _, s := range settings {
		if s.Value != "" {
			return s
		}
	}
	return Setting{}
}

// apply changes the node, by the same rules as the file's keys.
func (o Override) apply(d *strictyaml.Document, c *Node) {
	read := func(s Setting, into func(strictyaml.Value)) {
		if s.Value != "" {
			into(d.Scalar(s.From, s.Value))
		}
	}
	read(o.Name, strictyaml.Word(&c.Name))
	if o.Address.Value != "" {
		c.Address = NodeAddress{} // auto changes nothing
	}
	read(o.Address, nodeAddress(&c.Address))
}
