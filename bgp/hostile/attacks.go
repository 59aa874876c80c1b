package hostile

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
)

const (
	flagOptional   = 0x80
	flagTransitive = 0x40
	flagExtended   = 0x10
)

// goodAttr is a well-formed attribute, with the length of the value that RFC 4271
// and its successors want.
type goodAttr struct {
	typ, flags byte
	value      []byte
	// badLength is what a wrong length does (RFC 7606 section 7).
	badLength string
	// unknown: the engine does not know the type, so it cannot know its flags.
	unknown bool
}

// good are the attributes by type, the mandatory ones first.
func (s Set) good() []goodAttr {
	return []goodAttr{
		{typ: 1, flags: 0x40, value: []byte{0}, badLength: Withdrawn},
		{typ: 2, flags: 0x40, badLength: Withdrawn},
		{typ: 3, flags: 0x40, value: s.Hop.AsSlice(), badLength: Withdrawn},
		{typ: 4, flags: 0x80, value: []byte{0, 0, 0, 9}, badLength: Withdrawn},
		{typ: 5, flags: 0x40, value: []byte{0, 0, 0, 100}, badLength: Withdrawn},
		{typ: 6, flags: 0x40, badLength: Used},
		{typ: 7, flags: 0xc0, value: []byte{0, 0, 0xfc, 0, 127, 37, 0, 7}, badLength: Used},
		{typ: 8, flags: 0xc0, value: []byte{0xfc, 0, 0, 1}, badLength: Withdrawn},
		{typ: 9, flags: 0x80, value: []byte{127, 37, 0, 9}, badLength: Withdrawn},
		{typ: 10, flags: 0x80, value: []byte{127, 37, 0, 10}, badLength: Withdrawn},
		{typ: 14, flags: 0x80, value: Reach6("fd00::7", 64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0), badLength: "3/9"},
		{typ: 15, flags: 0x80, value: []byte{0, 2, 1, 64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0}, badLength: "3/9"},
		{typ: 16, flags: 0xc0, value: []byte{0, 2, 0xfc, 0, 0, 0, 0, 1}, badLength: Withdrawn},
		{typ: 17, flags: 0xc0, value: []byte{2, 1, 0, 0, 0xfd, 0xe9}, badLength: Used},
		{typ: 18, flags: 0xc0, value: []byte{0, 0, 0xfc, 0, 127, 37, 0, 7}, badLength: Used},
		{typ: 22, flags: 0xc0, value: []byte{0, 6, 0, 0, 0, 127, 37, 0, 7}, badLength: Used},
		{typ: 23, flags: 0xc0, value: []byte{0, 8, 0, 4, 1, 2, 3, 4}, badLength: Used},
		{typ: 25, flags: 0xc0, value: slices.Repeat([]byte{7}, 20), badLength: Withdrawn},
		{typ: 26, flags: 0x80, value: []byte{1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1}, badLength: Used},
		{typ: 29, flags: 0x80, value: []byte{4, 2, 0, 0}, badLength: Used},
		{typ: 32, flags: 0xc0, value: slices.Repeat([]byte{3}, 12), badLength: Withdrawn},
		{typ: 35, flags: 0xc0, value: []byte{0, 0, 0xfc, 0}, badLength: Withdrawn, unknown: true},
		{typ: 40, flags: 0xc0, value: []byte{1, 0, 7, 0, 0, 0, 0, 0, 0, 1}, badLength: Used},
		{typ: 128, flags: 0xc0, value: []byte{0, 0, 0, 1, 1, 0, 0, 0}, badLength: Used, unknown: true},
	}
}

// Reach6 is the value of an MP_REACH_NLRI for IPv6 unicast.
func Reach6(hop string, nlri ...byte) []byte {
	return append(append(append([]byte{0, 2, 1, 16}, net.ParseIP(hop)...), 0), nlri...)
}

// Attribute is one attribute that says it is length long.
func Attribute(flags, typ byte, length int, value []byte) []byte {
	if flags&flagExtended != 0 {
		return append(binary.BigEndian.AppendUint16([]byte{flags, typ}, uint16(length)), value...)
	}
	return append([]byte{flags, typ, byte(length)}, value...)
}

