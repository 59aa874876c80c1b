package hostile

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
)

// All are all attacks.
func (s Set) All() []Attack {
	return slices.Concat(s.Attributes(), s.Updates(), s.Messages(), s.Opens(), s.lengths(), s.orders(), s.prefixes(),
		s.hops(), s.paths(), s.farewells(), s.refreshes(), s.headers(), s.capabilities(), s.parameters(), s.mutations(), s.longest())
}

// lengths are attributes of every length up to 40.
func (s Set) lengths() []Attack {
	times := func(of int) func(int) bool { return func(n int) bool { return n > 0 && n%of == 0 } }
	exactly := func(want int) func(int) bool { return func(n int) bool { return n == want } }
	var list []Attack
	for _, a := range []struct {
		typ, flags byte
		good       func(n int) bool
		bad        string
	}{
		{1, 0x40, exactly(1), Withdrawn},
		{3, 0x40, exactly(4), Withdrawn},
		{4, 0x80, exactly(4), Withdrawn},
		{5, 0x40, exactly(4), Withdrawn},
		{6, 0x40, exactly(0), Used},
		{7, 0xc0, exactly(8), Used},
		{8, 0xc0, times(4), Withdrawn},
		{9, 0x80, exactly(4), Withdrawn},
		{10, 0x80, times(4), Withdrawn},
		{16, 0xc0, times(8), Withdrawn},
		{25, 0xc0, times(20), Withdrawn},
		{32, 0xc0, times(12), Withdrawn},
		{35, 0xc0, exactly(4), Withdrawn},
	} {
		for n := range 41 {
			want := a.bad
			if a.good(n) {
				want = Used
			}
			if a.good(n) && (a.typ == 1 || a.typ == 3) {
				continue // its value must be right as well
			}
			list = append(list, Attack{
				Name: fmt.Sprintf("attribute %d of %d bytes", a.typ, n), Type: 2, Want: want,
				Body: s.UpdateBody(a.typ, Whole(a.flags, a.typ, slices.Repeat([]byte{7}, n)...), NLRI),
			})
		}
	}
	return list
}

// orders are good attributes in other orders, and with flags that say nothing.
func (s Set) orders() []Attack {
	var list []Attack
	rnd := rand.New(rand.NewPCG(1, 0)) //nolint:gosec // the same each time
	var all [][]byte
	for _, g := range s.good() {
		one := Whole(g.flags, g.typ, g.value...)
		all = append(all, one)
		list = append(list, Attack{
			Name: fmt.Sprintf("attribute %d with unused flags", g.typ), Type: 2, Want: Used,
			Body: s.UpdateBody(g.typ, Whole(g.flags|0x0f, g.typ, g.value...), NLRI),
		})
	}
	for i := range 30 {
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		list = append(list, Attack{Name: fmt.Sprintf("order %d of attributes", i), Type: 2, Want: Used, Body: update(slices.Concat(all...), NLRI)})
	}
	for subtype := range byte(20) {
		for _, typ := range []byte{0x00, 0x01, 0x02, 0x03, 0x06, 0x0c, 0x40, 0x43, 0x80, 0x81, 0x82, 0xff} {
			list = append(list, Attack{
				Name: fmt.Sprintf("extended community %x%02x", typ, subtype), Type: 2, Want: Used,
				Body: s.UpdateBody(0, Whole(0xc0, 16, typ, subtype*13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), NLRI),
			})
		}
	}
	return list
}

// update is the body of an UPDATE.
func update(attrs, nlri []byte) []byte {
	return append(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...), nlri...) //nolint:gosec // a message
}

// prefixes are routes of impossible lengths, and possible ones cut.
func (s Set) prefixes() []Attack {
	var list []Attack
	add := func(what string, want string, extra, nlri []byte) {
		list = append(list, Attack{Name: "prefix " + what, Type: 2, Want: want, Body: s.UpdateBody(0, extra, nlri)})
	}
	address := slices.Repeat([]byte{10}, 32)
	for bits := 1; bits < 256; bits += 3 {
		n := (bits + 7) / 8
		if bits > 32 {
			add(fmt.Sprintf("of %d bits", bits), "3/10", nil, append([]byte{byte(bits)}, address[:n]...))
			add(fmt.Sprintf("withdrawn, of %d bits in IPv6's place", bits), "3/9", Whole(0x80, 15, append([]byte{0, 1, 1, byte(bits)}, address[:n]...)...), NLRI)
		} else {
			add(fmt.Sprintf("of %d bits, cut", bits), "3/10", nil, append([]byte{byte(bits)}, address[:n-1]...))
		}
		if want := "3/9"; bits > 128 {
			add(fmt.Sprintf("of %d bits, IPv6", bits), want, Whole(0x80, 14, Reach6("fd00::7", append([]byte{byte(bits)}, address[:n]...)...)...), NLRI)
		} else {
			add(fmt.Sprintf("of %d bits, IPv6, cut", bits), want, Whole(0x80, 14, Reach6("fd00::7", append([]byte{byte(bits)}, address[:n-1]...)...)...), NLRI)
		}
	}
	return list
}

