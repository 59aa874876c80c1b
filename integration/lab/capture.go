package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is what a [Capture] keeps of one kind of IP packet.
type Packet struct {
	Proto    uint8 // IP protocol number; 4 is IPv4 in IP (RFC 2003)
	Src, Dst netip.Addr
	// The packet inside, for protocols 4 and 41 and VXLAN; else not valid.
	InnerSrc, InnerDst netip.Addr
}

// Capture counts the IP packets that a device sends and receives.
type Capture struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{} // closed by read at its end

	mu    sync.Mutex // guards count
	count map[Packet]int
}

// StartCapture listens on a device of the namespace.
func StartCapture(ns *NS, dev string) (*Capture, error) {
	link, err := ns.Link.LinkByName(dev)
	if err != nil {
		return nil, fmt.Errorf("find %s in %s: %w", dev, ns.Name, err)
	}
	fd := -1
	err = ns.Do(func() (err error) {
		fd, err = openPacketSocket(link.Attrs().Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s in %s: %w", dev, ns.Name, err)
	}
	c := &Capture{file: os.NewFile(uintptr(fd), "capture "+dev), done: make(chan struct{}), count: map[Packet]int{}}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		c.file.Close()
		return nil, fmt.Errorf("capture on %s in %s: %w", dev, ns.Name, err)
	}
	go c.read()
	return c, nil
}

// openPacketSocket opens packet(7) without link-layer header on one device.
func openPacketSocket(index int) (int, error) {
	all := int(htons(unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	// 64 MiB: nothing may be dropped, the proof is in what was not seen.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set up packet socket: %w", err)
	}
	return fd, nil
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// read counts packets until the socket has nothing left after Stop.
func (c *Capture) read() {
	defer close(c.done)
	buf := make([]byte, 128)
	for {
		n, err := c.file.Read(buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if p, ok := parsePacket(buf[:n]); ok {
			c.mu.Lock()
			c.count[p]++
			c.mu.Unlock()
		}
	}
}

// parsePacket reads the addresses of an IP packet and of the one inside.
func parsePacket(b []byte) (Packet, bool) {
	p, body, ok := parseIP(b)
	if !ok {
		return p, false
	}
	if p.Proto == unix.IPPROTO_UDP {
		body = vxlanBody(body)
	} else if p.Proto != unix.IPPROTO_IPIP && p.Proto != unix.IPPROTO_IPV6 {
		body = nil
	}
	if inner, _, ok := parseIP(body); ok {
		p.InnerSrc, p.InnerDst = inner.Src, inner.Dst
	}
	return p, true
}

// VXLANPort is the UDP port by which VXLAN packets are known (RFC 7348).
const VXLANPort = 4789

// vxlanBody returns the IP packet inside a UDP datagram to the VXLAN port: it
// is behind the UDP, VXLAN and Ethernet headers.
func vxlanBody(udp []byte) []byte {
	const headers = 8 + 8 + 14
	if len(udp) < headers || binary.BigEndian.Uint16(udp[2:]) != VXLANPort {
		return nil
	}
	return udp[headers:]
}

// parseIP reads one header; body is what follows it.
func parseIP(b []byte) (p Packet, body []byte, ok bool) {
	if len(b) == 0 {
		return p, nil, false
	}
	switch b[0] >> 4 {
	case 4:
		header := int(b[0]&15) * 4
		if header < 20 || len(b) < header {
			return p, nil, false
		}
		p.Proto = b[9]
		p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		return p, b[header:], true
	case 6:
		if len(b) < 40 {
			return p, nil, false
		}
		p.Proto = b[6]
		p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		return p, b[40:], true
	}
	return p, nil, false
}

// Count returns how many packets match so far.
func (c *Capture) Count(match func(Packet) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for p, n := range c.count {
		if match(p) {
			total += n
		}
	}
	return total
}

// Stop reads what is still queued and ends the capture. It is an error when
// the kernel dropped packets: counts would prove nothing.
func (c *Capture) Stop() error {
	// A deadline in the past wakes the reader only after the queue is empty:
	// an expired deadline is checked before a read, so drain here afterwards.
	if err := c.file.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return fmt.Errorf("stop capture: %w", err)
	}
	<-c.done
	drops := uint32(0)
	var drainErr error
	err := c.raw.Control(func(fd uintptr) {
		drainErr = c.drain(int(fd))
		st, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			drops = st.Drops
		}
		drainErr = errors.Join(drainErr, err)
	})
	if err := errors.Join(err, drainErr, c.file.Close()); err != nil {
		return fmt.Errorf("stop capture: %w", err)
	}
	if drops > 0 {
		return fmt.Errorf("capture: the kernel dropped %d packets", drops)
	}
	return nil
}

// drain counts what is queued in the socket.
func (c *Capture) drain(fd int) error {
	buf := make([]byte, 128)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		if p, ok := parsePacket(buf[:n]); ok {
			c.mu.Lock()
			c.count[p]++
			c.mu.Unlock()
		}
	}
}