// Whole is an attribute with the right length.
func Whole(flags, typ byte, value ...byte) []byte {
	return Attribute(flags, typ, len(value), value)
}

// UpdateBody is an UPDATE's body with the mandatory attributes, except the
// given type, and extra.
func (s Set) UpdateBody(without byte, extra, nlri []byte) []byte {
	var attrs []byte
	for _, a := range s.good()[:5] {
		if a.typ != without && a.typ != 4 {
			attrs = append(attrs, Attribute(a.flags, a.typ, len(a.value), a.value)...)
		}
	}
	attrs = append(attrs, extra...)
	return append(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...), nlri...)
}

// NLRI is the route of the attacks: 10.244.99.0/26.
var NLRI = []byte{26, 10, 244, 99, 0}

// Attributes are every attribute times every way to get it wrong.
func (s Set) Attributes() []Attack {
	var list []Attack
	for _, g := range s.good() {
		n := len(g.value)
		add := func(what string, attr []byte, want string) {
			list = append(list, Attack{
				Name: fmt.Sprintf("attribute %d %s", g.typ, what), Type: 2, Body: s.UpdateBody(g.typ, attr, NLRI), Want: want,
			})
		}
		multi := g.typ == 14 || g.typ == 15 // routes: their place in the message must be sure
		long, again, ones, noOption, noTransit := g.badLength, Used, Used, Withdrawn, Withdrawn
		switch {
		case multi:
			long, again = Used, "3/1" // one zero more is a default route
		case g.typ <= 3:
			ones = Withdrawn
		case g.unknown:
			noOption, noTransit = "3/2", Used
		}
		if n > 0 {
			add("empty", Whole(g.flags, g.typ), g.badLength)
			add("a byte short", Attribute(g.flags, g.typ, n-1, g.value[:n-1]), g.badLength)
		}
		if n > 1 {
			add("one byte", Attribute(g.flags, g.typ, 1, g.value[:1]), g.badLength)
		}
		add("a byte long", Attribute(g.flags, g.typ, n+1, append(slices.Clone(g.value), 0)), long)
		add("longer than the message", Attribute(g.flags, g.typ, n+200, g.value), Withdrawn)
		add("extended length beyond the message", Attribute(g.flags|flagExtended, g.typ, 65535, g.value), Withdrawn)
		add("cut in its header", []byte{g.flags, g.typ}, Withdrawn)
		add("optional bit wrong", Attribute(g.flags^flagOptional, g.typ, n, g.value), noOption)
		add("transitive bit wrong", Attribute(g.flags^flagTransitive, g.typ, n, g.value), noTransit)
		one := Attribute(g.flags, g.typ, n, g.value)
		add("in extended length", Attribute(g.flags|flagExtended, g.typ, n, g.value), Used)
		add("twice", slices.Concat(one, one), again)
		add("four times, the last short", slices.Concat(one, one, one, Attribute(g.flags, g.typ, max(n-1, 0), g.value[:max(n-1, 0)])), again)
		add("of 0xff", Whole(g.flags, g.typ, slices.Repeat([]byte{0xff}, max(n, 1))...), ones)
	}
	for _, typ := range []byte{1, 2, 3} {
		list = append(list, Attack{Name: fmt.Sprintf("attribute %d missing", typ), Type: 2, Body: s.UpdateBody(typ, nil, NLRI), Want: Withdrawn})
	}
	for typ := 41; typ < 51; typ++ {
		list = append(list, Attack{Name: fmt.Sprintf("unknown well-known attribute %d", typ), Type: 2, Body: s.UpdateBody(0, Whole(0x40, byte(typ), 1), NLRI), Want: "3/2"})
	}
	return append(list, s.values()...)
}

