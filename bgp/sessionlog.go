package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"onlink/bgp/gobgp"
)

// This file writes the lines of our log about sessions: one when a session comes up, one
// when its first routes are complete, one when it ends.

// lostNamed bounds the lost prefixes that a line names.
const lostNamed = 4

// logTurn writes the line of a session that came up or ended.
func (w *watch) logTurn(ev gobgp.PeerEvent, c peerChange, t turn) {
	if !t.up && !t.down {
		return
	}
	event := "session up"
	if t.down {
		event = "session down"
	}
	ok, left := w.pace.admit(c.addr.String()+" "+event, event, w.ledger.now()) // a session may flap all the time
	if !ok {
		return
	}
	who := w.wanted.Load().describe(c.addr)
	attrs := []any{"peer", who.name, "address", c.addr, "asn", who.asn, "role", who.role.String()}
	if left > 0 {
		attrs = append(attrs, "left_out_before", left)
	}
	if t.up {
		attrs = append(attrs, "router_id", c.carries.id, "families", familyNames(c.carries.families))
		if !t.first {
			attrs = append(attrs, "down_for", t.lasted.Round(time.Second))
		}
		next := "receives the peer's routes"
		if len(c.carries.families) == 0 {
			next = "nothing: the two have no address family in common"
		}
		w.log.Info("session up", append(attrs, "next", next)...)
		return
	}
	attrs = append(attrs, "reason", t.reason, "up_for", t.lasted.Round(time.Second))
	if t.kept {
		attrs = append(attrs, "routes_kept", t.had.Accepted)
	} else {
		attrs = append(attrs, "routes_lost", t.had.Accepted)
		if len(t.had.Prefixes) > 0 {
			attrs = append(attrs, "such_as", prefixNames(t.had.Prefixes))
		}
	}
	w.log.Warn("session down", append(attrs, "next", w.next(ev, c.addr, who, t.kept))...)
}

// logRoutes writes the line of a session whose first routes are complete.
func (w *watch) logRoutes(addr netip.Addr, after time.Duration) {
	st, _, err := w.engine.Neighbor(addr)
	if err != nil {
		w.log.Warn("failed to look up a peer", "peer", addr, "err", err)
		return
	}
	const event = "first routes received"
	ok, left := w.pace.admit(addr.String()+" "+event, event, w.ledger.now())
	if !ok {
		return
	}
	attrs := []any{"peer", w.wanted.Load().describe(addr).name, "address", addr, "received", st.Received, "routes_gained", st.Accepted, "after", after.Round(time.Millisecond)}
	if left > 0 {
		attrs = append(attrs, "left_out_before", left)
	}
	w.log.Info(event, attrs...)
}

// next describes what follows the end of a session.
func (w *watch) next(ev gobgp.PeerEvent, addr netip.Addr, who description, kept bool) string {
	text := who.next
	switch {
	case ev.Limited:
		text = fmt.Sprintf("held down for %s: it exceeded its prefix limit", w.retry)
	case ev.Down:
		text = "held down until it is released"
	}
	if !kept {
		return text
	}
	st, ok, err := w.engine.Neighbor(addr)
	if err != nil || !ok {
		return text
	}
	return fmt.Sprintf("%s; its routes are kept for its restart, %ds at most (RFC 4724)", text, st.PeerRestart)
}

// description is a peer in a log line.
type description struct {
	name string
	asn  uint32
	role Role
	next string // after the end of its session
}

// describe returns the peer with an address.
func (w *wanted) describe(addr netip.Addr) description {
	if p, ok := w.peers[addr]; ok {
		d := description{p.Name, p.ASN, p.Role, fmt.Sprintf("dials again within %s", p.ConnectRetry)}
		switch {
		case p.Passive:
			d.next = "waits for the peer to connect"
		case p.Yield:
			d.next = fmt.Sprintf("waits for the peer to connect, dials after %s", p.ConnectRetry)
		}
		return d
	}
	if c, ok := w.dynamicOf(addr.WithZone("")); ok {
		return description{c.Name, c.ASN, c.Role, "waits for the peer to connect"}
	}
	return description{next: "nothing: it is no longer configured"}
}

func familyNames(list []Family) string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.String()
	}
	return strings.Join(names, ",")
}

// prefixNames names the first prefixes of a list.
func prefixNames(list []netip.Prefix) string {
	names := make([]string, 0, lostNamed)
	for _, p := range list[:min(len(list), lostNamed)] {
		names = append(names, p.String())
	}
	return strings.Join(names, ",")
}
