package rtnl

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var (
	addr4 = netip.MustParseAddr("10.1.2.3")
	addr6 = netip.MustParseAddr("fd00::1")
)

// one returns the single message that build makes.
func one(t *testing.T, build func(*Builder)) Message {
	t.Helper()
	var b Builder
	start := b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, 7)
	build(&b)
	b.End(start)
	all := slices.Collect(Messages(b.B).All())
	if len(all) != 1 || all[0].Type != unix.RTM_NEWROUTE || all[0].Seq != 7 || all[0].Flags != unix.NLM_F_CREATE|unix.NLM_F_REQUEST {
		t.Fatalf("read back %+v", all)
	}
	return all[0]
}

// attr is an attribute as it is read.
type attr struct {
	Kind  uint16
	Value []byte
}

func collect(b Attributes) []attr {
	var out []attr
	for kind, value := range b.All() {
		out = append(out, attr{kind, value})
	}
	return out
}

// TestObjects writes the fixed part of each kernel object and one attribute
// behind it, and reads both back.
func TestObjects(t *testing.T) {
	tests := []struct {
		name  string
		write func(*Builder)
		read  func([]byte) (any, Attributes, bool)
		want  any
		extra []attr // before the attribute
	}{
		{
			name:  "route",
			write: func(b *Builder) { b.Route(&Route{2, 24, 1, 3, 254, 179, 253, 1, unix.RTNH_F_ONLINK}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseRoute(b)) },
			want:  Route{2, 24, 1, 3, 254, 179, 253, 1, unix.RTNH_F_ONLINK},
		},
		{
			name:  "head of a route",
			write: func(b *Builder) { b.Route(&Route{2, 24, 1, 3, 254, 179, 253, 1, unix.RTNH_F_ONLINK}) },
			read: func(b []byte) (any, Attributes, bool) {
				h, attrs, ok := CutRoute(b)
				if !ok {
					return nil, nil, false
				}
				return Route{h.Family(), h.DstLen(), h.SrcLen(), h.TOS(), h.Table(), h.Protocol(), 253, h.Type(), h.Flags()}, attrs, true
			},
			want: Route{2, 24, 1, 3, 254, 179, 253, 1, unix.RTNH_F_ONLINK},
		},
		{
			name:  "route of a table above 255",
			write: func(b *Builder) { b.Route(&Route{Family: 10, Table: 20300}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseRoute(b)) },
			want:  Route{Family: 10},
			extra: []attr{{unix.RTA_TABLE, native.AppendUint32(nil, 20300)}},
		},
		{
			name:  "link",
			write: func(b *Builder) { b.Link(Link{7, -1, unix.IFF_UP, 3}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseLink(b)) },
			want:  Link{7, -1, unix.IFF_UP, 3},
		},
		{
			name:  "address",
			write: func(b *Builder) { b.Address(Address{2, 32, 0x80, 253, 9}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseAddress(b)) },
			want:  Address{2, 32, 0x80, 253, 9},
		},
		{
			name:  "neighbour",
			write: func(b *Builder) { b.Neighbour(Neighbour{10, 9, unix.NUD_PERMANENT, unix.NTF_ROUTER, 1}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseNeighbour(b)) },
			want:  Neighbour{10, 9, unix.NUD_PERMANENT, unix.NTF_ROUTER, 1},
		},
		{
			name:  "nexthop object",
			write: func(b *Builder) { b.Nexthop(Nexthop{2, 253, 179, unix.RTNH_F_ONLINK}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseNexthop(b)) },
			want:  Nexthop{2, 253, 179, unix.RTNH_F_ONLINK},
		},
		{
			name:  "rule",
			write: func(b *Builder) { b.Rule(Rule{2, 8, 32, 1, 254, unix.FR_ACT_TO_TBL, unix.FIB_RULE_INVERT}) },
			read:  func(b []byte) (any, Attributes, bool) { return any3(ParseRule(b)) },
			want:  Rule{2, 8, 32, 1, 254, unix.FR_ACT_TO_TBL, unix.FIB_RULE_INVERT},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := one(t, func(b *Builder) { tt.write(b); b.AttrUint32(77, 1) })
			got, attrs, ok := tt.read(m.Body)
			if !ok {
				t.Fatal("not read")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fixed part (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append(tt.extra, attr{77, native.AppendUint32(nil, 1)}), collect(attrs)); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			fixed := len(m.Body) - 8*(1+len(tt.extra))
			if _, _, ok := tt.read(m.Body[:fixed-1]); ok {
				t.Error("read from a body that is too short")
			}
		})
	}
}

