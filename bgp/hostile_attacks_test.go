package bgp

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
)

// attack is one malformed message or sequence and what must come of it.
type attack struct {
	name string
	// run sends it; nil: send body as a message of type typ on a session that
	// is up.
	run  func(p *rawPeer)
	typ  byte
	body []byte
	// open attacks instead of a good OPEN; the session is not up before.
	open bool
	// want is the NOTIFICATION that ends the session, "closed" for an end
	// without one, or what becomes of the route in a session that survives.
	want string
}

// What becomes of the attack's route in a session that survives it.
const (
	used      = "used"      // the fault was ignored, or left out
	withdrawn = "withdrawn" // treat-as-withdraw
)

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
	// badLength is what a wrong length does (RFC 7606 section 7).
	badLength string
	// unknown: the engine does not know the type, so it cannot know its flags.
	unknown bool
}{
	{typ: 1, flags: 0x40, value: []byte{0}, badLength: withdrawn},
	{typ: 2, flags: 0x40, badLength: withdrawn},
	{typ: 3, flags: 0x40, value: []byte{127, 37, 0, 7}, badLength: withdrawn},
	{typ: 4, flags: 0x80, value: []byte{0, 0, 0, 9}, badLength: withdrawn},
	{typ: 5, flags: 0x40, value: []byte{0, 0, 0, 100}, badLength: withdrawn},
	{typ: 6, flags: 0x40, badLength: used},
	{typ: 7, flags: 0xc0, value: []byte{0, 0, 0xfc, 0, 127, 37, 0, 7}, badLength: used},
	{typ: 8, flags: 0xc0, value: []byte{0xfc, 0, 0, 1}, badLength: withdrawn},
	{typ: 9, flags: 0x80, value: []byte{127, 37, 0, 9}, badLength: withdrawn},
	{typ: 10, flags: 0x80, value: []byte{127, 37, 0, 10}, badLength: withdrawn},
	{typ: 14, flags: 0x80, value: reach6("fd00::7", 64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0), badLength: "3/9"},
	{typ: 15, flags: 0x80, value: []byte{0, 2, 1, 64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0}, badLength: "3/9"},
	{typ: 16, flags: 0xc0, value: []byte{0, 2, 0xfc, 0, 0, 0, 0, 1}, badLength: withdrawn},
	{typ: 17, flags: 0xc0, value: []byte{2, 1, 0, 0, 0xfd, 0xe9}, badLength: used},
	{typ: 18, flags: 0xc0, value: []byte{0, 0, 0xfc, 0, 127, 37, 0, 7}, badLength: used},
	{typ: 22, flags: 0xc0, value: []byte{0, 6, 0, 0, 0, 127, 37, 0, 7}, badLength: used},
	{typ: 23, flags: 0xc0, value: []byte{0, 8, 0, 4, 1, 2, 3, 4}, badLength: used},
	{typ: 25, flags: 0xc0, value: slices.Repeat([]byte{7}, 20), badLength: withdrawn},
	{typ: 26, flags: 0x80, value: []byte{1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1}, badLength: used},
	{typ: 29, flags: 0x80, value: []byte{4, 2, 0, 0}, badLength: used},
	{typ: 32, flags: 0xc0, value: slices.Repeat([]byte{3}, 12), badLength: withdrawn},
	{typ: 35, flags: 0xc0, value: []byte{0, 0, 0xfc, 0}, badLength: withdrawn, unknown: true},
	{typ: 40, flags: 0xc0, value: []byte{1, 0, 7, 0, 0, 0, 0, 0, 0, 1}, badLength: used},
	{typ: 128, flags: 0xc0, value: []byte{0, 0, 0, 1, 1, 0, 0, 0}, badLength: used, unknown: true},
}

// reach6 is the value of an MP_REACH_NLRI for IPv6 unicast.
func reach6(hop string, nlri ...byte) []byte {
	return append(append(append([]byte{0, 2, 1, 16}, net.ParseIP(hop)...), 0), nlri...)
}

func attribute(flags, typ byte, length int, value []byte) []byte {
	if flags&flagExtended != 0 {
		return append(binary.BigEndian.AppendUint16([]byte{flags, typ}, uint16(length)), value...)
	}
	return append([]byte{flags, typ, byte(length)}, value...)
}

