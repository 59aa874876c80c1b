package ipam

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"time"
)

// The stored formats. bbolt checks only its two meta pages, so every value
// carries a checksum over its bucket, its key and itself: a flipped bit or a
// value under the wrong key is found when it is read.
//
//	value   = version (1 byte), payload, CRC-32C (4 bytes, little endian)
//	string  = uvarint length, bytes
//	address = 4 or 16 (1 byte), bytes
//	prefix  = address, length (1 byte)
//	time    = Unix nanoseconds (8 bytes, little endian)
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers bucket, key and body, with lengths so that no byte can move
// from one to the other unseen.
func checksum(bucket, key, body []byte) uint32 {
	var n [4]byte
	binary.LittleEndian.PutUint16(n[:2], uint16(len(bucket)))
	binary.LittleEndian.PutUint16(n[2:], uint16(len(key)))
	c := crc32.Update(0, castagnoli, n[:])
	c = crc32.Update(c, castagnoli, bucket)
	c = crc32.Update(c, castagnoli, key)
	return crc32.Update(c, castagnoli, body)
}

// seal returns the stored value of payload.
func seal(bucket, key, payload []byte) []byte {
	v := make([]byte, 0, len(payload)+5)
	v = append(v, recordVersion)
	v = append(v, payload...)
	return binary.LittleEndian.AppendUint32(v, checksum(bucket, key, v))
}

// unseal checks a stored value and returns its payload.
func unseal(bucket, key, value []byte) ([]byte, error) {
	if len(value) < 5 {
		return nil, fmt.Errorf("%w: %s %q: value of %d bytes", ErrCorrupt, bucket, key, len(value))
	}
	body, sum := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if checksum(bucket, key, body) != sum {
		return nil, fmt.Errorf("%w: %s %q: checksum differs", ErrCorrupt, bucket, key)
	}
	if body[0] != recordVersion {
		return nil, fmt.Errorf("%w: %s %q: record version %d", ErrNewerSchema, bucket, key, body[0])
	}
	return body[1:], nil
}

// reader takes fields off a payload; the first fault sticks.
type reader struct {
	b   []byte
	bad bool
	// text, when not empty, is the whole payload as a string: the strings of a
	// record then share it, one allocation instead of one each.
	text string
}

// take returns the next n bytes.
func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *reader) string() string {
	n, w := binary.Uvarint(r.b)
	if w <= 0 || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	r.b = r.b[w:]
	at := len(r.text) - len(r.b)
	v := r.take(int(n))
	if r.text != "" {
		return r.text[at : at+len(v)]
	}
	return string(v)
}

