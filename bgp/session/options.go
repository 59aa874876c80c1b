// Package session has the configuration of a BGP session: the keys of a peer in
// onlinkd.yaml that reach the engine as they are, with their defaults, bounds and
// contradictions. A key is one field here, and its translation for the engine.
package session

import (
	"maps"
	"math"
	"net/netip"
	"time"

	"onlink/internal/strictyaml"
)

// Options are the configured options of a session. Durations have a resolution of
// one second.
type Options struct {
	// TTLSecurity is the greatest number of hops a packet of the peer may
	// have travelled (RFC 5082): 1 for a neighbour on the link. 0 means off.
	TTLSecurity int
	// Multihop is the TTL sent to an EBGP peer that is not on the link; 0
	// means on the link (TTL 1). Not together with TTLSecurity.
	Multihop int
	// HoldTime, Keepalive and ConnectRetry are the session's timers (RFC 4271
	// section 10). HoldTime is at least 3 s: 0 (no hold timer) would never notice
	// a dead peer.
	HoldTime     time.Duration
	Keepalive    time.Duration // default: a third of HoldTime
	ConnectRetry time.Duration // pause between connection attempts
	// LocalAddress is the session's own address; the zero Addr lets the kernel choose.
	LocalAddress netip.Addr
	// AllowOwnAS is how often our own AS may appear in a path (fabrics that
	// reuse one AS); 0 to 10.
	AllowOwnAS uint8
	// LocalAS is the AS we are to an EBGP peer, instead of our own, which it
	// then does not see; 0 means our own.
	LocalAS uint32
	// LongLived is how long the routes of a failed EBGP peer are kept as a last
	// resort after its restart time (RFC 9494), at most; 0 means not.
	LongLived time.Duration
}

// Defaults and bounds of the timers: RFC 4271 section 4.2 has 16 bits of seconds
// for the hold time and refuses less than three.
const (
	DefaultHoldTime     = 90 * time.Second
	DefaultConnectRetry = 5 * time.Second

	MinHoldTime     = 3 * time.Second
	MaxHoldTime     = math.MaxUint16 * time.Second
	MinKeepalive    = time.Second
	MinConnectRetry = 2 * time.Second
	MaxConnectRetry = time.Hour
)

// Bounds of the rest.
const (
	MaxTTLSecurity = 254
	MaxMultihop    = math.MaxUint8
	MaxAllowOwnAS  = 10
	MaxLongLived   = (1<<24 - 1) * time.Second // 24 bits of seconds (RFC 9494 section 3.1)
)

// Default returns the options of a peer that has none.
func Default() Options { return Options{HoldTime: DefaultHoldTime, ConnectRetry: DefaultConnectRetry} }

// Fill sets the defaults that depend on other options: the keepalive interval is a third of
// the hold time (RFC 4271 section 10).
func (o *Options) Fill() {
	if o.Keepalive == 0 {
		o.Keepalive = (o.HoldTime / 3).Truncate(time.Second)
	}
}

// Inside returns the schema of the keys that the sessions of a mesh share.
func (o *Options) Inside() strictyaml.Fields {
	return strictyaml.Fields{
		"ttlSecurity":  strictyaml.Number(&o.TTLSecurity, 0, MaxTTLSecurity),
		"holdTime":     strictyaml.Seconds(&o.HoldTime, MinHoldTime, MaxHoldTime),
		"keepalive":    strictyaml.Seconds(&o.Keepalive, MinKeepalive, MaxHoldTime/3),
		"connectRetry": strictyaml.Seconds(&o.ConnectRetry, MinConnectRetry, MaxConnectRetry),
	}
}

// Fields returns the schema of all keys.
func (o *Options) Fields() strictyaml.Fields {
	fields := strictyaml.Fields{
		"multihop":         strictyaml.Number(&o.Multihop, 0, MaxMultihop),
		"localAddress":     strictyaml.Addr(&o.LocalAddress),
		"localASN":         ASN(&o.LocalAS),
		"allowOwnAS":       strictyaml.Number(&o.AllowOwnAS, 0, MaxAllowOwnAS),
		"longLivedRestart": strictyaml.Seconds(&o.LongLived, 0, MaxLongLived),
	}
	maps.Copy(fields, o.Inside())
	return fields
}

// Validate adds the contradictions among the options, whose peer is the field path
// of the file, to its mistakes. asn is the peer's AS, own this node's.
func (o *Options) Validate(path string, d *strictyaml.Document, asn, own uint32) {
	if o.Keepalive*3 > o.HoldTime && !d.Failed(path+".keepalive") && !d.Failed(path+".holdTime") {
		d.Fail(path+".keepalive", "%s is more than a third of the hold time %s; use at most %s (RFC 4271 section 10)",
			o.Keepalive, o.HoldTime, (o.HoldTime / 3).Truncate(time.Second))
	}
	external := asn != own
	switch {
	case o.Multihop > 0 && !external:
		d.Fail(path+".multihop", "is for peers of another AS, and this one is of ours (%d); remove it", own)
	case o.Multihop > 0 && o.TTLSecurity > 0:
		d.Fail(path+".multihop", "cannot be combined with ttlSecurity, which sends with TTL 255 (RFC 5082); remove one")
	}
	switch {
	case o.LocalAS != 0 && !external:
		d.Fail(path+".localASN", "is for peers of another AS, and this one is of ours (%d); remove it", own)
	case o.LocalAS != 0 && o.LocalAS == asn:
		d.Fail(path+".localASN", "%d is the peer's own AS; use another", asn)
	}
	if o.LongLived != 0 && !external {
		d.Fail(path+".longLivedRestart", "is for peers of another AS, and this one is of ours (%d); remove it: the blocks of a dead node must go", own)
	}
}

// DefaultASN is the first AS of the 16-bit private range (RFC 6996).
const DefaultASN = 64512

// asTrans is the reserved AS that stands for a 32-bit one (RFC 6793 section 9).
const asTrans = 23456

// ASN reads an AS number (RFC 6793; 0 is refused as RFC 7607 demands).
func ASN(dst *uint32) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		n := *dst
		strictyaml.Number(&n, 1, math.MaxUint32)(v)
		if n == asTrans {
			v.Fail("%d is AS_TRANS, which is reserved; use your own AS, or a private one such as %d", asTrans, DefaultASN)
			return
		}
		*dst = n
	}
}
