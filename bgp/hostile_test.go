package bgp

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// rawPeer is a hand-made BGP speaker on one TCP connection.
type rawPeer struct {
	t    *testing.T
	conn net.Conn
	open []byte // the body of the OPEN that it received
}

// dialRaw connects from a loopback address and brings the session up: OPEN
// with four-octet AS and both families, KEEPALIVE, and the same back.
func dialRaw(t *testing.T, local, remote string, more ...byte) *rawPeer {
	t.Helper()
	var conn net.Conn
	var theirs []byte
	eventually(t, func() string {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: time.Second}
		c, err := d.Dial("tcp", netip.AddrPortFrom(addr(remote), testPort).String())
		if err != nil {
			return err.Error()
		}
		// A peer in Idle accepts and closes: only an OPEN counts.
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err.Error()
		}
		typ, body, err := readMessage(c)
		if err != nil || typ != 1 {
			_ = c.Close() // dialled again
			return fmt.Sprintf("no OPEN: type %d, %v", typ, err)
		}
		conn, theirs = c, body
		return ""
	})
	t.Cleanup(func() { _ = conn.Close() }) // most tests end with a closed session
	p := &rawPeer{t: t, conn: conn, open: theirs}
	open := []byte{4, 0xfc, 0x00, 0, 90} // version 4, AS 64512, hold time 90
	open = append(open, net.ParseIP(local).To4()...)
	caps := []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfc, 0x00}
	caps = append(caps, more...)
	open = append(open, byte(len(caps)+2), 2, byte(len(caps)))
	p.send(1, append(open, caps...))
	p.send(4, nil)
	for {
		typ, body, err := readMessage(conn)
		if err != nil || typ == 3 {
			t.Fatalf("session not up: type %d %v, %v", typ, body, err)
		}
		if typ == 4 {
			return p
		}
	}
}

// send writes one message of the given type.
func (p *rawPeer) send(typ byte, body []byte) {
	p.t.Helper()
	msg := make([]byte, 16, 19+len(body))
	for i := range msg {
		msg[i] = 0xff
	}
	msg = binary.BigEndian.AppendUint16(msg, uint16(19+len(body)))
	msg = append(append(msg, typ), body...)
	if _, err := p.conn.Write(msg); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// update sends an UPDATE with the given attributes and IPv4 NLRI.
func (p *rawPeer) update(attrs, nlri []byte) {
	p.t.Helper()
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs)))
	p.send(2, append(append(body, attrs...), nlri...))
}

// ending is how a session ended: the NOTIFICATION's code and subcode, or the
// error of the read ("EOF" for a plain close).
func (p *rawPeer) ending() string {
	for {
		typ, body, err := readMessage(p.conn)
		if err != nil {
			return err.Error()
		}
		if typ == 3 && len(body) >= 2 {
			return fmt.Sprintf("%d/%d", body[0], body[1])
		}
	}
}

func readMessage(r io.Reader) (typ byte, body []byte, err error) {
	head := make([]byte, 19)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(head[16:])) - 19
	if n < 0 {
		return 0, nil, fmt.Errorf("length %d", n+19)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[18], body, err
}

// Well-formed attributes to build malformed sets from.
var (
	attrOrigin    = []byte{0x40, 1, 1, 0}
	attrASPath    = []byte{0x40, 2, 0}
	attrNextHop   = []byte{0x40, 3, 4, 127, 30, 0, 7}
	attrLocalPref = []byte{0x40, 5, 4, 0, 0, 0, 100}
	attrAS4Path   = []byte{0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9}
	someNLRI      = []byte{26, 10, 244, 7, 0}
)