func (r *reader) addr() netip.Addr {
	n := int(r.byte())
	if n != 4 && n != 16 {
		r.bad = true
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(r.take(n))
	if !ok || a.Is4In6() {
		r.bad = true
	}
	return a
}

func (r *reader) prefix() netip.Prefix {
	a, n := r.addr(), int(r.byte())
	p := netip.PrefixFrom(a, n)
	if r.bad || !p.IsValid() || p.Masked() != p {
		r.bad = true
		return netip.Prefix{}
	}
	return p
}

func (r *reader) time() time.Time { return time.Unix(0, int64(r.uint64())) }

// done returns an error when a field was bad or bytes are left.
func (r *reader) done(what string, key []byte) error {
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: %s %q: malformed record", ErrCorrupt, what, key)
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	s := a.AsSlice()
	return append(append(b, byte(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixNano()))
}

// prefixKey is the key of a block: sorted by family, address, length.
func prefixKey(p netip.Prefix) []byte {
	return append(appendAddr(nil, p.Addr()), byte(p.Bits()))
}

// addrKey is the key of an address.
func addrKey(a netip.Addr) []byte { return appendAddr(nil, a) }

// handleKey is the key of an attachment: [Handle.validate] forbids the NUL.
func handleKey(h Handle) []byte {
	return []byte(h.ContainerID + "\x00" + h.IfName)
}

func parsePrefixKey(key []byte) (netip.Prefix, error) {
	r := reader{b: key}
	p := r.prefix()
	return p, r.done("block key", key)
}

func parseAddrKey(key []byte) (netip.Addr, error) {
	r := reader{b: key}
	a := r.addr()
	return a, r.done("address key", key)
}

func parseHandleKey(key string) (Handle, error) {
	c, i, ok := strings.Cut(key, "\x00")
	h := Handle{ContainerID: c, IfName: i}
	if !ok || h.validate() != nil {
		return Handle{}, fmt.Errorf("%w: assignment key %q: malformed", ErrCorrupt, key)
	}
	return h, nil
}

// heldBlock is a block as the file keeps it: one of this node, or one in the
// registry.
type heldBlock struct {
	Block
	lost     bool // of this node: the registry named another owner
	asserted bool // in the registry: not given by it, its node has asserted it
}

// The flags of a stored block.
const (
	flagLost     = 1 << 0
	flagAsserted = 1 << 1
)

func encodeHeld(b heldBlock) []byte {
	v := binary.LittleEndian.AppendUint64(nil, b.Epoch)
	v = appendString(appendString(v, b.Pool), b.Node)
	var flags byte
	if b.lost {
		flags |= flagLost
	}
	if b.asserted {
		flags |= flagAsserted
	}
	return append(v, flags)
}

func decodeHeld(key, payload []byte) (heldBlock, error) {
	var b heldBlock
	p, err := parsePrefixKey(key)
	if err != nil {
		return b, err
	}
	r := reader{b: payload}
	b.CIDR, b.Epoch = p, r.uint64()
	b.Pool, b.Node = r.string(), r.string()
	flags := r.byte()
	b.lost, b.asserted = flags&flagLost != 0, flags&flagAsserted != 0
	return b, r.done("block", key)
}

func encodeAssignment(a *Assignment) []byte {
	v := appendTime(make([]byte, 0, 192), a.Assigned)
	for _, s := range []string{a.Netns, a.Namespace, a.Pod, a.UID, a.HostDevice} {
		v = appendString(v, s)
	}
	v = append(v, byte(len(a.Addresses)))
	for i, addr := range a.Addresses {
		v = appendString(appendAddr(v, addr), a.Pools[i])
	}
	if a.Sticky != "" { // since schema 2
		v = appendString(v, a.Sticky)
	}
	return v
}

// arenaChunk is how much a decoder allocates at a time. Records that are
// decoded together share it: as long as one of them is in use, it stays.
const arenaChunk = 32 << 10

// decoder reads many assignments with few allocations.
type decoder struct {
	text  strings.Builder
	addrs []netip.Addr
	pools []string
}

// keep returns key and payload, one behind the other, as a string.
func (d *decoder) keep(key, payload []byte) string {
	n := len(key) + len(payload)
	if d.text.Cap()-d.text.Len() < n {
		d.text = strings.Builder{}
		d.text.Grow(max(n, arenaChunk))
	}
	at := d.text.Len()
	d.text.Write(key)
	d.text.Write(payload)
	return d.text.String()[at:]
}

// room returns n empty addresses and names of pools.
func (d *decoder) room(n int) ([]netip.Addr, []string) {
	if len(d.addrs) < n {
		d.addrs, d.pools = make([]netip.Addr, arenaChunk/32), make([]string, arenaChunk/32)
	}
	addrs, pools := d.addrs[:n:n], d.pools[:n:n]
	d.addrs, d.pools = d.addrs[n:], d.pools[n:]
	return addrs, pools
}

// assignment reads one. It leaves Blocks empty: they are known from the held
// blocks.
func (d *decoder) assignment(key, payload []byte) (Assignment, error) {
	text := d.keep(key, payload)
	h, err := parseHandleKey(text[:len(key)])
	if err != nil {
		return Assignment{}, err
	}
	r := reader{b: payload, text: text[len(key):]}
	a := Assignment{Handle: h, Assigned: r.time()}
	for _, s := range []*string{&a.Netns, &a.Namespace, &a.Pod, &a.UID, &a.HostDevice} {
		*s = r.string()
	}
	n := int(r.byte())
	if n < 1 || n > 2 {
		r.bad = true
		n = 0
	}
	a.Addresses, a.Pools = d.room(n)
	for i := range n {
		a.Addresses[i], a.Pools[i] = r.addr(), r.string()
	}
	if len(r.b) > 0 {
		a.Sticky = r.string()
	}
	return a, r.done("assignment", key)
}