// whole is an attribute with the right length.
func whole(flags, typ byte, value ...byte) []byte {
	return attribute(flags, typ, len(value), value)
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

var hostileNLRI = []byte{26, 10, 244, 99, 0}

// attributeAttacks are every attribute times every way to get it wrong.
func attributeAttacks() []attack {
	var list []attack
	for _, g := range goodAttrs {
		n := len(g.value)
		add := func(what string, attr []byte, want string) {
			list = append(list, attack{
				name: fmt.Sprintf("attribute %d %s", g.typ, what), typ: 2, body: updateBody(g.typ, attr, hostileNLRI), want: want,
			})
		}
		multi := g.typ == 14 || g.typ == 15 // routes: their place in the message must be sure
		long, again, ones, noOption, noTransit := g.badLength, used, used, withdrawn, withdrawn
		switch {
		case multi:
			long, again = used, "3/1" // one zero more is a default route
		case g.typ <= 3:
			ones = withdrawn
		case g.unknown:
			noOption, noTransit = "3/2", used
		}
		if n > 0 {
			add("empty", whole(g.flags, g.typ), g.badLength)
			add("a byte short", attribute(g.flags, g.typ, n-1, g.value[:n-1]), g.badLength)
		}
		if n > 1 {
			add("one byte", attribute(g.flags, g.typ, 1, g.value[:1]), g.badLength)
		}
		add("a byte long", attribute(g.flags, g.typ, n+1, append(slices.Clone(g.value), 0)), long)
		add("longer than the message", attribute(g.flags, g.typ, n+200, g.value), withdrawn)
		add("extended length beyond the message", attribute(g.flags|flagExtended, g.typ, 65535, g.value), withdrawn)
		add("cut in its header", []byte{g.flags, g.typ}, withdrawn)
		add("optional bit wrong", attribute(g.flags^flagOptional, g.typ, n, g.value), noOption)
		add("transitive bit wrong", attribute(g.flags^flagTransitive, g.typ, n, g.value), noTransit)
		one := attribute(g.flags, g.typ, n, g.value)
		add("in extended length", attribute(g.flags|flagExtended, g.typ, n, g.value), used)
		add("twice", joined(one, one), again)
		add("four times, the last short", joined(one, one, one, attribute(g.flags, g.typ, max(n-1, 0), g.value[:max(n-1, 0)])), again)
		add("of 0xff", whole(g.flags, g.typ, slices.Repeat([]byte{0xff}, max(n, 1))...), ones)
	}
	for _, typ := range []byte{1, 2, 3} {
		list = append(list, attack{name: fmt.Sprintf("attribute %d missing", typ), typ: 2, body: updateBody(typ, nil, hostileNLRI), want: withdrawn})
	}
	for typ := 41; typ < 51; typ++ {
		list = append(list, attack{name: fmt.Sprintf("unknown well-known attribute %d", typ), typ: 2, body: updateBody(0, whole(0x40, byte(typ), 1), hostileNLRI), want: "3/2"})
	}
	return append(list, valueAttacks()...)
}

// valueAttacks are values of the right length that mean nothing.
func valueAttacks() []attack {
	var list []attack
	add := func(name string, without byte, want string, attr ...byte) {
		list = append(list, attack{name: name, typ: 2, body: updateBody(without, attr, hostileNLRI), want: want})
	}
	add("origin 3", 1, withdrawn, whole(0x40, 1, 3)...)
	for _, path := range []struct {
		name  string
		value []byte
		want  string
	}{
		{"segment of type 0", []byte{0, 1, 0, 0, 0xfd, 0xe9}, withdrawn},
		{"segment of type 5", []byte{5, 1, 0, 0, 0xfd, 0xe9}, withdrawn},
		{"segment of no AS", []byte{2, 0}, withdrawn},
		{"segment of no AS after a good one", []byte{2, 1, 0, 0, 0xfd, 0xe9, 2, 0}, withdrawn},
		{"segment longer than the attribute", []byte{2, 2, 0, 0, 0xfd, 0xe9}, withdrawn},
		{"segment of 255, one there", []byte{2, 255, 0, 0, 0xfd, 0xe9}, withdrawn},
		{"AS numbers of two octets", []byte{2, 1, 0xfd, 0xe9}, withdrawn},
		{"AS 0", []byte{2, 1, 0, 0, 0, 0}, withdrawn},
		{"AS 0 among others", []byte{2, 3, 0, 0, 0xfd, 0xe9, 0, 0, 0, 0, 0, 0, 0xfd, 0xe8}, withdrawn},
		{"a set", []byte{1, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xe8}, used},
	} {
		add("AS_PATH with "+path.name, 2, path.want, whole(0x40, 2, path.value...)...)
	}
	for _, hop := range [][]byte{{0, 0, 0, 0}, {224, 0, 0, 1}, {255, 255, 255, 255}} {
		add(fmt.Sprintf("next hop %d", hop), 3, withdrawn, whole(0x40, 3, hop...)...)
	}
	add("AGGREGATOR with AS 0", 0, used, whole(0xc0, 7, 0, 0, 0, 0, 127, 37, 0, 7)...)
	add("AGGREGATOR with an AS of two octets", 0, used, whole(0xc0, 7, 0xfc, 0, 127, 37, 0, 7)...)
	add("AS4_AGGREGATOR with AS 0", 0, used, whole(0xc0, 18, 0, 0, 0, 0, 127, 37, 0, 7)...)
	add("IPv6 next hop ::", 0, withdrawn, whole(0x80, 14, reach6("::", 64, 0xfd, 0, 2, 0x44, 0, 8, 0, 0)...)...)
	add("IPv6 next hop ff02::1", 0, withdrawn, whole(0x80, 14, reach6("ff02::1", 64, 0xfd, 0, 2, 0x44, 0, 8, 0, 0)...)...)
	add("IPv6 prefix of 129 bits", 0, "3/9", whole(0x80, 14, reach6("fd00::7", 129)...)...)
	add("IPv6 withdrawal of 129 bits", 0, "3/9", whole(0x80, 15, 0, 2, 1, 129)...)
	for _, n := range []int{0, 1, 4, 8, 15, 17, 24, 33, 255} {
		hop := append([]byte{0, 2, 1, byte(n)}, slices.Repeat([]byte{0xfd}, n)...)
		add(fmt.Sprintf("IPv6 next hop of %d bytes", n), 0, "3/9", attribute(0x90, 14, len(hop)+1, append(hop, 0))...)
	}
	add("attributes in reverse", 0, used) // rewritten below
	list[len(list)-1].body = reversed()
	list = append(list, attack{name: "withdrawn and announced", typ: 2, body: append(joined([]byte{0, 5}, hostileNLRI), updateBody(0, nil, hostileNLRI)[2:]...), want: used})
	// Without a route none can be withdrawn (RFC 7606 section 5.2).
	for want, attr := range map[string][]byte{"3/4": whole(0xc0, 1, 0), "3/5": whole(0x40, 3, 1), "3/6": whole(0x40, 1, 9), "3/11": whole(0x40, 2, 2, 0), "3/1": {0x40}} {
		list = append(list, attack{name: "no route, and a fault " + want, typ: 2, body: append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attr))), attr...), want: want})
	}
	return list
}