// values are values of the right length that mean nothing.
func (s Set) values() []Attack {
	var list []Attack
	add := func(name string, without byte, want string, attr ...byte) {
		list = append(list, Attack{Name: name, Type: 2, Body: s.UpdateBody(without, attr, NLRI), Want: want})
	}
	add("origin 3", 1, Withdrawn, Whole(0x40, 1, 3)...)
	for _, path := range []struct {
		name  string
		value []byte
		want  string
	}{
		{"segment of type 0", []byte{0, 1, 0, 0, 0xfd, 0xe9}, Withdrawn},
		{"segment of type 5", []byte{5, 1, 0, 0, 0xfd, 0xe9}, Withdrawn},
		{"segment of no AS", []byte{2, 0}, Withdrawn},
		{"segment of no AS after a good one", []byte{2, 1, 0, 0, 0xfd, 0xe9, 2, 0}, Withdrawn},
		{"segment longer than the attribute", []byte{2, 2, 0, 0, 0xfd, 0xe9}, Withdrawn},
		{"segment of 255, one there", []byte{2, 255, 0, 0, 0xfd, 0xe9}, Withdrawn},
		{"AS numbers of two octets", []byte{2, 1, 0xfd, 0xe9}, Withdrawn},
		{"AS 0", []byte{2, 1, 0, 0, 0, 0}, Withdrawn},
		{"AS 0 among others", []byte{2, 3, 0, 0, 0xfd, 0xe9, 0, 0, 0, 0, 0, 0, 0xfd, 0xe8}, Withdrawn},
		{"a set", []byte{1, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xe8}, Used},
	} {
		add("AS_PATH with "+path.name, 2, path.want, Whole(0x40, 2, path.value...)...)
	}
	for _, hop := range [][]byte{{0, 0, 0, 0}, {224, 0, 0, 1}, {255, 255, 255, 255}} {
		add(fmt.Sprintf("next hop %d", hop), 3, Withdrawn, Whole(0x40, 3, hop...)...)
	}
	add("AGGREGATOR with AS 0", 0, Used, Whole(0xc0, 7, 0, 0, 0, 0, 127, 37, 0, 7)...)
	add("AGGREGATOR with an AS of two octets", 0, Used, Whole(0xc0, 7, 0xfc, 0, 127, 37, 0, 7)...)
	add("AS4_AGGREGATOR with AS 0", 0, Used, Whole(0xc0, 18, 0, 0, 0, 0, 127, 37, 0, 7)...)
	add("IPv6 next hop ::", 0, Withdrawn, Whole(0x80, 14, Reach6("::", 64, 0xfd, 0, 2, 0x44, 0, 8, 0, 0)...)...)
	add("IPv6 next hop ff02::1", 0, Withdrawn, Whole(0x80, 14, Reach6("ff02::1", 64, 0xfd, 0, 2, 0x44, 0, 8, 0, 0)...)...)
	add("IPv6 prefix of 129 bits", 0, "3/9", Whole(0x80, 14, Reach6("fd00::7", 129)...)...)
	add("IPv6 withdrawal of 129 bits", 0, "3/9", Whole(0x80, 15, 0, 2, 1, 129)...)
	for _, n := range []int{0, 1, 4, 8, 15, 17, 24, 33, 255} {
		hop := append([]byte{0, 2, 1, byte(n)}, slices.Repeat([]byte{0xfd}, n)...)
		add(fmt.Sprintf("IPv6 next hop of %d bytes", n), 0, "3/9", Attribute(0x90, 14, len(hop)+1, append(hop, 0))...)
	}
	add("attributes in reverse", 0, Used) // rewritten below
	list[len(list)-1].Body = s.reversed()
	list = append(list, Attack{Name: "withdrawn and announced", Type: 2, Body: append(slices.Concat([]byte{0, 5}, NLRI), s.UpdateBody(0, nil, NLRI)[2:]...), Want: Used})
	// Without a route none can be withdrawn (RFC 7606 section 5.2).
	for want, attr := range map[string][]byte{"3/4": Whole(0xc0, 1, 0), "3/5": Whole(0x40, 3, 1), "3/6": Whole(0x40, 1, 9), "3/11": Whole(0x40, 2, 2, 0), "3/1": {0x40}} {
		list = append(list, Attack{Name: "no route, and a fault " + want, Type: 2, Body: append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attr))), attr...), Want: want})
	}
	return list
}

// reversed is a good UPDATE with its attributes in descending order.
func (s Set) reversed() []byte {
	var attrs []byte
	for _, i := range []int{4, 2, 1, 0} {
		a := s.good()[i]
		attrs = append(attrs, Whole(a.flags, a.typ, a.value...)...)
	}
	return append(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...), NLRI...)
}

