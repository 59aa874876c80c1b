package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// Wire sends an echo request past this node's routes, chains and translation, out
// of one device to the next hop's MAC address, and waits for the answer on that
// device: it shows whether the wire carries packets with a given source address.
// The answer is for whom From belongs to.
func (p *Prober) Wire(ctx context.Context, dev string, mac net.HardwareAddr, e Echo) Outcome {
	link, err := net.InterfaceByName(dev)
	if err != nil || len(mac) != 6 {
		return Outcome{Kind: Skipped, Detail: dev + " cannot be probed"}
	}
	x, err := newEcho(e)
	if err != nil {
		return unsent(err)
	}
	w := watch([]string{dev}, e.From, e.To, x.nonce[:])
	defer w.close()
	if !w.seen.Watched {
		return Outcome{Kind: Skipped, Detail: dev + " cannot be watched"}
	}
	protocol := swapped(unix.ETH_P_IP)
	if x.To.Is6() {
		protocol = swapped(unix.ETH_P_IPV6)
	}
	to := unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index, Halen: 6}
	copy(to.Addr[:], mac)
	return p.rounds(ctx,
		func(n int) (Outcome, bool) {
			if err := unix.Sendto(w.sockets[0].fd, x.packet(n), 0, &to); err != nil {
				return unsent(err), true
			}
			return Outcome{}, false
		},
		func() (Outcome, bool) {
			poll := []unix.PollFd{{Fd: int32(w.sockets[0].fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
			_, _ = unix.Poll(poll, int(turn.Milliseconds()))
			w.look()
			return Outcome{Kind: Answered, Detail: "answers on the wire"}, w.seen.Returned
		})
}

// packet is request n with its IP header.
func (x *echoing) packet(n int) []byte {
	m := x.message(n)
	if x.To.Is4() {
		h := make([]byte, head4, head4+len(m))
		h[0], h[8], h[9] = 0x45, 64, unix.IPPROTO_ICMP
		binary.BigEndian.PutUint16(h[2:], uint16(head4+len(m))) //nolint:gosec // a small packet
		copy(h[12:], x.From.AsSlice())
		copy(h[16:], x.To.AsSlice())
		binary.BigEndian.PutUint16(h[10:], checksum(h))
		return append(h, m...)
	}
	h := make([]byte, head6, head6+len(m))
	h[0], h[6], h[7] = 0x60, unix.IPPROTO_ICMPV6, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(m))) //nolint:gosec // a small packet
	copy(h[8:], x.From.AsSlice())
	copy(h[24:], x.To.AsSlice())
	pseudo := append(bytes.Clone(h[8:40]), 0, 0, byte(len(m)>>8), byte(len(m)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(m[2:], checksum(append(pseudo, m...)))
	return append(h, m...)
}
