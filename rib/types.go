package rib

import (
	"fmt"
	"iter"
	"net/netip"
	"unique"
)

// MaxHops bounds the members of a multipath route: more next hops than this
// are dropped in the order of [Hops], so that every agent drops the same ones.
const MaxHops = 16

// Path is one candidate way to a prefix, as BGP's best-path selection left it
// (RFC 4271 section 9.1). It is comparable.
type Path struct {
	NextHop netip.Addr // NEXT_HOP, or the MP_REACH_NLRI next hop; for IPv6 the global one
	Peer    netip.Addr // the neighbour that announced it
	EBGP    bool       // learned from a peer of another AS (a ToR)
}

// Update is the full new set of best paths of one prefix. An empty set means
// that the prefix is withdrawn.
type Update struct {
	Prefix netip.Prefix
	Paths  []Path // several updates may share it: it must not be changed
}

// Encap is when a pool's routes go through a tunnel.
type Encap uint8

// The three values of a pool's encapsulation, with Calico's names.
const (
	CrossSubnet Encap = iota // tunnel only when the next hop is not on-link
	Never                    // never tunnel; follow the underlay's routes
	Always                   // tunnel to every other node, on-link ones too
)

// String returns the name used in onlinkd.yaml.
func (e Encap) String() string {
	switch e {
	case CrossSubnet:
		return "CrossSubnet"
	case Never:
		return "Never"
	case Always:
		return "Always"
	}
	return fmt.Sprintf("Encap(%d)", uint8(e))
}

// Pool is an address pool, with its encapsulation.
type Pool struct {
	Prefix netip.Prefix
	Encap  Encap
	Tunnel string // device that carries the pool's tunnelled IPv4-underlay routes; "" means none
	// Tunnel6 is the device for next hops with an IPv6 address; "" means none.
	Tunnel6 string
}

// Kind is the treatment of packets by a decided route.
type Kind uint8

// The kinds of a decided route.
const (
	Unresolved Kind = iota // not installed: no usable next hop
	Unicast                // forwarded through Hops
	Blackhole              // dropped: an own block's unused addresses
	Local                  // a pod on this node: Hops has one member, its host veth, no gateway
)

// Installable reports whether a route of this kind is installed into the kernel.
func (k Kind) Installable() bool { return k != Unresolved }

