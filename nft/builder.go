package nft

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// elementsPerMessage keeps a list of elements, each at most 32 bytes, below
// the 64 KiB that the length of a netlink attribute can express.
const elementsPerMessage = 1000

// family is the difference between IPv4 and IPv6 in a rule.
type family struct {
	v4       bool
	suffix   string
	nfproto  byte
	key      nftables.SetDatatype
	src, dst uint32 // offsets of the addresses in the header
}

var families = []family{
	{v4: true, suffix: "4", nfproto: unix.NFPROTO_IPV4, key: nftables.TypeIPAddr, src: 12, dst: 16},
	{v4: false, suffix: "6", nfproto: unix.NFPROTO_IPV6, key: nftables.TypeIP6Addr, src: 8, dst: 24},
}

// set describes a set of the family's addresses.
func (f family) set(table *nftables.Table, name string, interval bool) *nftables.Set {
	return &nftables.Set{
		Table: table, Name: name + f.suffix, KeyType: f.key, Interval: interval,
		KeyByteOrder: binaryutil.BigEndian,
	}
}

// addresses returns the family's members of the list as set elements.
func (f family) addresses(list []netip.Addr) []nftables.SetElement {
	var out []nftables.SetElement
	for _, a := range list {
		if a.Is4() == f.v4 {
			out = append(out, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	return out
}

// builder adds to a transaction and keeps the first error.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  uint32 // sets so far
	err   error
}

// rule adds a rule of several parts to the end of a chain.
func (b *builder) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: chain, Exprs: slices.Concat(parts...)})
}

// prefixes adds an interval set.
func (b *builder) prefixes(fam family, name string, list []netip.Prefix) *nftables.Set {
	var elements []nftables.SetElement
	for _, r := range intervals(list, fam.v4) {
		elements = append(elements, nftables.SetElement{Key: r.first.AsSlice()})
		// An interval up to the last address of all has no end element.
		if after := r.last.Next(); after.IsValid() {
			elements = append(elements, nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
	}
	return b.add(fam.set(b.table, name, true), elements)
}

// addresses adds a set of single addresses.
func (b *builder) addresses(fam family, name string, list []netip.Addr) *nftables.Set {
	return b.add(fam.set(b.table, name, false), fam.addresses(list))
}

// add adds a set and its elements.
func (b *builder) add(set *nftables.Set, elements []nftables.SetElement) *nftables.Set {
	// The ID names the set inside this transaction only. The library's own
	// numbering is a global without a lock.
	b.sets++
	set.ID = b.sets
	if err := b.conn.AddSet(set, nil); err != nil && b.err == nil {
		b.err = fmt.Errorf("add set %s: %w", set.Name, err)
	}
	for part := range slices.Chunk(elements, elementsPerMessage) {
		if err := b.conn.SetAddElements(set, part); err != nil && b.err == nil {
			b.err = fmt.Errorf("fill set %s: %w", set.Name, err)
		}
	}
	return set
}

// is matches packets of the family: in the inet family, an IPv4 offset would
// otherwise be read from an IPv6 header.
func (f family) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.nfproto}},
	}
}

// inside matches packets whose address at the offset is in the set.
func (f family) inside(offset uint32, set *nftables.Set) []expr.Any {
	return f.lookup(offset, set, false)
}

// outside matches packets whose address at the offset is not in the set.
func (f family) outside(offset uint32, set *nftables.Set) []expr.Any {
	return f.lookup(offset, set, true)
}

func (f family) lookup(offset uint32, set *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.key.Bytes},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: invert},
	}
}

// protocol matches the transport protocol, also behind IPv6 extension headers.
func protocol(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// drop counts the packet, so that an operator sees the dropped ones, and drops
// it.
func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}