// any3 makes the results of the parsers one type.
func any3[T any](v T, attrs Attributes, ok bool) (any, Attributes, bool) { return v, attrs, ok }

// TestAttributes reads back what the builder makes of each kind of value.
func TestAttributes(t *testing.T) {
	m := one(t, func(b *Builder) {
		b.Attr(1, []byte{1, 2, 3, 4, 5})
		b.AttrString(2, "eth0")
		b.AttrAddr(3, addr4)
		b.AttrAddr(4, addr6)
		b.Nest(5, func() { b.AttrUint32(6, 0x01020304) })
		b.Attr(7, nil)
	})
	got := collect(m.Body)
	if len(got) != 6 || got[4].Kind != 5 || got[5].Kind != 7 || len(got[5].Value) != 0 {
		t.Fatalf("read %v", got)
	}
	inner := collect(got[4].Value)
	if String(got[1].Value) != "eth0" || Addr(got[2].Value) != addr4 || Addr(got[3].Value) != addr6 ||
		len(inner) != 1 || inner[0].Kind != 6 || Uint32(inner[0].Value) != 0x01020304 {
		t.Errorf("read %v, inside %v", got, inner)
	}
	if cut := collect(m.Body[:len(m.Body)-5]); len(cut) != 4 { // in the middle of the nest
		t.Errorf("read %v of a message that is cut", cut)
	}
	if Uint16([]byte{1}) != 0 || Uint32([]byte{1, 2, 3}) != 0 || Addr([]byte{1, 2, 3, 4, 5}).IsValid() || Via([]byte{2}).IsValid() {
		t.Error("a value of the wrong length was read")
	}
}

// TestHops: RTA_MULTIPATH with gateways of both families, and a group.
func TestHops(t *testing.T) {
	want := []Hop{{Via: addr4, Device: 3}, {Via: addr6, Device: 4, Onlink: true}, {Device: 5}}
	m := one(t, func(b *Builder) {
		at := b.Open(unix.RTA_MULTIPATH)
		for _, h := range want {
			flags := uint8(0)
			if h.Onlink {
				flags = unix.RTNH_F_ONLINK
			}
			hop := b.OpenHop(h.Device, flags)
			if h.Via.IsValid() {
				b.Gateway(false, h.Via)
			}
			b.Close(hop)
		}
		b.Close(at)
		at = b.Open(unix.NHA_GROUP)
		b.Member(8)
		b.Member(9)
		b.Close(at)
	})
	attrs := collect(m.Body)
	if len(attrs) != 2 {
		t.Fatalf("attributes %v", attrs)
	}
	var got []Hop
	var h Hop
	for hops := Hops(attrs[0].Value); hops.Next(&h); {
		got = append(got, h)
	}
	if !slices.Equal(got, want) {
		t.Errorf("hops %+v, want %+v", got, want)
	}
	members := Members(attrs[1].Value)
	first, _, ok1 := members.Next()
	second, _, ok2 := members.Next()
	if _, _, more := members.Next(); !ok1 || !ok2 || more || first != 8 || second != 9 {
		t.Errorf("members %d and %d", first, second)
	}
}

func TestDestination(t *testing.T) {
	for _, tt := range []struct {
		route Route
		dst   netip.Addr
		want  string
	}{
		{Route{Family: unix.AF_INET, DstLen: 26}, addr4, "10.1.2.3/26"},
		{Route{Family: unix.AF_INET}, netip.Addr{}, "0.0.0.0/0"},
		{Route{Family: unix.AF_INET6}, netip.Addr{}, "::/0"},
		{Route{Family: unix.AF_BRIDGE}, netip.Addr{}, "invalid Prefix"},
		{Route{Family: unix.AF_INET, DstLen: 33}, addr4, "invalid Prefix"},
	} {
		if got := tt.route.Destination(tt.dst).String(); got != tt.want {
			t.Errorf("%+v, %s: %s, want %s", tt.route, tt.dst, got, tt.want)
		}
	}
}

