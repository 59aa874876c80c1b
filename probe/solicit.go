package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoSolicit is returned for a device on which addresses are not resolved: the
// loopback device, a tunnel, one that is down.
var ErrNoSolicit = errors.New("no neighbours are resolved on this device")

// together is how long a solicitation waits for a second machine after the first
// answer.
const together = 150 * time.Millisecond

// Solicit asks on a device who has an address, by ARP or neighbour solicitation,
// and returns the MAC addresses that answer; none: no machine does. from is an
// address of this node on the device.
func (p *Prober) Solicit(ctx context.Context, dev string, from, addr netip.Addr) ([]net.HardwareAddr, error) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, fmt.Errorf("solicit on %s: %w", dev, err)
	}
	if len(link.HardwareAddr) != 6 || link.Flags&net.FlagUp == 0 || link.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
		return nil, fmt.Errorf("solicit on %s: %w", dev, ErrNoSolicit)
	}
	q := solicitation{link: link, from: from.WithZone(""), addr: addr.WithZone("")}
	open, send, answer := q.openARP, q.sendARP, q.answerARP
	if addr.Is6() {
		open, send, answer = q.openND, q.sendND, q.answerND
	}
	if q.socket, err = open(); err != nil {
		return nil, fmt.Errorf("solicit on %s: %w", dev, err)
	}
	defer q.socket.close()
	var found []net.HardwareAddr
	var first time.Time
	out := p.rounds(ctx,
		func(int) (Outcome, bool) {
			if err := send(q.socket); err != nil {
				return unsent(err), true
			}
			return Outcome{}, false
		},
		func() (Outcome, bool) {
			if mac := answer(q.socket); mac != nil && !slices.ContainsFunc(found, func(m net.HardwareAddr) bool { return bytes.Equal(m, mac) }) {
				if found = append(found, mac); first.IsZero() {
					first = time.Now()
				}
			}
			return Outcome{Kind: Answered}, !first.IsZero() && time.Since(first) > together
		})
	if len(found) == 0 && (out.Kind == Unsent || out.Kind == Skipped) {
		return nil, fmt.Errorf("solicit on %s: %s: %w", dev, out.Detail, ErrNoSolicit)
	}
	return found, nil
}

// solicitation is a question on one device.
type solicitation struct {
	link       *net.Interface
	from, addr netip.Addr
	socket     *socket
}

// openARP opens a packet socket for ARP (packet(7)).
func (q *solicitation) openARP() (*socket, error) {
	protocol := swapped(unix.ETH_P_ARP)
	return open("", unix.AF_PACKET, unix.SOCK_DGRAM, int(protocol), func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: q.link.Index})
	})
}

// swapped is a number in network byte order.
func swapped(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

const (
	sizeofARP            = 28 // of an Ethernet and IPv4 one
	arpRequest, arpReply = 1, 2
)

// sendARP sends a request to all machines on the link.
func (q *solicitation) sendARP(s *socket) error {
	b := make([]byte, 0, sizeofARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, arpRequest)
	b = append(b, q.link.HardwareAddr...)
	sender := netip.IPv4Unspecified() // an ARP probe (RFC 5227), when no address is there
	if q.from.Is4() {
		sender = q.from
	}
	b = append(b, sender.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, q.addr.AsSlice()...)
	all := unix.SockaddrLinklayer{Protocol: swapped(unix.ETH_P_ARP), Ifindex: q.link.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	return unix.Sendto(s.fd, b, 0, &all)
}

// answerARP returns the MAC address of the next answer, nil for none.
func (q *solicitation) answerARP(s *socket) net.HardwareAddr {
	b, _, ok := s.read()
	if !ok || len(b) < sizeofARP || binary.BigEndian.Uint16(b[6:]) != arpReply || !bytes.Equal(b[14:18], q.addr.AsSlice()) {
		return nil
	}
	return bytes.Clone(b[8:14])
}

const (
	solicit6, advertise6 = 135, 136
	sourceMAC, targetMAC = 1, 2 // options of RFC 4861 section 4.6.1
	sizeofND             = 24   // without options
)

// openND opens a raw socket for ICMPv6.
func (q *solicitation) openND() (*socket, error) {
	return open("", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, func(fd int) error {
		var filter unix.ICMPv6Filter
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		filter.Data[advertise6>>5] &^= 1 << (advertise6 & 31)
		err := errors.Join(
			unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255), // RFC 4861 section 7.1.1
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, q.link.Index),
		)
		if err == nil && q.from.Is6() {
			err = unix.Bind(fd, sockaddr(q.from, q.link.Index))
		}
		return err
	})
}

// sendND sends a solicitation to the address's solicited-node group.
func (q *solicitation) sendND(s *socket) error {
	m := make([]byte, sizeofND, sizeofND+8)
	m[0] = solicit6
	copy(m[8:], q.addr.AsSlice())
	m = append(m, sourceMAC, 1)
	m = append(m, q.link.HardwareAddr...)
	to := q.addr.As16()
	group := [16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: to[13], 14: to[14], 15: to[15]}
	return unix.Sendto(s.fd, m, 0, sockaddr(netip.AddrFrom16(group), q.link.Index))
}

// answerND returns the MAC address of the next answer, nil for none.
func (q *solicitation) answerND(s *socket) net.HardwareAddr {
	b, from, ok := s.read()
	if !ok || len(b) < sizeofND || b[0] != advertise6 || !bytes.Equal(b[8:24], q.addr.AsSlice()) {
		return nil
	}
	if sa, is6 := from.(*unix.SockaddrInet6); is6 && sa.ZoneId != 0 && int(sa.ZoneId) != q.link.Index {
		return nil // of another link
	}
	for o := b[sizeofND:]; len(o) >= 8; {
		size := int(o[1]) * 8
		if o[0] == targetMAC && size == 8 {
			return bytes.Clone(o[2:8])
		}
		if size == 0 || size > len(o) {
			break
		}
		o = o[size:]
	}
	return nil
}
