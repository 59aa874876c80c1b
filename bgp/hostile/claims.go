package hostile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Claim is a well-formed announcement of what may belong to somebody else.
type Claim struct {
	Name    string
	Prefix  netip.Prefix
	NextHop netip.Addr // of the family of Prefix
	// LocalPref, MED and Communities are left out when zero.
	LocalPref, MED uint32
	Communities    []uint32
	// Never: no speaker may use it, whoever announces it.
	Never bool
}

// Estate is what claims are made on.
type Estate struct {
	Block  netip.Prefix // of another node
	Node   netip.Addr   // that has it; of the family of Block
	Pool   netip.Prefix // that Block is of
	Free   netip.Prefix // as large as Block, in Pool, nobody's
	Far    netip.Addr   // behind a gateway, nobody's
	Subnet netip.Prefix // of the speaker and the claimant
	Public netip.Prefix // outside the pools: the claimant may announce it and what is inside
}

// Claims are what a peer may claim of an estate with itself, or what else
// could mislead a speaker, as next hop.
func (e Estate) Claims(self netip.Addr) []Claim {
	return slices.Concat(e.blocks(self), e.hops(self), e.martians(self), e.around(self))
}

// blocks are claims on the block and its parts.
func (e Estate) blocks(self netip.Addr) []Claim {
	var list []Claim
	bits, all := e.Block.Bits(), e.Block.Addr().BitLen()
	last := lastAddr(e.Block)
	for _, c := range []struct {
		what string
		p    netip.Prefix
	}{
		{"the block", e.Block},
		{"its lower half", netip.PrefixFrom(e.Block.Addr(), bits+1)},
		{"its upper half", netip.PrefixFrom(last, bits+1).Masked()},
		{"a quarter of it", netip.PrefixFrom(last, bits+2).Masked()},
		{"its first address", netip.PrefixFrom(e.Block.Addr(), all)},
		{"its last address", netip.PrefixFrom(last, all)},
	} {
		for _, hop := range []netip.Addr{self, e.Node, e.Far, e.Free.Addr().Next(), e.Block.Addr().Next()} {
			list = append(list, Claim{Name: fmt.Sprintf("%s by %s", c.what, hop), Prefix: c.p, NextHop: hop, Never: true})
		}
		list = append(list,
			Claim{Name: c.what + " with a high LOCAL_PREF", Prefix: c.p, NextHop: self, LocalPref: 1 << 30, Never: true},
			Claim{Name: c.what + " with MED 0 and communities", Prefix: c.p, NextHop: self, MED: 1, Communities: []uint32{0xffff0000, 0xffff029a, 64512<<16 | 1}, Never: true})
	}
	return list
}

// hops are claims through next hops that lead elsewhere, or nowhere.
func (e Estate) hops(self netip.Addr) []Claim {
	inBlock, free := e.Block.Addr().Next().Next(), e.Free.Addr().Next()
	list := []Claim{
		{Name: "a service behind an address of the block", Prefix: e.public(1), NextHop: inBlock},
		{Name: "all services behind an address of the block", Prefix: e.Public, NextHop: inBlock},
		{Name: "a service behind a free address of the pool", Prefix: e.public(2), NextHop: free, Never: true},
		{Name: "a service behind the node", Prefix: e.public(3), NextHop: e.Node},
		{Name: "a service behind a service", Prefix: e.public(4), NextHop: e.public(5).Addr()},
		{Name: "a free block behind an address of the block", Prefix: e.Free, NextHop: inBlock},
		{Name: "a free block behind its own address", Prefix: e.Free, NextHop: free},
		{Name: "a free block behind somebody far", Prefix: e.Free, NextHop: e.Far},
		{Name: "a free block", Prefix: e.Free, NextHop: self},
	}
	bad := []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "169.254.169.254", "224.0.0.5", "240.0.0.1", "255.255.255.255"}
	if e.Block.Addr().Is6() {
		bad = []string{"::", "::1", "fe80::ecee:eeff:feee:eeee", "ff02::1"}
	} else if e.Subnet.IsValid() {
		bad = append(bad, e.Subnet.Masked().Addr().String(), lastAddr(e.Subnet).String())
	}
	for i, hop := range bad {
		a := netip.MustParseAddr(hop)
		list = append(list, Claim{Name: "a service behind " + hop, Prefix: e.public(10 + i), NextHop: a, Never: true},
			Claim{Name: "a free block behind " + hop, Prefix: e.Free, NextHop: a, Never: true})
	}
	return list
}

