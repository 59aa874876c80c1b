package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The message types that count (RFC 792, RFC 4443).
const (
	echoReply4, unreachable4, echo4, exceeded4 = 0, 3, 8, 11

	unreachable6, tooBig6, exceeded6, echo6, echoReply6 = 1, 2, 3, 128, 129

	fragmentationNeeded = 4 // code of unreachable4
)

const (
	head4, head6 = 20, 40 // bytes of an IP header without options
	headICMP     = 8
	nonceSize    = 16
	smallest     = headICMP + nonceSize
)

// echoing is an echo under way.
type echoing struct {
	Echo

	socket *socket
	id     uint16
	nonce  [nonceSize]byte
	index  int // of the output device; 0: the routes decide
	sentAt []time.Time
}

// Echo sends an ICMP echo request and returns what answers it. Size applies to
// the request; the answer is as large.
func (p *Prober) Echo(ctx context.Context, e Echo) Outcome {
	x, err := newEcho(e)
	if err != nil {
		return unsent(err)
	}
	if err := x.open(); err != nil {
		return unsent(err)
	}
	defer x.socket.close()
	w := watch(e.Watch, x.From, x.To, x.nonce[:])
	defer w.close()
	out := p.rounds(ctx, x.send, x.receive)
	w.look()
	out.Seen = w.seen
	return out
}

// newEcho returns an echo that is not sent yet.
func newEcho(e Echo) (*echoing, error) {
	e.To, e.From = e.To.Unmap(), e.From.Unmap()
	x := &echoing{Echo: e}
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	x.id = binary.BigEndian.Uint16(id[:])
	_, err := rand.Read(x.nonce[:])
	return x, err
}

// open opens the raw socket.
func (x *echoing) open() (err error) {
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if x.To.Is6() {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	x.socket, err = open(x.Netns, domain, unix.SOCK_RAW, protocol, func(fd int) error {
		if x.Device != "" {
			link, err := net.InterfaceByName(x.Device)
			if err != nil {
				return fmt.Errorf("device %s: %w", x.Device, unix.ENODEV)
			}
			x.index = link.Index
		}
		if x.Size > 0 {
			if err := x.dontFragment(fd); err != nil {
				return err
			}
		}
		if !x.From.IsValid() {
			return nil
		}
		return unix.Bind(fd, sockaddr(x.From, x.index))
	})
	return err
}

// dontFragment makes the kernel send packets up to the MTU of the device whole,
// without regard to a path MTU that it has learned.
func (x *echoing) dontFragment(fd int) error {
	if x.To.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1),
	)
}

// message is request n, without its IP header.
func (x *echoing) message(n int) []byte {
	size := smallest
	if x.Size > 0 {
		head := head4
		if x.To.Is6() {
			head = head6
		}
		size = max(size, x.Size-head)
	}
	m := make([]byte, size)
	m[0] = echo4
	if x.To.Is6() {
		m[0] = echo6
	}
	binary.BigEndian.PutUint16(m[4:], x.id)
	binary.BigEndian.PutUint16(m[6:], uint16(n)) //nolint:gosec // a few
	copy(m[headICMP:], x.nonce[:])
	if x.To.Is4() { // of IPv6 it needs the addresses: the kernel makes it
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	return m
}

// send sends request n.
func (x *echoing) send(n int) (Outcome, bool) {
	x.sentAt = append(x.sentAt, time.Now())
	if err := unix.Sendmsg(x.socket.fd, x.message(n), x.control(), sockaddr(x.To, x.index), 0); err != nil {
		return unsent(err), true
	}
	return Outcome{}, false
}

// control names the output device of one packet. Unlike SO_BINDTODEVICE it lets
// the answer come through another one.
func (x *echoing) control() []byte {
	switch {
	case x.index == 0:
		return nil
	case x.To.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(x.index)}) //nolint:gosec // an index of the kernel's
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(x.index)}) //nolint:gosec // an index of the kernel's
}

