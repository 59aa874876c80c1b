package config

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
)

// Facts are the properties of one node that its configuration depends on.
type Facts struct {
	// Addresses are the node's own; an invalid one stands for none.
	Addresses []netip.Addr
	// Claims are the ranges that the node reaches without onlink.
	Claims []Claim
	// Routers are the addresses of the peers that are configured by their
	// interface alone, by interface; one that is not found yet is missing.
	Routers map[string]netip.Addr
}

// Effective is the configuration of one node: a file's, in which BGP.Peers has
// every session of the node, those of the mesh too, and each peer of an interface
// has the address that was found there. It is never written to: readers share it
// without a lock.
type Effective struct {
	Config

	file *Config
}

// Resolve returns the configuration that a file means on one node. It changes
// neither argument. The error lists the pools and originated prefixes that take a
// range of the node ([Errors]), or names a mesh without the node.
func Resolve(file *Config, node Facts) (*Effective, error) {
	if errs := file.Overlaps(node.Claims); len(errs) > 0 {
		return nil, errs
	}
	e := &Effective{Config: *file, file: file}
	e.BGP.Peers = slices.Clone(file.BGP.Peers)
	if m := file.BGP.Mesh; m != nil {
		peers, member := m.Peers(node.Addresses...)
		if !member {
			return nil, Errors{file.Places.Mistake("bgp.mesh", "this node's address %s is not among its nodes; add it, or set node.address to the one that is", firstValid(node.Addresses))}
		}
		e.BGP.Peers = append(e.BGP.Peers, peers...)
	}
	e.place(node.Routers)
	return e, nil
}

// firstValid is the address that stands for the node in messages.
func firstValid(addrs []netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// place sets the addresses of the peers of interfaces.
func (e *Effective) place(routers map[string]netip.Addr) {
	for i, p := range e.BGP.Peers {
		if p.Unnumbered {
			e.BGP.Peers[i].Address = routers[p.Interface]
		}
	}
}

// Routers returns the addresses of the peers of interfaces, by interface.
func (e *Effective) Routers() map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for _, p := range e.BGP.Peers {
		if p.Unnumbered && p.Address.IsValid() {
			out[p.Interface] = p.Address
		}
	}
	return out
}

// WithRouters returns the same configuration with other addresses of the peers
// of interfaces; e itself when they are the same.
func (e *Effective) WithRouters(routers map[string]netip.Addr) *Effective {
	next := *e
	next.BGP.Peers = slices.Clone(e.BGP.Peers)
	next.place(routers)
	if maps.Equal(next.Routers(), e.Routers()) {
		return e
	}
	return &next
}

// File returns the configuration as the file has it, without the sessions of the
// mesh. It must not be written to.
func (e *Effective) File() *Config { return e.file }

// From reports whether the configuration was resolved from a file that equals
// this one, key by key and line by line.
func (e *Effective) From(file *Config) bool { return reflect.DeepEqual(e.file, file) }
