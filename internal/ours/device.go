package ours

// The interface groups (ip-link(8), "group") of pods' host ends. A group is in
// the message that makes the veth and outlives the agent; nftables matches it.
// A device is in one of them if group&PodGroupMask == PodGroup.
const (
	PodGroup     = 0x4f4c0000
	PodGroupMask = 0xfffffff0

	PodEnded    = PodGroup     // taken out of service by DEL, still to be removed
	PodRemoving = PodGroup + 1 // being removed, many with one message
	PodServing  = PodGroup + 2 // in service
)

// The host end of a pod's veth is named HostDevicePrefix and HostDeviceDigits
// hexadecimal digits, 14 of the 15 bytes that a name may have. Its IFALIAS is
// HostAliasPrefix and the attachment. The name alone proves nothing: an
// operator's uplink may be called onlan0.
const (
	HostDevicePrefix = "onl"
	HostDeviceDigits = 11
	HostAliasPrefix  = "onlink "
)

// Names of the tunnel devices. A VXLAN device sends over one family only, so
// there are two.
const (
	DeviceIPIP   = "onlink-ipip"
	DeviceIP6    = "onlink-ip6"
	DeviceVXLAN  = "onlink-vxlan"
	DeviceVXLAN6 = "onlink-vxlan6"
)

// TunnelAlias is the IFALIAS that makes a device of a tunnel's kind and name
// ours.
const TunnelAlias = "onlink"

// TunnelAddress is the IPv4 address of every tunnel device, a /32 of scope
// host: the dummy address of RFC 7600.
const TunnelAddress = "192.0.0.8"
