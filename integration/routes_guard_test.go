package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/nft"
)

// TestGuard: who may send packets of protocols 4 and 41 to a node. The guard
// sits before decapsulation, so a raw socket on the node sees exactly what a
// tunnel device would get; the test needs nftables and no such device.
func TestGuard(t *testing.T) {
	if err := nft.Supported(); err != nil {
		t.Skip("needs kernel feature: nftables")
	}
	ctx, l := labtest.Build(t, lab.Spec{Name: "guard", Racks: 1, DualStack: true, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: "ipip"}})
	labtest.StartAll(ctx, t, l)
	n, other, tor := l.Node("r1n1"), l.Node("r1n2"), l.ToRs()[0]
	for _, c := range []struct {
		network            string
		node, known, alien netip.Addr
	}{
		{"ip4:4", n.Addr, other.Addr, tor.Addr},
		{"ip4:41", n.Addr, other.Addr, tor.Addr},
		{"ip6:4", n.Addr6, other.Addr6, tor.Addr6},
		{"ip6:41", n.Addr6, other.Addr6, tor.Addr6},
	} {
		t.Run(c.network, func(t *testing.T) {
			ear := newEar(t, n.NS, c.network, c.node)
			must(t, sendRaw(tor.NS, c.network, c.alien, c.node))
			ear.hears(ctx, t, other.NS, c.known)
			// The stranger's was sent before, and again between two of a node's.
			must(t, sendRaw(tor.NS, c.network, c.alien, c.node))
			ear.hears(ctx, t, other.NS, c.known)
			if got := ear.count(c.alien); got > 0 {
				t.Errorf("%d packets of a stranger got through", got)
			}
		})
	}
	if os.Getenv("ONLINK_BED") == "vm" { // the one bed that has nftables and ipip: make test-kernel
		t.Run("through the tunnel devices", func(t *testing.T) { checkTunnelled(ctx, t, n, other, tor) })
	}
	t.Run("no guard, no difference", func(t *testing.T) {
		must(t, n.Stop())
		n.Edit = func(c *conf.Config) { c.Tunnel.Guard = "off" }
		labtest.StartNode(ctx, t, n)
		newEar(t, n.NS, "ip4:4", n.Addr).hears(ctx, t, tor.NS, tor.Addr)
		must(t, n.Stop())
		n.Edit = nil
		labtest.StartNode(ctx, t, n)
	})
	t.Run("a node that leaves is a stranger", func(t *testing.T) { checkLeaver(ctx, t, n, other) })
}

// checkTunnelled sends packets for a pod inside packets for its node: what
// another node sends the tunnel devices deliver, a stranger's never arrives.
func checkTunnelled(ctx context.Context, t *testing.T, n, other *lab.Node, tor *lab.ToR) {
	const port, alien = 7, "of a stranger"
	pod, err := n.AddPod(ctx, "listener")
	must(t, err)
	heard := hearUDP(t, pod, port)
	inner := netip.MustParseAddr("10.244.255.9")
	for _, outer := range []struct {
		network             string
		known, stranger, to netip.Addr
	}{{"ip4:4", other.Addr, tor.Addr, n.Addr}, {"ip6:4", other.Addr6, tor.Addr6, n.Addr6}} {
		known := outer.network + " of a node"
		must(t, lab.Eventually(ctx, labtest.Patience, known+" arrives", func() error {
			if got := slices.DeleteFunc(heard(), func(text string) bool { return text != known && text != alien }); slices.Contains(got, alien) {
				t.Fatalf("%s: a stranger's packet reached the pod", outer.network)
			} else if len(got) > 0 {
				return nil
			}
			return errors.Join(
				sendPayload(tor.NS, outer.network, outer.stranger, outer.to, udpPacket(inner, pod.Addr(), port, alien)),
				sendPayload(other.NS, outer.network, outer.known, outer.to, udpPacket(inner, pod.Addr(), port, known)),
				errors.New("nothing heard"))
		}))
	}
}

// hearUDP listens in a pod until the test ends; what it returns gives the
// texts that came since it was called last.
func hearUDP(t *testing.T, pod *lab.Pod, port uint16) func() []string {
	t.Helper()
	var conn net.PacketConn
	must(t, pod.NS.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", netip.AddrPortFrom(pod.Addr(), port).String())
		return err
	}))
	var mu sync.Mutex // guards texts
	var texts []string
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close() // wakes the reader; nothing was written
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			size, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			texts = append(texts, string(buf[:size]))
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		list := texts
		texts = nil
		return list
	}
}

