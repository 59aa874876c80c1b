package bgp

import (
	"net/netip"
	"time"
)

// Loss is what a session had when it ended.
type Loss struct {
	Received, Accepted int
	Prefixes           []netip.Prefix // the lowest of the accepted ones, at most 16
}

// PeerStatus is the observed state of one session.
type PeerStatus struct {
	Name    string // of the Peer, or of the Dynamic that accepted it
	Address netip.Addr
	ASN     uint32
	Role    Role
	Dynamic bool
	State   string // RFC 4271 section 8.2.2: Idle, Connect, Active, OpenSent, OpenConfirm, Established
	// Since is when the session came up; while it is down, when it was lost or
	// the peer added.
	Since time.Time
	// Received counts the peer's prefixes, Accepted those that import accepts
	// (with an unpatched engine those without a loop), Advertised the prefixes
	// announced to it. Advertised is -1 with more than 32 peers, where
	// counting would cost too much.
	Received, Accepted, Advertised int
	// Flaps counts how often the session was lost since it was configured.
	Flaps int
	// LastError is the reason of the session's last failure, in words, also when
	// a session is up again; "" means never.
	LastError string
	ErrorAt   time.Time
	// Faults counts the faults of messages from the peer and to it.
	Faults Faults
	// Withheld are the routes that are not announced to the peer because they
	// do not fit into a message.
	Withheld Withheld
	// EndOfRIB is whether the peer's first dump is complete.
	EndOfRIB bool
	Families []Family // carried by the session
	// Held is the reason for which the session is kept down; "" means none.
	Held string
	// Trouble is a fault that an Established session may have too: two speakers
	// with one router ID or behind one address, no address family in common.
	Trouble string
	// Gone: the speaker no longer waits for the peer. It is a dynamic one that was
	// Established and is listed until [Operator.Forget], for 7 days and at most 1,024
	// of them; or one whose only sessions failed within the last 10 minutes, or a
	// Stranger.
	Gone bool
	// Seen: the peer was Established since this agent started, or before its restart.
	Seen bool
	// Lost is what went with the last session, while there is none.
	Lost Loss
	// Stranger: connections from the address are refused, because no Peer and no
	// Dynamic has it. Speaks means that it sent an OPEN; ASN is from that.
	Stranger, Speaks bool
}
