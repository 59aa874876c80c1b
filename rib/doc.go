// Package rib holds the candidate paths of every prefix and decides, for each,
// the one route the kernel shall hold.
//
// It is pure: standard library only, no goroutine, no mutex, no I/O. One
// goroutine (the learn loop) owns a [Table]. What the kernel's own routes say
// of a next hop comes through [Resolver]; what shall be installed leaves
// through [Table.Drain].
//
//	bgp --Update--> Table --Drain--> fib
//	                  |
//	  underlay <--Reach--+   (asked once for each next hop and event)
//
// # The decision
//
// A pod of this node wins over everything, then a block of this node, then
// what BGP says. A learned prefix is refused as a whole when it is a [Martian],
// lies inside an own block, is a default route or part of a node's subnet
// without permission, or would take over the kernel's way to a BGP next hop.
// Otherwise every next hop is decided on its own, so that one route may have
// direct and tunnelled members:
//
//	next hop is          encapsulation          member
//	on-link              CrossSubnet, Never     via NH dev IF
//	on-link              Always                 via NH dev TUNNEL onlink
//	behind a gateway     CrossSubnet, Always    via NH dev TUNNEL onlink
//	behind a gateway     Never, outside pools   via GATEWAY dev IF
//	inside a pool        any                    what the pool's route to NH has
//	anything else        any                    no member
//
// A next hop inside a pool, a pod's above all, is resolved through the table
// itself: through the longest installed route of a pool which covers it and
// does not lead into a pool in turn. It never bears on that route, so nobody
// can take a block away by naming one of its addresses. For a prefix inside a
// pool it counts only while no path has another kind of next hop.
//
// A route without members is Unresolved: kept, counted and shown with the
// reason, not installed, and decided again when its next hop changes.
package rib
