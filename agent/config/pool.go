package config

import "net/netip"

// Pool is a range of pod addresses, cut into blocks that nodes claim.
type Pool struct {
	Name          string
	CIDR          netip.Prefix
	BlockSize     int           // prefix length of a block; default 26 (IPv4), 122 (IPv6)
	Encapsulation Encapsulation // default CrossSubnet
	Tunnel        TunnelKind    // default ipip
	NATOutgoing   bool          // masquerade packets to outside all pools; default true for IPv4, false for IPv6
	Disabled      bool          // no new address is taken from it; the addresses in use stay
	Manual        bool          // used only by requests that name it or an address of it
	Reserved      []netip.Prefix
	// NodeSelector selects the nodes that use the pool: every label named must be
	// one of the node's and its value match the pattern. Nil: all nodes.
	NodeSelector map[string]string
	// NamespaceSelector are patterns of the namespaces whose pods use the pool
	// without naming it. Nil: all.
	NamespaceSelector []string
}

// Encapsulation selects when a pool's packets are put into a tunnel.
type Encapsulation string

// The values of a pool's encapsulation, with Calico's names.
const (
	EncapCrossSubnet Encapsulation = "CrossSubnet" // only when the next hop is not on-link
	EncapAlways      Encapsulation = "Always"      // to every other node
	EncapNever       Encapsulation = "Never"       // the underlay has routes to the blocks
)

// TunnelKind names the tunnel that carries a pool's packets.
type TunnelKind string

// The kinds of tunnel.
const (
	TunnelIPIP  TunnelKind = "ipip"
	TunnelVXLAN TunnelKind = "vxlan"
	TunnelNone  TunnelKind = "none"
)

// SelectsNode reports whether a node with these labels uses the pool.
func (p *Pool) SelectsNode(labels map[string]string) bool { return selects(p.NodeSelector, labels) }