// Updates are faults of an UPDATE outside its attributes.
func (s Set) Updates() []Attack {
	body := func(name, want string, b ...byte) Attack {
		return Attack{Name: "update " + name, Type: 2, Body: b, Want: want}
	}
	list := []Attack{
		body("empty", "1/2"), body("of one byte", "1/2", 0), body("of three bytes", "1/2", 0, 0, 0),
		body("withdrawn length beyond the message", "3/1", 0, 200, 0, 0),
		body("withdrawn length 65535", "3/1", 255, 255, 0, 0),
		body("attribute length beyond the message", "3/1", 0, 0, 0, 200),
		body("attribute length 65535", "3/1", 0, 0, 255, 255),
		body("withdrawn prefix of 33 bits", "3/10", 0, 6, 33, 10, 0, 0, 0, 0, 0, 0),
		body("withdrawn prefix of 255 bits", "3/10", 0, 2, 255, 10, 0, 0),
		body("withdrawn prefix cut", "3/10", 0, 2, 24, 10, 0, 0),
		{Name: "update nlri of three default routes", Type: 2, Body: s.UpdateBody(0, nil, []byte{0, 0, 0}), Want: Withdrawn},
	}
	for _, nlri := range [][]byte{{33, 10, 0, 0, 0, 0}, {255}, {24}, {24, 10}, {32, 10, 244, 99}, {26, 10, 244, 99, 0, 26}} {
		list = append(list, Attack{Name: fmt.Sprintf("update nlri %x", nlri), Type: 2, Body: s.UpdateBody(0, nil, nlri), Want: "3/10"})
	}
	for _, fam := range [][3]byte{{0, 1, 2}, {0, 1, 128}, {0, 2, 2}, {0, 25, 65}, {0, 25, 70}, {0, 1, 133}, {64, 4, 71}, {255, 255, 255}, {0, 0, 0}} {
		for _, n := range []int{0, 1, 4, 16, 40} {
			v := append(fam[:], slices.Repeat([]byte{byte(n)}, n)...)
			for _, typ := range []byte{14, 15} {
				list = append(list, Attack{
					Name: fmt.Sprintf("family %x not negotiated, attribute %d with %d bytes", fam, typ, n), Type: 2,
					Body: s.UpdateBody(0, Whole(0x80, typ, v...), NLRI), Want: Used,
				})
			}
		}
	}
	return list
}

// Messages are faults of headers and messages in a session that is up.
func (s Set) Messages() []Attack {
	header := func(name, want string, marker byte, length uint16, typ byte) Attack {
		b := append(binary.BigEndian.AppendUint16(slices.Repeat([]byte{marker}, 16), length), typ)
		return Attack{Name: name, Want: want, Run: func(p *Peer) { _, _ = p.Conn.Write(b) }}
	}
	oneBit := slices.Repeat([]byte{0xff}, 19)
	copy(oneBit[15:], []byte{0xfe, 0, 19, 4})
	list := []Attack{
		header("header length 0", "1/2", 0xff, 0, 4),
		header("header length 18", "1/2", 0xff, 18, 4),
		header("header length 4097", "1/2", 0xff, 4097, 2),
		header("header length 65535", "1/2", 0xff, 65535, 2),
		header("header length 65535 of a notification", "1/2", 0xff, 65535, 3),
		header("marker of zeros", "1/1", 0, 19, 4),
		{Name: "marker with one bit wrong", Want: "1/1", Run: func(p *Peer) { _, _ = p.Conn.Write(oneBit) }},
		{Name: "keepalive with a body", Type: 4, Body: []byte{0}, Want: "1/2"},
		{Name: "keepalive of 4096 bytes", Type: 4, Body: make([]byte, 4077), Want: "1/2"},
		{Name: "notification of one byte", Type: 3, Body: []byte{6}, Want: "1/2"},
		{Name: "notification empty", Type: 3, Want: "1/2"},
		{Name: "notification", Type: 3, Body: []byte{6, 4}, Want: Closed},
		{Name: "notification of codes nobody knows", Type: 3, Body: []byte{200, 200, 1, 2, 3}, Want: Closed},
		{Name: "notification with a long text", Type: 3, Body: append([]byte{6, 2, 255}, make([]byte, 20)...), Want: Closed},
		{Name: "open in Established", Type: 1, Body: s.OpenBody(nil), Want: "5/3"},
		{Name: "open empty in Established", Type: 1, Want: "1/2"},
		{Name: "route refresh empty", Type: 5, Want: "7/1"},
		{Name: "route refresh of three bytes", Type: 5, Body: []byte{0, 1, 1}, Want: "7/1"},
		{Name: "route refresh of 40 bytes", Type: 5, Body: make([]byte, 40), Want: "7/1"},
		{Name: "route refresh of a family not negotiated", Type: 5, Body: []byte{0, 25, 0, 70}, Want: Withdrawn},
		{Name: "route refresh subtype 255", Type: 5, Body: []byte{0, 1, 255, 1}, Want: Withdrawn},
	}
	for _, typ := range []byte{0, 6, 7, 9, 66, 128, 255} {
		list = append(list, Attack{Name: fmt.Sprintf("message type %d", typ), Type: typ, Want: "1/3"})
	}
	for i := range 8 { // a keepalive flood, then something
		list = append(list, Attack{Name: fmt.Sprintf("flood %d", i), Want: "3/10", Run: func(p *Peer) {
			for range 200 << (i % 3) {
				p.Send(4, nil)
			}
			p.Send(2, s.UpdateBody(byte(i), nil, []byte{33}))
		}})
	}
	return list
}

