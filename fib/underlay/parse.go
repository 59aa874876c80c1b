package underlay

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// hop is one next hop of a kernel route.
type hop struct {
	gateway netip.Addr // zero: the destination is on the device's wire
	device  int32      // interface index
	onlink  bool       // RTNH_F_ONLINK
}

// route is a kernel route of another protocol than ours.
type route struct {
	prefix netip.Prefix
	local  bool // table local, otherwise main
	kind   byte // RTN_*
	metric uint32
	object uint32 // nexthop object (RTA_NH_ID), 0 if none
	hops   []hop
}

// parseRoute reads RTM_NEWROUTE or RTM_DELROUTE. It reports false for routes that
// do not count: ours, those of other tables, of a traffic class or a source, and
// those to link-local or multicast destinations.
func parseRoute(b []byte) (route, bool) {
	h, attrs, ok := rtnl.ParseRoute(b)
	if !ok || h.Protocol == ours.Protocol || h.SrcLen != 0 || h.TOS != 0 || h.Flags&unix.RTM_F_CLONED != 0 {
		return route{}, false
	}
	r, table := route{kind: h.Type}, h.Table
	var dst netip.Addr
	one := hop{onlink: h.Flags&unix.RTNH_F_ONLINK != 0}
	for kind, v := range attrs.All() {
		switch kind {
		case unix.RTA_TABLE:
			table = rtnl.Uint32(v)
		case unix.RTA_DST:
			dst = rtnl.Addr(v)
		case unix.RTA_PRIORITY:
			r.metric = rtnl.Uint32(v)
		case unix.RTA_OIF:
			one.device = rtnl.Index(v)
		case unix.RTA_GATEWAY:
			one.gateway = rtnl.Addr(v)
		case unix.RTA_VIA:
			one.gateway = rtnl.Via(v)
		case unix.RTA_MULTIPATH:
			r.hops = parseMultipath(v)
		case rtnl.RTANHID:
			r.object = rtnl.Uint32(v)
		}
	}
	if one.device != 0 {
		r.hops = append(r.hops, one)
	}
	r.prefix = h.Destination(dst).Masked()
	r.local = table == unix.RT_TABLE_LOCAL
	return r, (r.local || table == unix.RT_TABLE_MAIN) && r.prefix.IsValid() && relevant(r.prefix)
}

// relevant reports whether a BGP next hop may lie in the prefix. Link-local and
// multicast destinations come and go with every device and contain none.
func relevant(p netip.Prefix) bool {
	a := p.Addr()
	return !a.IsMulticast() && (a.Is4() || !a.IsLinkLocalUnicast())
}

// parseMultipath reads the struct rtnexthop array of RTA_MULTIPATH.
func parseMultipath(b []byte) []hop {
	var out []hop
	var h rtnl.Hop
	for hops := rtnl.Hops(b); hops.Next(&h); {
		out = append(out, hop{gateway: h.Via, device: h.Device, onlink: h.Onlink})
	}
	return out
}

// object is a nexthop object of another protocol than ours.
type object struct {
	id        uint32
	blackhole bool
	hop       hop
	group     []uint32
}

// parseObject reads RTM_NEWNEXTHOP or RTM_DELNEXTHOP.
func parseObject(b []byte) (object, bool) {
	h, attrs, ok := rtnl.ParseNexthop(b)
	if !ok || h.Protocol == ours.Protocol {
		return object{}, false
	}
	o := object{hop: hop{onlink: h.Flags&unix.RTNH_F_ONLINK != 0}}
	for kind, v := range attrs.All() {
		switch kind {
		case unix.NHA_ID:
			o.id = rtnl.Uint32(v)
		case unix.NHA_BLACKHOLE:
			o.blackhole = true
		case unix.NHA_OIF:
			o.hop.device = rtnl.Index(v)
		case unix.NHA_GATEWAY:
			o.hop.gateway = rtnl.Addr(v)
		case unix.NHA_GROUP:
			o.group = append(o.group, parseGroup(v)...)
		}
	}
	return o, o.id != 0
}

// parseGroup reads NHA_GROUP.
func parseGroup(b []byte) []uint32 {
	var ids []uint32
	for members := rtnl.Members(b); ; {
		id, _, ok := members.Next()
		if !ok {
			return ids
		}
		ids = append(ids, id)
	}
}

// link holds the properties of a network device that matter here.
type link struct {
	index    int32
	name     string
	mtu      int
	loopback bool
	up       bool // administratively up
	carrier  bool
	kind     string // of a virtual device (IFLA_INFO_KIND): bridge, veth and so on; "": hardware or the loopback device
	lower    int32  // index of the device below (IFLA_LINK) in this namespace, 0: none
	master   int32  // index of the bridge, bond or VRF the device belongs to, 0: none
	virtual  bool   // its MAC address is a virtual router's (RFC 5798 section 7.3)
	group    uint32 // interface group
	alias    string // IFALIAS
}