// String returns the name shown by onlinkctl.
func (k Kind) String() string {
	switch k {
	case Unresolved:
		return "unresolved"
	case Unicast:
		return "unicast"
	case Blackhole:
		return "blackhole"
	case Local:
		return "local"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Reason is the reason for the decision on a route or one of its hops.
type Reason uint8

// The reasons of a decision; the text an operator reads is [Reason.String].
const (
	ReasonNone              Reason = iota
	ReasonOnLink                   // the next hop is on a connected network
	ReasonAlways                   // the pool has Always: tunnelled although on-link
	ReasonViaGateway               // off-link: tunnelled
	ReasonNever                    // off-link and the pool has Never: follows the underlay's gateway
	ReasonNoTunnel                 // off-link and the pool has no tunnel: follows the underlay's gateway
	ReasonOutsidePools             // off-link and the prefix is in no pool: follows the underlay's gateway
	ReasonOwnBlock                 // this node's block: unused addresses are dropped
	ReasonPod                      // an address of a pod on this node
	ReasonUnreachable              // the kernel has no route to the next hop
	ReasonBlackholeHop             // the kernel's route to the next hop drops packets
	ReasonOwnNextHop               // the next hop is an address of this node
	ReasonInsideOwnBlock           // another node announces addresses that this node owns
	ReasonCoversNextHop            // it would take over the kernel's way to a BGP next hop or peer
	ReasonForbidden                // default route or node subnet without explicit permission
	ReasonNoPath                   // no candidate path is left
	ReasonFamilyUnsupported        // the tunnel cannot carry this family over that next hop
	ReasonAggregate                // an aggregate that this node announces: its unused addresses are dropped
	ReasonThroughPool              // the next hop is inside a pool: reached through the pool's route to it
	ReasonHopInPool                // the next hop is inside a pool, and no route of the pool leads to it
	ReasonMartian                  // no address of the prefix may be forwarded to, see [Martian]
	ReasonMartianHop               // the next hop is an address that no packet may be sent to
	ReasonHostNetwork              // a network of the node, a gateway or a peer lies in this own block or aggregate: no drop route
	numReasons
)

var reasonText = [numReasons]string{
	ReasonNone:              "none",
	ReasonOnLink:            "on-link",
	ReasonAlways:            "encapsulation-always",
	ReasonViaGateway:        "behind-gateway",
	ReasonNever:             "encapsulation-never",
	ReasonNoTunnel:          "pool-without-tunnel",
	ReasonOutsidePools:      "outside-pools",
	ReasonOwnBlock:          "own-block",
	ReasonPod:               "pod",
	ReasonUnreachable:       "next-hop-unreachable",
	ReasonBlackholeHop:      "next-hop-blackholed",
	ReasonOwnNextHop:        "next-hop-is-us",
	ReasonInsideOwnBlock:    "inside-own-block",
	ReasonCoversNextHop:     "covers-next-hop",
	ReasonForbidden:         "not-permitted",
	ReasonNoPath:            "no-path",
	ReasonFamilyUnsupported: "family-not-carried",
	ReasonAggregate:         "aggregate",
	ReasonThroughPool:       "through-pool-route",
	ReasonHopInPool:         "next-hop-in-pool",
	ReasonMartian:           "martian",
	ReasonMartianHop:        "next-hop-martian",
	ReasonHostNetwork:       "host-network",
}

// String returns the stable name used in output and metrics.
func (r Reason) String() string {
	if r < numReasons {
		return reasonText[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Refused reports whether a rule of the decision keeps the route out of the
// kernel, rather than the kernel having no way to its next hop.
func (r Reason) Refused() bool {
	switch r { //nolint:exhaustive // these alone
	case ReasonInsideOwnBlock, ReasonCoversNextHop, ReasonForbidden, ReasonHopInPool, ReasonMartian, ReasonMartianHop:
		return true
	}
	return false
}

// Hop is one member of a decided route.
type Hop struct {
	Via    netip.Addr // gateway; the zero Addr means that the destination is on Dev itself
	Dev    string     // device name; the kernel index is looked up when the route is installed
	Onlink bool       // RTNH_F_ONLINK: the gateway is taken as reachable on Dev, without a FIB lookup
	Tunnel bool       // Dev is one of onlink's tunnel devices
	Reason Reason
}

// Compare orders hops: by gateway, then device, then tunnelled last. Multipath
// members are in this order so that two agents, and two runs of one agent, hash
// flows alike.
func (h Hop) Compare(o Hop) int {
	if c := h.Via.Compare(o.Via); c != 0 {
		return c
	}
	if h.Dev != o.Dev {
		if h.Dev < o.Dev {
			return -1
		}
		return 1
	}
	if h.Tunnel != o.Tunnel {
		if o.Tunnel {
			return -1
		}
		return 1
	}
	return int(h.Reason) - int(o.Reason)
}

// hopNode is a hop and the hops behind it; the whole chain is interned, so a
// set of one hop has the size of one, whatever MaxHops is.
type hopNode struct {
	hop  Hop
	rest unique.Handle[hopNode] // zero: the last one
}

// Hops is an interned, ordered set of at most [MaxHops] hops. It is one word
// wide and comparable: two sets with the same members are ==. The zero Hops
// is empty.
type Hops struct {
	h unique.Handle[hopNode]
}

// Len returns the number of members.
func (s Hops) Len() int {
	n := 0
	for range s.All() {
		n++
	}
	return n
}

// At returns member i; it panics when i is out of range.
func (s Hops) At(i int) Hop {
	for ; i > 0; i-- {
		s = Hops{s.h.Value().rest}
	}
	return s.h.Value().hop
}

// All yields the members in order.
func (s Hops) All() iter.Seq[Hop] {
	return func(yield func(Hop) bool) {
		for s != (Hops{}) {
			n := s.h.Value()
			if !yield(n.hop) {
				return
			}
			s = Hops{n.rest}
		}
	}
}

// Route is a decided route: the one that the kernel must have for a prefix. It is
// comparable, so == is the diff.
type Route struct {
	Prefix netip.Prefix
	Kind   Kind
	Reason Reason // why Kind; for Unicast the reason of the first hop
	Hops   Hops   // empty unless Unicast or Local
}

// ReachKind is the result of a lookup of a next hop in the kernel's FIB without
// onlink's routes.
type ReachKind uint8

// The results of a lookup.
const (
	Unreachable ReachKind = iota // no route, or an unreachable/prohibit route
	OnLink                       // a connected route: neighbour resolution on Hops' device
	Gateway                      // reachable through Hops' gateways
	Blackholed                   // a blackhole route
	Self                         // an address of this node
	Dead                         // its liveness protocol found it dead, whatever the FIB has
)

// String returns the name shown by onlinkctl explain.
func (k ReachKind) String() string {
	switch k {
	case Unreachable:
		return "unreachable"
	case OnLink:
		return "on-link"
	case Gateway:
		return "gateway"
	case Blackholed:
		return "blackholed"
	case Self:
		return "self"
	case Dead:
		return "dead"
	}
	return fmt.Sprintf("ReachKind(%d)", uint8(k))
}

// Reach is how the underlay reaches one next hop. It is comparable: the routes of
// a next hop are decided again when its Reach changed.
type Reach struct {
	Kind ReachKind
	Hops Hops // OnLink: a member for each device, Dev only. Gateway: the gateways, each with Dev
	// Match is the kernel route that the lookup found. A learned prefix that
	// covers the next hop and is not shorter than Match would take over the way
	// to it. The zero Prefix (no route matched) protects nothing.
	Match netip.Prefix
}
