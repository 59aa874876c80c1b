package bgp

import (
	"fmt"
	"net/netip"
	"time"
)

const (
	// refusedKept bounds the addresses whose refused connections are kept: every
	// host can connect. The oldest is dropped first.
	refusedKept = 64
	// refusedMemory is how long status shows a refused address, and a dynamic
	// peer that failed and was never up.
	refusedMemory = 10 * time.Minute
	// goneShown bounds the dynamic peers that were never up and are listed.
	goneShown = 64
	// goneKept and goneMemory bound the dynamic peers that were up and are gone: a
	// rack that dies on a Friday is in the list on Monday.
	goneKept   = 1024
	goneMemory = 7 * 24 * time.Hour
)

// stranger is an address whose connections are refused.
type stranger struct {
	as     uint32
	id     netip.Addr // invalid: it sent no OPEN
	at     time.Time
	logged time.Time
	same   netip.Addr // the peer that has this router ID
}

// text returns why the connections of a stranger are refused.
func (x *stranger) text() string {
	const why = "refused: no peer and no client range has this address"
	switch {
	case !x.id.IsValid():
		return why + " (it sent no OPEN)"
	case x.same.IsValid():
		return fmt.Sprintf("%s (AS %d, router ID %s, which is that of the peer %s: it uses another address)", why, x.as, x.id, x.same)
	}
	return fmt.Sprintf("%s (AS %d, router ID %s)", why, x.as, x.id)
}
