package bfd

import (
	"math"
	"net/netip"
	"time"

	"onlink/internal/strictyaml"
)

// Settings are the section `bfd` of a peer in onlinkd.yaml.
type Settings struct {
	Interval   time.Duration // as [Session].Interval
	Multiplier uint8         // as [Session].Multiplier
	// Hops is how far away the peer may be. Empty, after [ReadSettings]: the file
	// has no value, and the caller derives one from the peer's configuration.
	Hops Hops
}

// Hops is how far away a peer may be. Both ends must have the same value.
type Hops string

// The values of Hops.
const (
	HopsSingle Hops = "single" // RFC 5881, UDP port 3784: on a connected network
	HopsMulti  Hops = "multi"  // RFC 5883, UDP port 4784
)

// ReadSettings reads the section; nil when it is null, which is a mistake.
func ReadSettings(v strictyaml.Value) *Settings {
	if v.IsNull() {
		// The key's presence is its meaning, so an empty value is ambiguous.
		v.Fail("is empty; write \"bfd: {}\" for 300 ms times 3, or remove the key")
		return nil
	}
	s := &Settings{Interval: DefaultInterval, Multiplier: DefaultMultiplier}
	v.Mapping(strictyaml.Fields{
		"interval":   strictyaml.Duration(&s.Interval, MinInterval, MaxInterval),
		"multiplier": strictyaml.Number(&s.Multiplier, MinMultiplier, math.MaxUint8),
		"hops":       strictyaml.OneOf(&s.Hops, HopsSingle, HopsMulti),
	})
	return s
}

// Session returns the session with a peer for these settings. local is our end;
// the zero Addr lets the kernel choose.
func (s Settings) Session(peer, local netip.Addr) Session {
	return Session{Peer: peer, Local: local, Multihop: s.Hops == HopsMulti, Interval: s.Interval, Multiplier: s.Multiplier}
}
