// Package rib holds the candidate paths of every prefix and decides, for each,
// the one route that the kernel must have.
//
// It is pure: standard library only, no goroutine, no mutex, no I/O. One
// goroutine (the learn loop) owns a [Table]. [Resolver] reports how the kernel's
// own routes reach a next hop; [Table.Drain] returns the changes to install.
//
//	bgp --Update--> Table --Drain--> fib
//	                  |
//	  underlay <--Reach--+   (once for each next hop and event)
//
// # The decision
//
// A pod of this node wins over everything, then a block of this node, then
// the paths of BGP. A learned prefix is refused as a whole when it is a [Martian],
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
//	inside a pool        any                    those of the pool's route to NH
//	anything else        any                    no member
//
// A next hop inside a pool, that of a pod in most cases, is resolved through the
// table itself: through the longest installed route of a pool which covers it and
// does not lead into a pool in turn. It has no effect on that route, so a peer
// cannot take a block away with an address of it as next hop. For a prefix inside
// a pool it counts only while no path has another kind of next hop.
//
// A route without members is Unresolved: kept, counted and shown with the
// reason, not installed, and decided again when its next hop changes.
package rib
