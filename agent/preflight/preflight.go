// Package preflight finds the mistakes of a valid configuration that would show
// when an agent starts with it: the start would fail, or a session, a registry or
// a route would never work. [File] judges the file alone, [Machine] with it the
// machine: it opens what the start opens, and changes nothing.
//
// A running agent accepts files that this package rejects: a change of one peer
// must not fail because of a node's name, and a start must not fail because of one
// session of many. onlinkd --check-config rejects them, and `status` of a running
// agent lists them ([Running]). A doubt decides for the file: a rejected good file
// costs more than an accepted bad one.
package preflight

import (
	"onlink/agent/config"
	"onlink/fib/underlay"
)

// File returns the mistakes that the file shows by itself.
func File(c *config.Config) config.Errors {
	r := &report{Config: c}
	r.file()
	return r.sorted()
}

// Running returns the mistakes that an agent with these addresses still has while
// it runs.
func Running(c *config.Config, addrs []underlay.Address) config.Errors {
	r := &report{Config: c}
	r.file()
	r.ownPeers(own(addrs))
	return r.sorted()
}

func (r *report) file() {
	r.nodeName()
	r.numbers()
	r.routerID()
	r.peers()
	r.mesh()
	r.listening()
	r.endpoints()
	r.registry()
	r.ranges()
}
