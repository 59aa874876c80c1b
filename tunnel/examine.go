package tunnel

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
)

// State is how a device, and its entries for one far node, differ from the desired
// ones: one line a difference.
type State struct {
	Device, Entries []string
}

// String renders the device with its local address.
func (d Desired) String() string {
	return strings.Replace(d.Format(), d.Kind.String(), fmt.Sprintf("%s, local %s", d.Kind, d.Local), 1)
}

// Format renders the form of the tunnel's packets, which both ends must agree on.
func (d Desired) Format() string {
	if d.Kind == VXLAN {
		return fmt.Sprintf("%s, VNI %d, UDP port %d", d.Kind, d.VNI, d.Port)
	}
	return d.Kind.String()
}

// Protocol returns the IP protocol of the tunnel's packets that carry packets of a
// family, and their UDP port; 0: they have none.
func (d Desired) Protocol(v6 bool) (protocol uint8, port uint16) {
	switch {
	case d.Kind == VXLAN:
		return unix.IPPROTO_UDP, d.Port
	case v6:
		return unix.IPPROTO_IPV6, 0
	}
	return unix.IPPROTO_IPIP, 0
}

// Examine compares the kernel with the desired device, and with the entries that it
// needs for a far node. It reads alone, with a socket of its own, so any goroutine
// may call it beside an [Ensurer].
func Examine(d Desired, node netip.Addr) (State, error) {
	e := Ensurer{}
	if err := e.open(); err != nil {
		return State{}, err
	}
	defer e.Close()
	var s State
	l, err := e.find(d.Name)
	if err != nil {
		return s, err
	}
	if l == nil {
		s.Device = []string{"there is no such device"}
		return s, nil
	}
	at := l.Attrs()
	for _, one := range []struct {
		wrong bool
		text  string
	}{
		{l.Type() != d.Kind.String(), fmt.Sprintf("it is of kind %s, want %s", l.Type(), d.Kind)},
		{at.Alias != ours.TunnelAlias, "it is not onlink's (its alias is " + quoted(at.Alias) + ")"},
		{at.Flags&net.FlagUp == 0, "it is down"},
		{d.mtu() > 0 && at.MTU != d.mtu(), fmt.Sprintf("its MTU is %d, want %d", at.MTU, d.mtu())},
	} {
		if one.wrong {
			s.Device = append(s.Device, one.text)
		}
	}
	if what := d.differs(l); what != "" && l.Type() == d.Kind.String() {
		s.Device = append(s.Device, fmt.Sprintf("its %s differs (%s), want %s", what, actual(l), d))
	}
	addrs, err := dump.Addrs(e.handle, l, netlink.FAMILY_V4)
	if err != nil {
		return s, err
	}
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return toAddr(a.IP) == inner }) {
		s.Device = append(s.Device, fmt.Sprintf("it lacks the address %s", inner))
	}
	if d.Kind == VXLAN && node.IsValid() {
		s.Entries, err = e.examineEntries(at.Index, node)
	}
	return s, err
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// actual renders the properties that a device of the kernel has.
func actual(l netlink.Link) string {
	switch l := l.(type) {
	case *netlink.Vxlan:
		return fmt.Sprintf("local %s, VNI %d, UDP port %d", l.SrcAddr, l.VxlanId, l.Port)
	case *netlink.Iptun:
		return fmt.Sprintf("local %s, remote %s", l.Local, l.Remote)
	case *netlink.Ip6tnl:
		return fmt.Sprintf("local %s, remote %s", l.Local, l.Remote)
	}
	return l.Type()
}

// examineEntries compares the entries of a VXLAN device for one node.
func (e *Ensurer) examineEntries(index int, node netip.Addr) ([]string, error) {
	neigh, fdb := entries(index, node)
	var out []string
	neighs, err := e.listEntries(index, neigh.Family)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(neighs, func(n netlink.Neigh) bool { return toAddr(n.IP) == node })
	switch {
	case i < 0:
		out = append(out, fmt.Sprintf("the neighbour entry of %s is missing", node))
	case !bytes.Equal(neighs[i].HardwareAddr, neigh.HardwareAddr):
		out = append(out, fmt.Sprintf("the neighbour entry of %s has the MAC address %s, want %s", node, neighs[i].HardwareAddr, neigh.HardwareAddr))
	case neighs[i].State&unix.NUD_PERMANENT == 0:
		out = append(out, fmt.Sprintf("the neighbour entry of %s is not permanent", node))
	}
	all, err := e.listEntries(index, unix.AF_BRIDGE)
	if err != nil {
		return nil, err
	}
	var far []string
	for _, n := range all {
		if bytes.Equal(n.HardwareAddr, fdb.HardwareAddr) {
			far = append(far, toAddr(n.IP).String())
		}
	}
	if len(far) != 1 || far[0] != node.String() {
		to := "nowhere (no entry)"
		if len(far) > 0 {
			to = strings.Join(far, " and ")
		}
		out = append(out, fmt.Sprintf("the forwarding entry (FDB) of %s leads to %s, want %s", fdb.HardwareAddr, to, node))
	}
	return out, nil
}
