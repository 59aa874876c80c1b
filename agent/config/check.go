package config

import (
	"fmt"
	"net/netip"

	"onlink/bgp/bmp"
)

// maxSocketPath is the longest path that fits into sun_path (unix(7)) with its
// final zero.
const maxSocketPath = 107

// check finds the values that are valid alone and contradict each other. A field
// that could not be read is not judged again.
func (p *checker) check(c *Config) {
	p.checkNode(c)
	p.checkBGP(&c.BGP, c.Node.Labels)
	p.checkPools(c)
	p.checkAggregates(c)
	p.checkOverlaps(c)
	c.IPAM.Validate("ipam", p.Document)
	p.checkSplit(c)
	p.checkAdmin(&c.API)
	p.checkGlass(&c.API)
	c.CNI.Validate("cni", p.Document)
	for path, socket := range map[string]string{"api.admin.socket": c.API.Admin.Socket, "cni.socket": c.CNI.Socket} {
		if len(socket) > maxSocketPath {
			p.Fail(path, "the path has %d bytes, and a unix socket's at most %d; set a shorter one, or a shorter paths.run", len(socket), maxSocketPath)
		}
	}
	if c.API.Admin.Socket == c.CNI.Socket {
		p.Fail("cni.socket", "is also api.admin.socket; use two sockets, because their rights differ")
	}
}

func (p *checker) checkNode(c *Config) {
	if c.Node.Name == "" && !p.Failed("node.name") {
		p.Fail("node.name", "is missing and the host has no name; write node: {name: ...}")
	}
	for i, pool := range c.Pools {
		if pool.CIDR.IsValid() && c.Node.Address.Addr.IsValid() && pool.CIDR.Contains(c.Node.Address.Addr) {
			p.Fail("node.address", "is inside pools[%d] (%s), which belongs to pods; use another pool or another address", i, pool.CIDR)
		}
	}
}

// checkBGP compares only the peers that this node has: those of other nodes may
// have the same names and addresses.
func (p *checker) checkBGP(c *BGP, labels map[string]string) {
	names, addresses := map[string]int{}, map[netip.Addr]int{}
	for i, peer := range c.Peers {
		path := fmt.Sprintf("bgp.peers[%d]", i)
		p.checkPeer(path, peer, c)
		if !peer.SelectsNode(labels) {
			continue
		}
		if first, dup := names[peer.Name]; dup && peer.Name != "" {
			p.Fail(path+".name", "%q is also the name of bgp.peers[%d]; use another", peer.Name, first)
		} else {
			names[peer.Name] = i
		}
		if first, dup := addresses[peer.Address]; dup && peer.Address.IsValid() {
			p.Fail(path+".address", "%s is also the address of bgp.peers[%d]; remove one, a peer has one session", peer.Address, first)
		} else {
			addresses[peer.Address] = i
		}
	}
	if c.Mesh != nil {
		p.checkMesh(c, names, addresses)
	}
	if c.Reflector != nil {
		p.checkApart("bgp.reflector.clients", c.Reflector.Clients)
	}
	bmp.Validate(c.BMP, "bgp.bmp", p.Document)
	seen := map[netip.Prefix]int{}
	for i, prefix := range c.Originate {
		first, dup := seen[prefix]
		switch at := fmt.Sprintf("bgp.originate[%d]", i); {
		case prefix.IsValid() && prefix.Bits() == 0: // the speaker rejects it, and would at every start
			p.Fail(at, "%s is the default route, which is a router's to announce; remove it", prefix)
		case dup:
			p.Fail(at, "%s is also bgp.originate[%d]; remove one", prefix, first)
		}
		seen[prefix] = i
	}
}

// checkMesh checks the options that all sessions of the mesh share, and that no
// node is there twice or a peer as well.
func (p *checker) checkMesh(c *BGP, names map[string]int, addresses map[netip.Addr]int) {
	const path = "bgp.mesh"
	shared := c.Mesh.Peer
	shared.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // stands for any
	p.checkPeer(path, shared, c)
	twice := map[string]bool{}
	for i, n := range c.Mesh.Nodes {
		at := fmt.Sprintf("%s.nodes[%d]", path, i)
		_, peer := addresses[n.Address]
		_, named := names[n.Name]
		switch {
		case p.Failed(at):
		case peer || named:
			p.Fail(at, "%s (%s) is among bgp.peers too; remove one, a peer has one session", n.Name, n.Address)
		case twice[n.Name] || twice[n.Address.String()]:
			p.Fail(at, "%s (%s) is in the list already; remove one", n.Name, n.Address)
		case n.Address.IsUnspecified() || n.Address.IsMulticast() || n.Address.Zone() != "":
			p.Fail(at, "%s is not one node's address; write the node's own", n.Address)
		}
		twice[n.Name], twice[n.Address.String()] = true, true
	}
}

// checkApart reports prefixes of a list that overlap.
func (p *checker) checkApart(path string, list []netip.Prefix) {
	for i, a := range list {
		for j, b := range list[:i] {
			if a.Overlaps(b) {
				p.Fail(fmt.Sprintf("%s[%d]", path, i), "%s overlaps %s[%d] (%s); remove the smaller one", a, path, j, b)
				break
			}
		}
	}
}