// martians are claims on addresses that nobody may announce.
func (e Estate) martians(self netip.Addr) []Claim {
	bad := []string{
		"0.0.0.0/8", "0.0.0.0/32", "127.0.0.0/8", "127.0.0.53/32", "169.254.0.0/16", "169.254.1.1/32", "169.254.169.254/32",
		"224.0.0.0/4", "224.0.0.0/3", "239.255.0.0/16", "240.0.0.0/4", "255.255.255.255/32",
	}
	if e.Block.Addr().Is6() {
		bad = []string{"::/128", "::1/128", "::/127", "::ffff:0:0/96", "::ffff:a00:0/104", "fe80::/10", "fe80::/64", "fe80::ecee:eeff:feee:eeee/128", "ff00::/8", "ff02::1/128"}
	}
	list := make([]Claim, 0, len(bad))
	for _, text := range bad {
		list = append(list, Claim{Name: text, Prefix: netip.MustParsePrefix(text), NextHop: self, Never: true})
	}
	return list
}

// around are claims on what is larger than the block, and on the wire.
func (e Estate) around(self netip.Addr) []Claim {
	var list []Claim
	for bits := e.Pool.Bits() - 1; bits < e.Block.Bits(); bits += 3 {
		p := netip.PrefixFrom(e.Block.Addr(), bits).Masked()
		list = append(list, Claim{Name: "what the block is inside of: " + p.String(), Prefix: p, NextHop: self},
			Claim{Name: p.String() + " behind an address of the block", Prefix: p, NextHop: e.Block.Addr().Next()})
	}
	list = append(list, Claim{Name: "a default route", Prefix: netip.PrefixFrom(self, 0).Masked(), NextHop: self, Never: true})
	if e.Subnet.IsValid() {
		list = append(list,
			Claim{Name: "the subnet", Prefix: e.Subnet.Masked(), NextHop: self, Never: true},
			Claim{Name: "half of the subnet", Prefix: netip.PrefixFrom(e.Subnet.Addr(), e.Subnet.Bits()+1).Masked(), NextHop: self, Never: true},
			Claim{Name: "an address of the subnet", Prefix: netip.PrefixFrom(self, self.BitLen()), NextHop: self, Never: true})
	}
	return list
}

// public is the nth address of Public.
func (e Estate) public(n int) netip.Prefix {
	a := e.Public.Addr()
	for range n {
		a = a.Next()
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Announce is the body of the UPDATE that announces a claim.
func (s Set) Announce(c Claim) []byte {
	attrs := Whole(0x40, 1, 0)
	var path []byte
	if s.External {
		path = binary.BigEndian.AppendUint32([]byte{2, 1}, uint32(s.AS))
	}
	attrs = append(attrs, Whole(0x40, 2, path...)...)
	var nlri []byte
	if c.Prefix.Addr().Is4() {
		attrs = append(attrs, Whole(0x40, 3, c.NextHop.AsSlice()...)...)
		nlri = wire(c.Prefix)
	} else {
		attrs = append(attrs, Whole(0x80, 14, Reach6(c.NextHop.String(), wire(c.Prefix)...)...)...)
	}
	number := func(flags, typ byte, n uint32) {
		attrs = append(attrs, Whole(flags, typ, binary.BigEndian.AppendUint32(nil, n)...)...)
	}
	if c.MED != 0 {
		number(0x80, 4, c.MED)
	}
	switch {
	case c.LocalPref != 0:
		number(0x40, 5, c.LocalPref)
	case !s.External:
		number(0x40, 5, 100)
	}
	if len(c.Communities) > 0 {
		var value []byte
		for _, v := range c.Communities {
			value = binary.BigEndian.AppendUint32(value, v)
		}
		attrs = append(attrs, Whole(0xc0, 8, value...)...)
	}
	return update(attrs, nlri)
}

// Withdraw is the body of the UPDATE that withdraws a prefix.
func (s Set) Withdraw(p netip.Prefix) []byte {
	nlri := wire(p)
	if p.Addr().Is4() {
		return append(append([]byte{0, byte(len(nlri))}, nlri...), 0, 0)
	}
	return update(Whole(0x80, 15, append([]byte{0, 2, 1}, nlri...)...), nil)
}

// wire is a prefix in an UPDATE (RFC 4271 section 4.3).
func wire(p netip.Prefix) []byte {
	return append([]byte{byte(p.Bits())}, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
}
