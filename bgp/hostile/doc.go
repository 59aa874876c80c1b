// Package hostile holds malformed BGP messages and sequences, each with what
// must come of it by RFC 4271, 7606 and their kin, well-formed claims on what is
// somebody else's, and a peer that sends them.
// It is for tests: those of bgp, in process, and those of a whole agent.
package hostile

import "net/netip"

// Set makes attacks on one speaker.
type Set struct {
	Self netip.Addr // the speaker's BGP identifier
	Hop  netip.Addr // a next hop that it takes
	AS   uint16     // of both ends
	// External: the speaker is of another AS, AS is that of the peer alone.
	External bool
}

// Attack is one malformed message or sequence and what must come of it.
type Attack struct {
	Name string
	// Run sends it; nil: send Body as a message of type Type on a session that
	// is up.
	Run  func(p *Peer)
	Type byte
	Body []byte
	// Open attacks instead of a good OPEN; the session is not up before.
	Open bool
	// Want is the NOTIFICATION that ends the session ("3/1"), Closed for an end
	// without one, or what becomes of the attack's route, [NLRI], in a session
	// that survives: Used or Withdrawn. Of an attack in the OPEN Used means that
	// it was taken.
	Want string
}
