package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// attack is one malformed message or sequence and what may come of it.
type attack struct {
	name string
	// run sends it; nil: send body as a message of type typ on a session that
	// is up.
	run  func(p *rawPeer)
	typ  byte
	body []byte
	// open attacks instead of a good OPEN; the session is not up before.
	open bool
	// want are the endings allowed (see rawPeer.ending), "up" for a session
	// that survives.
	want []string
	// taken allows the prefix of the message in the table: the fault is one
	// that RFC 7606 tells to ignore.
	taken bool
}

const (
	flagOptional   = 0x80
	flagTransitive = 0x40
	flagExtended   = 0x10
)

// goodAttrs are well-formed attributes by type, with the length of the value
// that RFC 4271 and its successors want.
var goodAttrs = []struct {
	typ, flags byte
	value      []byte
	must       bool // a fault in it is treat-as-withdraw: the route must not be used
}{
	{1, 0x40, []byte{0}, true},
	{2, 0x40, nil, true},
	{3, 0x40, []byte{127, 37, 0, 7}, true},
	{4, 0x80, []byte{0, 0, 0, 9}, true},
	{5, 0x40, []byte{0, 0, 0, 100}, true},
	{6, 0x40, nil, false},
	{7, 0xc0, []byte{0, 0, 0xfc, 0, 127, 37, 0, 7}, false},
	{8, 0xc0, []byte{0xfc, 0, 0, 1}, true},
	{9, 0x80, []byte{127, 37, 0, 9}, true},
	{10, 0x80, []byte{127, 37, 0, 10}, true},
	{14, 0x80, append(append([]byte{0, 2, 1, 16}, net.ParseIP("fd00::7")...), 0, 64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0), false},
	{15, 0x80, []byte{0, 2, 1, 64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0}, false},
	{16, 0xc0, []byte{0, 2, 0xfc, 0, 0, 0, 0, 1}, true},
	{17, 0xc0, []byte{2, 1, 0, 0, 0xfd, 0xe9}, false},
	{18, 0xc0, []byte{0, 0, 0xfc, 0, 127, 37, 0, 7}, false},
	{22, 0xc0, []byte{0, 6, 0, 0, 0, 127, 37, 0, 7}, false},
	{23, 0xc0, []byte{0, 8, 0, 4, 1, 2, 3, 4}, false},
	{25, 0xc0, slices.Repeat([]byte{7}, 20), true},
	{26, 0x80, []byte{1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1}, false},
	{29, 0x80, []byte{4, 2, 0, 0}, false},
	{32, 0xc0, slices.Repeat([]byte{3}, 12), true},
	{35, 0xc0, []byte{0, 0, 0xfc, 0}, false},
	{40, 0xc0, []byte{1, 0, 7, 0, 0, 0, 0, 0, 0, 1}, false},
	{128, 0xc0, []byte{0, 0, 0, 1, 1, 0, 0, 0}, false},
}

func attribute(flags, typ byte, length int, value []byte) []byte {
	if flags&flagExtended != 0 {
		return append(binary.BigEndian.AppendUint16([]byte{flags, typ}, uint16(length)), value...)
	}
	return append([]byte{flags, typ, byte(length)}, value...)
}

// updateBody is an UPDATE's body with the mandatory attributes, except the
// given type, and extra.
func updateBody(without byte, extra, nlri []byte) []byte {
	var attrs []byte
	for _, a := range goodAttrs[:5] {
		if a.typ != without && a.typ != 4 {
			attrs = append(attrs, attribute(a.flags, a.typ, len(a.value), a.value)...)
		}
	}
	attrs = append(attrs, extra...)
	return append(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...), nlri...)
}

// updateEndings are what may come of a malformed UPDATE (RFC 4271 section 6.3,
// RFC 7606). The engine sends error code 0, which no RFC knows, where 3/9 or
// 3/5 is right, for some faults of MP_REACH_NLRI and MP_UNREACH_NLRI: the
// session ends as it must, only the reason is useless.
var updateEndings = []string{"up", "3/", "1/2"}

