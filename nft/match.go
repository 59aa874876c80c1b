package nft

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// packet stands for all packets from a pod of a pool to another: those that
// come out of a pod's device, or those that go into one.
type packet struct {
	pool netip.Prefix
	out  bool // of a pod's device
}

// podDevice is how the names of pods' devices begin.
const podDevice = ours.HostDevicePrefix

// operand is the content of a rule's register.
type operand struct {
	address bool   // the source or destination address, or its first bytes
	mask    []byte // the bits that count; nil: all
	length  int
	family  bool // the protocol family
	device  bool // the name of the device on the pod's side
}

// judge returns the verdict of a rule for a packet, nil when the rule does not
// match all such packets, or not certainly.
func (w *walk) judge(table *nftables.Table, r *nftables.Rule, p packet) (*expr.Verdict, error) {
	registers := map[uint32]operand{}
	for _, e := range r.Exprs {
		matches := true
		switch e := e.(type) {
		case *expr.Payload:
			registers[e.DestRegister] = p.field(e)
		case *expr.Meta:
			registers[e.Register] = p.meta(e)
		case *expr.Bitwise:
			o := registers[e.SourceRegister]
			o.mask = e.Mask
			registers[e.DestRegister] = o
		case *expr.Cmp:
			matches = p.compare(registers[e.Register], e)
		case *expr.Lookup:
			var err error
			if matches, err = w.inSet(table, registers[e.SourceRegister], e, p); err != nil {
				return nil, err
			}
		case *expr.Match:
			matches = e.Name == "comment"
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			return &expr.Verdict{Kind: expr.VerdictDrop}, nil
		case *expr.Target:
			if e.Name == "REJECT" {
				return &expr.Verdict{Kind: expr.VerdictDrop}, nil
			}
			return nil, nil //nolint:nilnil // marks, logs and the like: the packet continues
		case *expr.Verdict:
			return e, nil
		default:
			matches = false
		}
		if !matches {
			return nil, nil //nolint:nilnil // no verdict is an answer
		}
	}
	return nil, nil //nolint:nilnil // a rule that only counts
}

// field returns the operand that a rule loads from the packet.
func (p packet) field(e *expr.Payload) operand {
	source, size := uint32(12), uint32(4) // struct iphdr
	if p.pool.Addr().Is6() {
		source, size = 8, 16 // struct ipv6hdr
	}
	known := e.Base == expr.PayloadBaseNetworkHeader && (e.Offset == source || e.Offset == source+size) && e.Len <= size
	return operand{address: known, length: int(e.Len)}
}

// meta returns the operand that a rule loads from the packet's metadata.
func (p packet) meta(e *expr.Meta) operand {
	switch e.Key { //nolint:exhaustive // nothing certain is known of the others
	case expr.MetaKeyNFPROTO:
		return operand{family: true}
	case expr.MetaKeyIIFNAME:
		return operand{device: p.out}
	case expr.MetaKeyOIFNAME:
		return operand{device: !p.out}
	}
	return operand{}
}

// compare reports whether a comparison certainly is true.
func (p packet) compare(o operand, e *expr.Cmp) bool {
	equal := e.Op == expr.CmpOpEq
	switch {
	case o.family:
		family := byte(unix.NFPROTO_IPV4)
		if p.pool.Addr().Is6() {
			family = unix.NFPROTO_IPV6
		}
		return len(e.Data) > 0 && (e.Data[0] == family) == equal && (equal || e.Op == expr.CmpOpNeq)
	case o.device:
		return equal && len(e.Data) > 0 && strings.HasPrefix(podDevice, string(e.Data))
	case !o.address:
		return false
	}
	rule, ok := prefixOf(o, e.Data, p.pool.Addr().Is4())
	switch {
	case !ok:
		return false
	case equal:
		return rule.Bits() <= p.pool.Bits() && rule.Contains(p.pool.Addr())
	case e.Op == expr.CmpOpNeq:
		return !rule.Overlaps(p.pool)
	}
	return false
}

// prefixOf returns the range that a comparison of an address names: its first
// bytes, or the bits of a mask without holes.
func prefixOf(o operand, data []byte, v4 bool) (netip.Prefix, bool) {
	size := 16
	if v4 {
		size = 4
	}
	mask := o.mask
	if mask == nil {
		mask = bytes.Repeat([]byte{0xff}, o.length)
	}
	bits := 0
	for bits < 8*len(mask) && mask[bits/8]>>(7-bits%8)&1 == 1 {
		bits++
	}
	for rest := bits; rest < 8*len(mask); rest++ {
		if mask[rest/8]>>(7-rest%8)&1 == 1 {
			return netip.Prefix{}, false
		}
	}
	if len(data) > size || len(data) < len(mask) {
		return netip.Prefix{}, false
	}
	full := make([]byte, size)
	copy(full, data)
	a, _ := netip.AddrFromSlice(full)
	return netip.PrefixFrom(a, bits).Masked(), true
}

// inSet reports whether all of the pool certainly is in a set of addresses.
func (w *walk) inSet(table *nftables.Table, o operand, e *expr.Lookup, p packet) (bool, error) {
	size := p.pool.Addr().BitLen() / 8
	if !o.address || o.mask != nil || o.length != size || e.Invert || e.IsDestRegSet {
		return false, nil
	}
	set, err := w.conn.GetSetByName(table, e.SetName)
	if err != nil {
		return false, fmt.Errorf("read set %s: %w", e.SetName, err)
	}
	if set.Concatenation || set.IsMap {
		return false, nil
	}
	if !set.Interval && !p.pool.IsSingleIP() {
		return false, nil
	}
	elements, err := w.conn.GetSetElements(set)
	if err != nil {
		return false, fmt.Errorf("list elements of set %s: %w", set.Name, err)
	}
	return holdsRange(elements, p.pool), nil
}

// holdsRange reports whether one interval of a set holds all of the pool. An
// interval ends where another one, or none, begins.
func holdsRange(elements []nftables.SetElement, pool netip.Prefix) bool {
	first, last := pool.Addr(), lastOf(pool)
	var begin, end netip.Addr // the latest begin up to first, the earliest end behind it
	for _, el := range elements {
		a, ok := netip.AddrFromSlice(el.Key)
		switch {
		case !ok || a.BitLen() != first.BitLen():
		case !el.IntervalEnd && !first.Less(a) && (!begin.IsValid() || begin.Less(a)):
			begin = a
		case el.IntervalEnd && first.Less(a) && (!end.IsValid() || a.Less(end)):
			end = a
		}
	}
	if !begin.IsValid() {
		return false
	}
	for _, el := range elements { // it may have ended before the pool begins
		if a, ok := netip.AddrFromSlice(el.Key); ok && el.IntervalEnd && begin.Less(a) && !first.Less(a) {
			return false
		}
	}
	return !end.IsValid() || last.Less(end)
}
