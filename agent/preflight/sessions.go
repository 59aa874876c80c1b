package preflight

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/agent/config"
	"onlink/internal/ours"
)

// broadcast is the limited broadcast address (RFC 919).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// peers rejects sessions that cannot come up on any machine.
func (r *report) peers() {
	r.ownPeers(func(a netip.Addr) bool { return a == r.Node.Address.Addr })
	links, bare := map[string]int{}, map[netip.Addr]int{}
	for i := range r.BGP.Peers {
		p, at := &r.BGP.Peers[i], r.Places.Peer(i)
		r.ends(at, p)
		r.link(at, p)
		if p.Passive && r.BGP.Listen.Port == 0 {
			r.fail(at+".passive", "waits for the peer to connect, and bgp.listen.port is 0: it cannot; remove passive, or set the port")
		}
		if first, dup := links[p.Interface]; dup && p.Unnumbered {
			r.fail(at+".interface", "%s is also the link of %s: both are the router at its other end; remove one", p.Interface, r.Places.Peer(first))
		}
		if p.Unnumbered {
			links[p.Interface] = i
		}
		if !p.Address.IsValid() || p.Address.Zone() == "" {
			continue
		}
		plain := p.Address.WithZone("")
		if first, dup := bare[plain]; dup {
			r.fail(at+".address", "%s is also the address of %s on another link, and routes could not tell the two apart; give the routers different link-local addresses", p.Address, r.Places.Peer(first))
		}
		bare[plain] = i
	}
}

// ownPeers rejects sessions of the node with itself. Another port than the one
// this agent listens on is that of another speaker of this machine.
func (r *report) ownPeers(own func(netip.Addr) bool) {
	for i, p := range r.BGP.Peers {
		if !p.Address.IsValid() || p.Port != r.BGP.Listen.Port {
			continue
		}
		const fix = "write the other router's address, or give this node a file without the peer (nodeSelector)"
		switch a := p.Address; {
		case a.IsLoopback():
			r.fail(r.Places.Peer(i)+".address", "%s is this machine, and port %d is where this agent listens: it would be its own peer; "+fix, a, p.Port)
		case own(a):
			r.fail(r.Places.Peer(i)+".address", "%s is this node's own address: it would be its own peer; "+fix, a)
		}
	}
}

// ends checks the addresses of both ends.
func (r *report) ends(at string, p *config.Peer) {
	if p.Address == broadcast {
		r.fail(at+".address", "%s is no machine's address; write the peer's own", p.Address)
	}
	local := p.LocalAddress
	switch {
	case !local.IsValid():
	case local.IsUnspecified() || local.IsMulticast() || local == broadcast:
		r.fail(at+".localAddress", "%s is no machine's address; write one of this node's, or remove it", local)
	case local.IsLoopback() && p.Address.IsValid() && !p.Address.IsLoopback():
		r.fail(at+".localAddress", "%s never leaves this machine, and the peer %s is another; write an address that the peer reaches, or remove it", local, p.Address)
	}
}

// link checks the device of a session.
func (r *report) link(at string, p *config.Peer) {
	dev := p.Interface
	if dev == "" {
		return
	}
	switch {
	case slices.Contains([]string{ours.DeviceIPIP, ours.DeviceIP6, ours.DeviceVXLAN, ours.DeviceVXLAN6}, dev):
		r.fail(at+".interface", "%s is a tunnel of onlink, whose routes come of the sessions; write the device of a cable", dev)
	case p.Unnumbered && dev == "lo":
		r.fail(at+".interface", "lo has no other end; write the device of the cable to the router")
	case p.Address.IsValid() && p.Address.Zone() != "" && p.Address.Zone() != dev:
		r.fail(at+".interface", "%s is not the link of the address %s; write the same in both, or remove interface", dev, p.Address)
	}
}

// mesh checks that the other nodes can connect to this one.
func (r *report) mesh() {
	m := r.BGP.Mesh
	if m == nil {
		return
	}
	listen := r.BGP.Listen
	for i, n := range m.Nodes {
		if n.Address.IsLoopback() || n.Address.Is6() && n.Address.IsLinkLocalUnicast() || n.Address == broadcast {
			r.fail(fmt.Sprintf("bgp.mesh.nodes[%d]", i), "%s is not reached from the other nodes; write the node's address", n.Address)
		}
	}
	member := func(a netip.Addr) bool {
		return slices.ContainsFunc(m.Nodes, func(n config.MeshNode) bool { return n.Address == a })
	}
	if a := r.Node.Address.Addr; a.IsValid() && !member(a) && !r.otherFamily(m, a) {
		r.fail("bgp.mesh", "this node's address %s is not among its nodes; add it, or set node.address to the one that is", a)
	}
	switch {
	case listen.Port != m.Peer.Port:
		r.fail("bgp.listen.port", "%d is not the port %d on which the nodes of the mesh call each other; use the same in bgp.mesh.port and bgp.listen.port", listen.Port, m.Peer.Port)
	case listen.Address.IsValid() && !listen.Address.IsUnspecified() && !member(listen.Address):
		r.fail("bgp.listen.address", "%s is not among the nodes of the mesh, which call this node at its address there; use auto or that address", listen.Address)
	}
}

// otherFamily reports whether the mesh has no address of this one's family: the
// node is a member by its other address, which the machine tells.
func (r *report) otherFamily(m *config.Mesh, a netip.Addr) bool {
	return !slices.ContainsFunc(m.Nodes, func(n config.MeshNode) bool { return n.Address.Is4() == a.Is4() })
}

// listening checks that the clients of a reflector can connect to it.
func (r *report) listening() {
	if r.BGP.Reflector == nil || len(r.BGP.Reflector.Clients) == 0 {
		return
	}
	switch listen := r.BGP.Listen; {
	case listen.Port == 0:
		r.fail("bgp.listen.port", "0 means that this agent does not listen, and the clients of the reflector connect to this node; set a port, or remove bgp.reflector.clients")
	case listen.Address.IsLoopback():
		r.fail("bgp.listen.address", "%s is reached from this machine alone, and the clients of the reflector are others; use auto or an address that they reach", listen.Address)
	}
}
