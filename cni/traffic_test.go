package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onlink/nft"
)

// echo answers every datagram on addr's port 7 until the test ends.
func (s *space) echo(t *testing.T, addr string) {
	t.Helper()
	s.do(t, func() error {
		conn, err := net.ListenPacket("udp", net.JoinHostPort(addr, "7"))
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			buf := make([]byte, 2000)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo(buf[:n], from)
			}
		}()
		return nil
	})
}

// ping sends a datagram of size bytes to addr's echo and waits for it.
func (s *space) ping(t *testing.T, addr string, size int) {
	t.Helper()
	s.do(t, func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(addr, "7"))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
			return err
		}
		if _, err := conn.Write(make([]byte, size)); err != nil {
			return err
		}
		buf := make([]byte, size+1)
		n, err := conn.Read(buf)
		if err != nil || n != size {
			return fmt.Errorf("echo from %s: %d bytes: %w", addr, n, err)
		}
		return nil
	})
}

// hostAddress gives the agent's namespace an address.
func (n *node) hostAddress(addrs ...string) {
	n.t.Helper()
	n.space.do(n.t, func() error {
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = 0x02 // IFA_F_NODAD
			if err := netlink.AddrAdd(link("lo"), addr); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestTraffic sends real packets between host and pods, at once after ADD.
func TestTraffic(t *testing.T) {
	n, a, b := newNode(t), newSpace(t), newSpace(t)
	n.ipam.set(func() { n.ipam.ipv6 = true })
	n.hostAddress("10.0.0.1/32", "fd00::1/128")
	n.space.echo(t, "10.0.0.1")
	n.space.echo(t, "fd00::1")
	n.ok(call{verb: "ADD", id: "a", ifname: "eth0", netns: a.path})
	a.ping(t, "10.0.0.1", 100)
	a.ping(t, "fd00::1", 100)
	n.ok(call{verb: "ADD", id: "b", ifname: "eth0", netns: b.path})
	for _, s := range []*space{a, b} {
		s.ping(t, "10.0.0.1", 1452) // the MTU less the headers
		s.ping(t, "fd00::1", 1432)
	}
	b.echo(t, "10.65.0.2")
	b.echo(t, "fd00:65::2")
	for _, s := range []*space{n.space, a} {
		s.ping(t, "10.65.0.2", 1000)
		s.ping(t, "fd00:65::2", 1000)
	}
	n.ok(call{verb: "DEL", id: "a", ifname: "eth0"})
	b.ping(t, "10.0.0.1", 100)
}

// TestSpoofing sends from an address the pod does not own, then from its own:
// only the second arrives, and the veth keeps their order.
func TestSpoofing(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.hostAddress("10.0.0.1/32")
	n.ok(add(pod))
	var conn net.PacketConn
	n.space.do(t, func() (err error) {
		conn, err = net.ListenPacket("udp", "10.0.0.1:9")
		return err
	})
	defer func() { _ = conn.Close() }()
	pod.do(t, func() error {
		addr, err := netlink.ParseAddr("10.65.0.99/32")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link("eth0"), addr); err != nil {
			return err
		}
		for _, from := range []string{"10.65.0.99", "10.65.0.1"} {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
			c, err := d.Dial("udp", "10.0.0.1:9")
			if err != nil {
				return err
			}
			_, err = c.Write([]byte(from))
			if err := errors.Join(err, c.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	buf := make([]byte, 100)
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	k, from, err := conn.ReadFrom(buf)
	if err != nil || string(buf[:k]) != "10.65.0.1" {
		t.Errorf("first datagram: %q from %v (%v), want the pod's own", buf[:k], from, err)
	}
}

// guarded restarts the agent with the kernel's table of MAC addresses.
func (n *node) guarded() {
	n.t.Helper()
	// Not skipped inside try: that is another goroutine.
	if err := n.space.try(nft.SupportsSenders); errors.Is(err, nft.ErrUnsupported) {
		n.t.Skip("needs kernel feature: nftables")
	}
	n.space.do(n.t, func() error {
		s, err := nft.NewSenders(testLog(n.t))
		if err != nil {
			return err
		}
		n.t.Cleanup(func() {
			if err := s.Close(); err != nil {
				n.t.Error(err)
			}
		})
		n.senders = s
		return nil
	})
	n.stop()
	n.start()
}

// silent sends a datagram from another MAC address and then, with its own
// again, one more: only the second may arrive.
func (s *space) silent(t *testing.T, n *node, own, forged net.HardwareAddr, from, to string) {
	t.Helper()
	var conn net.PacketConn
	n.space.do(t, func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(to, "9"))
		return err
	})
	defer func() { _ = conn.Close() }()
	s.sendAs(t, forged, "forged", from, to)
	s.sendAs(t, own, "own", from, to)
	buf := make([]byte, 100)
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	k, _, err := conn.ReadFrom(buf)
	if err != nil || string(buf[:k]) != "own" {
		t.Errorf("first datagram to %s: %q (%v), want the one with the pod's own MAC address", to, buf[:k], err)
	}
}

// sendAs sends a datagram after giving eth0 a MAC address. That costs the pod its
// neighbour entries, and no host answers for its gateway.
func (s *space) sendAs(t *testing.T, mac net.HardwareAddr, text, from, to string) {
	t.Helper()
	s.do(t, func() error {
		eth0 := link("eth0")
		if err := netlink.LinkSetHardwareAddr(eth0, mac); err != nil {
			return err
		}
		for _, g := range []netip.Addr{gateway4, gateway6} {
			n := &netlink.Neigh{LinkIndex: eth0.Attrs().Index, IP: g.AsSlice(), HardwareAddr: hostMAC, State: netlink.NUD_PERMANENT}
			if err := netlink.NeighSet(n); err != nil {
				return err
			}
		}
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("udp", net.JoinHostPort(to, "9"))
		if err != nil {
			return err
		}
		_, err = c.Write([]byte(text))
		return errors.Join(err, c.Close())
	})
}

// TestMACSpoofing sends from MAC addresses a pod does not have: its node's,
// another pod's, and its own until it was given another one. A restarted agent
// enforces the addresses of its pods, also those of a run without the table.
func TestMACSpoofing(t *testing.T) {
	n, pod, other := newNode(t), newSpace(t), newSpace(t)
	n.ipam.set(func() { n.ipam.ipv6 = true })
	n.hostAddress("10.0.0.1/32", "fd00::1/128")
	chosen := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	c := add(pod)
	c.conf = map[string]any{"runtimeConfig": map[string]any{"mac": chosen.String()}}
	n.ok(c)
	n.guarded()
	n.ok(call{verb: "ADD", id: "other", ifname: "eth0", netns: other.path})
	check := func() {
		t.Helper()
		for _, forged := range []net.HardwareAddr{hostMAC, podMAC("other", "eth0"), podMAC(testID, "eth0")} {
			pod.silent(t, n, chosen, forged, "10.65.0.1", "10.0.0.1")
			pod.silent(t, n, chosen, forged, "fd00:65::1", "fd00::1")
		}
		other.silent(t, n, podMAC("other", "eth0"), chosen, "10.65.0.2", "10.0.0.1")
	}
	check()
	n.stop()
	for _, device := range n.devices() { // as left by an agent without a group for running pods
		n.setGroup(device, 0)
	}
	n.start()
	n.ok(call{verb: "STATUS"}) // served after the pods of former runs are settled
	check()
	n.ok(c.as("DEL"))
	n.ok(call{verb: "DEL", id: "other", ifname: "eth0"})
	n.clean()
	n.space.do(t, func() error {
		out, err := nft.CountSenders()
		if out != 0 {
			t.Errorf("%d MAC addresses left in the table", out)
		}
		return err
	})
}

func TestHostPrefix(t *testing.T) {
	if got := hostPrefix(netip.MustParseAddr("fd00::1")).String(); got != "fd00::1/128" {
		t.Errorf("hostPrefix = %s", got)
	}
}

// TestSecondAddress reaches a pod at the addresses of both its interfaces. The
// host drops packets from the wrong one, so every answer must leave through the
// interface that has the address.
func TestSecondAddress(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ipam.set(func() { n.ipam.ipv6 = true })
	n.hostAddress("10.0.0.1/32", "fd00::1/128")
	for _, ifname := range []string{"eth0", "net1"} {
		n.ok(call{verb: "ADD", id: testID, ifname: ifname, netns: pod.path})
	}
	for _, addr := range []string{"10.65.0.1", "10.65.0.2", "fd00:65::1", "fd00:65::2"} {
		pod.echo(t, addr)
		n.space.ping(t, addr, 100)
	}
	// Another interface in the place of the second one.
	n.ok(call{verb: "DEL", id: testID, ifname: "net1"})
	n.ipam.set(func() { n.ipam.next = 1 })
	n.ok(call{verb: "ADD", id: testID, ifname: "net1", netns: pod.path})
	n.space.ping(t, "10.65.0.2", 100)
	for _, ifname := range []string{"eth0", "net1"} {
		n.ok(call{verb: "DEL", id: testID, ifname: ifname})
	}
	n.clean()
}