// udpPacket returns an IPv4 packet (RFC 791) with a UDP datagram (RFC 768)
// that has no checksum.
func udpPacket(src, dst netip.Addr, port uint16, text string) []byte {
	p := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0}
	p = append(append(p, src.AsSlice()...), dst.AsSlice()...)
	p = binary.BigEndian.AppendUint16(p, 40000)
	p = binary.BigEndian.AppendUint16(p, port)
	p = binary.BigEndian.AppendUint16(p, uint16(8+len(text))) //nolint:gosec // a few bytes
	p = append(append(p, 0, 0), text...)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p))) //nolint:gosec // a few bytes
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum&0xffff+sum>>16)) //nolint:gosec // the sum of ten words fits after two folds
	return p
}

// checkLeaver takes the routes of another node away, and gives them back: what
// it sends in protocol 4 is dropped in between.
func checkLeaver(ctx context.Context, t *testing.T, n, other *lab.Node) {
	_, err := n.Ctl(ctx, "peers", "rr1", "disable", "--reason", "test")
	must(t, err)
	must(t, lab.Eventually(ctx, labtest.Patience, "the node becomes a stranger", func() error {
		ear, err := listenRaw(n.NS, "ip4:4", n.Addr)
		if err != nil {
			return err
		}
		defer ear.close()
		if err := sendRaw(other.NS, "ip4:4", other.Addr, n.Addr); err != nil {
			return err
		}
		// What the guard never judges: another protocol, sent behind it.
		return ear.behind(ctx, other, n)
	}))
	_, err = n.Ctl(ctx, "peers", "rr1", "enable")
	must(t, err)
	newEar(t, n.NS, "ip4:4", n.Addr).hears(ctx, t, other.NS, other.Addr)
}

// ear is a raw socket that counts packets by their source.
type ear struct {
	network string
	addr    netip.Addr
	conn    net.PacketConn
	done    chan struct{} // closed by listen at its end

	mu   sync.Mutex // guards from
	from map[netip.Addr]int
}

// newEar opens an ear that the test's end closes.
func newEar(t *testing.T, ns *lab.NS, network string, addr netip.Addr) *ear {
	t.Helper()
	e, err := listenRaw(ns, network, addr)
	must(t, err)
	t.Cleanup(e.close)
	return e
}

func listenRaw(ns *lab.NS, network string, addr netip.Addr) (*ear, error) {
	e := &ear{network: network, addr: addr, done: make(chan struct{}), from: map[netip.Addr]int{}}
	err := ns.Do(func() (err error) {
		e.conn, err = net.ListenPacket(network, addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	go e.listen()
	return e, nil
}

func (e *ear) listen() {
	defer close(e.done)
	buf := make([]byte, 256)
	for {
		_, from, err := e.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if a, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP); ok {
			e.mu.Lock()
			e.from[a.Unmap()]++
			e.mu.Unlock()
		}
	}
}

func (e *ear) close() {
	_ = e.conn.Close() // wakes listen; nothing was written
	<-e.done
}

func (e *ear) count(from netip.Addr) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.from[from]
}

// hears sends from a namespace until one more packet is heard.
func (e *ear) hears(ctx context.Context, t *testing.T, ns *lab.NS, from netip.Addr) {
	t.Helper()
	before := e.count(from)
	must(t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("%s hears %s from %s", e.addr, e.network, from), func() error {
		if e.count(from) > before {
			return nil
		}
		if err := sendRaw(ns, e.network, from, e.addr); err != nil {
			return err
		}
		return errors.New("nothing heard")
	}))
}

// behind pings after what was sent to the ear: when the ping is answered and
// the ear has heard nothing, that was dropped.
func (e *ear) behind(ctx context.Context, from, to *lab.Node) error {
	if _, err := from.NS.Ping(ctx, to.Addr, 1, lab.ReplyTime); err != nil {
		return err
	}
	if got := e.count(from.Addr); got > 0 {
		return fmt.Errorf("%d packets heard", got)
	}
	return nil
}

// sendRaw sends a packet of the network's protocol.
func sendRaw(ns *lab.NS, network string, src, dst netip.Addr) error {
	return sendPayload(ns, network, src, dst, []byte("no packet inside"))
}

func sendPayload(ns *lab.NS, network string, src, dst netip.Addr, payload []byte) error {
	return ns.Do(func() error {
		conn, err := net.ListenPacket(network, src.String())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // what counts was written
		_, err = conn.WriteTo(payload, &net.IPAddr{IP: dst.AsSlice()})
		return err
	})
}
