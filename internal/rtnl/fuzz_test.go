package rtnl

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzRead gives any bytes to everything that reads: nothing may panic, read
// beyond the end or stand still.
func FuzzRead(f *testing.F) {
	var b Builder
	start := b.Begin(unix.RTM_NEWROUTE, 0, 1)
	b.Route(&Route{Family: unix.AF_INET, DstLen: 24, Table: 1000})
	b.AttrAddr(unix.RTA_DST, addr4)
	at := b.Open(unix.RTA_MULTIPATH)
	for i, via := range []netip.Addr{addr4, addr6} {
		hop := b.OpenHop(int32(2+i), 0)
		b.Gateway(false, via)
		b.Close(hop)
	}
	b.Close(at)
	b.End(start)
	f.Add(b.B)
	start = b.Begin(unix.RTM_NEWNEXTHOP, 0, 2)
	b.Nexthop(Nexthop{})
	at = b.Open(unix.NHA_GROUP)
	b.Member(1)
	b.Close(at)
	b.End(start)
	f.Add(b.B)
	refused := outcome(unix.NLMSG_ERROR, 0, unix.EINVAL, make([]byte, unix.SizeofNlMsghdr), "No")
	b = Builder{}
	start = b.Begin(unix.NLMSG_ERROR, refused.Flags, 3)
	b.B = append(b.B, refused.Body...)
	b.End(start)
	f.Add(b.B)
	f.Fuzz(func(t *testing.T, b []byte) {
		left := len(b)
		for messages := Messages(b); ; {
			m, ok := messages.Next()
			if !ok {
				return
			}
			if len(messages) >= left || len(m.Body) > left-unix.SizeofNlMsghdr {
				t.Fatalf("a message of %d bytes left %d of %d", len(m.Body), len(messages), left)
			}
			left = len(messages)
			readAll(t, m)
		}
	})
}

// readAll takes a message for each of the kernel's objects.
func readAll(t *testing.T, m Message) {
	t.Helper()
	var refusal *Error
	if err := m.Err("ask"); err != nil && (!errors.As(err, &refusal) || refusal.Errno == 0 || err.Error() == "") {
		t.Errorf("refusal %#v", err)
	}
	readAttributes(t, m.Body, 0)
	if r, attrs, ok := ParseRoute(m.Body); ok {
		readAttributes(t, attrs, 0)
		for kind, value := range attrs.All() {
			if p := r.Destination(Addr(value)); kind == unix.RTA_DST && p.IsValid() && p.Bits() != int(r.DstLen) {
				t.Errorf("destination %s of length %d", p, r.DstLen)
			}
		}
	}
	for _, read := range []func([]byte) (any, Attributes, bool){
		func(b []byte) (any, Attributes, bool) { return any3(ParseLink(b)) },
		func(b []byte) (any, Attributes, bool) { return any3(ParseAddress(b)) },
		func(b []byte) (any, Attributes, bool) { return any3(ParseNeighbour(b)) },
		func(b []byte) (any, Attributes, bool) { return any3(ParseNexthop(b)) },
		func(b []byte) (any, Attributes, bool) { return any3(ParseRule(b)) },
	} {
		if _, attrs, ok := read(m.Body); ok {
			readAttributes(t, attrs, 0)
		}
	}
}

// readAttributes reads each value as everything it could be, and inside it.
func readAttributes(t *testing.T, b Attributes, depth int) {
	t.Helper()
	left := len(b)
	for {
		_, value, ok := b.Next()
		if !ok {
			return
		}
		if len(b) >= left || len(value) > left-unix.SizeofRtAttr {
			t.Fatalf("an attribute of %d bytes left %d of %d", len(value), len(b), left)
		}
		left = len(b)
		if n := len(String(value)); n > len(value) {
			t.Fatalf("a string of %d bytes in %d", n, len(value))
		}
		_, _, _ = Uint16(value), Index(value), Via(value)
		readHops(t, value)
		if depth < 3 {
			readAttributes(t, value, depth+1)
		}
	}
}

// readHops reads a value as RTA_MULTIPATH and as NHA_GROUP.
func readHops(t *testing.T, value []byte) {
	t.Helper()
	n := 0
	var h Hop
	for hops := Hops(value); hops.Next(&h); {
		n++
	}
	for members := Members(value); ; n++ {
		if _, _, ok := members.Next(); !ok {
			break
		}
	}
	if n > 2*len(value)/unix.SizeofRtNexthop {
		t.Fatalf("%d hops and members in %d bytes", n, len(value))
	}
}
