package lab

import (
	"fmt"
	"net/netip"
	"regexp"
)

// ToRKind is the routing program of the top-of-rack routers.
type ToRKind string

// The routing programs a ToR can run.
const (
	BIRD ToRKind = "bird" // BIRD 2 (Debian package bird2); the default
	FRR  ToRKind = "frr"  // FRRouting (Debian package frr)
)

// NodeASN is the private AS number all nodes share; ToR t of rack r has
// [ToR.ASN].
const NodeASN = 64512

// Spec says what to build. The zero value of a field is its default.
type Spec struct {
	Name         string  // prefix of all namespaces; default "lab"; at most 20 of [a-z0-9-]
	Racks        int     // default 2, at most 50
	NodesPerRack int     // default 2, at most 100
	ToRsPerRack  int     // 1 (default) or 2
	Reflectors   int     // default 1; placed in racks 1, 2, ... in turn; negative: none
	Uplink       bool    // a host behind the core that the ToRs use as default gateway
	DualStack    bool    // IPv6 beside IPv4 on every wire
	ToR          ToRKind // default BIRD
	Pool         Pool    // the address pool of every node
	// Service prefixes are announced by every ToR to its nodes (rack r: the
	// r-th /24), and accepted there: prefixes outside every pool.
	Service netip.Prefix
}

// Pool is the one address pool the lab's nodes are configured with.
type Pool struct {
	CIDR  netip.Prefix // default 10.244.0.0/16
	CIDR6 netip.Prefix // default none; fd44::/48 is usual with DualStack
	Encap string       // default CrossSubnet
	// Tunnel is ipip (default), vxlan or none.
	Tunnel string
	NAT    bool // natOutgoing
}

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,19}$`)

// withDefaults fills the zero fields and checks the rest.
func (s Spec) withDefaults() (Spec, error) {
	def(&s.Name, "lab")
	def(&s.Racks, 2)
	def(&s.NodesPerRack, 2)
	def(&s.ToRsPerRack, 1)
	def(&s.Reflectors, 1)
	def(&s.ToR, BIRD)
	def(&s.Pool.CIDR, netip.MustParsePrefix("10.244.0.0/16"))
	def(&s.Pool.Encap, "CrossSubnet")
	def(&s.Pool.Tunnel, "ipip")
	s.Reflectors = max(s.Reflectors, 0)
	switch {
	case !nameRE.MatchString(s.Name):
		return s, fmt.Errorf("%w: Name %q: use 1 to 20 of a-z, 0-9 and -", ErrSpec, s.Name)
	case s.Racks < 1 || s.Racks > 50:
		return s, fmt.Errorf("%w: Racks %d: use 1 to 50", ErrSpec, s.Racks)
	case s.NodesPerRack < 1 || s.NodesPerRack > 100:
		return s, fmt.Errorf("%w: NodesPerRack %d: use 1 to 100", ErrSpec, s.NodesPerRack)
	case s.ToRsPerRack > 2:
		return s, fmt.Errorf("%w: ToRsPerRack %d: use 1 or 2", ErrSpec, s.ToRsPerRack)
	case s.Reflectors > 8:
		return s, fmt.Errorf("%w: Reflectors %d: use at most 8", ErrSpec, s.Reflectors)
	case s.ToR != BIRD && s.ToR != FRR:
		return s, fmt.Errorf("%w: ToR %q: use bird or frr", ErrSpec, s.ToR)
	}
	return s, nil
}

// def sets *v to d when it is zero.
func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// The address plan: rack r is 10.57.r.0/24 and fd57:r::/64, its ToRs are .1
// and .2, reflectors .10 (the second in one rack .9, and so on down), nodes
// .11 and up. ToRs meet in 10.255.0.0/24 and fd57:ffff::/64: first ToRs at .r,
// second ones at .(100+r), the uplink at .254.

func rackNet(rack int) netip.Prefix {
	return netip.PrefixFrom(rackAddr(rack, 0), 24)
}

func rackNet6(rack int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd57:%d::/64", rack))
}

func rackAddr(rack, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 57, byte(rack), byte(host)})
}

// rackAddr6 writes the host number in decimal digits, so that 10.57.2.11 and
// fd57:2::11 are easily seen as one node.
func rackAddr6(rack, host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd57:%d::%d", rack, host))
}

func coreAddr(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 255, 0, byte(host)})
}

func coreAddr6(host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd57:ffff::%d", host))
}

// outside is an address that only the uplink has: "the Internet".
var outside = netip.MustParseAddr("198.51.100.1")
