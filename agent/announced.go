package agent

import (
	"net/netip"
	"slices"

	"onlink/agent/announce"
	"onlink/agent/rooms"
	"onlink/agent/state"
)

// announceFacts returns the properties of the node that announcements of owners
// must fit. Single addresses on devices, other than the node's own, are none: a
// service proxy may have those of the services there.
func (a *agent) announceFacts() announce.Facts {
	cfg := a.current()
	f := announce.Facts{
		Pools: a.poolPrefixes(), Blocks: state.Confirmed(a.alloc.Blocks()),
		Others: slices.Concat(cfg.BGP.Originate, cfg.BGP.Aggregates()), Peers: map[string]bool{}, Reaches: a.id.Reaches,
	}
	for _, n := range a.watch.Networks() {
		if n.Via || !n.Prefix.IsSingleIP() {
			f.Networks = append(f.Networks, n.Prefix)
		}
	}
	for _, addr := range []netip.Addr{a.id.Address, a.id.Address6} {
		if addr.IsValid() {
			f.Networks = append(f.Networks, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	for i := range cfg.BGP.Peers {
		p := &cfg.BGP.Peers[i]
		f.Peers[p.Name] = true
		if addr := p.Address.WithZone(""); addr.IsValid() {
			f.Networks = append(f.Networks, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	if r := cfg.BGP.Reflector; r != nil {
		for _, clients := range r.Clients {
			f.Peers[rooms.ClientsName(clients)] = true
		}
	}
	return f
}
