package cni

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"

	"onlink/internal/ours"
)

// Attachment is one interface of one container: the handle of its addresses.
// The pair of ContainerID and IfName is what tells two attachments apart.
type Attachment struct {
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME: the interface's name in the container
	Netns       string // CNI_NETNS: path of the container's network namespace; may be empty in DEL

	// Kubernetes' names of the pod, from CNI_ARGS; empty when another runtime calls.
	Namespace, Pod, UID string
}

// key is what identifies an attachment.
func (a Attachment) key() string { return a.ContainerID + "/" + a.IfName }

// Ask is what a request wants beyond "an address of each family".
type Ask struct {
	Pools     []string     // names of the pools to take from; empty: IPAM decides
	Addresses []netip.Addr // exactly these addresses; empty: any
	Sticky    string       // the workload that shall get its addresses again; empty: none
}

// Lease is what IPAM gave an attachment.
type Lease struct {
	Addresses []netip.Addr // IPv4 before IPv6 by custom; at least one
}

// IPAM gives addresses to attachments. Its methods may be called from many
// goroutines, though never at once for one attachment.
type IPAM interface {
	// Assign returns only after the lease is on disk. It is idempotent: an
	// attachment that holds a lease gets the same again. An error that wraps
	// [ErrRetryLater] or [ErrConfig] tells the runtime so.
	Assign(ctx context.Context, a Attachment, ask Ask) (Lease, error)
	// Release frees what the attachment holds; holding nothing is success.
	Release(ctx context.Context, a Attachment) error
	// Lookup returns what the attachment holds and reports whether that is
	// anything.
	Lookup(a Attachment) (Lease, bool)
	// Attachments returns all attachments that hold a lease.
	Attachments() []Attachment
}

// Routes is the learn loop's view of pods. Its methods only queue: they
// neither block nor fail.
type Routes interface {
	// SetPod says that addr, a /32 or /128, is behind the host device dev. It
	// is called before the device exists.
	SetPod(addr netip.Prefix, dev string)
	// DeletePod says that addr is no pod's any more.
	DeletePod(addr netip.Prefix)
}

// Senders keeps which MAC address may send from a pod's host device. Its
// methods may be called from many goroutines.
type Senders interface {
	// Allow lets what is behind a device send from mac, and from nothing else.
	Allow(device string, mac net.HardwareAddr) error
	// Forget takes devices out; an unknown one is out already.
	Forget(devices ...string) error
	// Replace makes these the only ones.
	Replace(all map[string]net.HardwareAddr) error
}

// allSenders is [Senders] where the kernel can hold none.
type allSenders struct{}

// Allow implements Senders.
func (allSenders) Allow(string, net.HardwareAddr) error { return nil }

// Forget implements Senders.
func (allSenders) Forget(...string) error { return nil }

// Replace implements Senders.
func (allSenders) Replace(map[string]net.HardwareAddr) error { return nil }

// aliasMax is IFALIASZ less the terminator, less one for kernels that count it
// twice.
const aliasMax = 254

// hostMAC is the address of the host end of every veth. One address for all
// lets a pod's neighbour entry be permanent, and its IPv6 link-local address
// is the pods' gateway.
var hostMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// gateway4 and gateway6 are the pods' default gateways. No interface owns
// 169.254.1.1: the permanent neighbour entry is all a pod needs of it.
// gateway6 is what the kernel makes of hostMAC (RFC 4291 appendix A), so the
// host end answers for it.
var (
	gateway4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

// Gateways returns the addresses that pods have as their default gateways.
func Gateways() []netip.Addr { return []netip.Addr{gateway4, gateway6} }

// HostDevice returns the name of the host end of an attachment's veth.
func HostDevice(containerID, ifName string) string {
	sum := sha256.Sum256([]byte(containerID + "/" + ifName))
	return ours.HostDevicePrefix + hex.EncodeToString(sum[:])[:ours.HostDeviceDigits]
}

// podMAC returns the address of the pod's end: locally administered, and the
// same for every ADD of an attachment, so that a repeated ADD returns the same
// result.
func podMAC(containerID, ifName string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("mac " + containerID + "/" + ifName))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// alias returns the IFALIAS of the host end: "onlink NAMESPACE/NAME
// CONTAINERID IFNAME". Pod names are cut where the kernel's limit demands it;
// container ID and interface name never are, because [parseAlias] needs them.
func (a Attachment) alias() string {
	tail := " " + a.ContainerID + " " + a.IfName
	pod := aliasWord(a.Namespace) + "/" + aliasWord(a.Pod)
	if room := max(aliasMax-len(ours.HostAliasPrefix)-len(tail), 0); len(pod) > room {
		pod = pod[:room]
	}
	return ours.HostAliasPrefix + pod + tail
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

// parseAlias returns the attachment an alias names and reports whether dev is
// that attachment's host device.
func parseAlias(alias, dev string) (Attachment, bool) {
	f := strings.Fields(alias)
	if len(f) != 4 || f[0]+" " != ours.HostAliasPrefix || HostDevice(f[2], f[3]) != dev {
		return Attachment{}, false
	}
	namespace, pod, _ := strings.Cut(f[1], "/")
	return Attachment{ContainerID: f[2], IfName: f[3], Namespace: namespace, Pod: pod}, true
}
