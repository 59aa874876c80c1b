package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// packet stands for all packets from a pod of a pool to another (those that come
// out of a pod's device, or those that go into one), or for one packet of a new
// connection.
type packet struct {
	src, dst netip.Prefix // invalid: not known
	in, out  device
	protocol uint8  // 0: any
	port     uint16 // destination; 0: any
}

// device is the name of a device, or how the names of all pods' devices begin.
type device struct {
	name  string // "": not known
	exact bool
}

// podDevice is how the names of pods' devices begin.
const podDevice = ours.HostDevicePrefix

// is4 reports whether the packet is one of IPv4.
func (p packet) is4() bool {
	if p.dst.IsValid() {
		return p.dst.Addr().Is4()
	}
	return p.src.Addr().Is4()
}

// certainty is whether a packet matches.
type certainty uint8

const (
	maybe certainty = iota
	yes
	no
)

func certainly(b bool) certainty {
	if b {
		return yes
	}
	return no
}

// operand is the content of a rule's register.
type operand struct {
	prefix netip.Prefix // the source or destination address, or its first bytes
	mask   []byte       // the bits that count; nil: all
	length int
	family bool   // the protocol family
	device device // a device's name
	value  []byte // a known value, such as the mark
}

// judge returns the verdict of a rule for a packet, nil when the rule does not
// match all such packets, or not certainly. A rule that may let some of them
// through is noted in w.unsure.
func (w *walk) judge(table *nftables.Table, r *nftables.Rule, p packet) (*expr.Verdict, error) {
	registers := map[uint32]operand{}
	matches := yes
	for _, e := range r.Exprs {
		one := yes
		switch e := e.(type) {
		case *expr.Payload:
			registers[e.DestRegister] = p.field(e)
		case *expr.Meta:
			registers[e.Register] = p.meta(e)
		case *expr.Ct:
			registers[e.Register] = ctState(e)
		case *expr.Bitwise:
			registers[e.DestRegister] = registers[e.SourceRegister].masked(e)
		case *expr.Cmp:
			one = p.compare(registers[e.Register], e)
		case *expr.Lookup:
			if e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT {
				return nil, w.passMap(table, registers[e.SourceRegister], e)
			}
			in, err := w.inSet(table, registers[e.SourceRegister], e)
			if err != nil {
				return nil, err
			}
			if one = maybe; in {
				one = yes
			}
		case *expr.Match:
			one = p.xtMatch(e)
		case *expr.Counter, *expr.Log:
		default:
			if verdict, ends := w.verdict(e); ends {
				return w.decide(verdict, matches), nil
			}
			one = maybe
		}
		if one == no {
			return nil, nil //nolint:nilnil // no verdict is an answer
		}
		if one == maybe {
			matches = maybe
		}
	}
	return nil, nil //nolint:nilnil // a rule that only counts
}

// verdict returns the end of a rule; ends is false for an expression that is none.
// A nil verdict lets the packet continue.
func (w *walk) verdict(e expr.Any) (verdict *expr.Verdict, ends bool) {
	rewrite := func(how string) (*expr.Verdict, bool) {
		w.rewrite = how
		return &expr.Verdict{Kind: expr.VerdictAccept}, true
	}
	switch e := e.(type) {
	case *expr.Verdict:
		return e, true
	case *expr.Reject:
		return &expr.Verdict{Kind: expr.VerdictDrop}, true
	case *expr.Masq:
		return rewrite("masquerades")
	case *expr.NAT:
		if e.Type == expr.NATTypeSourceNAT {
			return rewrite("rewrites the source (snat) of")
		}
	case *expr.Target:
		switch e.Name {
		case "REJECT":
			return &expr.Verdict{Kind: expr.VerdictDrop}, true
		case "MASQUERADE":
			return rewrite("masquerades")
		case "SNAT":
			return rewrite("rewrites the source (SNAT) of")
		}
		return nil, true // marks, logs and the like: the packet continues
	}
	return nil, false
}

// decide returns a verdict when the rule certainly matches. When it only may
// match, and so may take the packet away from the rules behind it, that is noted.
func (w *walk) decide(verdict *expr.Verdict, matches certainty) *expr.Verdict {
	if matches == yes {
		return verdict
	}
	if verdict != nil && verdict.Kind != expr.VerdictDrop && verdict.Kind != expr.VerdictContinue {
		w.unsure = true
	}
	w.rewrite = ""
	return nil
}

