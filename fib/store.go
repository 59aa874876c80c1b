package fib

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// store holds the entries by prefix. Entries live in chunks, so that a
// reading of the kernel walks them in memory order, and IPv4 prefixes are
// found by one machine word: a resync of many unchanged routes is bound by
// these look-ups.
type store struct {
	v4     map[uint64]*entry
	v6     map[netip.Prefix]*entry
	chunks []*[chunkLen]entry
	free   []*entry
}

const chunkLen = 256

func (s *store) init() {
	s.v4 = make(map[uint64]*entry)
	s.v6 = make(map[netip.Prefix]*entry)
}

// word packs an IPv4 prefix.
func word(p netip.Prefix) uint64 {
	a := p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(p.Bits())
}

// get returns the entry of p, nil if there is none. p must be masked; an
// invalid p has none.
func (s *store) get(p netip.Prefix) *entry {
	if p.Addr().Is4() {
		return s.v4[word(p)]
	}
	return s.v6[p]
}

// put makes an entry for p, which must not have one.
func (s *store) put(p netip.Prefix) *entry {
	if len(s.free) == 0 {
		chunk := new([chunkLen]entry)
		s.chunks = append(s.chunks, chunk)
		for i := len(chunk) - 1; i >= 0; i-- {
			s.free = append(s.free, &chunk[i])
		}
	}
	e := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	e.prefix = p
	if p.Addr().Is4() {
		s.v4[word(p)] = e
	} else {
		s.v6[p] = e
	}
	return e
}

// remove drops e; to remove it twice does nothing. The next put may give e to
// another prefix.
func (s *store) remove(e *entry) {
	p := e.prefix
	if !p.IsValid() {
		return
	}
	if p.Addr().Is4() {
		delete(s.v4, word(p))
	} else {
		delete(s.v6, p)
	}
	*e = entry{}
	s.free = append(s.free, e)
}

// len returns the number of entries.
func (s *store) len() int { return len(s.v4) + len(s.v6) }

// all yields the entries in memory order; the current one may be removed.
func (s *store) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, chunk := range s.chunks {
			for i := range chunk {
				if e := &chunk[i]; e.prefix.IsValid() && !yield(e) {
					return
				}
			}
		}
	}
}