func joined(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// TestHostileUpdates: whatever a peer sends, the worst is the end of its own
// session. Another peer's session and routes are untouched, and the speaker
// accepts the next one.
func TestHostileUpdates(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.30.0.1"), testConfig(t, "127.30.0.2"))
	x, good := n[0], n[1]
	good.originate("10.244.2.0/26")
	x.setPeers(nil, clientsOf("127.30.0.0/24"))
	good.setPeers([]Peer{from(to("127.30.0.1", IBGP), "127.30.0.2")})
	x.waitRoutes("10.244.2.0/26 via 127.30.0.2")
	x.waitUp(good.addr) // routes may come before the event of the session
	since := x.peer(good.addr).Since

	prefixSID := func(tlv ...byte) []byte { return append([]byte{0xc0, 40, byte(len(tlv))}, tlv...) }
	base := joined(attrOrigin, attrASPath, attrNextHop, attrLocalPref)
	tests := []struct {
		name string
		send func(*rawPeer)
		want string // the NOTIFICATION, or "kept": ignored or withdrawn (RFC 7606)
	}{
		{"AS4_PATH before AS_PATH", func(p *rawPeer) {
			p.update(joined(attrOrigin, attrAS4Path, attrASPath, attrNextHop, attrLocalPref), someNLRI)
		}, "kept"},
		{"AS4_PATH alone", func(p *rawPeer) { p.update(attrAS4Path, nil) }, "kept"},
		{"MP_REACH of 2 bytes", func(p *rawPeer) { p.update(joined(base, []byte{0x80, 14, 2, 0, 2}), nil) }, "3/9"},
		{"MP_REACH with a next hop beyond its end", func(p *rawPeer) {
			p.update(joined(base, []byte{0x80, 14, 6, 0, 1, 1, 32, 0, 0}), nil)
		}, "3/9"},
		{"MP_REACH of 3 bytes of another family", func(p *rawPeer) { p.update(joined(base, []byte{0x80, 14, 3, 0, 2, 1}), nil) }, "kept"},
		{"MP_UNREACH of 2 bytes", func(p *rawPeer) { p.update([]byte{0x80, 15, 2, 0, 2}, nil) }, "3/9"},
		{"Prefix-SID with a truncated SRv6 service TLV", func(p *rawPeer) { p.update(joined(base, prefixSID(5, 0, 4, 0, 1, 0, 0)), someNLRI) }, "kept"},
		{"Prefix-SID with a TLV longer than the attribute", func(p *rawPeer) { p.update(joined(base, prefixSID(5, 0xff, 0xff, 0, 1)), someNLRI) }, "kept"},
		{"Prefix-SID of one byte", func(p *rawPeer) { p.update(joined(base, prefixSID(5)), someNLRI) }, "kept"},
		{"attribute length beyond the message", func(p *rawPeer) { p.update([]byte{0x40, 1, 200, 0}, nil) }, "3/1"},
		{"total attribute length beyond the message", func(p *rawPeer) { p.send(2, []byte{0, 0, 0xff, 0xff}) }, "3/1"},
		{"NLRI of 33 bits", func(p *rawPeer) { p.update(base, []byte{33, 10, 0, 0, 0, 0}) }, "3/10"},
		{"unknown message type", func(p *rawPeer) { p.send(77, nil) }, "1/3"},
		{"an OPEN in Established", func(p *rawPeer) { p.send(1, []byte{4, 0xfc, 0, 0, 90, 127, 30, 0, 7, 0}) }, "5/3"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := dialRaw(t, "127.30.0.7", "127.30.0.1")
			tt.send(p)
			if tt.want == "kept" {
				// A valid UPDATE after the bad one proves that the session lives.
				p.update(base, []byte{26, 10, 244, 100 + byte(i), 0})
				eventually(t, func() string {
					if len(x.Paths(t.Context(), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, 100 + byte(i), 0}), 26))) == 0 {
						return "the session ended: the next route did not arrive"
					}
					return ""
				})
			} else if got := p.ending(); got != tt.want {
				t.Errorf("session ended with %q, want NOTIFICATION %s", got, tt.want)
			}
			if err := p.conn.Close(); err != nil {
				t.Logf("close: %v", err)
			}
			if got := x.peer(good.addr); got.State != established || got.Flaps != 0 || !got.Since.Equal(since) {
				t.Errorf("the other session suffered: %+v", got)
			}
		})
	}
	x.waitRoutes("10.244.2.0/26 via 127.30.0.2")
}

// TestBytesBeforeOpen: garbage from the address of a configured peer, before
// any OPEN, harms nothing.
func TestBytesBeforeOpen(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.31.0.1"), testConfig(t, "127.31.0.2"))
	n[1].originate("10.244.2.0/26")
	n[0].setPeers(nil, clientsOf("127.31.0.0/24"))
	n[1].setPeers([]Peer{from(to("127.31.0.1", IBGP), "127.31.0.2")})
	n[0].waitRoutes("10.244.2.0/26 via 127.31.0.2")
	marker := make([]byte, 16)
	for i := range marker {
		marker[i] = 0xff
	}
	for i, junk := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		append(append([]byte{}, marker...), 0, 19, 2),             // UPDATE without a body
		append(append([]byte{}, marker...), 0xff, 0xff, 1),        // 65535 bytes announced
		append(append([]byte{}, marker...), 0, 0, 1),              // length 0
		append(append([]byte{}, marker...), 0, 23, 5, 0, 1, 0, 1), // ROUTE-REFRESH
	} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 31, 0, byte(10+i))}}
		c, err := d.Dial("tcp", "127.31.0.1:1790")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(junk); err != nil {
			t.Logf("write %d: %v", i, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p := dialRaw(t, "127.31.0.20", "127.31.0.1")
	p.update(joined(attrOrigin, attrASPath, []byte{0x40, 3, 4, 127, 31, 0, 20}, attrLocalPref), someNLRI)
	n[0].waitRoutes("10.244.2.0/26 via 127.31.0.2", "10.244.7.0/26 via 127.31.0.20")
	if got := n[0].peer(n[1].addr); got.Flaps != 0 || got.State != established {
		t.Errorf("the other session suffered: %+v", got)
	}
}
