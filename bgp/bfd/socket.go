package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// The UDP destination ports (RFC 5881 section 4, RFC 5883 section 5).
const (
	portSingle = 3784
	portMulti  = 4784
)

// The source ports of a session (RFC 5881 section 4).
const (
	firstSource = 49152
	numSources  = 65536 - firstSource
)

// classNetworkControl is the DSCP of routing protocols, CS6 (RFC 4594).
const classNetworkControl = 0xc0

// maxTTL is the TTL with which single-hop packets are sent and must arrive (RFC
// 5881 section 5).
const maxTTL = 255

// arrival is one datagram with its addresses and TTL.
type arrival struct {
	from, to netip.Addr // without zones
	zone     uint32     // interface of a link-local from
	ttl      int
	data     []byte
}

// listener receives on one port of one family.
type listener struct {
	fd       int
	v6       bool
	multihop bool
	buf      [128]byte
	oob      [128]byte
}

// listen opens the receiving socket of a family and a port.
func listen(v6, multihop bool) (*listener, error) {
	port := portSingle
	if multihop {
		port = portMulti
	}
	fd, err := open(v6)
	if err != nil {
		return nil, err
	}
	l := &listener{fd: fd, v6: v6, multihop: multihop}
	options := [][3]int{{unix.SOL_IP, unix.IP_RECVTTL, 1}, {unix.SOL_IP, unix.IP_PKTINFO, 1}}
	if v6 {
		options = [][3]int{{unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, {unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1}}
	}
	err = errors.Join(set(fd, options), unix.Bind(fd, sockaddr(netip.Addr{}, v6, port)))
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: UDP port %d: stop the other BFD program: %w", ErrPortBusy, port, err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for bfd: %w", err), unix.Close(fd))
	}
	return l, nil
}

// receive returns the next datagram; false when none is waiting. The data is
// valid until the next call.
func (l *listener) receive() (arrival, bool) {
	for {
		n, oobn, _, from, err := unix.Recvmsg(l.fd, l.buf[:], l.oob[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return arrival{}, false // nothing waits, or an ICMP error that no session can use
		}
		a := arrival{data: l.buf[:n]}
		a.from, a.zone = address(from)
		a.ttl, a.to = control(l.oob[:oobn])
		return a, true
	}
}

// control reads TTL and destination from the ancillary data (ip(7), ipv6(7)).
func control(oob []byte) (ttl int, to netip.Addr) {
	for len(oob) > 0 {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return ttl, to
		}
		switch {
		case hdr.Level == unix.SOL_IP && hdr.Type == unix.IP_TTL && len(data) >= 4,
			hdr.Level == unix.SOL_IPV6 && hdr.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			ttl = int(binary.NativeEndian.Uint32(data))
		case hdr.Level == unix.SOL_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= 12:
			to = netip.AddrFrom4([4]byte(data[8:12]))
		case hdr.Level == unix.SOL_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			to = netip.AddrFrom16([16]byte(data[:16]))
		}
		oob = rest
	}
	return ttl, to
}

// sender is a session's sending socket, with a source port of its own.
type sender struct {
	fd int
	to unix.Sockaddr
}

// dial opens the sending socket of s.
func dial(s Session) (*sender, error) {
	v6 := s.Peer.Is6()
	fd, err := open(v6)
	if err != nil {
		return nil, err
	}
	options := [][3]int{
		{unix.SOL_IP, unix.IP_TTL, maxTTL},
		{unix.SOL_IP, unix.IP_TOS, classNetworkControl},
		{unix.SOL_IP, unix.IP_FREEBIND, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, 0},
	}
	if v6 {
		options = [][3]int{
			{unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, maxTTL},
			{unix.SOL_IPV6, unix.IPV6_TCLASS, classNetworkControl},
			{unix.SOL_IPV6, unix.IPV6_FREEBIND, 1},
			{unix.SOL_SOCKET, unix.SO_RCVBUF, 0},
		}
	}
	err = errors.Join(set(fd, options), bindSource(fd, s.Local, v6))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open bfd session to %s: %w", s.Peer, err), unix.Close(fd))
	}
	port := portSingle
	if s.Multihop {
		port = portMulti
	}
	return &sender{fd: fd, to: sockaddr(s.Peer, v6, port)}, nil
}

// bindSource binds to a free source port, from a random one upwards.
func bindSource(fd int, local netip.Addr, v6 bool) error {
	start := rand.IntN(numSources) //nolint:gosec // spread, not secrecy
	for i := range numSources {
		err := unix.Bind(fd, sockaddr(local, v6, firstSource+(start+i)%numSources))
		if !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
	}
	return unix.EADDRINUSE
}

// send sends one packet. Its error counts as a lost packet: the detection time
// bounds how many may be lost.
func (s *sender) send(p packet) error {
	var b [packetLen]byte
	return unix.Sendto(s.fd, p.append(b[:0]), unix.MSG_DONTWAIT, s.to)
}

func open(v6 bool) (int, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil && v6 {
		if err = set(fd, [][3]int{{unix.SOL_IPV6, unix.IPV6_V6ONLY, 1}}); err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return -1, fmt.Errorf("open bfd socket: %w", err)
	}
	return fd, nil
}

func set(fd int, options [][3]int) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return fmt.Errorf("set socket option %d of level %d: %w", o[1], o[0], err)
		}
	}
	return nil
}

// sockaddr is the kernel's form of an address; the zero Addr is the wildcard.
func sockaddr(a netip.Addr, v6 bool, port int) unix.Sockaddr {
	if !v6 {
		sa := &unix.SockaddrInet4{Port: port}
		if a.IsValid() {
			sa.Addr = a.As4()
		}
		return sa
	}
	sa := &unix.SockaddrInet6{Port: port}
	if a.IsValid() {
		sa.Addr, sa.ZoneId = a.As16(), zone(a.Zone())
	}
	return sa
}

// zone returns the index of an interface; 0, with which no packet can be sent,
// when there is none of this name now.
func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return uint32(ifi.Index) //nolint:gosec // the kernel's indexes are positive ints
}

// address returns a sender's address, and the interface of a link-local one.
func address(sa unix.Sockaddr) (netip.Addr, uint32) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr), 0
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr), sa.ZoneId
	}
	return netip.Addr{}, 0
}

// wake is an eventfd(2) that ends the wait of the monitor's thread.
type wake int

func newWake() (wake, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("open eventfd: %w", err)
	}
	return wake(fd), nil
}

// ring wakes the waiting thread. When the counter is full it has rung already.
func (w wake) ring() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = syscall.Write(int(w), one)
}

func (w wake) clear() {
	var b [8]byte
	_, _ = syscall.Read(int(w), b[:])
}
