package underlay

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// The functions of this file query the kernel itself, in the network namespace of
// the calling thread. Their answers include onlink's own routes.

// ErrNoDevice is returned when there is no device of a name.
var ErrNoDevice = errors.New("no such device")

// ErrNoRoute is returned when the kernel has no route to an address.
var ErrNoRoute = errors.New("no route")

// KernelRoute is the route that the kernel takes for an address.
type KernelRoute struct {
	Dst      netip.Prefix // the route itself; the address alone for [Source]
	Protocol uint8        // RTPROT_*
	Type     uint8        // RTN_*
	Table    uint32
	Metric   uint32
	Dev      string     // of a multipath route the first member's
	Via      netip.Addr // gateway; the zero Addr: none
	// Src is the route's preferred source address from [Lookup], the source
	// address of a packet from [Source]; the zero Addr: none.
	Src  netip.Addr
	Self bool // the address is one of this node's
}

// Lookup returns the most specific route for addr (the longest match).
func Lookup(addr netip.Addr) (KernelRoute, error) { return routeTo(addr, unix.RTM_F_FIB_MATCH) }

// Source returns the route of a packet from this node to addr, with the source
// address that the kernel chooses.
func Source(addr netip.Addr) (KernelRoute, error) { return routeTo(addr, 0) }

// Gateway is a member of a multipath route.
type Gateway struct {
	Dev string
	Via netip.Addr // the zero Addr: none
}

