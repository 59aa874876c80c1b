package ipam

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Block is a range of a pool that a node owns. It is comparable.
type Block struct {
	CIDR netip.Prefix
	Pool string // the pool's name when the block was claimed
	Node string // the owner
	// Epoch orders claims: a registry gives every claim a larger one than all
	// before, which distinguishes a former owner from the present one.
	Epoch uint64
}

// size returns how many addresses prefix has, at most 1<<30.
func size(prefix netip.Prefix) int {
	host := prefix.Addr().BitLen() - prefix.Bits()
	return 1 << min(host, 30)
}

// u128 is an address as a number.
type u128 struct{ hi, lo uint64 }

func toU128(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (u u128) add(n uint64) u128 {
	lo, carry := bits.Add64(u.lo, n, 0)
	return u128{u.hi + carry, lo}
}

// shl shifts left; n is below 128.
func shl(v uint64, n int) u128 {
	if n >= 64 {
		return u128{v << (n - 64), 0}
	}
	return u128{v >> (64 - n), v << n}
}

func (u u128) plus(o u128) u128 {
	lo, carry := bits.Add64(u.lo, o.lo, 0)
	return u128{u.hi + o.hi + carry, lo}
}

// addr returns the number as an address of the given family.
func (u u128) addr(is4 bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], u.hi)
	binary.BigEndian.PutUint64(b[8:], u.lo)
	if is4 {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// addrAt returns address number n of prefix.
func addrAt(prefix netip.Prefix, n int) netip.Addr {
	return toU128(prefix.Addr()).add(uint64(n)).addr(prefix.Addr().Is4())
}

// ordinal returns addr's number in prefix, which contains it.
func ordinal(prefix netip.Prefix, addr netip.Addr) int {
	return int(toU128(addr).lo - toU128(prefix.Addr()).lo)
}

// blockCount returns how many blocks of length blockSize cidr has, at most
// 2^32: of a larger pool only that many are ever used.
func blockCount(cidr netip.Prefix, blockSize int) uint64 {
	return 1 << min(blockSize-cidr.Bits(), 32)
}

// blockAt returns block number n of cidr.
func blockAt(cidr netip.Prefix, blockSize int, n uint64) netip.Prefix {
	off := shl(n, cidr.Addr().BitLen()-blockSize)
	return netip.PrefixFrom(toU128(cidr.Addr()).plus(off).addr(cidr.Addr().Is4()), blockSize)
}

// insideAny reports whether prefix lies wholly in one of ranges.
func insideAny(prefix netip.Prefix, ranges []netip.Prefix) bool {
	for _, r := range ranges {
		if r.Bits() <= prefix.Bits() && r.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

// comparePrefix orders prefixes by family, address and length.
func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return cmp.Compare(a.Bits(), b.Bits())
}
