package bfd

import (
	"fmt"
	"net/netip"
	"time"
)

// The defaults of a [Session]'s zero fields, and their bounds. Below 50 ms a
// scheduler's delay would end the session to a live peer.
const (
	DefaultInterval   = 300 * time.Millisecond
	DefaultMultiplier = 3
	MinInterval       = 50 * time.Millisecond
	MaxInterval       = time.Minute
	MinMultiplier     = 2 // with 1 the first late packet is a failure
)

// Session is one desired BFD session. It is comparable; Peer and Multihop
// are its identity.
type Session struct {
	// Peer is the neighbour's address; a link-local one has its zone.
	Peer netip.Addr
	// Local is our source address; the zero Addr lets the kernel choose.
	Local netip.Addr
	// Multihop uses UDP port 4784 and accepts packets of any TTL (RFC 5883);
	// otherwise port 3784 and only TTL 255 (RFC 5881 section 5).
	Multihop bool
	// Interval is the desired minimum interval of packets in both directions, in
	// microseconds on the wire; default 300 ms, from 50 ms to 1 min.
	Interval time.Duration
	// Multiplier is the detection multiplier: the session goes down when this
	// many packets in a row are missing; default 3.
	Multiplier uint8
}

// key identifies a session among others.
type key struct {
	peer     netip.Addr
	multihop bool
}

func (s Session) key() key { return key{s.Peer, s.Multihop} }

func (s Session) withDefaults() Session {
	if s.Interval == 0 {
		s.Interval = DefaultInterval
	}
	if s.Multiplier == 0 {
		s.Multiplier = DefaultMultiplier
	}
	return s
}

// validate reports the first fault of s as an [ErrSession].
func (s Session) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: peer %s: %s", ErrSession, s.Peer, fmt.Sprintf(format, args...))
	}
	switch {
	case !s.Peer.IsValid() || s.Peer.IsUnspecified() || s.Peer.IsMulticast() || s.Peer.Is4In6():
		return bad("Peer is not a neighbour's address")
	case s.Peer.IsLinkLocalUnicast() && s.Peer.Is6() && s.Peer.Zone() == "":
		return bad("Peer is link-local and has no zone: write %s%%eth0", s.Peer)
	case s.Local.IsValid() && s.Local.Is4() != s.Peer.Is4():
		return bad("Local %s is of another family", s.Local)
	case s.Interval < MinInterval || s.Interval > MaxInterval:
		return bad("Interval %s is not within %s to %s", s.Interval, MinInterval, MaxInterval)
	case s.Multiplier < MinMultiplier:
		return bad("Multiplier 1 fails with the first late packet: use 2 or more")
	}
	return nil
}

// Status is the observed state of one session.
type Status struct {
	Session Session
	State   State
	Diag    Diag // why the session last left Up
	Since   time.Time
	// RemoteState and RemoteDiag are those of the neighbour's last packet.
	RemoteState State
	RemoteDiag  Diag
	// Independent is the neighbour's C bit: its BFD continues while its control
	// plane restarts (RFC 5882 section 4.3).
	Independent bool
	// LastHeard is when the last valid packet came; zero means never.
	LastHeard time.Time
	// Downs counts how often the session left Up, Failures how often it did so
	// without AdminDown from the neighbour: only those mean that the path is
	// broken (RFC 5882 section 3.2).
	Downs, Failures uint64
	// Interval is the time between our packets, Detection the detection time
	// (RFC 5880 section 6.8.4); zero before the first packet of the neighbour.
	Interval, Detection time.Duration
	// Sent and Received count control packets; Unsent, of those sent, the ones
	// that the kernel refused (no route, device down).
	Sent, Unsent, Received uint64
}
