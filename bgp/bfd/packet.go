package bfd

import (
	"encoding/binary"
	"fmt"
)

// State is a session's state (RFC 5880 section 4.1, field Sta).
type State uint8

// The states of a session.
const (
	AdminDown State = iota // held down administratively: no sign of the path
	Down
	Init // packets of the neighbour arrive; ours may not
	Up
)

// String returns the name shown to operators.
func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Diag is the reason why a session last left Up (RFC 5880 section 4.1).
type Diag uint8

// The diagnostics that this package sends; a neighbour may send others.
const (
	DiagNone      Diag = 0
	DiagExpired   Diag = 1 // nothing received for the detection time
	DiagNeighbour Diag = 3 // the neighbour signalled session down
	DiagAdminDown Diag = 7
)

// String returns the diagnostic in words.
func (d Diag) String() string {
	texts := [...]string{
		"no diagnostic", "nothing received for the detection time", "echo function failed",
		"the neighbour signalled session down", "forwarding plane reset", "path down",
		"concatenated path down", "administratively down", "reverse concatenated path down",
	}
	if int(d) < len(texts) {
		return texts[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// packet is a BFD control packet's mandatory section (RFC 5880 section 4.1).
// Intervals are in microseconds, as on the wire.
type packet struct {
	diag                  Diag
	state                 State
	poll, final           bool
	independent           bool // C: BFD continues while the control plane restarts
	demand                bool
	multiplier            uint8
	mine, yours           uint32 // discriminators
	minTx, minRx, minEcho uint32
}

// packetLen is the length of a packet without authentication.
const packetLen = 24

const version = 1

const (
	flagPoll = 1 << (5 - iota)
	flagFinal
	flagIndependent
	flagAuth
	flagDemand
	flagMultipoint
)

// append encodes p.
func (p packet) append(b []byte) []byte {
	flags := byte(p.state) << 6
	for _, f := range []struct {
		on  bool
		bit byte
	}{{p.poll, flagPoll}, {p.final, flagFinal}, {p.independent, flagIndependent}, {p.demand, flagDemand}} {
		if f.on {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.diag)&0x1f, flags, p.multiplier, packetLen)
	for _, v := range []uint32{p.mine, p.yours, p.minTx, p.minRx, p.minEcho} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// parse decodes a packet and makes the checks of RFC 5880 section 6.8.6 that
// need no session; it fails with [ErrMalformed].
func parse(b []byte) (packet, error) {
	bad := func(what string, v any) (packet, error) {
		return packet{}, fmt.Errorf("%w: %s %v", ErrMalformed, what, v)
	}
	if len(b) < packetLen {
		return bad("length", len(b))
	}
	p := packet{
		diag: Diag(b[0] & 0x1f), state: State(b[1] >> 6),
		poll: b[1]&flagPoll != 0, final: b[1]&flagFinal != 0,
		independent: b[1]&flagIndependent != 0, demand: b[1]&flagDemand != 0,
		multiplier: b[2],
		mine:       binary.BigEndian.Uint32(b[4:]), yours: binary.BigEndian.Uint32(b[8:]),
		minTx: binary.BigEndian.Uint32(b[12:]), minRx: binary.BigEndian.Uint32(b[16:]), minEcho: binary.BigEndian.Uint32(b[20:]),
	}
	switch {
	case b[0]>>5 != version:
		return bad("version", b[0]>>5)
	case int(b[3]) < packetLen || int(b[3]) > len(b):
		return bad("length field", b[3])
	case b[1]&flagAuth != 0:
		return bad("authentication is not in use, yet the packet carries it:", b[1])
	case p.multiplier == 0:
		return bad("detection multiplier", 0)
	case b[1]&flagMultipoint != 0:
		return bad("multipoint bit", 1)
	case p.mine == 0:
		return bad("my discriminator", 0)
	case p.yours == 0 && p.state != Down && p.state != AdminDown:
		return bad("your discriminator 0 in state", p.state)
	}
	return p, nil
}
