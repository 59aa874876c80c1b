package bgp

import (
	"net/netip"

	"onlink/bgp/gobgp"
)

// Withheld are the routes that are not announced to a peer because they do not fit
// into a message: a BGP message has at most 4,096 bytes (RFC 4271 section 4.1),
// and attributes grow when a route is reflected, or announced to a peer with AS
// numbers of two octets (RFC 6793).
type Withheld struct {
	Routes int
	Prefix netip.Prefix // the lowest of them
	Why    string       // of that one
}

// withheldBy returns the withheld routes of each peer; none with an unpatched
// engine, which does not list them.
func withheldBy(engine *gobgp.Engine) (all map[netip.Addr]Withheld, err error) {
	err = engine.EachWithheld(func(peer netip.Addr, prefix netip.Prefix, why string) {
		if all == nil {
			all = map[netip.Addr]Withheld{}
		}
		w := all[peer]
		if w.Routes == 0 || prefix.Compare(w.Prefix) < 0 {
			w.Prefix, w.Why = prefix, why
		}
		w.Routes++
		all[peer] = w
	})
	return all, err
}
