package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The tables of iptables before nftables (ip_tables, ip6_tables) are not part of
// nf_tables: socket options read them (linux/netfilter_ipv4/ip_tables.h). Both
// kinds may be in force at once.

// legacy describes one family's tables.
type legacy struct {
	names          string // file with the tables in force: a request would create them
	domain, level  int
	address, entry int // sizes in bytes of an address and of an entry without matches
	offsets        int // where an entry's offsets of target and next entry are
	family         string
}

var (
	legacy4 = legacy{"/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, 4, 112, 88, "ip"}
	legacy6 = legacy{"/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 16, 168, 140, "ip6"}
)

const (
	getInfo, getEntries = 64, 65 // IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES
	sizeofInfo          = 84     // struct ipt_getinfo
	sizeofEntriesHead   = 40     // struct ipt_get_entries without entries
	hookForward         = 2      // NF_INET_FORWARD
)

// LegacyObstacles is [Obstacles] for the tables of iptables-legacy.
func LegacyObstacles(pools []netip.Prefix) ([]Obstacle, error) {
	var out []Obstacle
	for _, l := range []legacy{legacy4, legacy6} {
		mine := slices.DeleteFunc(slices.Clone(pools), func(p netip.Prefix) bool { return p.Addr().Is4() != (l.family == "ip") })
		names, err := os.ReadFile(l.names)
		if err != nil || len(mine) == 0 || !slices.Contains(strings.Fields(string(names)), "filter") {
			continue // no such table, or a kernel without
		}
		table, err := l.read()
		if err != nil {
			return nil, fmt.Errorf("read table filter of %stables-legacy: %w", l.family, err)
		}
		for _, p := range mine {
			o := Obstacle{Family: l.family, Table: "filter (iptables-legacy)", Chain: "FORWARD", Before: "FORWARD", Pool: p}
			end, policy := table.forward(p)
			if o.Policy = policy; !end {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// legacyTable is the content of a table.
type legacyTable struct {
	legacy
	entries          []byte
	first, underflow int // offsets of the chain FORWARD and of its policy
}

// read gets the table filter.
func (l legacy) read() (*legacyTable, error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	const tries = 10 // EAGAIN: the table changed between the two calls
	for range tries {
		info := make([]byte, sizeofInfo)
		copy(info, "filter")
		if err := getsockopt(fd, l.level, getInfo, info); err != nil {
			return nil, err
		}
		number := func(at int) int { return int(binary.NativeEndian.Uint32(info[at:])) }
		all := make([]byte, sizeofEntriesHead+number(80))
		copy(all, "filter")
		binary.NativeEndian.PutUint32(all[32:], uint32(number(80))) //nolint:gosec // the kernel's own number
		err = getsockopt(fd, l.level, getEntries, all)
		if err == nil {
			return &legacyTable{l, all[sizeofEntriesHead:], number(36 + 4*hookForward), number(56 + 4*hookForward)}, nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
	}
	return nil, err
}

// getsockopt passes a buffer that holds the request and receives the answer.
func getsockopt(fd, level, name int, b []byte) error {
	size := uint32(len(b)) //nolint:gosec // checked by the kernel
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// forward reports whether packets between pods of a pool get through, and
// whether it is the policy that ends them.
func (t *legacyTable) forward(pool netip.Prefix) (through, policy bool) {
	for _, p := range []packet{
		{src: pool, dst: pool, in: device{name: podDevice}},
		{src: pool, dst: pool, out: device{name: podDevice}},
	} {
		if through, policy := t.follow(p); !through {
			return false, policy
		}
	}
	return true, false
}

// The verdicts of a standard target (linux/netfilter/x_tables.h).
const (
	legacyDrop, legacyAccept, legacyReturn = -1, -2, -5
)

// follow walks from the beginning of FORWARD to the packet's end.
func (t *legacyTable) follow(p packet) (through, policy bool) {
	var back []int
	at := t.first
	for range maxSteps {
		if at < 0 || at+t.entry > len(t.entries) {
			break
		}
		target := at + int(binary.NativeEndian.Uint16(t.entries[at+t.offsets:]))
		next := at + int(binary.NativeEndian.Uint16(t.entries[at+t.offsets+2:]))
		if next <= at || target+36 > len(t.entries) {
			break
		}
		name := unix.ByteSliceToString(t.entries[target+2 : target+31])
		verdict := int(int32(binary.NativeEndian.Uint32(t.entries[target+32:]))) //nolint:gosec // an int of the kernel's
		switch {
		case !t.matches(at, target, p):
			at = next
		case name == "REJECT", name == "" && verdict == legacyDrop:
			return false, at == t.underflow
		case name != "": // a mark, a log and the like: the packet continues
			at = next
		case verdict == legacyAccept:
			return true, false
		case verdict == legacyReturn && len(back) > 0:
			at, back = back[len(back)-1], back[:len(back)-1]
		case verdict == legacyReturn:
			at = t.underflow
		case verdict >= 0:
			back = append(back, next)
			at = verdict
		default: // another program decides
			return true, false
		}
	}
	return true, false // undecided: too deep
}

// matches reports whether an entry certainly matches the packet.
func (t *legacyTable) matches(at, target int, p packet) bool {
	e := t.entries[at:]
	n := t.address
	const name = unix.IFNAMSIZ
	rest := e[4*n+4*name:]
	protocol, inverted := binary.NativeEndian.Uint16(rest), rest[3]
	if n == 16 {
		inverted = rest[4]
	}
	const notSource, notDestination = 0x08, 0x10 // IPT_INV_SRCIP, IPT_INV_DSTIP
	if protocol != 0 || inverted&^(notSource|notDestination) != 0 {
		return false
	}
	for i, dev := range []device{p.in, p.out} {
		mask := e[4*n+(2+i)*name:][:name]
		length := len(bytes.TrimRight(mask, "\x00"))
		if length > 0 && (dev.name == "" || dev.compare(e[4*n+i*name:][:length], true) != yes) {
			return false
		}
	}
	for _, field := range []struct {
		at     int
		not    byte
		prefix netip.Prefix
	}{{0, notSource, p.src}, {n, notDestination, p.dst}} {
		mask := e[2*n+field.at:][:n]
		if len(bytes.TrimRight(mask, "\x00")) == 0 && inverted&field.not == 0 {
			continue // every address
		}
		compare := &expr.Cmp{Op: expr.CmpOpEq, Data: e[field.at:][:n]}
		if inverted&field.not != 0 {
			compare.Op = expr.CmpOpNeq
		}
		if p.compare(operand{prefix: field.prefix, mask: mask}, compare) != yes {
			return false
		}
	}
	for m := at + t.entry; m+32 <= target; {
		if size := int(binary.NativeEndian.Uint16(t.entries[m:])); size >= 32 && unix.ByteSliceToString(t.entries[m+2:m+31]) == "comment" {
			m += size
			continue
		}
		return false
	}
	return true
}