// field returns the operand that a rule loads from the packet.
func (p packet) field(e *expr.Payload) operand {
	source, size := uint32(12), uint32(4) // struct iphdr
	if !p.is4() {
		source, size = 8, 16 // struct ipv6hdr
	}
	o := operand{length: int(e.Len)}
	if value := p.header(e); value != nil {
		return operand{value: value}
	}
	if e.Base != expr.PayloadBaseNetworkHeader || e.Len > size {
		return o
	}
	switch e.Offset {
	case source:
		o.prefix = p.src
	case source + size:
		o.prefix = p.dst
	}
	return o
}

// header returns the protocol or the destination port, where a rule loads one and it
// is known.
func (p packet) header(e *expr.Payload) []byte {
	protocol := uint32(9) // struct iphdr
	if !p.is4() {
		protocol = 6 // struct ipv6hdr: the tunnels of onlink have no extension headers
	}
	switch {
	case p.protocol == 0:
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == protocol && e.Len == 1:
		return []byte{p.protocol}
	case p.port != 0 && e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2:
		return binary.BigEndian.AppendUint16(nil, p.port)
	}
	return nil
}

// meta returns the operand that a rule loads from the packet's metadata. No
// packet of a pod has a mark when it comes in.
func (p packet) meta(e *expr.Meta) operand {
	switch e.Key { //nolint:exhaustive // nothing certain is known of the others
	case expr.MetaKeyNFPROTO:
		return operand{family: true}
	case expr.MetaKeyL4PROTO:
		if p.protocol != 0 {
			return operand{value: []byte{p.protocol}}
		}
	case expr.MetaKeyIIFNAME:
		return operand{device: p.in}
	case expr.MetaKeyOIFNAME:
		return operand{device: p.out}
	case expr.MetaKeyMARK:
		if !e.SourceRegister {
			return operand{value: make([]byte, 4)}
		}
	}
	return operand{}
}

// ctState returns the state of a new connection (nf_conntrack_common.h:
// NF_CT_STATE_BIT(IP_CT_NEW)).
func ctState(e *expr.Ct) operand {
	const isNew = 1 << 3
	if e.Key != expr.CtKeySTATE || e.SourceRegister {
		return operand{}
	}
	return operand{value: binaryutil.NativeEndian.PutUint32(isNew)}
}

// masked applies a mask.
func (o operand) masked(e *expr.Bitwise) operand {
	if o.value == nil {
		o.mask = e.Mask
		return o
	}
	out := make([]byte, len(o.value))
	for i := range out {
		if i < len(e.Mask) {
			out[i] = o.value[i] & e.Mask[i]
		}
		if i < len(e.Xor) {
			out[i] ^= e.Xor[i]
		}
	}
	return operand{value: out}
}

