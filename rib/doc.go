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
// what BGP says. A learned prefix is refused as a whole when it lies inside an
// own block, is a default route or part of a node's subnet without permission,
// or would take over the kernel's way to a BGP next hop. Otherwise every next
// hop is decided on its own, so that one route may have direct and tunnelled
// members:
//
//	next hop is          encapsulation          member
//	on-link              CrossSubnet, Never     via NH dev IF
//	on-link              Always                 via NH dev TUNNEL onlink
//	behind a gateway     CrossSubnet, Always    via NH dev TUNNEL onlink
//	behind a gateway     Never, outside pools   via GATEWAY dev IF
//	anything else        any                    no member
//
// A route without members is Unresolved: kept, counted and shown with the
// reason, not installed, and decided again when its next hop changes.
package rib
