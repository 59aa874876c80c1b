package bgp

import (
	"net/netip"
	"time"
)

// PeerStatus is the observed state of one session.
type PeerStatus struct {
	Name    string // of the Peer, or of the Dynamic that accepted it
	Address netip.Addr
	ASN     uint32
	Role    Role
	Dynamic bool
	State   string // as named by RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm, Established
	// Since is when the session came up, or since when it is down.
	Since time.Time
	// Received counts the peer's prefixes, Accepted those that import accepts
	// (with an unpatched engine those without a loop), Advertised ours that it was
	// sent. Advertised is -1 where counting would cost too much (more than
	// 32 peers).
	Received, Accepted, Advertised int
	// Flaps counts how often the session was lost since it was configured.
	Flaps int
	// LastError says why the session last failed, in words, also when another
	// one is up by now; "" means never.
	LastError string
	ErrorAt   time.Time
	// Faults counts what was wrong with the peer's messages, and those for it.
	Faults Faults
	// Withheld is what the peer is not told now because no message to it can
	// hold it.
	Withheld Withheld
	// EndOfRIB reports whether the peer's first dump is complete.
	EndOfRIB bool
	Families []Family // carried by the session
	// Held says why the session is kept down; "" means that it is not.
	Held string
	// Trouble says what is wrong though the session may be up: two speakers
	// with one router ID or behind one address, no address family in common.
	Trouble string
	// Gone is a peer that the speaker waits for no longer: a dynamic one whose
	// last session failed within the last 10 minutes, or a Stranger.
	Gone bool
	// Stranger is an address whose connections are refused, because no Peer and
	// no Dynamic has it. Speaks means that it sent an OPEN; ASN is that one's.
	Stranger, Speaks bool
}