// hops are MP_REACH_NLRI with next hops of every length.
func (s Set) hops() []Attack {
	var list []Attack
	for _, afi := range []byte{1, 2} {
		for n := range 50 {
			if n == 16 || n == 32 || afi == 1 && n == 4 {
				continue
			}
			value := append([]byte{0, afi, 1, byte(n)}, slices.Repeat([]byte{0x20}, n)...)
			list = append(list, Attack{
				Name: fmt.Sprintf("next hop of %d bytes, family %d", n, afi), Type: 2, Want: "3/9",
				Body: s.UpdateBody(0, Whole(0x80, 14, append(value, 0, 8, 10)...), NLRI),
			})
		}
	}
	return list
}

// paths are AS_PATHs of every segment type and of wrong counts.
func (s Set) paths() []Attack {
	var list []Attack
	add := func(what, want string, value ...byte) {
		list = append(list, Attack{Name: "AS_PATH " + what, Type: 2, Want: want, Body: s.UpdateBody(2, Whole(0x40, 2, value...), NLRI)})
	}
	as := []byte{0, 0, 0xfd, 0xe9}
	for typ := 0; typ < 256; typ += 5 {
		if typ < 1 || typ > 4 {
			add(fmt.Sprintf("segment type %d", typ), Withdrawn, append([]byte{byte(typ), 1}, as...)...)
			add(fmt.Sprintf("segment type %d after a good one", typ), Withdrawn, slices.Concat([]byte{2, 1}, as, []byte{byte(typ), 1}, as)...)
		}
	}
	for _, typ := range []byte{1, 2} {
		for n := 1; n < 30; n++ {
			add(fmt.Sprintf("segment type %d of %d, one missing", typ, n), Withdrawn, append([]byte{typ, byte(n)}, slices.Repeat(as, n-1)...)...)
			add(fmt.Sprintf("segment type %d of %d and a byte more", typ, n), Withdrawn, append(append([]byte{typ, byte(n)}, slices.Repeat(as, n)...), 2)...)
			add(fmt.Sprintf("segment type %d of %d", typ, n), Used, append([]byte{typ, byte(n)}, slices.Repeat(as, n)...)...)
		}
	}
	return list
}

// farewells are NOTIFICATIONs of all kinds: none is answered.
func (s Set) farewells() []Attack {
	var list []Attack
	add := func(what string, body ...byte) {
		list = append(list, Attack{Name: "farewell " + what, Type: 3, Body: body, Want: Closed})
	}
	for _, sub := range []byte{2, 4, 9} {
		for _, says := range []int{0, 1, 20, 127, 128, 129, 255} {
			for _, has := range []int{0, 1, 20, 255} {
				add(fmt.Sprintf("6/%d, text of %d bytes that says %d", sub, has, says), append([]byte{6, sub, byte(says)}, slices.Repeat([]byte{0xff}, has)...)...)
			}
		}
	}
	for code := range byte(12) {
		add(fmt.Sprintf("%d/255", code), code, 255)
		add(fmt.Sprintf("6/9 around %d/0", code), 6, 9, code, 0)
	}
	add("of 4096 bytes", append([]byte{1, 1}, slices.Repeat([]byte{0x1b}, 4096-21)...)...)
	return list
}

// refreshes are ROUTE-REFRESH messages of every length and subtype. The session
// survives the latter, and so no route of the attack is used.
func (s Set) refreshes() []Attack {
	var list []Attack
	for n := range 31 {
		if n != 4 {
			list = append(list, Attack{Name: fmt.Sprintf("refresh of %d bytes", n), Type: 5, Body: slices.Repeat([]byte{1}, n), Want: "7/1"})
		}
	}
	for sub := 0; sub < 256; sub += 15 {
		list = append(list,
			Attack{Name: fmt.Sprintf("refresh of subtype %d", sub), Type: 5, Body: []byte{0, 1, byte(sub), 1}, Want: Withdrawn},
			Attack{Name: fmt.Sprintf("refresh of family %d/%d", 3+sub, sub), Type: 5, Body: []byte{0, byte(3 + sub&63), 0, byte(sub)}, Want: Withdrawn})
	}
	return list
}

