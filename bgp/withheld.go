package bgp

import "net/netip"

// Withheld is what a peer is not told because no message to it can hold it: a
// BGP message has 4,096 bytes (RFC 4271 section 4.1), and attributes grow when
// a route is reflected, or told to a peer with AS numbers of two octets.
type Withheld struct {
	Routes int
	Prefix netip.Prefix // the lowest of them
	Why    string       // of that one
}

// withholder is what bgp/engine adds to the engine. fn runs on the engine's
// main goroutine.
type withholder interface {
	EachWithheld(fn func(peer netip.Addr, prefix netip.Prefix, why string)) error
}

// withheld returns what each peer is not told. It is nil with an unpatched
// engine, which cannot tell.
func (s *Speaker) withheld() map[netip.Addr]Withheld {
	engine, able := any(s.engine).(withholder)
	if !able {
		return nil
	}
	all := map[netip.Addr]Withheld{}
	err := engine.EachWithheld(func(peer netip.Addr, prefix netip.Prefix, why string) {
		w := all[peer]
		if w.Routes == 0 || prefix.Compare(w.Prefix) < 0 {
			w.Prefix, w.Why = prefix, why
		}
		w.Routes++
		all[peer] = w
	})
	if err != nil {
		s.log.Warn("list of withheld routes did not succeed", "error", err)
	}
	return all
}