// Device holds the properties that tell one device from another.
type Device struct {
	Name, Alias string
	Kind        string // as ip-link(8) calls it: bridge, veth and so on; "": hardware or the loopback device
	Group       uint32 // interface group
}

func (l link) device() Device {
	return Device{Name: l.name, Alias: l.alias, Kind: l.kind, Group: l.group}
}

// usable reports whether packets leave through the link.
func (l link) usable() bool { return l.up && l.carrier }

// parseLink reads RTM_NEWLINK or RTM_DELLINK.
func parseLink(b []byte) (link, bool) {
	h, attrs, ok := rtnl.ParseLink(b)
	if !ok || h.Family != unix.AF_UNSPEC {
		return link{}, false // AF_BRIDGE: a port's forwarding state
	}
	l := link{
		index:    h.Index,
		loopback: h.Flags&unix.IFF_LOOPBACK != 0,
		up:       h.Flags&unix.IFF_UP != 0,
		carrier:  h.Flags&unix.IFF_LOWER_UP != 0,
	}
	elsewhere := false
	for kind, v := range attrs.All() {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = rtnl.String(v)
		case unix.IFLA_MTU:
			l.mtu = int(rtnl.Uint32(v))
		case unix.IFLA_LINK:
			l.lower = rtnl.Index(v)
		case unix.IFLA_MASTER:
			l.master = rtnl.Index(v)
		case unix.IFLA_ADDRESS:
			l.virtual = virtualRouter(v)
		case unix.IFLA_LINKINFO:
			l.kind = linkKind(v)
		case unix.IFLA_GROUP:
			l.group = rtnl.Uint32(v)
		case unix.IFLA_IFALIAS:
			l.alias = rtnl.String(v)
		case unix.IFLA_LINK_NETNSID:
			elsewhere = true
		}
	}
	if elsewhere || l.kind == "veth" { // the index is one of another namespace, or of the other end
		l.lower = 0
	}
	return l, l.name != ""
}

// virtualRouter reports whether an Ethernet address is one of VRRP's: it moves
// from machine to machine, and so do the IP addresses behind it.
func virtualRouter(mac []byte) bool {
	return len(mac) == 6 && [4]byte(mac) == [4]byte{0x00, 0x00, 0x5e, 0x00} && (mac[4] == 1 || mac[4] == 2)
}

// linkKind reads IFLA_LINKINFO.
func linkKind(b []byte) string {
	for kind, v := range rtnl.Attributes(b).All() {
		if kind == unix.IFLA_INFO_KIND {
			return rtnl.String(v)
		}
	}
	return ""
}

// ifaddr is an address of this node. It is comparable and its own key.
type ifaddr struct {
	device int32
	local  netip.Addr
	subnet netip.Prefix // the network, or the peer's address on a point-to-point link
}

// addrState holds the properties of an address that may change while it stays.
type addrState struct {
	flags uint32 // IFA_F_*
	scope uint8  // RT_SCOPE_*
	order int    // older addresses have lower ones
}

// parseAddress reads RTM_NEWADDR or RTM_DELADDR.
func parseAddress(b []byte) (ifaddr, addrState, bool) {
	h, attrs, ok := rtnl.ParseAddress(b)
	if !ok {
		return ifaddr{}, addrState{}, false
	}
	a := ifaddr{device: h.Index}
	s := addrState{flags: uint32(h.Flags), scope: h.Scope}
	var peer netip.Addr
	for kind, v := range attrs.All() {
		switch kind {
		case unix.IFA_LOCAL:
			a.local = rtnl.Addr(v)
		case unix.IFA_ADDRESS:
			peer = rtnl.Addr(v)
		case unix.IFA_FLAGS:
			s.flags = rtnl.Uint32(v)
		}
	}
	if !a.local.IsValid() { // IPv6 without a peer has IFA_ADDRESS only
		a.local = peer
	}
	a.subnet = netip.PrefixFrom(peer, int(h.PrefixLen)).Masked()
	return a, s, a.local.IsValid() && a.subnet.IsValid()
}

// parseSetting reads the device of RTM_NEWNETCONF (struct netconfmsg, a family and
// attributes): negative for all devices and for new ones.
func parseSetting(b []byte) (device int32, ok bool) {
	const (
		fixed = 4 // the family, padded
		index = 1 // NETCONFA_IFINDEX of linux/netconf.h
	)
	if len(b) < fixed {
		return 0, false
	}
	attrs := rtnl.Attributes(b[fixed:])
	for kind, v := range attrs.All() {
		if kind == index {
			return rtnl.Index(v), true
		}
	}
	return 0, false
}
