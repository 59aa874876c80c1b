package config

import (
	"net/netip"
	"slices"

	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// BGP configures the speaker.
type BGP struct {
	ASN       uint32          // this node's AS; default 64512
	RouterID  netip.Addr      // an IPv4 address; the zero Addr (auto): derived from the node's address
	Listen    Listen          // the socket that other speakers connect to
	Reflector *Reflector      // nil: this node does not reflect
	Peers     []Peer          // sessions this node opens or expects
	Mesh      *Mesh           `key:"mesh"` // nil: no full mesh
	Originate []netip.Prefix  // announced besides the node's own blocks
	Filters   []policy.Filter // by name, for the import and export of peers
	BMP       []bmp.Settings  // monitoring stations that sessions and routes are sent to
}

// Listen is the speaker's listening socket.
type Listen struct {
	Address netip.Addr // the zero Addr (auto): every address
	Port    uint16     // default 179; 0: do not listen
}

// Reflector makes the node a route reflector (RFC 4456).
type Reflector struct {
	ClusterID    netip.Addr     // an IPv4 address; the zero Addr (auto): the router ID
	Clients      []netip.Prefix // speakers of our AS in these ranges are clients without an entry in Peers
	PasswordFile string         // TCP MD5 key (RFC 2385) of those clients; "": none
	Import       policy.Import  `key:"import"` // of those clients
	Export       policy.Export  `key:"export"` // to those clients
}

// Peer is one configured BGP session.
type Peer struct {
	session.Options

	Name         string     // default: the address
	Group        string     // one of bgp.groups, which gives the keys that the peer leaves out; "": none
	Address      netip.Addr // may carry a zone
	Port         uint16     // default 179
	ASN          uint32     // default: this node's AS
	Client       bool       // a client of this reflector (RFC 4456); only where the node is one
	PasswordFile string     // file with the TCP MD5 key (RFC 2385); "": none
	Passive      bool       // wait for the peer to connect
	Yield        bool       // the peer dials, not this node; of a mesh only
	// Interface is the device that the session is bound to, or, without an address,
	// the link whose other end is the peer.
	Interface    string
	Unnumbered   bool              // Interface without Address: the agent finds the address
	NodeSelector map[string]string // labels, with * and ?, of the nodes that have this peer; empty: all
	BFD          *bfd.Settings     // nil: only the hold time detects the peer's death
	Import       policy.Import
	Export       policy.Export
}

// Mesh is a full mesh of nodes of our AS (RFC 4271), the same in the file of
// every node.
type Mesh struct {
	Nodes []MeshNode
	Peer  Peer // of every session, without name and address
}

// MeshNode is one node of a mesh.
type MeshNode struct {
	Name    string // default: the address
	Address netip.Addr
}

// Peers returns the sessions of the node with these addresses (an invalid one
// stands for none): to every other node. Of two nodes the one with the lower
// address dials, the other one yields. It reports whether the node is a member of
// the mesh.
func (m *Mesh) Peers(own ...netip.Addr) (peers []Peer, member bool) {
	for _, n := range m.Nodes {
		if slices.Contains(own, n.Address) {
			member = true
			continue
		}
		p := m.Peer
		p.Name, p.Address = n.Name, n.Address
		p.Yield = slices.ContainsFunc(own, func(a netip.Addr) bool { return a.Is4() == n.Address.Is4() && n.Address.Less(a) })
		peers = append(peers, p)
	}
	return peers, member
}

// SelectsNode reports whether a node with these labels has the peer.
func (p *Peer) SelectsNode(labels map[string]string) bool { return selects(p.NodeSelector, labels) }

// External reports whether the session is eBGP for a node of AS asn.
func (p Peer) External(asn uint32) bool { return p.ASN != asn }

// Aggregates returns the aggregates of all peers, each once.
func (b *BGP) Aggregates() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range b.Peers {
		for _, a := range p.Export.Aggregates {
			if !slices.Contains(out, a.Prefix) {
				out = append(out, a.Prefix)
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