func (p *checker) checkPeer(path string, peer Peer, c *BGP) {
	p.checkPeerAddress(path, peer)
	peer.Options.Validate(path, p.Document, peer.ASN, c.ASN)
	external := peer.External(c.ASN)
	p.checkPeerAS(path, peer, c.ASN)
	switch {
	case peer.Client && external:
		p.Fail(path+".client", "is for peers of our AS (%d), and this one is of %d; remove it", c.ASN, peer.ASN)
	case peer.Client && c.Reflector == nil:
		p.Fail(path+".client", "needs a reflector; add bgp.reflector or remove it")
	}
}

// checkPeerAS checks the options that only peers of another AS, or only peers of
// ours, can have.
func (p *checker) checkPeerAS(path string, peer Peer, asn uint32) {
	external := peer.External(asn)
	if peer.Import.LocalPref != 0 && !external {
		p.Fail(path+".import.localPref", "is for peers of another AS, and this one is of ours (%d); use a filter with set: {localPref: %d}", asn, peer.Import.LocalPref)
	}
	if peer.Import.DisableConnectedCheck && !external {
		p.Fail(path+".import.disableConnectedCheck", "is for peers of another AS, and this one is of ours (%d), whose next hops may be anywhere; remove it", asn)
	}
	if peer.Import.DisableOwnerCheck && external {
		p.Fail(path+".import.disableOwnerCheck", "is for peers of our AS (%d): the owner of a block behind another AS is not checked; remove it", asn)
	}
	if !peer.Export.Own && !external {
		p.Fail(path+".export.own", "false is for peers of another AS, and this one is of ours (%d), which needs this node's blocks; to hide some of them, use a filter that rejects {source: own, prefixes: [...]}", asn)
	}
	if peer.Export.Reflected && external {
		p.Fail(path+".export.reflected", "is for peers of our AS (%d), and this one is of %d; remove it: a node provides no transit", asn, peer.ASN)
	}
}

// checkPeerAddress checks both ends of a session.
func (p *checker) checkPeerAddress(path string, peer Peer) {
	a, local := peer.Address, peer.LocalAddress
	if !a.IsValid() {
		switch {
		case p.Failed(path + ".address"):
		case peer.Interface == "":
			p.Fail(path+".address", "is missing; write the peer's IP address, or interface: eth1 for the router at the other end of a cable")
		case local.IsValid():
			p.Fail(path+".localAddress", "is for a peer with an address; remove it, or add one")
		case peer.BFD != nil:
			p.Fail(path+".bfd", "needs the peer's address; add it, or remove bfd")
		}
		return
	}
	if a.IsUnspecified() || a.IsMulticast() {
		p.Fail(path+".address", "%s is not one machine's address; write the peer's own", a)
	}
	if a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" {
		p.Fail(path+".address", "%s is link-local and has no interface; write %s%%eth0 with the interface's name", a, a)
	}
	switch {
	case !local.IsValid():
	case local.Is4() != a.Is4():
		p.Fail(path+".localAddress", "%s and the peer's %s are of different families; use one of the peer's family", local, a)
	case local == a:
		p.Fail(path+".localAddress", "%s is the peer's own address; use one of this node's", local)
	}
}

func (p *checker) checkAdmin(c *API) {
	const path = "api.admin"
	c.Admin.TLS.Validate(path+".tls", p.Document)
	if c.Admin.Viewers != "" && c.Admin.Viewers == c.Admin.Group {
		p.Fail(path+".viewers", "%s is also group, which may change everything; use another group", c.Admin.Viewers)
	}
	switch tcp := c.Admin.TCP.IsValid(); {
	case p.Failed(path + ".tcp"):
	case tcp && !c.Admin.TLS.Enabled() && !p.Failed(path+".tls"):
		p.Fail(path+".tcp", "needs mutual TLS; add tls: {cert: ..., key: ..., ca: ...}")
	case !tcp && c.Admin.TLS.Enabled():
		p.Fail(path+".tls", "has no use without tcp; add tcp or remove it")
	case tcp && c.Admin.TCP == c.Metrics:
		p.Fail("api.metrics", "%s is also api.admin.tcp; use another port", c.Metrics)
	}
}

// checkGlass rejects a looking glass that others could open by mistake: it has no
// authentication.
func (p *checker) checkGlass(c *API) {
	at := c.Glass
	switch {
	case p.Failed("api.glass"):
	case !at.IsValid() && c.GlassOpen:
		p.Fail("api.glassOpen", "has no use without api.glass; add that, or remove it")
	case !at.IsValid():
	case at == c.Metrics || at == c.Admin.TCP:
		p.Fail("api.glass", "%s is also api.metrics or api.admin.tcp; use another port", at)
	case !at.Addr().Unmap().IsLoopback() && !c.GlassOpen:
		p.Fail("api.glass", "everyone who reaches %s could see sessions and routes and send probes, because the looking glass has no authentication; use 127.0.0.1:%d, or permit it with glassOpen: true", at.Addr(), at.Port())
	}
}