// outcome makes the body of an NLMSG_ERROR or NLMSG_DONE message.
func outcome(kind, flags uint16, errno unix.Errno, refused []byte, text string) Message {
	var b Builder
	b.Uint32(uint32(-int32(errno)))
	b.B = append(b.B, refused...)
	if text != "" {
		flags |= unix.NLM_F_ACK_TLVS
		b.AttrUint32(unix.NLMSGERR_ATTR_OFFS, 36)
		b.AttrString(unix.NLMSGERR_ATTR_MSG, text)
	}
	return Message{Type: kind, Flags: flags, Body: b.B}
}

func TestErr(t *testing.T) {
	header := make([]byte, unix.SizeofNlMsghdr)
	whole := make([]byte, 30) // padded to 32 in the answer
	native.PutUint32(whole, 30)
	tests := []struct {
		name string
		m    Message
		op   string
		want string
		errs error
	}{
		{"acknowledgement", outcome(unix.NLMSG_ERROR, unix.NLM_F_CAPPED, 0, header, ""), "add", "", nil},
		{"warning", outcome(unix.NLMSG_ERROR, unix.NLM_F_CAPPED, 0, header, "deprecated"), "add", "", nil},
		{"refusal", outcome(unix.NLMSG_ERROR, 0, unix.EEXIST, header, ""), "add", "add: file exists", unix.EEXIST},
		{"with text", outcome(unix.NLMSG_ERROR, unix.NLM_F_CAPPED, unix.EINVAL, header, "Nexthop has invalid gateway"), "", "invalid argument: Nexthop has invalid gateway", unix.EINVAL},
		{"with text, behind the whole message", outcome(unix.NLMSG_ERROR, 0, unix.EINVAL, append(whole, 0, 0), "No"), "add", "add: invalid argument: No", unix.EINVAL},
		{"refused message longer than the answer", outcome(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, unix.EINVAL, []byte{255, 255, 255, 255}, ""), "", "invalid argument", unix.EINVAL},
		{"end of a list", outcome(unix.NLMSG_DONE, unix.NLM_F_MULTI, 0, nil, ""), "", "", nil},
		{"end without a number", Message{Type: unix.NLMSG_DONE}, "", "", nil},
		{"list refused", outcome(unix.NLMSG_DONE, unix.NLM_F_MULTI, unix.EINTR, nil, "busy"), "list", "list: interrupted system call: busy", unix.EINTR},
		{"too short", Message{Type: unix.NLMSG_ERROR, Body: []byte{1}}, "", "bad message", unix.EBADMSG},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.m.Err(tt.op)
			if tt.errs == nil {
				if err != nil {
					t.Fatalf("got %v", err)
				}
				return
			}
			var refusal *Error
			if !errors.As(err, &refusal) || !errors.Is(err, tt.errs) || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestBatch: lengths, numbers in order, and the acknowledgement of the last.
func TestBatch(t *testing.T) {
	b := NewBatch(64)
	b.Stamp(1) // of nothing
	for _, op := range []string{"first", "second", "third"} {
		b.Add(op, unix.RTM_NEWLINK, unix.NLM_F_CREATE)
		b.Link(Link{})
		b.AttrString(unix.IFLA_IFNAME, op)
	}
	b.Stamp(41)
	i := 0
	for m := range Messages(b.B).All() {
		if m.Seq != uint32(41+i) || (m.Flags&unix.NLM_F_ACK != 0) != (i == 2) || m.Flags&unix.NLM_F_REQUEST == 0 {
			t.Errorf("message %d: %+v", i, m)
		}
		if _, attrs, ok := ParseLink(m.Body); !ok || String(collect(attrs)[0].Value) != b.Op(i) {
			t.Errorf("message %d is not %s", i, b.Op(i))
		}
		i++
	}
	if i != 3 || b.Len() != 3 {
		t.Errorf("%d messages, and %d were read", b.Len(), i)
	}
}