// headers are messages of every type with lengths that cannot be.
func (s Set) headers() []Attack {
	var list []Attack
	for typ, least := range map[byte]uint16{1: 29, 2: 23, 3: 21, 4: 19} {
		for _, n := range []uint16{0, 1, 18, least - 1, 4097, 8192, 32768, 65535} {
			b := append(binary.BigEndian.AppendUint16(slices.Repeat([]byte{0xff}, 16), n), typ)
			list = append(list, Attack{
				Name: fmt.Sprintf("header of type %d, length %d", typ, n), Want: "1/2", Run: func(p *Peer) { _, _ = p.Conn.Write(b) },
			})
		}
	}
	for i := range 16 {
		b := append(slices.Repeat([]byte{0xff}, 16), 0, 19, 4)
		b[i] = 0x7f
		list = append(list, Attack{Name: fmt.Sprintf("header with byte %d of the marker wrong", i), Want: "1/1", Run: func(p *Peer) { _, _ = p.Conn.Write(b) }})
	}
	return list
}

// capabilities are OPENs with capabilities of every length beside good ones.
func (s Set) capabilities() []Attack {
	ok := map[int]func(n int) bool{
		1: func(n int) bool { return n == 4 }, 2: func(n int) bool { return n == 0 }, 5: func(n int) bool { return n%6 == 0 },
		64: func(n int) bool { return n%4 == 2 }, 65: func(int) bool { return false }, 69: func(n int) bool { return n%4 == 0 },
		70: func(n int) bool { return n == 0 }, 71: func(n int) bool { return n%7 == 0 }, 128: func(n int) bool { return n == 0 },
	}
	var list []Attack
	for _, code := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 128, 131, 184, 255} {
		for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 14, 30, 100} {
			if code == 65 && n == 4 {
				continue // an AS number
			}
			want := Used
			if good := ok[code]; good != nil && !good(n) {
				want = "2/0"
			}
			for _, fill := range []byte{0x00, 0x01, 0xff} {
				list = append(list, Attack{
					Name: fmt.Sprintf("open capability %d of %d bytes %02x", code, n, fill), Open: true, Type: 1, Want: want,
					Body: s.OpenBody(func(b []byte) []byte {
						more := append([]byte{byte(code), byte(n)}, slices.Repeat([]byte{fill}, n)...)
						b = append(b, append([]byte{2, byte(len(more))}, more...)...)
						b[9] += byte(2 + len(more))
						return b
					}),
				})
			}
		}
	}
	return list
}

// parameters are OPENs whose optional parameters do not fit.
func (s Set) parameters() []Attack {
	var list []Attack
	base := len(s.OpenBody(nil))
	for n := 10; n < base; n++ {
		list = append(list, Attack{
			Name: fmt.Sprintf("open cut after %d bytes", n), Open: true, Type: 1, Want: "2/0",
			Body: s.OpenBody(func(b []byte) []byte { return b[:n] }),
		})
	}
	for at := 9; at < 14; at++ {
		for _, v := range []byte{3, 5, 100, 200} {
			if at == 10 || at == 12 {
				continue // types
			}
			list = append(list, Attack{
				Name: fmt.Sprintf("open with the length at %d being %d", at, v), Open: true, Type: 1, Want: "2/0",
				Body: s.OpenBody(func(b []byte) []byte { b[at] = v; return b }),
			})
		}
	}
	list = append(list, Attack{
		Name: "open with extended parameters (RFC 9072)", Open: true, Type: 1, Want: "2/0",
		Body: s.OpenBody(func(b []byte) []byte { return append(b[:9:9], 255, 255, 0, 5, 2, 0, 2, 2, 0) }),
	})
	return list
}