// xtMatch returns whether a match of iptables matches a packet of a new connection
// without a mark.
func (p packet) xtMatch(e *expr.Match) certainty {
	if e.Name == "comment" {
		return yes
	}
	const stateOnly = uint16(xt.ConntrackState)
	newConnection := func(flags, inverted uint16, states uint16) certainty {
		const isNew = 1 << 3 // XT_CONNTRACK_STATE_BIT(IP_CT_NEW)
		if flags&^uint16(xt.ConntrackStateAlias) != stateOnly {
			return maybe
		}
		return certainly((states&isNew != 0) != (inverted&stateOnly != 0))
	}
	switch info := e.Info.(type) {
	case *xt.ConntrackMtinfo1:
		return newConnection(info.MatchFlags, info.InvertFlags, uint16(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return newConnection(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.ConntrackMtinfo3:
		return newConnection(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.Udp:
		if p.protocol == unix.IPPROTO_UDP && p.port != 0 && info.SrcPorts == [2]uint16{0, math.MaxUint16} && info.InvFlags == 0 {
			return certainly(info.DstPorts[0] <= p.port && p.port <= info.DstPorts[1])
		}
	case *xt.Unknown:
		if e.Name == "mark" {
			return xtMark(*info)
		}
	}
	return maybe
}

// xtMark reads struct xt_mark_mtinfo1 (linux/netfilter/xt_mark.h): mark, mask,
// invert. A packet without a mark has 0.
func xtMark(info []byte) certainty {
	const size = 9
	if len(info) < size {
		return maybe
	}
	unmarked := binary.NativeEndian.Uint32(info) == 0
	return certainly(unmarked != (info[8] != 0))
}

// compare returns whether a comparison is true.
func (p packet) compare(o operand, e *expr.Cmp) certainty {
	equal := e.Op == expr.CmpOpEq
	if !equal && e.Op != expr.CmpOpNeq {
		return maybe
	}
	switch {
	case o.family:
		family := byte(unix.NFPROTO_IPV4)
		if !p.is4() {
			family = unix.NFPROTO_IPV6
		}
		if len(e.Data) == 0 {
			return maybe
		}
		return certainly((e.Data[0] == family) == equal)
	case o.value != nil:
		return certainly(bytes.Equal(o.value, e.Data) == equal)
	case o.device.name != "":
		return o.device.compare(e.Data, equal)
	case !o.prefix.IsValid():
		return maybe
	}
	rule, ok := prefixOf(o, e.Data, o.prefix.Addr().Is4())
	switch {
	case !ok:
		return maybe
	case rule.Bits() <= o.prefix.Bits() && rule.Contains(o.prefix.Addr()):
		return certainly(equal)
	case !rule.Overlaps(o.prefix):
		return certainly(!equal)
	}
	return maybe
}

// compare compares a device with a name, or the beginning of names, in a rule.
func (d device) compare(data []byte, equal bool) certainty {
	if len(data) == 0 {
		return maybe
	}
	if d.exact {
		padded := make([]byte, unix.IFNAMSIZ)
		copy(padded, d.name)
		return certainly(bytes.HasPrefix(padded, data) == equal)
	}
	if strings.HasPrefix(d.name, string(data)) {
		return certainly(equal)
	}
	if begin := data[:min(len(data), len(d.name))]; !strings.HasPrefix(d.name, string(begin)) {
		return certainly(!equal)
	}
	return maybe // of some pods
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

// inSet reports whether all of an operand certainly is in a set of addresses.
func (w *walk) inSet(table *nftables.Table, o operand, e *expr.Lookup) (bool, error) {
	if !o.prefix.IsValid() {
		return false, nil
	}
	size := o.prefix.Addr().BitLen() / 8
	if o.mask != nil || o.length != size || e.Invert || e.IsDestRegSet {
		return false, nil
	}
	set, err := w.conn.GetSetByName(table, e.SetName)
	if err != nil {
		return false, fmt.Errorf("read set %s: %w", e.SetName, err)
	}
	if set.Concatenation || set.IsMap {
		return false, nil
	}
	if !set.Interval && !o.prefix.IsSingleIP() {
		return false, nil
	}
	elements, err := w.conn.GetSetElements(set)
	if err != nil {
		return false, fmt.Errorf("list elements of set %s: %w", set.Name, err)
	}
	if !set.Interval { // an address between two elements is none of them
		return slices.ContainsFunc(elements, func(el nftables.SetElement) bool { return bytes.Equal(el.Key, o.prefix.Addr().AsSlice()) }), nil
	}
	return holdsRange(elements, o.prefix), nil
}

// passMap passes over a verdict map, whose verdicts are not read. It is noted when it may
// take the packet out of the chain: one without a key for it cannot.
func (w *walk) passMap(table *nftables.Table, o operand, e *expr.Lookup) error {
	if w.unsure {
		return nil
	}
	set, err := w.conn.GetSetByName(table, e.SetName)
	if err != nil {
		return fmt.Errorf("read map %s: %w", e.SetName, err)
	}
	elements, err := w.conn.GetSetElements(set)
	if err != nil {
		return fmt.Errorf("list elements of map %s: %w", set.Name, err)
	}
	w.unsure = slices.ContainsFunc(elements, func(el nftables.SetElement) bool {
		return o.value == nil || set.Interval || len(el.Key) != len(o.value) || bytes.Equal(el.Key, o.value)
	})
	return nil
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
