package tunnel

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

const (
	ttl        = 64 // of the outer packet; inherited from the inner one it would hide tunnels from traceroute
	pmtuDisc   = 1  // set DF on the outer packet, so that path MTU discovery works (RFC 2003 section 5.1)
	noEncapLim = 1  // IP6_TNL_F_IGN_ENCAP_LIMIT: no destination option, which routers drop
)

// template returns the device in the form of a request to the kernel.
func (d Desired) template() netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, d.mtu()
	local := net.IP(d.Local.AsSlice())
	switch d.Kind {
	case IPIP:
		return &netlink.Iptun{LinkAttrs: attrs, Local: local, Ttl: ttl, PMtuDisc: pmtuDisc}
	case IP6:
		return &netlink.Ip6tnl{LinkAttrs: attrs, Local: local, Ttl: ttl, Flags: noEncapLim}
	default:
		attrs.HardwareAddr = MAC(d.Local)
		return &netlink.Vxlan{
			LinkAttrs: attrs, SrcAddr: local, TTL: ttl,
			VxlanId: int(d.VNI), Port: int(d.Port), Learning: false,
		}
	}
}

// differs returns the property in which an existing device of the right kind
// is not as desired and which only a new device can have, or "".
func (d Desired) differs(l netlink.Link) string {
	switch l := l.(type) {
	case *netlink.Iptun:
		switch {
		case toAddr(l.Local) != d.Local:
			return "local"
		case toAddr(l.Remote).IsValid():
			return "remote"
		case l.Ttl != ttl:
			return "ttl"
		case l.PMtuDisc != pmtuDisc:
			return "pmtudisc"
		}
	case *netlink.Ip6tnl:
		switch {
		case toAddr(l.Local) != d.Local:
			return "local"
		case toAddr(l.Remote).IsValid():
			return "remote"
		case l.Ttl != ttl:
			return "ttl"
		case l.Proto != 0:
			return "mode"
		case l.Flags&noEncapLim == 0:
			return "encaplimit"
		}
	case *netlink.Vxlan:
		switch {
		case toAddr(l.SrcAddr) != d.Local:
			return "local"
		case l.VxlanId != int(d.VNI):
			return "vni"
		case l.Port != int(d.Port):
			return "port"
		case l.Learning:
			return "learning"
		case toAddr(l.Group).IsValid():
			return "remote"
		case l.Attrs().HardwareAddr.String() != MAC(d.Local).String():
			return "address"
		}
	default:
		return "kind"
	}
	return ""
}

// remains reports whether l is the leftover of a run that was killed between
// creating and marking the device: ours in all but the alias, not yet up.
func (d Desired) remains(l netlink.Link) bool {
	return l.Attrs().Alias == "" && l.Attrs().Flags&net.FlagUp == 0 && d.differs(l) == ""
}

// rival reports whether l would receive the packets of the device.
func (d Desired) rival(l netlink.Link) bool {
	switch l := l.(type) {
	case *netlink.Iptun:
		return d.Kind == IPIP && toAddr(l.Local) == d.Local && !toAddr(l.Remote).IsValid()
	case *netlink.Ip6tnl:
		return d.Kind == IP6 && toAddr(l.Local) == d.Local && !toAddr(l.Remote).IsValid()
	case *netlink.Vxlan:
		// The kernel distinguishes the two families, with or without a local
		// address (vxlan_config_validate); a device without one counts as IPv4.
		over6 := toAddr(l.SrcAddr).Is6() || toAddr(l.Group).Is6()
		return d.Kind == VXLAN && l.VxlanId == int(d.VNI) && l.Port == int(d.Port) && over6 == d.Local.Is6()
	}
	return false
}

// toAddr converts an address of the netlink package; none and the unspecified
// address both yield the zero Addr.
func toAddr(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
