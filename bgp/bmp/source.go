package bmp

import (
	"net/netip"
	"slices"
	"time"
)

// Source is the speaker: its sessions and tables.
type Source interface {
	// Watch calls w with the sessions that are up, then with every change until stop.
	Watch(w Watcher) (stop func(), err error)
	// Prefixes lists the prefixes of a table, in no order.
	Prefixes(of Table) ([]netip.Prefix, error)
	// Updates returns the UPDATE messages that make a table's prefixes what they are
	// now: those without a route are withdrawn. It fails for a peer that is gone, of
	// whose end the watchers were informed before.
	Updates(of Table, prefixes []netip.Prefix) ([]Update, error)
	// Counts returns how many routes the tables have.
	Counts() (Counts, error)
}

// Watcher is informed of changes. Its methods are called in the order of the changes,
// one at a time, on the speaker's own goroutine: they must not block, and must not call
// the source.
type Watcher interface {
	Up(s *Session)
	// Down comes before the end of the session's routes, which is not reported.
	Down(peer netip.Addr, end End)
	// Changed: the peer's route to a prefix is another one, or gone. acceptedOnly: its
	// import alone may have another result.
	Changed(peer netip.Addr, prefix netip.Prefix, acceptedOnly bool)
	// BestChanged: the best path to a prefix is another one, or gone.
	BestChanged(prefix netip.Prefix)
	// EndOfRIB: the peer has announced all its routes of a family (RFC 4724).
	EndOfRIB(peer netip.Addr, f Family)
}

// Family is an address family, by its AFI; all are unicast.
type Family uint16

// The families.
const (
	IPv4 Family = 1
	IPv6 Family = 2
)

// Session is one that is up.
type Session struct {
	Peer          netip.Addr // may carry a zone
	ASN           uint32     // the peer's
	RouterID      netip.Addr // the peer's
	Local, Remote netip.AddrPort
	// SentOpen and ReceivedOpen are the OPEN messages as they were on the wire.
	SentOpen, ReceivedOpen []byte
	Families               []Family
	Since                  time.Time
	// SendsEndOfRIB: the peer announces the end of its first routes (RFC 4724); Ended are
	// the families whose end it has announced.
	SendsEndOfRIB bool
	Ended         []Family
}

// markerPatience is how old a session is whose peer announces the end of its routes, and
// has not: it never will.
const markerPatience = 5 * time.Minute

// ended reports whether the routes of a family are all there.
func (s *Session) ended(f Family, now time.Time) bool {
	return !s.SendsEndOfRIB || slices.Contains(s.Ended, f) || now.Sub(s.Since) > markerPatience
}

// End is the end of a session.
type End struct {
	Local        bool   // this node ended it, else the peer did, or the connection was lost
	Notification []byte // the message sent if Local, else the one received; nil: none
	Event        uint16 // of RFC 4271 section 8.1, where Local without Notification; 0: none fits
}

// Table is the table of a view.
type Table struct {
	View View
	Peer netip.Addr // the zero Addr for Best
}

// Update is one UPDATE message with AS numbers of four octets.
type Update struct {
	Message []byte
	At      time.Time // when its routes came; the zero Time: it withdraws
}

// Counts are numbers of routes.
type Counts struct {
	Peers map[netip.Addr]PeerCounts // sessions that are up
	Best  map[Family]uint64
}

// PeerCounts are those of one peer.
type PeerCounts struct {
	Received map[Family]uint64 // routes in its Adj-RIB-In
	// Withdrawn counts UPDATE messages treated as withdrawals (RFC 7606) since the agent
	// started.
	Withdrawn uint64
}
