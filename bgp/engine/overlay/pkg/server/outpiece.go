// Part of the patch fanout/update-groups.

package server

import (
	"cmp"
	"slices"
	"sort"
)

// Pieces of an update group's log, encoded once for all members that come to the
// place where they begin: see the head of outgroup.go.

// outPieces is how many pieces a group keeps. Members that are told the same change
// stand at a few places, and a piece is a buffer of outChunk bytes.
const outPieces = 16

// outPiece is what stands in the log between two places, as messages for a member
// that is the source of none of it.
type outPiece struct {
	from, to uint64
	buf      []byte
	msgs     int
	sources  []uint32 // of the paths in it, in order
	// gone is the place of the first withdrawal; 0: there is none. Members that
	// joined later are told of none of them.
	gone uint64
}

// suits reports whether a member is told all of the piece, and nothing else.
func (p *outPiece) suits(m *outMember) bool {
	_, own := slices.BinarySearch(p.sources, m.id)
	return !own && (p.gone == 0 || p.gone > m.joined)
}

// piece returns the piece that begins at a place. A member that it does not suit
// goes as far as it does, and so finds the next one. The caller holds g.mu for
// reading.
func (g *outGroup) piece(from uint64) *outPiece {
	g.piecesMu.Lock()
	defer g.piecesMu.Unlock()
	for _, p := range g.pieces {
		if p.from == from {
			return p
		}
	}
	p := &outPiece{from: from}
	p.buf, p.msgs, p.to = g.encode(nil, outChunk, from, g.seq, func(slot outSlot) (tell, bool) {
		e := slot.entry
		if e.seq != slot.seq {
			return tell{}, false
		}
		if e.source != 0 {
			p.sources = append(p.sources, e.source)
		}
		if e.attrs == nil && p.gone == 0 {
			p.gone = e.seq
		}
		return tell{prefix: e.prefix, attrs: e.attrs}, true
	})
	slices.Sort(p.sources)
	if len(g.pieces) == outPieces {
		g.pieces = slices.Delete(g.pieces, 0, 1)
	}
	g.pieces = append(g.pieces, p)
	return p
}

// spoil forgets the piece that an entry has been in, which moves on. The caller
// holds g.mu for writing.
func (g *outGroup) spoil(seq uint64) {
	if len(g.pieces) > 0 && seq > 0 {
		g.pieces = slices.DeleteFunc(g.pieces, func(p *outPiece) bool { return p.from < seq && seq <= p.to })
	}
}

// encode appends messages of about limit bytes of what is due between two places,
// and returns how many, and the place up to which that is all. The caller holds g.mu
// for reading.
func (g *outGroup) encode(buf []byte, limit int, from, to uint64, due func(outSlot) (tell, bool)) (_ []byte, msgs int, reached uint64) {
	first := sort.Search(len(g.log), func(i int) bool { return g.log[i].seq > from })
	list := make([]tell, 0, min(len(g.log)-first, 64))
	shared, told, gone := false, false, false
	size, i := 0, first
	for ; i < len(g.log) && g.log[i].seq <= to && size < limit; i++ {
		from = g.log[i].seq
		t, ok := due(g.log[i])
		if !ok {
			continue
		}
		size += 1 + int(t.prefix.bits+7)/8
		if len(list) == 0 || list[len(list)-1].attrs != t.attrs {
			size += updateOverhead(t.attrs)
		}
		if t.attrs == nil {
			gone = true
		} else {
			told, shared = true, shared || t.attrs.refs > 1
		}
		list = append(list, t)
	}
	if i == len(g.log) || g.log[i].seq > to {
		from = to // the entries of the last places may have moved on
	}
	if shared || told && gone {
		// Each prefix is here once, so their order is free. Withdrawals come last: an
		// aggregate takes the place of the prefixes inside it, and they that of an aggregate.
		slices.SortStableFunc(list, func(a, b tell) int { return cmp.Compare(a.attrs.order(), b.attrs.order()) })
	}
	w := updateWriter{buf: buf, family: g.key.family}
	for _, t := range list {
		w.add(t)
	}
	w.end()
	return w.buf, w.msgs, from
}
