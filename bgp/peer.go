package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// Role is the relation of a peer to this node.
type Role uint8

// The roles of a peer.
const (
	// IBGP is a peer of our AS: another node of a full mesh, or our
	// reflector, or, between two reflectors, the other one. Only prefixes that
	// this node originates are announced to it, unless Export.Reflected.
	IBGP Role = iota
	// Client is a peer of our AS whose routes we reflect (RFC 4456).
	Client
	// EBGP is a peer of another AS: a ToR.
	EBGP
)

// String returns the name shown to operators.
func (r Role) String() string {
	switch r {
	case IBGP:
		return "ibgp"
	case Client:
		return "client"
	case EBGP:
		return "ebgp"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// Session holds the fields that peers and dynamic peers share. Durations
// have a resolution of one second.
type Session struct {
	// Options are the operator's. HoldTime, Keepalive and ConnectRetry default to
	// 90, 30 and 5 s.
	session.Options

	// ASN is the peer's AS; 0 means our own (not for EBGP).
	ASN  uint32
	Role Role
	// Password is the TCP MD5 key (RFC 2385), at most 80 bytes; empty means none.
	Password string
	// Interface binds the session to a device; empty means none.
	Interface string
	// Families carried; empty means those of the node's addresses.
	Families []Family
	Import   policy.Import
	Export   policy.Export
}

// Peer is one configured session. Address identifies it.
type Peer struct {
	Name    string // shown in status and errors; unique
	Address netip.Addr
	Port    uint16 // the peer's TCP port; 0 means 179
	// Passive: the peer dials, this node never does.
	Passive bool
	// Yield: the peer dials after the loss of a session. We dial at our start,
	// and when the peer has not dialled within ConnectRetry.
	Yield bool
	Session
}

// Equal reports whether p and o have the same session and policy.
func (p Peer) Equal(o Peer) bool {
	return p.Name == o.Name && p.Address == o.Address && p.Port == o.Port &&
		p.Passive == o.Passive && p.Yield == o.Yield && p.Session.Equal(o.Session)
}

// Dynamic accepts sessions from every address inside Prefix: reflector
// clients that need no configuration of their own. Overlapping prefixes: the
// longest wins; a configured Peer wins over all.
type Dynamic struct {
	Name   string // unique, also among peers
	Prefix netip.Prefix
	// Known are clients of a previous run. When Config.Restarting the speaker
	// waits for them with graceful restart, as for configured peers, so that
	// it sends no End-of-RIB before all of them have announced: otherwise the
	// clients would drop, for a moment, the routes of those that come later.
	// Wrong entries do no harm: they are removed after RestartTime.
	Known []netip.Addr
	Session
}

// Equal reports whether d and o have the same sessions and policy. Known
// is a hint and does not count.
func (d Dynamic) Equal(o Dynamic) bool {
	return d.Name == o.Name && d.Prefix == o.Prefix && d.Session.Equal(o.Session)
}

// Equal reports whether s and o are the same.
func (s Session) Equal(o Session) bool {
	return s.wire() == o.wire() && s.timers() == o.timers() && s.samePolicy(o)
}

// wire is the part of a Session whose change needs a new session.
type wire struct {
	asn                   uint32
	role                  Role
	password, device      string
	ttlSecurity, multihop int
	local                 netip.Addr
	families              string
	allowOwnAS            uint8
	localAS               uint32
	longLived             time.Duration
}

func (s Session) wire() wire {
	return wire{
		s.ASN, s.Role, s.Password, s.Interface, s.TTLSecurity, s.Multihop,
		s.LocalAddress, fmt.Sprintf("%v", s.Families), s.AllowOwnAS, s.LocalAS, s.LongLived,
	}
}

// timers is the part of a Session that changes without a reset.
type timers struct {
	hold, keepalive, retry time.Duration
	maxPrefixes            uint32
}

func (s Session) timers() timers {
	return timers{s.HoldTime, s.Keepalive, s.ConnectRetry, s.Import.MaxPrefixes}
}

func (s Session) samePolicy(o Session) bool {
	return s.Import.Equal(o.Import) && s.Export.Equal(o.Export)
}

// withDefaults returns s with the zero fields filled in from c.
func (s Session) withDefaults(c *Config) Session {
	s.HoldTime = orDefault(s.HoldTime, DefaultHoldTime)
	s.Keepalive = orDefault(s.Keepalive, min(DefaultKeepalive, s.HoldTime/3))
	s.ConnectRetry = orDefault(s.ConnectRetry, DefaultConnectRetry)
	if s.ASN == 0 {
		s.ASN = c.ASN
	}
	if len(s.Families) == 0 {
		s.Families = c.families()
	}
	s.Families = slices.Compact(slices.Sorted(slices.Values(s.Families)))
	return s
}

// validate checks a Session after withDefaults; what is its name in errors.
func (s Session) validate(c *Config, what string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, what, fmt.Sprintf(format, args...))
	}
	switch {
	case s.Role > EBGP:
		return bad("Role %s is unknown", s.Role)
	case s.Role == EBGP && s.ASN == c.ASN:
		return bad("ASN %d is our own: an ebgp peer needs another AS", s.ASN)
	case s.Role != EBGP && s.ASN != c.ASN:
		return bad("ASN %d is not our own %d: use role ebgp", s.ASN, c.ASN)
	case len(s.Password) > 80:
		return bad("Password has %d bytes, TCP MD5 allows 80", len(s.Password))
	case s.TTLSecurity < 0 || s.TTLSecurity > session.MaxTTLSecurity:
		return bad("TTLSecurity %d is not within 0 to 254 hops", s.TTLSecurity)
	case s.Multihop < 0 || s.Multihop > session.MaxMultihop:
		return bad("Multihop %d is not within 0 to 255", s.Multihop)
	case s.Multihop > 0 && s.TTLSecurity > 0:
		return bad("Multihop and TTLSecurity exclude each other: set one")
	case s.HoldTime < session.MinHoldTime || s.HoldTime > session.MaxHoldTime:
		return bad("HoldTime %s is not within 3s to 65535s", s.HoldTime)
	case s.Keepalive < session.MinKeepalive || s.Keepalive > s.HoldTime/2:
		return bad("Keepalive %s is not within 1s and half of HoldTime %s", s.Keepalive, s.HoldTime)
	case s.ConnectRetry < session.MinConnectRetry || s.ConnectRetry > session.MaxConnectRetry:
		return bad("ConnectRetry %s is not within 2s to 1h", s.ConnectRetry)
	case s.AllowOwnAS > session.MaxAllowOwnAS:
		return bad("AllowOwnAS %d is more than 10", s.AllowOwnAS)
	}
	if text := s.unfitRole(); text != "" {
		return bad("%s", text)
	}
	for _, f := range s.Families {
		if f != IPv4 && f != IPv6 {
			return bad("Families holds unknown %s", f)
		}
	}
	external := s.Role == EBGP
	return invalid(append(
		s.Import.Validate(what+": import", external, c.ownAddresses()...),
		s.Export.Validate(what+": export", external)...))
}

// unfitRole returns the fault of an option that peers of this Role cannot have;
// "" means none.
func (s Session) unfitRole() string {
	switch {
	case len(s.Export.Aggregates) > 0 && s.Role != EBGP:
		return "Export.Aggregates are for ebgp peers: remove them"
	case s.LongLived != 0 && s.Role != EBGP:
		return "LongLived is for ebgp peers: the blocks of a dead node must go"
	case s.LongLived < 0 || s.LongLived > session.MaxLongLived:
		return fmt.Sprintf("LongLived %s does not fit into 24 bits of seconds", s.LongLived)
	case s.LocalAS != 0 && s.Role != EBGP:
		return "LocalAS is for ebgp peers: remove it"
	case s.LocalAS != 0 && s.LocalAS == s.ASN:
		return fmt.Sprintf("LocalAS %d is the peer's own: the session would be iBGP", s.LocalAS)
	}
	return ""
}