// attributeAttacks are every attribute times every way to get it wrong.
func attributeAttacks() []attack {
	update := updateEndings
	var list []attack
	for _, g := range goodAttrs {
		n := len(g.value)
		add := func(what string, attr []byte, must bool) {
			list = append(list, attack{
				name: fmt.Sprintf("attribute %d %s", g.typ, what), typ: 2, body: updateBody(g.typ, attr, hostileNLRI), want: update, taken: !must,
			})
		}
		padded := append(slices.Clone(g.value), 0)
		if n > 0 {
			// An empty list of communities or clusters is malformed (RFC 7606
			// section 7); the engine takes it for none, which harms nobody.
			add("empty", attribute(g.flags, g.typ, 0, nil), g.must && !slices.Contains([]byte{8, 10, 16, 25, 32}, g.typ))
			add("a byte short", attribute(g.flags, g.typ, n-1, g.value[:n-1]), g.must)
			add("one byte", attribute(g.flags, g.typ, 1, g.value[:1]), g.must && n > 1)
		}
		add("a byte long", attribute(g.flags, g.typ, n+1, padded), g.must)
		add("longer than the message", attribute(g.flags, g.typ, n+200, g.value), true)
		add("extended length beyond the message", attribute(g.flags|flagExtended, g.typ, 65535, g.value), true)
		add("cut in its header", []byte{g.flags, g.typ}, true)
		add("optional bit wrong", attribute(g.flags^flagOptional, g.typ, n, g.value), false)
		add("transitive bit wrong", attribute(g.flags^flagTransitive, g.typ, n, g.value), false)
		one := attribute(g.flags, g.typ, n, g.value)
		add("twice", append(slices.Clone(one), one...), false)
		add("four times, the last short", joined(one, one, one, attribute(g.flags, g.typ, max(n-1, 0), g.value[:max(n-1, 0)])), false)
		add("of 0xff", attribute(g.flags, g.typ, max(n, 1), slices.Repeat([]byte{0xff}, max(n, 1))), false)
	}
	for _, typ := range []byte{1, 2, 3} {
		list = append(list, attack{name: fmt.Sprintf("attribute %d missing", typ), typ: 2, body: updateBody(typ, nil, hostileNLRI), want: update})
	}
	for typ := 41; typ < 51; typ++ {
		list = append(list, attack{name: fmt.Sprintf("unknown well-known attribute %d", typ), typ: 2, body: updateBody(0, attribute(0x40, byte(typ), 1, []byte{1}), hostileNLRI), want: update, taken: true})
	}
	return list
}

var hostileNLRI = []byte{26, 10, 244, 99, 0}

// updateAttacks are faults of an UPDATE outside its attributes.
func updateAttacks() []attack {
	up := updateEndings
	body := func(name string, b ...byte) attack {
		return attack{name: "update " + name, typ: 2, body: b, want: up}
	}
	list := []attack{
		body("empty"), body("of one byte", 0), body("of three bytes", 0, 0, 0),
		body("withdrawn length beyond the message", 0, 200, 0, 0),
		body("withdrawn length 65535", 255, 255, 0, 0),
		body("attribute length beyond the message", 0, 0, 0, 200),
		body("attribute length 65535", 0, 0, 255, 255),
		body("withdrawn prefix of 33 bits", 0, 6, 33, 10, 0, 0, 0, 0, 0, 0),
		body("withdrawn prefix of 255 bits", 0, 2, 255, 10, 0, 0),
		body("withdrawn prefix cut", 0, 2, 24, 10, 0, 0),
	}
	for _, nlri := range [][]byte{{33, 10, 0, 0, 0, 0}, {255}, {24}, {24, 10}, {32, 10, 244, 99}, {0, 0, 0}, {26, 10, 244, 99, 0, 26}} {
		list = append(list, attack{name: fmt.Sprintf("update nlri %x", nlri), typ: 2, body: updateBody(0, nil, nlri), want: up})
	}
	for _, fam := range [][3]byte{{0, 1, 2}, {0, 1, 128}, {0, 25, 65}, {0, 25, 70}, {0, 1, 133}, {64, 4, 71}, {255, 255, 255}, {0, 0, 0}} {
		for _, n := range []int{0, 1, 4, 16, 40} {
			v := append(fam[:], slices.Repeat([]byte{byte(n)}, n)...)
			for _, typ := range []byte{14, 15} {
				list = append(list, attack{
					name: fmt.Sprintf("family %x not negotiated, attribute %d with %d bytes", fam, typ, n), typ: 2,
					body: updateBody(0, attribute(0x80, typ, len(v), v), hostileNLRI), want: up, taken: true,
				})
			}
		}
	}
	return list
}

