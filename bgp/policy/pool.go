package policy

import (
	"fmt"
	"net/netip"
)

// Pool is a range of pods' addresses. Nodes own blocks of it, so a prefix
// inside may lead only to its owner: the prefixes that a peer may announce there
// are bounded whatever else is accepted from it.
type Pool struct {
	Prefix netip.Prefix
	// Block is the length of a block, the longest prefix that a node announces
	// inside; 0 means the length of an address.
	Block int
}

// block returns the length of a block.
func (p Pool) block() int {
	if p.Block == 0 {
		return p.Prefix.Addr().BitLen()
	}
	return p.Block
}

// Validate returns the faults of p; path is its key.
func (p Pool) Validate(path string) []Fault {
	if text := PrefixFault(p.Prefix); text != "" {
		return []Fault{{path, text}}
	}
	if b := p.block(); b < p.Prefix.Bits() || b > p.Prefix.Addr().BitLen() {
		return []Fault{{path, fmt.Sprintf("%s has no blocks of /%d; use %d to %d", p.Prefix, b, p.Prefix.Bits(), p.Prefix.Addr().BitLen())}}
	}
	return nil
}

// poolAround returns the pool that p lies in, the smallest of several.
func poolAround(pools []Pool, p netip.Prefix) (Pool, bool) {
	var best Pool
	for _, pool := range pools {
		if contains(pool.Prefix, p) && (!best.Prefix.IsValid() || pool.Prefix.Bits() > best.Prefix.Bits()) {
			best = pool
		}
	}
	return best, best.Prefix.IsValid()
}

// The reasons why import policy refuses a prefix inside a pool.
const (
	ruleTooLong = "longer than a block of the pool"
	ruleUnnamed = "inside a pool that import.accept does not name"
)

// importDefault is one step of the import of a route that no filter decides.
type importDefault struct {
	rule   string
	rules  []PrefixRule
	action Action
}

// importDefaults returns those steps for a peer. The pools come first, so that a
// wide entry of Import.Accept does not accept prefixes inside them.
func importDefaults(s *Peer, pools []Pool) []importDefault {
	var blocks, named, long, all, wide []PrefixRule
	for _, p := range pools {
		blocks = append(blocks, PrefixRule{Prefix: p.Prefix, Ge: p.Prefix.Bits(), Le: p.block()})
		all = append(all, PrefixRule{Prefix: p.Prefix, Ge: p.Prefix.Bits(), Le: p.Prefix.Addr().BitLen()})
	}
	for _, r := range s.Import.Accept {
		pool, inside := poolAround(pools, r.Prefix)
		if !inside {
			wide = append(wide, r)
			continue
		}
		permitted, beyond := r.split(pool)
		named, long = append(named, permitted...), append(long, beyond...)
	}
	accept := importDefault{"import.accept", named, Accept}
	rest := importDefault{"import.accept", wide, Accept}
	if s.External {
		return []importDefault{accept, {ruleTooLong, long, Reject}, {ruleUnnamed, all, Reject}, rest}
	}
	return []importDefault{{"pools", blocks, Accept}, accept, {ruleTooLong, all, Reject}, rest}
}

// split parts a rule inside a pool into the lengths that it permits and those
// longer than a block. An entry for longer ones alone permits them: for a service
// address inside the pool, say.
func (r PrefixRule) split(p Pool) (permitted, beyond []PrefixRule) {
	lo, hi := r.lengths()
	switch {
	case lo > p.block() || hi <= p.block():
		return []PrefixRule{r}, nil
	default:
		return []PrefixRule{{Prefix: r.Prefix, Ge: lo, Le: p.block()}}, []PrefixRule{{Prefix: r.Prefix, Ge: p.block() + 1, Le: hi}}
	}
}
