package hostile

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

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

// Establish connects and brings the session up, with both families and
// four-octet AS numbers.
func (s Set) Establish(ctx context.Context, local netip.Addr, speaker netip.AddrPort, patience time.Duration) (*Peer, error) {
	p, err := Connect(ctx, local, speaker, patience)
	if err != nil {
		return nil, err
	}
	caps := []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, byte(s.AS >> 8), byte(s.AS)}
	body := append([]byte{4, byte(s.AS >> 8), byte(s.AS), 0, 90}, local.AsSlice()...)
	p.Send(open, append(append(body, byte(len(caps)+2), 2, byte(len(caps))), caps...))
	p.Send(keepalive, nil)
	if got := p.Answer(); got != Used {
		return nil, errors.Join(fmt.Errorf("session not up: %s", got), p.Conn.Close()) //nolint:err113 // for a test's log
	}
	return p, nil
}

// Play sends an attack. It returns how the session ended, or that it is to
// survive, which the caller sees from what becomes of a route.
func (p *Peer) Play(a Attack) (ending string, survives bool) {
	if a.Run != nil {
		a.Run(p)
	} else {
		p.Send(a.Type, a.Body)
	}
	switch {
	case a.Want == Any:
		return p.end(), false
	case a.Open && a.Want != "5/2": // a KEEPALIVE comes before that
		return p.Answer(), false
	case a.Want != Used && a.Want != Withdrawn:
		return p.Closing(), false
	}
	return "", true
}