// longest are UPDATEs as long as a message can be, or nearly. Nothing is wrong
// with them for us; but they grow when they are passed on, and those who are to be
// told of them must not suffer.
func (s Set) longest() []Attack {
	fill := func(head int, unit []byte, flags, typ byte, size int) []byte {
		n := (size - head - 4) / len(unit)
		return Whole(flags|flagExtended, typ, slices.Repeat(unit, n)...)
	}
	path := func(head int, as []byte, size int) []byte {
		var value []byte
		for left := (size - head - 4) / 4; left > 1; {
			n := min(left-1, 255)
			value = append(append(value, 2, byte(n)), slices.Repeat(as, n)...)
			left -= n + 1
		}
		return Whole(0x40|flagExtended, 2, value...)
	}
	var list []Attack
	for _, size := range []int{2100, 3000, 4060, 4078, 4080, 4082, 4083, 4084, 4090, 4093, 4095, 4096} {
		head := 19 + len(s.UpdateBody(0, nil, NLRI))
		for what, attr := range map[string][]byte{
			"communities": fill(head, []byte{0xfc, 0, 0, 1}, 0xc0, 8, size), "clusters": fill(head, []byte{10, 9, 8, 7}, 0x80, 10, size),
			"large communities": fill(head, slices.Repeat([]byte{3}, 12), 0xc0, 32, size), "an unknown attribute": fill(head, []byte{9}, 0xc0, 99, size),
		} {
			list = append(list, Attack{Name: fmt.Sprintf("%d bytes of %s", size, what), Type: 2, Body: s.UpdateBody(0, attr, NLRI), Want: Used})
		}
		for name, as := range map[string][]byte{"two": {0, 0, 0xfd, 0xe9}, "four": {0, 1, 0, 7}} {
			attr := path(head-3, as, size)
			list = append(list, Attack{Name: fmt.Sprintf("%d bytes of AS numbers of %s octets", size, name), Type: 2, Body: s.UpdateBody(2, attr, NLRI), Want: Used})
		}
	}
	return list
}

// mutations are good sequences of messages with a few bytes changed.
func (s Set) mutations() []Attack {
	message := func(typ byte, body []byte) []byte {
		b := binary.BigEndian.AppendUint16(slices.Repeat([]byte{0xff}, 16), uint16(19+len(body))) //nolint:gosec // a message
		return append(append(b, typ), body...)
	}
	var attrs []byte
	for _, g := range s.good() {
		attrs = append(attrs, Whole(g.flags, g.typ, g.value...)...)
	}
	good := slices.Concat(message(2, update(attrs, NLRI)), message(5, []byte{0, 1, 0, 1}), message(2, s.UpdateBody(0, nil, NLRI)),
		message(2, append(append([]byte{0, 5}, NLRI...), 0, 0)), message(4, nil), message(2, []byte{0, 0, 0, 0}))
	var list []Attack
	for seed := range uint64(400) {
		list = append(list, Attack{Name: fmt.Sprintf("mutation %d", seed), Want: Any, Run: func(p *Peer) {
			_, _ = p.Conn.Write(mutated(good, rand.New(rand.NewPCG(seed, 2)))) //nolint:gosec // the same each time
		}})
		list = append(list, Attack{Name: fmt.Sprintf("mutation %d from the start", seed), Want: Any, Open: true, Run: func(p *Peer) {
			all := slices.Concat(message(1, s.OpenBody(nil)), message(4, nil), good)
			_, _ = p.Conn.Write(mutated(all, rand.New(rand.NewPCG(seed, 3)))) //nolint:gosec // the same each time
		}})
		list = append(list, Attack{Name: fmt.Sprintf("mutation %d, AS numbers of two octets", seed), Want: Any, Open: true, Run: func(p *Peer) {
			open := []byte{4, byte(s.AS >> 8), byte(s.AS), 0, 90, 10, 9, 8, 7, 0}
			all := slices.Concat(message(1, open), message(4, nil), message(2, s.oldUpdate()), message(2, s.oldUpdate()), good)
			_, _ = p.Conn.Write(mutated(all, rand.New(rand.NewPCG(seed, 4)))) //nolint:gosec // the same each time
		}})
	}
	return list
}

// oldUpdate is an UPDATE of a speaker with AS numbers of two octets, which passes
// on those of four (RFC 6793).
func (s Set) oldUpdate() []byte {
	return update(slices.Concat(Whole(0x40, 1, 0), Whole(0x40, 2, 2, 2, 0x5b, 0xa0, 0xfd, 0xe9), Whole(0x40, 3, s.Hop.AsSlice()...),
		Whole(0x40, 5, 0, 0, 0, 100), Whole(0xc0, 7, 0x5b, 0xa0, 10, 9, 8, 7), Whole(0xc0, 17, 2, 2, 0, 1, 0, 0, 0, 0, 0xfd, 0xe9),
		Whole(0xc0, 18, 0, 1, 0, 0, 10, 9, 8, 7)), NLRI)
}

// mutated changes up to eight places of b. Lengths stay in most.
func mutated(b []byte, rnd *rand.Rand) []byte {
	b = slices.Clone(b)
	for range 1 + rnd.IntN(8) {
		at := rnd.IntN(len(b))
		switch rnd.IntN(8) {
		case 0:
			b = slices.Delete(b, at, min(at+1+rnd.IntN(4), len(b)))
		case 1:
			b = slices.Insert(b, at, byte(rnd.IntN(256)))
		case 2:
			b[at] = 0xff
		case 3:
			b[at] = 0
		default:
			b[at] ^= 1 << rnd.IntN(8)
		}
	}
	return b
}