// receive waits for one packet and returns the outcome that it means.
func (x *echoing) receive() (Outcome, bool) {
	b, from, ok := x.socket.read()
	if !ok {
		return Outcome{}, false
	}
	by := sender(from)
	if x.To.Is4() { // with the IP header
		if len(b) < head4 || int(b[0]&15)*4 > len(b) {
			return Outcome{}, false
		}
		b = b[int(b[0]&15)*4:]
	}
	if len(b) < headICMP {
		return Outcome{}, false
	}
	if x.To.Is4() {
		return x.judge4(b, by)
	}
	return x.judge6(b, by)
}

func (x *echoing) judge4(b []byte, by netip.Addr) (Outcome, bool) {
	switch b[0] {
	case echoReply4:
		return x.reply(b)
	case unreachable4, exceeded4:
		if !x.quoted(b[headICMP:]) {
			return Outcome{}, false
		}
		if b[0] == unreachable4 && b[1] == fragmentationNeeded {
			return tooBig(by, int(binary.BigEndian.Uint16(b[6:]))), true
		}
		return rejected(by, b[0] == exceeded4, words4[b[1]], b[1]), true
	}
	return Outcome{}, false
}

func (x *echoing) judge6(b []byte, by netip.Addr) (Outcome, bool) {
	switch b[0] {
	case echoReply6:
		return x.reply(b)
	case unreachable6, tooBig6, exceeded6:
		if !x.quoted(b[headICMP:]) {
			return Outcome{}, false
		}
		if b[0] == tooBig6 {
			return tooBig(by, int(binary.BigEndian.Uint32(b[4:]))), true
		}
		return rejected(by, b[0] == exceeded6, words6[b[1]], b[1]), true
	}
	return Outcome{}, false
}

// reply judges an echo reply: one of ours has our id and nonce.
func (x *echoing) reply(b []byte) (Outcome, bool) {
	n := int(binary.BigEndian.Uint16(b[6:]))
	if binary.BigEndian.Uint16(b[4:]) != x.id || !bytes.HasPrefix(b[headICMP:], x.nonce[:]) || n >= len(x.sentAt) {
		return Outcome{}, false
	}
	rtt := time.Since(x.sentAt[n])
	return Outcome{Kind: Answered, RTT: rtt, Detail: fmt.Sprintf("answers within %v", rtt.Round(10*time.Microsecond))}, true
}

// quoted reports whether an ICMP error quotes a request of ours: it has at least
// the first 8 bytes of it.
func (x *echoing) quoted(b []byte) bool {
	if x.To.Is6() {
		return len(b) >= head6+headICMP && b[head6] == echo6 && binary.BigEndian.Uint16(b[head6+4:]) == x.id &&
			bytes.Equal(b[24:40], x.To.AsSlice())
	}
	if len(b) < head4 {
		return false
	}
	head := int(b[0]&15) * 4
	return len(b) >= head+headICMP && b[head] == echo4 && binary.BigEndian.Uint16(b[head+4:]) == x.id
}

func tooBig(by netip.Addr, mtu int) Outcome {
	return Outcome{Kind: TooBig, By: by, MTU: mtu, Detail: fmt.Sprintf("%s answers that the packet is too big, its MTU is %d", by, mtu)}
}

func rejected(by netip.Addr, exceeded bool, words string, code byte) Outcome {
	switch {
	case exceeded:
		words = "the packet's hop limit is exceeded: a loop"
	case words == "":
		words = fmt.Sprintf("unreachable, code %d", code)
	}
	return Outcome{Kind: Rejected, By: by, Detail: fmt.Sprintf("%s answers: %s", by, words)}
}

// The codes of "destination unreachable" (RFC 1812 section 5.2.7.1, RFC 4443
// section 3.1).
var (
	words4 = map[byte]string{
		0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
		9: "network administratively prohibited", 10: "host administratively prohibited", 13: "communication administratively prohibited",
	}
	words6 = map[byte]string{
		0: "no route to destination", 1: "communication administratively prohibited", 2: "beyond scope of source address",
		3: "address unreachable", 4: "port unreachable", 5: "source address failed policy", 6: "reject route to destination",
	}
)

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum) //nolint:gosec // folded
}
