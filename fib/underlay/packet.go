package underlay

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// Packet is one packet that the kernel routes.
type Packet struct {
	From netip.Addr // the zero Addr: an address of this node
	To   netip.Addr
	In   string // device that it came in through; "": this node sends it
}

// Way returns the route that the kernel takes for a packet, as it is in the table
// (the longest match under the rules that match the packet). Without one the
// error is the kernel's: EINVAL stands for a blackhole route, EHOSTUNREACH for an
// unreachable one or a device that does not forward, EACCES for a prohibit route,
// ENETUNREACH for none at all, EXDEV for the reverse path filter.
func Way(p Packet) (KernelRoute, error) {
	d, err := openDumper()
	if err != nil {
		return KernelRoute{}, err
	}
	defer func() { _ = d.close() }() // only asked with
	return d.way(p)
}

func (d *dumper) way(p Packet) (KernelRoute, error) {
	to := p.To.Unmap()
	route := rtnl.Route{Family: rtnl.Family(to), DstLen: uint8(to.BitLen()), Flags: unix.RTM_F_FIB_MATCH | unix.RTM_F_LOOKUP_TABLE}
	if p.From.IsValid() {
		route.SrcLen = uint8(p.From.BitLen())
	}
	var b rtnl.Builder
	b.Route(&route)
	b.AttrAddr(unix.RTA_DST, to.WithZone(""))
	if p.From.IsValid() {
		b.AttrAddr(unix.RTA_SRC, p.From.Unmap().WithZone(""))
	}
	if p.In != "" {
		index, err := d.index(p.In)
		if err != nil {
			return KernelRoute{}, err
		}
		b.AttrUint32(unix.RTA_IIF, uint32(index))
	}
	var out KernelRoute
	var device int32
	if err := d.ask(unix.RTM_GETROUTE, unix.NLM_F_ACK, b.B, func(m rtnl.Message) { device = out.read(m.Body) }); err != nil {
		return KernelRoute{}, fmt.Errorf("route of a packet to %s: %w", to, err)
	}
	if device != 0 {
		name, err := d.name(device)
		if err != nil {
			return KernelRoute{}, err
		}
		out.Dev = name
	}
	return out, nil
}

// LinkState is the state of a device now.
type LinkState struct {
	Name     string
	Up       bool // administratively
	Carrier  bool
	MTU      int    // bytes
	Kind     string // as ip-link(8) calls it; "": hardware or the loopback device
	Master   string // the bridge, bond or VRF that the device belongs to; "": none
	VRF      string // Master, when that is a VRF
	VRFTable uint32 // its routing table
}

// Link returns the state of a device, [ErrNoDevice] when no device has that name.
func Link(dev string) (LinkState, error) {
	d, err := openDumper()
	if err != nil {
		return LinkState{}, err
	}
	defer func() { _ = d.close() }() // only asked with
	index, err := d.index(dev)
	if err != nil {
		return LinkState{}, err
	}
	l, _, err := d.linkAndTable(index)
	if err != nil {
		return LinkState{}, err
	}
	out := LinkState{Name: l.name, Up: l.up, Carrier: l.carrier, MTU: l.mtu, Kind: l.kind}
	if l.master == 0 {
		return out, nil
	}
	master, table, err := d.linkAndTable(l.master)
	if err != nil {
		return out, err
	}
	if out.Master = master.name; master.kind == "vrf" {
		out.VRF, out.VRFTable = master.name, table
	}
	return out, nil
}

// linkAndTable queries a device by its index, and of a VRF its table.
func (d *dumper) linkAndTable(index int32) (l link, table uint32, err error) {
	ask := question(func(b *rtnl.Builder) { b.Link(rtnl.Link{Index: index}) })
	err = d.ask(unix.RTM_GETLINK, unix.NLM_F_ACK, ask, func(m rtnl.Message) {
		l, _ = parseLink(m.Body)
		table = vrfTable(m.Body)
	})
	if err != nil {
		return l, table, fmt.Errorf("device %d: %w", index, err)
	}
	return l, table, nil
}

// vrfTable reads the table of a VRF from RTM_NEWLINK (IFLA_VRF_TABLE); 0: it is
// none.
func vrfTable(b []byte) uint32 {
	const ofVRF = 1 // IFLA_VRF_TABLE of linux/if_link.h
	_, attrs, ok := rtnl.ParseLink(b)
	if !ok {
		return 0
	}
	var kind string
	var data []byte
	for k, v := range attrs.All() {
		if k != unix.IFLA_LINKINFO {
			continue
		}
		for k, v := range rtnl.Attributes(v).All() {
			switch k {
			case unix.IFLA_INFO_KIND:
				kind = rtnl.String(v)
			case unix.IFLA_INFO_DATA:
				data = v
			}
		}
	}
	if kind != "vrf" {
		return 0
	}
	for k, v := range rtnl.Attributes(data).All() {
		if k == ofVRF {
			return rtnl.Uint32(v)
		}
	}
	return 0
}
