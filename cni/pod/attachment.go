package pod

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"

	"onlink/internal/ours"
)

// Attachment is one interface of one container: the handle of its addresses.
// ContainerID and IfName together tell it from other attachments.
type Attachment struct {
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME: the interface's name in the container
	Netns       string // CNI_NETNS: path of the container's network namespace; may be empty in DEL

	// Kubernetes' names of the pod, from CNI_ARGS; empty when another runtime calls.
	Namespace, Pod, UID string
}

// Key identifies the attachment.
func (a Attachment) Key() string { return a.ContainerID + "/" + a.IfName }

// MaxAlias is the longest alias in bytes: IFALIASZ less the terminator, less one
// for kernels that count it twice.
const MaxAlias = 254

// hostMAC is the address of the host end of every veth. One address for all
// lets a pod's neighbour entry be permanent, and its IPv6 link-local address
// is the pods' gateway.
var hostMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// gateway4 and gateway6 are the pods' default gateways. No interface owns
// 169.254.1.1: a permanent neighbour entry is enough for a pod. gateway6 is the
// link-local address that the kernel derives from hostMAC (RFC 4291 appendix A),
// so the host end answers for it.
var (
	gateway4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

// Gateways returns the default gateways of pods.
func Gateways() []netip.Addr { return []netip.Addr{gateway4, gateway6} }

// GatewayOf returns the pods' default gateway of an address's family.
func GatewayOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return gateway4
	}
	return gateway6
}

// HostMAC returns the MAC address of every host end.
func HostMAC() net.HardwareAddr { return slices.Clone(hostMAC) }

// HostDevice returns the name of the host end of an attachment's veth.
func HostDevice(containerID, ifName string) string {
	sum := sha256.Sum256([]byte(containerID + "/" + ifName))
	return ours.HostDevicePrefix + hex.EncodeToString(sum[:])[:ours.HostDeviceDigits]
}

// MAC returns the address of the pod's end: locally administered, and the
// same for every ADD of an attachment, so that a repeated ADD returns the same
// result.
func MAC(containerID, ifName string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("mac " + containerID + "/" + ifName))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// Alias returns the IFALIAS of the host end: "onlink NAMESPACE/NAME
// CONTAINERID IFNAME". Pod names are cut where the kernel's limit demands it;
// container ID and interface name never are, because [parseAlias] needs them.
func (a Attachment) Alias() string {
	tail := " " + a.ContainerID + " " + a.IfName
	name := aliasWord(a.Namespace) + "/" + aliasWord(a.Pod)
	if room := max(MaxAlias-len(ours.HostAliasPrefix)-len(tail), 0); len(name) > room {
		name = name[:room]
	}
	return ours.HostAliasPrefix + name + tail
}

// aliasWord makes s safe to print and to split at spaces.
func aliasWord(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
}

// parseAlias returns the attachment that an alias names and reports whether dev
// is that attachment's host device.
func parseAlias(alias, dev string) (Attachment, bool) {
	f := strings.Fields(alias)
	if len(f) != 4 || f[0]+" " != ours.HostAliasPrefix || HostDevice(f[2], f[3]) != dev {
		return Attachment{}, false
	}
	namespace, name, _ := strings.Cut(f[1], "/")
	return Attachment{ContainerID: f[2], IfName: f[3], Namespace: namespace, Pod: name}, true
}
