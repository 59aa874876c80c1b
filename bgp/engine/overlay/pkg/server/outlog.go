// Part of the patch fanout/update-groups.

package server

import (
	"slices"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// The log of an update group: see the head of outgroup.go.

// set makes attrs, of a path from source, what is told of a prefix; nil: that
// it is gone. It reports whether that is news. The caller holds g.mu.
func (g *outGroup) set(prefix outPrefix, source uint32, attrs *outAttrs) bool {
	e := g.entries[prefix]
	if attrs == nil {
		if e != nil {
			e.mark = g.mark
		}
		if e == nil || e.attrs == nil {
			return false
		}
		g.withdraw(e)
		return true
	}
	attrs = g.intern(attrs)
	if e == nil {
		e = &outEntry{prefix: prefix, source: source}
		g.entries[prefix] = e
	} else {
		e.mark = g.mark
		if e.attrs == attrs && e.source == source {
			return false
		}
		if e.source != source {
			e.displaced = e.attrs != nil || g.untold(source, e.seq)
		} else {
			e.displaced = e.displaced && g.untold(source, e.seq)
		}
		if e.attrs == nil {
			g.withdrawn--
		} else {
			g.release(e.attrs)
		}
		e.source = source
	}
	attrs.refs++
	e.attrs, e.mark = attrs, g.mark
	g.push(e)
	return true
}

// withdraw makes an entry's prefix gone.
func (g *outGroup) withdraw(e *outEntry) {
	e.displaced = e.displaced && g.untold(e.source, e.seq)
	g.release(e.attrs)
	e.attrs = nil
	g.withdrawn++
	g.push(e)
}

// untold reports whether a member with the ID has not come as far as seq.
func (g *outGroup) untold(id uint32, seq uint64) bool {
	for _, m := range g.byID[id] {
		if m.place < seq {
			return true
		}
	}
	return false
}

// push puts an entry at the end of the log.
func (g *outGroup) push(e *outEntry) {
	if len(g.log) > 64 && len(g.log) > 2*len(g.entries) {
		g.log = slices.DeleteFunc(g.log, func(s outSlot) bool { return s.entry.seq != s.seq })
	}
	g.spoil(e.seq)
	g.seq++
	e.seq = g.seq
	g.log = append(g.log, outSlot{entry: e, seq: e.seq})
}

func (g *outGroup) intern(a *outAttrs) *outAttrs {
	if known, ok := g.attrs[a.key]; ok {
		return known
	}
	g.attrsID++
	a.id = g.attrsID
	g.attrs[a.key] = a
	return a
}

func (g *outGroup) release(a *outAttrs) {
	if a.refs--; a.refs == 0 {
		delete(g.attrs, a.key)
	}
}

// sweep forgets withdrawn prefixes that all members have been told of.
func (g *outGroup) sweep() {
	if g.withdrawn < g.nextSweep {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	told := g.seq
	for _, m := range g.members {
		told = min(told, m.place)
	}
	for prefix, e := range g.entries {
		if e.attrs == nil && e.seq <= told {
			delete(g.entries, prefix)
			g.spoil(e.seq)
			e.seq = 0 // its slot is empty
			g.withdrawn--
		}
	}
	g.nextSweep = max(outSweep, 2*g.withdrawn, len(g.entries)/4)
}

// outPrefixOf returns the key of a prefix; no other kinds of NLRI have groups.
func outPrefixOf(nlri bgp.AddrPrefixInterface) (p outPrefix, ok bool) {
	switch n := nlri.(type) {
	case *bgp.IPAddrPrefix:
		copy(p.addr[:], n.Prefix.To4())
		p.bits = n.Length
	case *bgp.IPv6AddrPrefix:
		copy(p.addr[:], n.Prefix.To16())
		p.bits = n.Length
	default:
		return p, false
	}
	return p, true
}
