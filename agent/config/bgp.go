package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"onlink/bgp/bfd"
)

// BGP configures the speaker.
type BGP struct {
	ASN       uint32         // this node's AS; default 64512
	RouterID  netip.Addr     // an IPv4 address; the zero Addr (auto): derived from the node's address
	Listen    Listen         // where other speakers connect to
	Reflector *Reflector     // nil: this node does not reflect
	Peers     []Peer         // sessions this node opens or expects
	Mesh      *Mesh          `key:"mesh"` // nil: no full mesh
	Originate []netip.Prefix // announced besides the node's own blocks
	Filters   []Filter       // by name, for the import and export of peers
}

// Listen is the speaker's listening socket.
type Listen struct {
	Address netip.Addr // the zero Addr (auto): every address
	Port    uint16     // default 179; 0: do not listen
}

// Reflector makes the node a route reflector (RFC 4456).
type Reflector struct {
	ClusterID    netip.Addr     // an IPv4 address; the zero Addr (auto): the router ID
	Clients      []netip.Prefix // speakers of our AS from here are accepted as clients without further configuration
	PasswordFile string         // TCP MD5 key (RFC 2385) of those clients; "": none
	Import       Import         `key:"import"` // of those clients
	Export       Export         `key:"export"` // to those clients
}

// Peer is one configured BGP session.
type Peer struct {
	Name         string        // default: the address
	Group        string        // one of bgp.groups, from which it has what it does not say; "": none
	Address      netip.Addr    // may carry a zone
	Port         uint16        // default 179
	ASN          uint32        // default: this node's AS
	Client       bool          // we reflect to it (RFC 4456); only when the node is a reflector
	PasswordFile string        // file with the TCP MD5 key (RFC 2385); "": none
	TTLSecurity  uint8         // GTSM (RFC 5082): hops to the peer, 1 = neighbour; 0: off
	Multihop     uint8         // eBGP: TTL of our packets; 0: directly connected
	HoldTime     time.Duration // RFC 4271 section 4.2; default 90 s
	Keepalive    time.Duration // default: a third of HoldTime
	ConnectRetry time.Duration // pause between connection attempts; default 5 s
	Passive      bool          // wait for the peer to connect
	Yield        bool          // leave it to the peer to dial; of a mesh only
	// Interface is the device that the session is bound to, or, without an
	// address, the one at whose other end the peer is.
	Interface    string
	Unnumbered   bool              // Interface without Address, which the agent finds
	LocalAddress netip.Addr        // our end of the session; the zero Addr: the kernel's choice
	LocalASN     uint32            // eBGP: the AS we are to this peer; 0: this node's
	AllowOwnAS   uint8             // how often our AS may be in a path (RFC 4271 section 9.1.2: never)
	NodeSelector map[string]string // labels, with * and ?, of the nodes that have this peer; empty: all
	// LongLived is how long the routes of an eBGP peer that is gone are kept as
	// the last resort after its restart time (RFC 9494), at most; 0: not.
	LongLived time.Duration
	BFD       *bfd.Settings // nil: the peer's death is noticed by the hold time only
	Import    Import
	Export    Export
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
// address dials, the other one yields. It reports whether the node is one of
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

// External reports whether the session is eBGP for a node of AS asn.
func (p Peer) External(asn uint32) bool { return p.ASN != asn }

// Import is what is accepted from a peer. From an eBGP peer nothing is
// accepted unless a rule says so (RFC 8212).
type Import struct {
	Filters     []Filter // asked before Accept and the pools
	Accept      []PrefixRule
	MaxPrefixes uint32 // the session is closed above this many; 0: no limit
	LocalPref   uint32 // of an eBGP peer's routes; 0: 100
	// DisableConnectedCheck takes next hops of an eBGP peer that are neither
	// the peer nor on a subnet shared with it (RFC 4271 section 5.1.3).
	DisableConnectedCheck bool
	// DisableOwnerCheck takes blocks from a peer of our AS with another next
	// hop than their owner's.
	DisableOwnerCheck bool
}

// Accepted returns the prefixes that the operator named to be accepted: of
// Accept, and of filter rules that accept.
func (i Import) Accepted() []PrefixRule {
	list := slices.Clone(i.Accept)
	for _, f := range i.Filters {
		for _, r := range f.Rules {
			if r.Action == ActionAccept {
				list = append(list, r.Match.Prefixes...)
			}
		}
	}
	return list
}

// PrefixRule matches the prefixes inside Prefix whose length is from Ge to Le.
// Both are always filled in: Ge defaults to the length of Prefix and Le to the
// family's longest, so that a bare CIDR accepts everything inside it.
type PrefixRule struct {
	Prefix netip.Prefix
	Ge, Le int
}

// Matches reports whether q is accepted by the rule.
func (r PrefixRule) Matches(q netip.Prefix) bool {
	return r.Prefix.Addr().BitLen() == q.Addr().BitLen() && r.Prefix.Contains(q.Addr()) &&
		q.Bits() >= r.Ge && q.Bits() <= r.Le && q.Bits() >= r.Prefix.Bits()
}

// String returns the rule in words, for logs.
func (r PrefixRule) String() string {
	return fmt.Sprintf("%s ge %d le %d", r.Prefix, r.Ge, r.Le)
}

// Export is what is announced to a peer.
type Export struct {
	Filters     []Filter     // asked before Own
	Own         bool         // the node's own blocks and originated prefixes; default true
	Prefixes    []PrefixRule // narrows the own prefixes; empty: all
	Communities []string     // added to own prefixes: "AS:VALUE" or "AS:VALUE:VALUE"
	MED         uint32       // set on own prefixes; 0: none
	Aggregates  []Aggregate  // to peers of another AS
	// Reflected also tells a peer of our AS what our clients announced: the
	// upper reflector of a hierarchy (RFC 4456 section 7).
	Reflected bool
}

// Aggregate is a prefix announced while this node has something inside it.
type Aggregate struct {
	Prefix      netip.Prefix
	SummaryOnly bool // what is inside is not announced
}

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

// Community is a BGP community (RFC 1997): the AS in the high 16 bits.
type Community uint32

// The well-known communities that have a name in onlinkd.yaml.
const (
	GracefulShutdown  Community = 0xFFFF0000 // RFC 8326
	Blackhole         Community = 0xFFFF029A // RFC 7999
	NoExport          Community = 0xFFFFFF01 // RFC 1997
	NoAdvertise       Community = 0xFFFFFF02 // RFC 1997
	NoExportSubconfed Community = 0xFFFFFF03 // RFC 1997
)

// communityNames is ordered, because its names appear in an error message.
var communityNames = []struct {
	name  string
	value Community
}{
	{"graceful-shutdown", GracefulShutdown},
	{"blackhole", Blackhole},
	{"no-export", NoExport},
	{"no-advertise", NoAdvertise},
	{"no-export-subconfed", NoExportSubconfed},
}

// String returns the name of a well-known community, else "AS:VALUE".
func (c Community) String() string {
	for _, n := range communityNames {
		if n.value == c {
			return n.name
		}
	}
	return fmt.Sprintf("%d:%d", uint32(c)>>16, uint32(c)&0xffff)
}

// parseCommunity reads "AS:VALUE" or a well-known name.
func parseCommunity(s string) (Community, bool) {
	for _, n := range communityNames {
		if n.name == s {
			return n.value, true
		}
	}
	high, low, found := strings.Cut(s, ":")
	h, err1 := strconv.ParseUint(high, 10, 16)
	l, err2 := strconv.ParseUint(low, 10, 16)
	if !found || err1 != nil || err2 != nil {
		return 0, false
	}
	return Community(h<<16 | l), true
}

// communityList returns the names of the well-known communities.
func communityList() string {
	names := make([]string, len(communityNames))
	for i, n := range communityNames {
		names[i] = n.name
	}
	return strings.Join(names, ", ")
}
