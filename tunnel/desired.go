package tunnel

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"

	"onlink/internal/ours"
)

// IsOurs reports whether a device of a kind, as ip-link(8) calls it, and with an
// alias is one of onlink's tunnels, whatever its name is.
func IsOurs(kind, alias string) bool {
	return alias == ours.TunnelAlias && (kind == IPIP.String() || kind == IP6.String() || kind == VXLAN.String())
}

// Kind is a kind of tunnel.
type Kind uint8

// The kinds of tunnel.
const (
	IPIP  Kind = iota // IPv4 in IPv4
	IP6               // IPv4 and IPv6 in IPv6
	VXLAN             // both, in UDP
)

// String returns the kernel's name of the kind (ip-link(8)).
func (k Kind) String() string {
	switch k {
	case IPIP:
		return "ipip"
	case IP6:
		return "ip6tnl"
	case VXLAN:
		return "vxlan"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// module is the kernel module that brings the kind.
func (k Kind) module() string {
	if k == IP6 {
		return "ip6_tunnel"
	}
	return k.String()
}

// Desired describes one device.
type Desired struct {
	Name  string
	Kind  Kind
	Local netip.Addr // this node's address: IPv4 for IPIP, IPv6 for IP6, either for VXLAN
	// MTU in bytes; 0 means UnderlayMTU less the tunnel's overhead.
	MTU int
	// UnderlayMTU is the MTU in bytes of the link that carries Local.
	UnderlayMTU int
	VNI         uint32 // VXLAN network identifier, 24 bits
	Port        uint16 // VXLAN UDP port
}

// inner is the IPv4 address of every device, a /32 of scope host: the dummy
// address of RFC 7600. No program uses it: on an interface without an address the
// kernel's loose reverse-path check (rp_filter 2) drops packets whose way back
// differs, such as those that another node itself sends to a pod here. It is not
// the node's own address: the kernel would keep answering ARP for that after it
// has moved to another machine.
var inner = netip.MustParseAddr(ours.TunnelAddress)

// Overhead returns the bytes a kind adds to each packet. VXLAN counts its
// inner Ethernet header, which the device's MTU does not.
func Overhead(k Kind, local netip.Addr) int {
	switch {
	case k == IPIP:
		return 20
	case k == IP6:
		return 40
	case local.Is4():
		return 50
	}
	return 70
}

// mtu returns the desired MTU of the device.
func (d Desired) mtu() int {
	if d.MTU != 0 {
		return d.MTU
	}
	return d.UnderlayMTU - Overhead(d.Kind, d.Local)
}

// maxVNI is the largest VXLAN network identifier (RFC 7348 section 5).
const maxVNI = 1<<24 - 1

// minMTU is the smallest packet every IPv4 link must take (RFC 791).
const minMTU = 68

// validate returns the first fault of d.
func (d Desired) validate() error {
	invalid := func(field string, value any, fix string) error {
		return fmt.Errorf("%w %s: %s: %v; %s", ErrInvalid, d.Name, field, value, fix)
	}
	switch {
	case d.Name == "":
		return invalid("name", `""`, "give the device a name")
	case d.Kind > VXLAN:
		return invalid("kind", d.Kind, "use ipip, ip6tnl or vxlan")
	case d.Kind == IPIP && !d.Local.Is4():
		return invalid("local", d.Local, "an ipip tunnel needs an IPv4 address")
	case d.Kind == IP6 && (!d.Local.Is6() || d.Local.Is4In6()):
		return invalid("local", d.Local, "an ip6tnl tunnel needs an IPv6 address")
	case !d.Local.IsValid() || d.Local.IsUnspecified() || d.Local.Zone() != "":
		return invalid("local", d.Local, "use the node's own address")
	case d.mtu() < minMTU:
		return invalid("mtu", d.mtu(), "set the tunnel's MTU or the link's")
	case d.Kind == VXLAN && (d.VNI == 0 || d.VNI > maxVNI):
		return invalid("vni", d.VNI, "use 1 to 16777215")
	case d.Kind == VXLAN && d.Port == 0:
		return invalid("port", d.Port, "use 1 to 65535, by default 4789")
	}
	return nil
}

// MAC returns the Ethernet address of the VXLAN device of the node with this
// address. It is computed, so that no node has to query another for it: locally
// administered, for IPv4 with the whole address in it, for IPv6 with 40 bits
// of a hash, so that two of 5,000 nodes have the same one with a probability of
// 1 in 80,000.
func MAC(node netip.Addr) net.HardwareAddr {
	node = node.Unmap()
	if node.Is4() {
		a := node.As4()
		return net.HardwareAddr{0x02, 0x6f, a[0], a[1], a[2], a[3]}
	}
	sum := sha256.Sum256(node.AsSlice())
	return append(net.HardwareAddr{0x06}, sum[:5]...)
}
