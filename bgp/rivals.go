package bgp

import (
	"maps"
	"net/netip"
	"slices"

	"onlink/bgp/gobgp"
)

// Rival is another node's announcement of a prefix that this node originates, or
// of a part of it. Import policy refuses it here; other nodes may install it.
type Rival struct {
	Origin  netip.Prefix // ours
	Prefix  netip.Prefix // as announced: Origin or inside it
	Peer    netip.Addr   // that announced it
	NextHop netip.Addr
	// OriginatorID is the router ID of the node behind a reflector; the zero
	// Addr when Peer itself originates the route.
	OriginatorID netip.Addr
	ASPath       string // "" inside our AS
}

// rivalOf returns the fields that distinguish announcements; Origin is left zero.
func rivalOf(peer netip.Addr, prefix netip.Prefix, attrs gobgp.Attributes) Rival {
	return Rival{Prefix: prefix, Peer: peer, NextHop: attrs.NextHop(), OriginatorID: attrs.OriginatorID(), ASPath: attrs.ASPath()}
}

// ownPrefixes finds the own prefix that contains another one.
type ownPrefixes struct {
	set  map[netip.Prefix]Origin
	bits []int // the lengths in set
}

func ownPrefixesOf(set map[netip.Prefix]Origin) ownPrefixes {
	o := ownPrefixes{set: maps.Clone(set)}
	for p := range o.set {
		if !slices.Contains(o.bits, p.Bits()) {
			o.bits = append(o.bits, p.Bits())
		}
	}
	return o
}

// holding returns the own prefix that p lies in, else the zero Prefix.
func (o ownPrefixes) holding(p netip.Prefix) netip.Prefix {
	for _, bits := range o.bits {
		if bits > p.Bits() {
			continue
		}
		if wide, err := p.Addr().Prefix(bits); err == nil {
			if _, ours := o.set[wide]; ours {
				return wide
			}
		}
	}
	return netip.Prefix{}
}

// echoes distinguishes our own announcements that come back from those of rivals.
type echoes struct {
	routerID     netip.Addr
	addr4, addr6 netip.Addr
	begins       map[uint32]bool // origin ASes that an announcement of ours may come back with
}

func echoesOf(c *Config, w wanted) echoes {
	e := echoes{routerID: c.RouterID, addr4: c.NodeAddress, addr6: c.NodeAddress6, begins: map[uint32]bool{c.ASN: true}}
	note := func(s *Session) {
		if s.Role == EBGP {
			e.begins[s.ASN], e.begins[s.LocalAS] = true, true
		}
	}
	for _, p := range w.peers {
		note(&p.Session)
	}
	for _, d := range w.dynamics {
		note(&d.Session)
	}
	return e
}

// has reports whether r may be our own announcement.
func (e *echoes) has(r *Rival, attrs gobgp.Attributes) bool {
	return r.OriginatorID == e.routerID || r.NextHop == e.addr4 || r.NextHop == e.addr6 || attrs.MayBeginIn(e.begins)
}
