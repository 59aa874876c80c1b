package etcd

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"onlink/ipam"
)

// record is the value of a block's key.
type record struct {
	Pool string `json:"pool"`
	Node string `json:"node"`
	// Epoch is that of a block that was asserted; 0 in a claim, whose epoch is
	// the revision of its key above Base.
	Epoch uint64 `json:"epoch,omitempty"`
	Base  uint64 `json:"base,omitempty"`
}

// keys makes the keys below one prefix.
type keys struct{ prefix string }

func (k keys) base() string { return k.prefix + "base" }

// family returns the first element of a block's key: 4 or 6.
func family(a netip.Addr) string {
	if a.Is4() {
		return "4/"
	}
	return "6/"
}

// addressPart is a block's key up to its length.
func addressPart(a netip.Addr) string { return family(a) + hex.EncodeToString(a.AsSlice()) + "/" }

// blockPart is a block's key without its prefix.
func blockPart(p netip.Prefix) string { return addressPart(p.Addr()) + strconv.Itoa(p.Bits()) }

func (k keys) block(p netip.Prefix) string { return k.prefix + "blocks/" + blockPart(p) }

func (k keys) fence(p netip.Prefix) string { return k.prefix + "fences/" + blockPart(p) }

// node is the folder of a node's blocks.
func (k keys) node(name string) string { return k.prefix + "nodes/" + url.PathEscape(name) + "/" }

// holder is the key of the machine that holds a name; alive exists as long as the
// machine asserts.
func (k keys) holder(name string) string { return k.prefix + "holders/" + url.PathEscape(name) }
func (k keys) alive(name string) string  { return k.prefix + "alive/" + url.PathEscape(name) }

// span returns the range of keys of all blocks that begin inside p.
func (k keys) span(p netip.Prefix) (from, end string) {
	return k.prefix + "blocks/" + addressPart(p.Addr()), k.prefix + "blocks/" + addressPart(last(p)) + "~"
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// parseBlock reads the block from the end of a key.
func parseBlock(key string) (netip.Prefix, error) {
	f := strings.Split(key, "/")
	if len(f) < 3 {
		return netip.Prefix{}, fmt.Errorf("%w: key %q", errRecord, key)
	}
	raw, err := hex.DecodeString(f[len(f)-2])
	addr, ok := netip.AddrFromSlice(raw)
	bits, berr := strconv.Atoi(f[len(f)-1])
	p := netip.PrefixFrom(addr, bits)
	if err != nil || !ok || berr != nil || !p.IsValid() || p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%w: key %q", errRecord, key)
	}
	return p, nil
}

// parse reads one block from its key and value.
func parse(kv *mvccpb.KeyValue) (ipam.Block, error) {
	p, err := parseBlock(string(kv.Key))
	if err != nil {
		return ipam.Block{}, err
	}
	r, err := parseRecord(kv)
	if err != nil {
		return ipam.Block{}, err
	}
	b := ipam.Block{CIDR: p, Pool: r.Pool, Node: r.Node, Epoch: r.Epoch}
	if b.Epoch == 0 {
		b.Epoch = r.Base + uint64(max(kv.ModRevision, 0))
	}
	return b, nil
}

// parseRecord reads the value of a block's key.
func parseRecord(kv *mvccpb.KeyValue) (record, error) {
	var r record
	if err := json.Unmarshal(kv.Value, &r); err != nil || r.Node == "" {
		return record{}, fmt.Errorf("%w: value of key %q", errRecord, kv.Key)
	}
	return r, nil
}

func parseAll(kvs []*mvccpb.KeyValue) ([]ipam.Block, error) {
	out := make([]ipam.Block, 0, len(kvs))
	for _, kv := range kvs {
		b, err := parse(kv)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// encode returns the value of a record.
func (r record) encode() string {
	b, err := json.Marshal(r)
	if err != nil { // strings and numbers always encode
		panic(err)
	}
	return string(b)
}