// OpenBody is an OPEN with IPv4 and four-octet AS numbers, changed by change
// unless that is nil.
func (s Set) OpenBody(change func([]byte) []byte) []byte {
	caps := []byte{1, 4, 0, 1, 0, 1, 65, 4, 0, 0, byte(s.AS >> 8), byte(s.AS)}
	b := append([]byte{4, byte(s.AS >> 8), byte(s.AS), 0, 90, 127, 37, 0, 7, byte(len(caps) + 2), 2, byte(len(caps))}, caps...)
	if change != nil {
		b = change(b)
	}
	return b
}

// Opens come where a good OPEN should. "used" means that the OPEN was
// taken.
func (s Set) Opens() []Attack {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	var list []Attack
	add := func(name, want string, change func([]byte) []byte) {
		list = append(list, Attack{Name: "open " + name, Open: true, Type: 1, Body: s.OpenBody(change), Want: want})
	}
	for _, v := range []byte{0, 3, 5, 255} {
		add(fmt.Sprintf("version %d", v), "2/1", set(0, v))
	}
	add("hold time 1", "2/6", set(3, 0, 1))
	add("hold time 2", "2/6", set(3, 0, 2))
	add("identifier 0", "2/3", set(5, 0, 0, 0, 0))
	add("identifier of the speaker", "2/3", set(5, s.Self.AsSlice()...))
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
		want := Used
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
	for typ, want := range map[byte]string{2: "5/1", 3: Closed, 4: "1/2", 5: "5/1", 6: "1/3", 255: "1/3"} {
		list = append(list, Attack{Name: fmt.Sprintf("message type %d where the open should be", typ), Open: true, Type: typ, Body: []byte{0, 0, 0, 0}, Want: want})
	}
	list = append(list, Attack{Name: "keepalive where the open should be", Open: true, Type: 4, Want: "5/1"})
	for name, second := range map[string]struct {
		typ  byte
		body []byte
	}{"open twice": {1, s.OpenBody(nil)}, "update": {2, []byte{0, 0, 0, 0}}, "route refresh": {5, []byte{0, 1, 0, 1}}} {
		list = append(list, Attack{Name: name + " where the first keepalive should be", Open: true, Want: "5/2", Run: func(p *Peer) {
			p.Send(1, s.OpenBody(nil))
			p.Send(second.typ, second.body)
		}})
	}
	for i := range 10 {
		want := "1/1"
		if i == 0 { // three bytes and the end
			want = Closed
		}
		list = append(list, Attack{Name: fmt.Sprintf("noise %d", i), Open: true, Want: want, Run: func(p *Peer) {
			noise := slices.Repeat([]byte{byte(i * 25), 0xff, byte(i)}, 1+i*100)
			_, _ = p.Conn.Write(noise)
			_ = p.Conn.(*net.TCPConn).CloseWrite()
		}})
	}
	return list
}