// reversed is a good UPDATE with its attributes in descending order.
func reversed() []byte {
	var attrs []byte
	for _, i := range []int{4, 2, 1, 0} {
		a := goodAttrs[i]
		attrs = append(attrs, whole(a.flags, a.typ, a.value...)...)
	}
	return append(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...), hostileNLRI...)
}

// updateAttacks are faults of an UPDATE outside its attributes.
func updateAttacks() []attack {
	body := func(name, want string, b ...byte) attack {
		return attack{name: "update " + name, typ: 2, body: b, want: want}
	}
	list := []attack{
		body("empty", "1/2"), body("of one byte", "1/2", 0), body("of three bytes", "1/2", 0, 0, 0),
		body("withdrawn length beyond the message", "3/1", 0, 200, 0, 0),
		body("withdrawn length 65535", "3/1", 255, 255, 0, 0),
		body("attribute length beyond the message", "3/1", 0, 0, 0, 200),
		body("attribute length 65535", "3/1", 0, 0, 255, 255),
		body("withdrawn prefix of 33 bits", "3/10", 0, 6, 33, 10, 0, 0, 0, 0, 0, 0),
		body("withdrawn prefix of 255 bits", "3/10", 0, 2, 255, 10, 0, 0),
		body("withdrawn prefix cut", "3/10", 0, 2, 24, 10, 0, 0),
		{name: "update nlri of three default routes", typ: 2, body: updateBody(0, nil, []byte{0, 0, 0}), want: withdrawn},
	}
	for _, nlri := range [][]byte{{33, 10, 0, 0, 0, 0}, {255}, {24}, {24, 10}, {32, 10, 244, 99}, {26, 10, 244, 99, 0, 26}} {
		list = append(list, attack{name: fmt.Sprintf("update nlri %x", nlri), typ: 2, body: updateBody(0, nil, nlri), want: "3/10"})
	}
	for _, fam := range [][3]byte{{0, 1, 2}, {0, 1, 128}, {0, 2, 2}, {0, 25, 65}, {0, 25, 70}, {0, 1, 133}, {64, 4, 71}, {255, 255, 255}, {0, 0, 0}} {
		for _, n := range []int{0, 1, 4, 16, 40} {
			v := append(fam[:], slices.Repeat([]byte{byte(n)}, n)...)
			for _, typ := range []byte{14, 15} {
				list = append(list, attack{
					name: fmt.Sprintf("family %x not negotiated, attribute %d with %d bytes", fam, typ, n), typ: 2,
					body: updateBody(0, whole(0x80, typ, v...), hostileNLRI), want: used,
				})
			}
		}
	}
	return list
}