// messageAttacks are faults of headers and messages in a session that is up.
func messageAttacks() []attack {
	raw := func(b []byte) func(*rawPeer) {
		return func(p *rawPeer) { _, _ = p.conn.Write(b) }
	}
	header := func(marker byte, length uint16, typ byte) []byte {
		return append(binary.BigEndian.AppendUint16(slices.Repeat([]byte{marker}, 16), length), typ)
	}
	list := []attack{
		{name: "header length 0", run: raw(header(0xff, 0, 4)), want: []string{"1/2"}},
		{name: "header length 18", run: raw(header(0xff, 18, 4)), want: []string{"1/2"}},
		{name: "notification of one byte", typ: 3, body: []byte{6}, want: []string{"EOF", "reset", "1/2"}},
		{name: "notification empty", typ: 3, want: []string{"EOF", "reset", "1/2"}},
		{name: "open in Established", typ: 1, body: openBody(nil), want: []string{"5/3"}},
		{name: "open empty in Established", typ: 1, want: []string{"5/", "6/", "1/2", "2/"}},
		{name: "route refresh empty", typ: 5, want: []string{"up", "7/1", "1/2"}},
		{name: "route refresh of three bytes", typ: 5, body: []byte{0, 1, 1}, want: []string{"up", "7/1", "1/2"}},
		{name: "route refresh of a family not negotiated", typ: 5, body: []byte{0, 25, 0, 70}, want: []string{"up"}},
		{name: "route refresh subtype 255", typ: 5, body: []byte{0, 1, 255, 1}, want: []string{"up"}},
	}
	for _, typ := range []byte{0, 6, 7, 9, 66, 128, 255} {
		list = append(list, attack{name: fmt.Sprintf("message type %d", typ), typ: typ, want: []string{"1/3"}})
	}
	for i := range 8 { // a keepalive flood, then something
		list = append(list, attack{name: fmt.Sprintf("flood %d", i), want: []string{"up", "3/"}, run: func(p *rawPeer) {
			for range 200 << (i % 3) {
				p.send(4, nil)
			}
			p.send(2, updateBody(byte(i), nil, []byte{33}))
		}})
	}
	return list
}

func openBody(change func([]byte) []byte) []byte {
	caps := []byte{1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfc, 0}
	b := append([]byte{4, 0xfc, 0, 0, 90, 127, 37, 0, 7, byte(len(caps) + 2), 2, byte(len(caps))}, caps...)
	if change != nil {
		b = change(b)
	}
	return b
}

// openAttacks come where a good OPEN should.
func openAttacks() []attack {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	var list []attack
	add := func(name string, change func([]byte) []byte, want ...string) {
		list = append(list, attack{name: "open " + name, open: true, typ: 1, body: openBody(change), want: want})
	}
	for _, v := range []byte{0, 3, 5, 255} {
		add(fmt.Sprintf("version %d", v), set(0, v), "2/1")
	}
	add("hold time 1", set(3, 0, 1), "2/6")
	add("hold time 2", set(3, 0, 2), "2/6")
	add("identifier 0", set(5, 0, 0, 0, 0), "2/3")
	add("another AS", func(b []byte) []byte { b[2], b[len(b)-1] = 9, 9; return b }, "2/2")
	add("AS 0", func(b []byte) []byte { copy(b[1:], []byte{0, 0}); copy(b[len(b)-4:], []byte{0, 0, 0, 0}); return b }, "2/2")
	for _, n := range []int{0, 1, 4, 9} {
		add(fmt.Sprintf("of %d bytes", n), func(b []byte) []byte { return b[:n] }, "1/2", "2/", "EOF", "reset")
	}
	anything := []string{"2/", "1/2", "up", "EOF", "reset"}
	add("parameters longer than the message", set(9, 255), anything...)
	add("parameters shorter than they say", set(9, 2), anything...)
	add("parameter type 0", set(10, 0), anything...)
	add("parameter type 1, authentication", set(10, 1), anything...)
	add("parameter type 255", set(10, 255), anything...)
	for code := range 12 { // capabilities cut after their header
		add(fmt.Sprintf("capability %d of no length", 60+code), func(b []byte) []byte {
			return append(b[:9:9], 4, 2, 2, byte(60+code), 0)
		}, anything...)
		add(fmt.Sprintf("capability %d longer than the message", code), func(b []byte) []byte {
			return append(b[:9:9], 4, 2, 2, byte(code), 200)
		}, anything...)
	}
	for _, typ := range []byte{2, 3, 4, 5, 6, 255} {
		list = append(list, attack{name: fmt.Sprintf("message type %d where the open should be", typ), open: true, typ: typ, body: []byte{0, 0, 0, 0}, want: []string{"1/", "2/", "5/", "EOF", "reset"}})
	}
	for i := range 10 {
		list = append(list, attack{name: fmt.Sprintf("noise %d", i), open: true, want: []string{"1/", "2/", "EOF", "reset", "up"}, run: func(p *rawPeer) {
			noise := slices.Repeat([]byte{byte(i * 25), 0xff, byte(i)}, 1+i*100)
			_, _ = p.conn.Write(noise)
			_ = p.conn.(*net.TCPConn).CloseWrite()
		}})
	}
	return list
}

