package bgp

import (
	"net/netip"

	"onlink/bgp/gobgp"
)

// Withheld is what a peer is not told because no message to it can hold it: a
// BGP message has 4,096 bytes (RFC 4271 section 4.1), and attributes grow when
// a route is reflected, or told to a peer with AS numbers of two octets.
type Withheld struct {
	Routes int
	Prefix netip.Prefix // the lowest of them
	Why    string       // of that one
}

// withheldBy returns what each peer is not told; an unpatched engine cannot tell.
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