// messageAttacks are faults of headers and messages in a session that is up.
func messageAttacks() []attack {
	header := func(name, want string, marker byte, length uint16, typ byte) attack {
		b := append(binary.BigEndian.AppendUint16(slices.Repeat([]byte{marker}, 16), length), typ)
		return attack{name: name, want: want, run: func(p *rawPeer) { _, _ = p.conn.Write(b) }}
	}
	oneBit := slices.Repeat([]byte{0xff}, 19)
	copy(oneBit[15:], []byte{0xfe, 0, 19, 4})
	list := []attack{
		header("header length 0", "1/2", 0xff, 0, 4),
		header("header length 18", "1/2", 0xff, 18, 4),
		header("header length 4097", "1/2", 0xff, 4097, 2),
		header("header length 65535", "1/2", 0xff, 65535, 2),
		header("header length 65535 of a notification", "1/2", 0xff, 65535, 3),
		header("marker of zeros", "1/1", 0, 19, 4),
		{name: "marker with one bit wrong", want: "1/1", run: func(p *rawPeer) { _, _ = p.conn.Write(oneBit) }},
		{name: "keepalive with a body", typ: 4, body: []byte{0}, want: "1/2"},
		{name: "keepalive of 4096 bytes", typ: 4, body: make([]byte, 4077), want: "1/2"},
		{name: "notification of one byte", typ: 3, body: []byte{6}, want: "1/2"},
		{name: "notification empty", typ: 3, want: "1/2"},
		{name: "notification", typ: 3, body: []byte{6, 4}, want: "closed"},
		{name: "notification of codes nobody knows", typ: 3, body: []byte{200, 200, 1, 2, 3}, want: "closed"},
		{name: "notification with a long text", typ: 3, body: append([]byte{6, 2, 255}, make([]byte, 20)...), want: "closed"},
		{name: "open in Established", typ: 1, body: openBody(nil), want: "5/3"},
		{name: "open empty in Established", typ: 1, want: "1/2"},
		{name: "route refresh empty", typ: 5, want: "7/1"},
		{name: "route refresh of three bytes", typ: 5, body: []byte{0, 1, 1}, want: "7/1"},
		{name: "route refresh of 40 bytes", typ: 5, body: make([]byte, 40), want: "7/1"},
		{name: "route refresh of a family not negotiated", typ: 5, body: []byte{0, 25, 0, 70}, want: withdrawn},
		{name: "route refresh subtype 255", typ: 5, body: []byte{0, 1, 255, 1}, want: withdrawn},
	}
	for _, typ := range []byte{0, 6, 7, 9, 66, 128, 255} {
		list = append(list, attack{name: fmt.Sprintf("message type %d", typ), typ: typ, want: "1/3"})
	}
	for i := range 8 { // a keepalive flood, then something
		list = append(list, attack{name: fmt.Sprintf("flood %d", i), want: "3/10", run: func(p *rawPeer) {
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

// openAttacks come where a good OPEN should. "used" means that the OPEN was
// taken.
func openAttacks() []attack {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	var list []attack
	add := func(name, want string, change func([]byte) []byte) {
		list = append(list, attack{name: "open " + name, open: true, typ: 1, body: openBody(change), want: want})
	}
	for _, v := range []byte{0, 3, 5, 255} {
		add(fmt.Sprintf("version %d", v), "2/1", set(0, v))
	}
	add("hold time 1", "2/6", set(3, 0, 1))
	add("hold time 2", "2/6", set(3, 0, 2))
	add("identifier 0", "2/3", set(5, 0, 0, 0, 0))
	add("identifier of the speaker", "2/3", set(5, 127, 37, 0, 1))
	add("another AS", "2/2", func(b []byte) []byte { b[2], b[len(b)-1] = 9, 9; return b })
	add("AS 0", "2/2", func(b []byte) []byte { copy(b[1:], []byte{0, 0}); copy(b[len(b)-4:], []byte{0, 0, 0, 0}); return b })
	add("AS 0 in the capability", "2/2", func(b []byte) []byte { copy(b[len(b)-4:], []byte{0, 0, 0, 0}); return b })
	for _, n := range []int{0, 1, 4, 9} {
		add(fmt.Sprintf("of %d bytes", n), "1/2", func(b []byte) []byte { return b[:n] })
	}
	add("parameters longer than the message", "2/0", set(9, 255))
	add("parameters shorter than they say", "2/0", set(9, 2))
	for _, typ := range []byte{0, 1, 255} {
		add(fmt.Sprintf("parameter type %d", typ), "2/4", set(10, typ))
	}
	for code := range 12 { // capabilities cut after their header
		want := used
		if 60+code == 64 || 60+code == 65 { // graceful restart, four-octet AS
			want = "2/0"
		}
		add(fmt.Sprintf("capability %d of no length", 60+code), want, func(b []byte) []byte {
			return append(b[:9:9], 4, 2, 2, byte(60+code), 0)
		})
		add(fmt.Sprintf("capability %d longer than the message", code), "2/0", func(b []byte) []byte {
			return append(b[:9:9], 4, 2, 2, byte(code), 200)
		})
	}
	for typ, want := range map[byte]string{2: "5/1", 3: "closed", 4: "1/2", 5: "5/1", 6: "1/3", 255: "1/3"} {
		list = append(list, attack{name: fmt.Sprintf("message type %d where the open should be", typ), open: true, typ: typ, body: []byte{0, 0, 0, 0}, want: want})
	}
	list = append(list, attack{name: "keepalive where the open should be", open: true, typ: 4, want: "5/1"})
	for name, second := range map[string]struct {
		typ  byte
		body []byte
	}{"open twice": {1, openBody(nil)}, "update": {2, []byte{0, 0, 0, 0}}, "route refresh": {5, []byte{0, 1, 0, 1}}} {
		list = append(list, attack{name: name + " where the first keepalive should be", open: true, want: "5/2", run: func(p *rawPeer) {
			p.send(1, openBody(nil))
			p.send(second.typ, second.body)
		}})
	}
	for i := range 10 {
		want := "1/1"
		if i == 0 { // three bytes and the end
			want = "closed"
		}
		list = append(list, attack{name: fmt.Sprintf("noise %d", i), open: true, want: want, run: func(p *rawPeer) {
			noise := slices.Repeat([]byte{byte(i * 25), 0xff, byte(i)}, 1+i*100)
			_, _ = p.conn.Write(noise)
			_ = p.conn.(*net.TCPConn).CloseWrite()
		}})
	}
	return list
}