// connectRaw opens a TCP connection and reads the speaker's OPEN.
func connectRaw(t *testing.T, local, remote string) *rawPeer {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	c, err := d.Dial("tcp", netip.AddrPortFrom(addr(remote), testPort).String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := readMessage(c); err != nil || typ != 1 {
		t.Fatalf("no OPEN: type %d, %v", typ, err)
	}
	return &rawPeer{t: t, conn: c}
}

// outcome is "up" when the session answers a ROUTE-REFRESH-free keepalive
// exchange after the attack: the speaker has not closed it.
func (p *rawPeer) outcome(open bool) string {
	if err := p.conn.SetReadDeadline(time.Now().Add(settleTime)); err != nil {
		return err.Error()
	}
	for {
		typ, body, err := readMessage(p.conn)
		switch {
		case errors.Is(err, io.EOF):
			return "EOF"
		case err != nil && strings.Contains(err.Error(), "timeout"):
			return "up"
		case err != nil && strings.Contains(err.Error(), "reset"):
			return "reset"
		case err != nil:
			return err.Error()
		case typ == 3 && len(body) >= 2:
			return fmt.Sprintf("%d/%d", body[0], body[1])
		case open && typ == 4:
			return "up" // the OPEN was taken
		}
	}
}

// settleTime is how long a session is watched before it counts as surviving.
const settleTime = 150 * time.Millisecond

func allowed(got string, want []string) bool {
	return slices.ContainsFunc(want, func(w string) bool {
		return got == w || strings.HasSuffix(w, "/") && strings.HasPrefix(got, w)
	})
}

// TestHostileSet runs the generated set against one speaker: no attack ends
// anything but its own session, each ends as the RFCs allow, and no malformed
// route is used.
func TestHostileSet(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.37.0.1"), testConfig(t, "127.37.0.2"))
	x, good := n[0], n[1]
	good.originate("10.244.2.0/26")
	x.setPeers(nil, clientsOf("127.37.0.0/16"))
	good.setPeers([]Peer{from(to("127.37.0.1", IBGP), "127.37.0.2")})
	x.waitRoutes("10.244.2.0/26 via 127.37.0.2")
	since := x.peer(good.addr).Since

	all := slices.Concat(attributeAttacks(), updateAttacks(), messageAttacks(), openAttacks())
	if len(all) < 300 {
		t.Errorf("%d attacks, want at least 300", len(all))
	}
	gate := make(chan struct{}, 24)
	t.Run("attacks", func(t *testing.T) {
		for i, a := range all {
			local := fmt.Sprintf("127.37.%d.%d", 1+i/200, 1+i%200)
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				gate <- struct{}{}
				defer func() { <-gate }()
				a.check(t, x, local)
			})
		}
	})
	x.waitRoutes("10.244.2.0/26 via 127.37.0.2")
	if got := x.peer(good.addr); got.Flaps != 0 || !got.Since.Equal(since) {
		t.Errorf("another session was touched: %+v", got)
	}
	for _, p := range x.lost() {
		if p == prefix("10.244.2.0/26") {
			t.Error("another peer's route was lost meanwhile")
		}
	}
	t.Logf("%d attacks", len(all))
}

// check runs one attack from an address of its own.
func (a attack) check(t *testing.T, x *node, local string) {
	t.Helper()
	var p *rawPeer
	if a.open {
		p = connectRaw(t, local, "127.37.0.1")
		defer p.conn.Close()
	} else {
		p = dialRaw(t, local, "127.37.0.1")
	}
	if a.run != nil {
		a.run(p)
	} else {
		p.send(a.typ, a.body)
	}
	if got := p.outcome(a.open); !allowed(got, a.want) {
		t.Errorf("ended with %q, want one of %q", got, a.want)
	}
	if a.taken {
		return
	}
	for _, path := range x.Paths(netip.MustParsePrefix("10.244.99.0/26")) {
		if path.Peer == netip.MustParseAddr(local) && path.Best {
			t.Errorf("the malformed route is used: %+v", path)
		}
	}
}
