package probe

import (
	"bytes"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// watcher sees the packets of one probe on devices of the calling thread's
// namespace, before any chain of an arriving one, and behind all chains of a
// leaving one (packet(7)).
type watcher struct {
	sockets []*socket
	nonce   []byte
	from    netip.Addr
	to      netip.Addr
	seen    Seen
}

// Seen is what became of a probe on the watched devices.
type Seen struct {
	Watched bool // at least one device was watched
	// Left is the source address with which a request left through one of them;
	// the zero Addr: none did.
	Left     netip.Addr
	Returned bool // an answer came in through one of them
}

// watch opens a watcher; a device that cannot be watched is left out.
func watch(devices []string, from, to netip.Addr, nonce []byte) *watcher {
	w := &watcher{nonce: nonce, from: from, to: to}
	for _, dev := range devices {
		link, err := net.InterfaceByName(dev)
		if err != nil {
			continue
		}
		s, err := openPackets(link.Index)
		if err != nil {
			continue
		}
		w.sockets = append(w.sockets, s)
	}
	w.seen.Watched = len(w.sockets) > 0
	return w
}

// openPackets opens a socket for the ICMP packets of a device, without their
// Ethernet header.
func openPackets(index int) (*socket, error) {
	// Bound last: a packet socket receives from the moment of its protocol on, and
	// must have its filter by then.
	return open("", unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0, func(fd int) error {
		const (
			load = unix.BPF_LD | unix.BPF_ABS | unix.BPF_B
			rsh  = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
			jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
			ret  = unix.BPF_RET | unix.BPF_K
			most = 1 << 16
		)
		code := []unix.SockFilter{
			{Code: load, K: 0},
			{Code: rsh, K: 4},
			{Code: jeq, K: 4, Jf: 2},
			{Code: load, K: 9}, // protocol of IPv4
			{Code: jeq, K: unix.IPPROTO_ICMP, Jt: 3, Jf: 4},
			{Code: jeq, K: 6, Jf: 3},
			{Code: load, K: 6}, // next header of IPv6
			{Code: jeq, K: unix.IPPROTO_ICMPV6, Jf: 1},
			{Code: ret, K: most},
			{Code: ret, K: 0},
		}
		prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]} //nolint:gosec // ten
		return errors.Join(
			unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swapped(unix.ETH_P_ALL), Ifindex: index}),
		)
	})
}

func (w *watcher) close() {
	for _, s := range w.sockets {
		s.close()
	}
}

// look reads what the devices have seen so far.
func (w *watcher) look() {
	for _, s := range w.sockets {
		for {
			b, from, ok := s.read()
			if !ok {
				break
			}
			link, _ := from.(*unix.SockaddrLinklayer)
			if src, dst, request, mine := w.parse(b); mine {
				w.note(src, dst, request, link != nil && link.Pkttype == unix.PACKET_OUTGOING)
			}
		}
	}
}

func (w *watcher) note(src, dst netip.Addr, request, leaving bool) {
	switch {
	case request && leaving && dst == w.to:
		w.seen.Left = src
	case !request && !leaving && src == w.to:
		w.seen.Returned = true
	}
}

// parse reads an echo of ours.
func (w *watcher) parse(b []byte) (src, dst netip.Addr, request, mine bool) {
	if len(b) == 0 {
		return src, dst, false, false
	}
	head := head6
	if v4 := b[0]>>4 == 4; v4 {
		head = int(b[0]&15) * 4
	}
	if len(b) < head+headICMP+nonceSize || !bytes.Equal(b[head+headICMP:][:nonceSize], w.nonce) {
		return src, dst, false, false
	}
	if b[0]>>4 == 4 {
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		return src, dst, b[head] == echo4, b[head] == echo4 || b[head] == echoReply4
	}
	src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	return src, dst, b[head] == echo6, b[head] == echo6 || b[head] == echoReply6
}
