package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// ICMP message types of an echo (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// nextEchoID tells the raw sockets of one namespace apart: each of them sees
// every ICMP message there.
var nextEchoID atomic.Uint32

// Ping sends count echo requests from the namespace, one after the other, and
// returns the longest round trip. Each reply may take wait; a missing one is
// [ErrNoAnswer].
func (ns *NS) Ping(ctx context.Context, dst netip.Addr, count int, wait time.Duration) (time.Duration, error) {
	echo, err := ns.newEcho(dst)
	if err != nil {
		return 0, err
	}
	defer func() { _ = echo.conn.Close() }() // the answers are what counts
	var longest time.Duration
	for seq := range count {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		rtt, err := echo.once(uint16(seq), wait)
		if err != nil {
			return 0, fmt.Errorf("ping %s from %s: request %d of %d: %w", dst, ns.Name, seq+1, count, err)
		}
		longest = max(longest, rtt)
	}
	return longest, nil
}

// echo is one raw ICMP socket and its destination.
type echo struct {
	conn net.PacketConn
	dst  *net.IPAddr
	id   uint16
	is6  bool
}

// newEcho opens a raw socket inside the namespace.
func (ns *NS) newEcho(dst netip.Addr) (*echo, error) {
	e := &echo{
		dst: &net.IPAddr{IP: dst.AsSlice()},
		id:  uint16(nextEchoID.Add(1)), is6: dst.Is6(),
	}
	network, local := "ip4:icmp", "0.0.0.0"
	if e.is6 {
		network, local = "ip6:ipv6-icmp", "::"
	}
	err := ns.Do(func() (err error) {
		e.conn, err = net.ListenPacket(network, local)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket in %s: %w", ns.Name, err)
	}
	return e, nil
}

// once sends one request and waits for its reply.
func (e *echo) once(seq uint16, wait time.Duration) (time.Duration, error) {
	sent := time.Now()
	if _, err := e.conn.WriteTo(e.request(seq), e.dst); err != nil {
		return 0, err
	}
	if err := e.conn.SetReadDeadline(sent.Add(wait)); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := e.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, fmt.Errorf("%w in %s", ErrNoAnswer, wait)
		}
		if err != nil {
			return 0, err
		}
		if e.isReply(buf[:n], from, seq) {
			return time.Since(sent), nil
		}
	}
}

// request builds an echo request with 56 bytes of payload.
func (e *echo) request(seq uint16) []byte {
	b := make([]byte, 64)
	b[0] = echoRequest4
	if e.is6 {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	if !e.is6 { // the kernel computes the one of ICMPv6
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

func (e *echo) isReply(b []byte, from net.Addr, seq uint16) bool {
	want := byte(echoReply4)
	if e.is6 {
		want = echoReply6
	}
	ip, ok := from.(*net.IPAddr)
	return ok && ip.IP.Equal(e.dst.IP) && len(b) >= 8 && b[0] == want &&
		binary.BigEndian.Uint16(b[4:]) == e.id && binary.BigEndian.Uint16(b[6:]) == seq
}

// checksum is the Internet checksum (RFC 1071) of b.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
