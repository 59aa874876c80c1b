package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// errNoAddress is returned when the node has no address that peers could use
// as a next hop; the address may appear later (DHCP), so it is worth a retry
// by the service manager.
var errNoAddress = errors.New("no usable address")

// identity is who this node is to its peers.
type identity struct {
	Name     string
	Address  netip.Addr // IPv4 next hop of this node's blocks and outer source of its tunnels; may be zero on an IPv6-only node
	Address6 netip.Addr // the same for IPv6; may be zero
	RouterID netip.Addr // RFC 6286: any 4-byte value, unique in the AS
}

// primary returns the address shown to operators.
func (id identity) primary() netip.Addr {
	if id.Address.IsValid() {
		return id.Address
	}
	return id.Address6
}

// reaches reports whether the node has an address that can be the next hop of
// a prefix.
func (id identity) reaches(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return id.Address.IsValid()
	}
	return id.Address6.IsValid()
}

// identify finds the node's addresses as `node.address` asks: auto (the
// source address of the default route, else the first global address), an
// address, a device, or a CIDR to pick from. The other family's address is
// that of the same device.
func identify(name string, want config.NodeAddress, routerID netip.Addr, watch *underlay.Watcher) (identity, error) {
	id := identity{Name: name, RouterID: routerID}
	addrs := globalAddrs(watch.Addresses())
	if want.Interface != "" {
		if _, err := underlay.Index(want.Interface); err != nil {
			return id, fmt.Errorf("node.address: %w; name a device, an address or a CIDR of this node", err)
		}
	}
	if want.Auto() {
		id.Address, id.Address6 = sourceOf(unix.AF_INET), sourceOf(unix.AF_INET6)
	}
	for _, a := range addrs {
		if !wanted(want, a) {
			continue
		}
		switch {
		case a.addr.Is4() && !id.Address.IsValid():
			id.Address = a.addr
		case a.addr.Is6() && !id.Address6.IsValid():
			id.Address6 = a.addr
		}
	}
	id.complete(addrs)
	if !id.primary().IsValid() {
		return id, fmt.Errorf("node.address: %w matches %q; set an address, a device or a CIDR of this node", errNoAddress, want)
	}
	if !id.RouterID.IsValid() {
		id.RouterID = defaultRouterID(id)
	}
	return id, nil
}

// complete finds the address of the other family beside the one that was
// asked for: on the same device.
func (id *identity) complete(addrs []nodeAddr) {
	at := slices.IndexFunc(addrs, func(a nodeAddr) bool { return a.addr == id.primary() })
	if at < 0 {
		return
	}
	for _, a := range addrs {
		switch {
		case a.dev != addrs[at].dev:
		case a.addr.Is4() && !id.Address.IsValid():
			id.Address = a.addr
		case a.addr.Is6() && !id.Address6.IsValid():
			id.Address6 = a.addr
		}
	}
}

// nodeAddr is one address and the device that has it.
type nodeAddr struct {
	addr netip.Addr
	dev  string
}

// globalAddrs picks the addresses that a node may use.
func globalAddrs(all []underlay.Address) []nodeAddr {
	var out []nodeAddr
	for _, a := range all {
		if a.Global && !a.Pending && !a.Addr.IsLoopback() {
			out = append(out, nodeAddr{a.Addr, a.Dev})
		}
	}
	return out
}

// wanted reports whether a is one of the addresses that the configuration
// allows.
func wanted(want config.NodeAddress, a nodeAddr) bool {
	switch {
	case want.Addr.IsValid():
		return a.addr == want.Addr
	case want.Prefix.IsValid():
		return want.Prefix.Contains(a.addr)
	case want.Interface != "":
		return a.dev == want.Interface
	}
	return true
}

// sourceOf returns the source address that the kernel picks towards the
// default route of a family, or the zero Addr.
func sourceOf(family int) netip.Addr {
	dst := netip.MustParseAddr("192.0.2.1") // TEST-NET-1 and the documentation prefix: only the default route covers them
	if family == unix.AF_INET6 {
		dst = netip.MustParseAddr("2001:db8::1")
	}
	route, err := underlay.Source(dst)
	if err != nil || route.Src.IsLoopback() || route.Src.IsLinkLocalUnicast() {
		return netip.Addr{}
	}
	return route.Src
}

// defaultRouterID is the IPv4 address, or on an IPv6-only node a hash of its
// name: the BGP identifier must be unique in the AS (RFC 6286 section 2.1).
func defaultRouterID(id identity) netip.Addr {
	if id.Address.IsValid() {
		return id.Address
	}
	h := fnv.New32a()
	h.Write([]byte(id.Name))
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], h.Sum32()|1)
	return netip.AddrFrom4(b)
}
