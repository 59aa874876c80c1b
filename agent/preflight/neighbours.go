package preflight

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// links checks that the devices of sessions exist.
func (m *machine) links() {
	missing := func(dev string) bool {
		if dev == "" {
			return false
		}
		_, err := underlay.Index(dev)
		return errors.Is(err, underlay.ErrNoDevice)
	}
	for i, p := range m.BGP.Peers {
		at := m.Places.Peer(i)
		switch zone := p.Address.Zone(); {
		case missing(p.Interface):
			m.fail(at+".interface", "this machine has no device %s; write the name of one (ip link)", p.Interface)
		case missing(zone):
			m.fail(at+".address", "this machine has no device %s; write the name of one after the %% (ip link)", zone)
		}
	}
}

// neighbours checks that packets to the peers can leave this machine as the
// session sends them.
func (m *machine) neighbours() {
	addrs := m.watch.Addresses()
	for i := range m.BGP.Peers {
		p, at := &m.BGP.Peers[i], m.Places.Peer(i)
		a := p.Address
		if !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || own(addrs)(a) {
			continue
		}
		switch on, connected := network(addrs, a); {
		case connected:
			if last := broadcastOf(on.Subnet); a == last || last.IsValid() && a == on.Subnet.Masked().Addr() {
				m.fail(at+".address", "%s is no machine's address in %s, the network of %s; write the peer's own", a, on.Subnet.Masked(), on.Dev)
			}
		case !slices.ContainsFunc(addrs, func(o underlay.Address) bool { return o.Addr.Is4() == a.Is4() }):
			m.fail(at+".address", "%s is of a family of which this machine has no address; give it one, or write the peer's address of the other family", a)
		default:
			m.distance(at, p)
		}
	}
	m.registryNear(own(addrs))
}

// distance rejects a peer of another AS behind a router: without multihop its
// packets have a TTL of 1 (RFC 4271 section 5.1.3).
func (m *machine) distance(at string, p *config.Peer) {
	if !p.External(m.BGP.ASN) || p.Multihop > 0 || p.TTLSecurity > 0 || p.Passive || p.Interface != "" {
		return
	}
	if way, err := underlay.Lookup(p.Address); err == nil && way.Via.IsValid() {
		m.fail(at+".multihop", "is missing: %s is behind %s (%s), and packets to a peer of another AS end at the first router; add multihop: 2 or more, or write an address on a network of this node", p.Address, way.Via, way.Dev)
	}
}

// network returns the address of this machine whose network an address is in.
func network(addrs []underlay.Address, a netip.Addr) (underlay.Address, bool) {
	i := slices.IndexFunc(addrs, func(o underlay.Address) bool { return o.Subnet.Contains(a) })
	if i < 0 {
		return underlay.Address{}, false
	}
	return addrs[i], true
}

// broadcastOf returns the broadcast address of an IPv4 network; the zero Addr: it
// has none (RFC 3021).
func broadcastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

// registryNear rejects a registry at an address of this machine, and one on its
// loopback that no process serves: a proxy may be there.
func (m *machine) registryNear(own func(netip.Addr) bool) {
	if m.IPAM.Registry.Kind != "grpc" {
		return
	}
	for _, address := range m.IPAM.Registry.Addresses {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			continue
		}
		m.registryHere("ipam.registry.address", address, own, at.Addr())
		if at.Addr().IsLoopback() && errors.Is(dial(at), unix.ECONNREFUSED) {
			m.fail("ipam.registry.address", "no process serves a registry at %s on this machine, and an agent of kind grpc serves none; write kind: bolt, or the address of the agent with ipam.registry.listen", address)
		}
	}
}