// Gateways returns the members of the most specific route for addr when it is a
// multipath route; none: it is a plain one. Any member may be the first: the kernel
// begins an IPv6 route with the one that it chose.
func Gateways(addr netip.Addr) ([]Gateway, error) {
	d, err := openDumper()
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.close() }() // only asked with
	var members []hop
	err = d.routeTo(addr.Unmap(), unix.RTM_F_FIB_MATCH, func(b []byte) {
		_, attrs, ok := rtnl.ParseRoute(b)
		for kind, v := range attrs.All() {
			if ok && kind == unix.RTA_MULTIPATH {
				members = parseMultipath(v)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var out []Gateway
	for _, m := range members {
		name, err := d.name(m.device)
		if err != nil {
			return nil, err
		}
		out = append(out, Gateway{Dev: name, Via: m.gateway})
	}
	return out, nil
}

// routeTo returns one route.
func routeTo(addr netip.Addr, flags uint32) (KernelRoute, error) {
	d, err := openDumper()
	if err != nil {
		return KernelRoute{}, err
	}
	defer func() { _ = d.close() }() // only asked with
	addr = addr.Unmap()
	out, device := KernelRoute{Dst: netip.PrefixFrom(addr.WithZone(""), addr.BitLen())}, int32(0)
	if err := d.routeTo(addr, flags, func(b []byte) { device = out.read(b) }); err != nil {
		return KernelRoute{}, err
	}
	if out.Dev, err = d.name(device); err != nil && device != 0 {
		return KernelRoute{}, err
	}
	return out, nil
}

// routeTo requests one route (RTM_GETROUTE, rtnetlink(7)).
func (d *dumper) routeTo(addr netip.Addr, flags uint32, read func([]byte)) error {
	var to rtnl.Builder
	to.Route(&rtnl.Route{Family: rtnl.Family(addr), DstLen: uint8(addr.BitLen()), Flags: flags})
	to.AttrAddr(unix.RTA_DST, addr)
	if zone := addr.Zone(); zone != "" {
		index, err := d.index(zone)
		if err != nil {
			return err
		}
		to.AttrUint32(unix.RTA_OIF, uint32(index))
	}
	err := d.ask(unix.RTM_GETROUTE, unix.NLM_F_ACK, to.B, func(m rtnl.Message) { read(m.Body) })
	if err != nil {
		return fmt.Errorf("%w to %s: %w", ErrNoRoute, addr, err)
	}
	return nil
}

// read reads one RTM_NEWROUTE and returns the index of the device; of a multipath
// route that of its first member.
func (r *KernelRoute) read(b []byte) (device int32) {
	h, attrs, ok := rtnl.ParseRoute(b)
	if !ok {
		return 0
	}
	r.Protocol, r.Self = h.Protocol, h.Type == unix.RTN_LOCAL
	r.Type, r.Table = h.Type, h.Table
	var dst netip.Addr
	for kind, v := range attrs.All() {
		switch kind {
		case unix.RTA_TABLE:
			r.Table = rtnl.Uint32(v)
		case unix.RTA_PRIORITY:
			r.Metric = rtnl.Uint32(v)
		case unix.RTA_DST:
			dst = rtnl.Addr(v)
		case unix.RTA_OIF:
			device = rtnl.Index(v)
		case unix.RTA_GATEWAY:
			r.Via = rtnl.Addr(v)
		case unix.RTA_VIA:
			r.Via = rtnl.Via(v)
		case unix.RTA_PREFSRC:
			r.Src = rtnl.Addr(v)
		case unix.RTA_MULTIPATH:
			if hops := parseMultipath(v); len(hops) > 0 {
				device, r.Via = hops[0].device, hops[0].gateway
			}
		}
	}
	r.Dst = h.Destination(dst).Masked()
	return device
}

// Neighbour is an entry of a device's neighbour table (ip-neighbour(8)).
type Neighbour struct {
	Addr   netip.Addr
	MAC    net.HardwareAddr // nil: not known
	State  uint16           // NUD_*
	Router bool             // it advertises itself as a router (RFC 4861 section 4.4)
}

// Known reports whether the neighbour has answered: the kernel is not still
// resolving it, has not given up, and does resolve on that device.
func (n Neighbour) Known() bool {
	return n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE|unix.NUD_NOARP) == 0
}

// Neighbours returns a device's neighbours of both families, [ErrNoDevice] when
// no device has that name.
func Neighbours(dev string) ([]Neighbour, error) {
	d, err := openDumper()
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.close() }() // only asked with
	index, err := d.index(dev)
	if err != nil {
		return nil, err
	}
	var out []Neighbour
	all := question(func(b *rtnl.Builder) { b.Neighbour(rtnl.Neighbour{}) })
	err = d.dump(unix.RTM_GETNEIGH, all, func() { out = nil }, func(m rtnl.Message) {
		h, attrs, ok := rtnl.ParseNeighbour(m.Body)
		if !ok || h.Index != index || h.Family == unix.AF_BRIDGE {
			return
		}
		n := Neighbour{State: h.State, Router: h.Flags&unix.NTF_ROUTER != 0}
		for kind, v := range attrs.All() {
			switch kind {
			case unix.NDA_DST:
				n.Addr = rtnl.Addr(v)
			case unix.NDA_LLADDR:
				n.MAC = bytes.Clone(v)
			}
		}
		if n.Addr.IsValid() {
			out = append(out, n)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list neighbours on %s: %w", dev, err)
	}
	return out, nil
}

// Index returns the index of a device, [ErrNoDevice] when no device has that
// name.
func Index(dev string) (int, error) {
	d, err := openDumper()
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.close() }() // only asked with
	index, err := d.index(dev)
	return int(index), err
}

// index queries a device by its name.
func (d *dumper) index(dev string) (int32, error) {
	if len(dev) >= unix.IFNAMSIZ {
		return 0, fmt.Errorf("device %s: %w", dev, ErrNoDevice)
	}
	l, err := d.link(question(func(b *rtnl.Builder) {
		b.Link(rtnl.Link{})
		b.AttrString(unix.IFLA_IFNAME, dev)
	}))
	if err != nil {
		return 0, fmt.Errorf("device %s: %w", dev, err)
	}
	return l.index, nil
}

// name queries a device by its index.
func (d *dumper) name(index int32) (string, error) {
	l, err := d.link(question(func(b *rtnl.Builder) { b.Link(rtnl.Link{Index: index}) }))
	if err != nil {
		return "", fmt.Errorf("device %d: %w", index, err)
	}
	return l.name, nil
}

// link queries one device.
func (d *dumper) link(question []byte) (link, error) {
	var out link
	err := d.ask(unix.RTM_GETLINK, unix.NLM_F_ACK, question, func(m rtnl.Message) { out, _ = parseLink(m.Body) })
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoDevice
	}
	return out, err
}
