package speaker

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{16, byte(i >> 8), byte(i), 0}), 24+i%3)
	}
	return out
}

// messages splits a stream; every length must fit RFC 4271 section 4.1.
func messages(t *testing.T, b []byte) (bodies [][]byte) {
	t.Helper()
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b[16:]))
		if n < headerLen || n > maxMessage || n > len(b) {
			t.Fatalf("message of length %d in %d bytes", n, len(b))
		}
		bodies = append(bodies, b[headerLen:n])
		b = b[n:]
	}
	return bodies
}

// TestUpdate reads back what was written.
func TestUpdate(t *testing.T) {
	for name, tc := range map[string]struct{ n, per, messages int }{
		"full":      {2000, maxMessage, 3},
		"few each":  {10, 4, 3},
		"one":       {1, 1, 1},
		"none":      {0, 1, 0},
		"exact fit": {8, 4, 2},
	} {
		t.Run(name, func(t *testing.T) {
			want := prefixes(tc.n)
			bodies := messages(t, AppendUpdate(nil, netip.MustParseAddr("10.0.0.1"), want, tc.per))
			if len(bodies) != tc.messages {
				t.Errorf("%d messages, want %d", len(bodies), tc.messages)
			}
			got := []netip.Prefix{}
			for _, b := range bodies {
				announced(b, func(p netip.Prefix) { got = append(got, p) })
			}
			if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWithdraw checks that withdrawals announce nothing and fill messages.
func TestWithdraw(t *testing.T) {
	const n = 2000
	bodies := messages(t, AppendWithdraw(nil, prefixes(n)))
	count := 0
	for _, b := range bodies {
		announced(b, func(p netip.Prefix) { t.Errorf("announces %s", p) })
		withdrawn, _, ok := cut(b, 2)
		if !ok {
			t.Fatal("withdrawn routes are cut off")
		}
		eachNLRI(withdrawn, func(netip.Prefix) { count++ })
	}
	if count != n {
		t.Errorf("%d prefixes withdrawn, want %d", count, n)
	}
}

// FuzzAnnounced must not panic whatever the other side sends.
func FuzzAnnounced(f *testing.F) {
	f.Add(AppendUpdate(nil, netip.MustParseAddr("10.0.0.1"), prefixes(3), 3)[headerLen:])
	f.Add(AppendEndOfRIB(nil)[headerLen:])
	f.Fuzz(func(t *testing.T, body []byte) {
		announced(body, func(p netip.Prefix) {
			if !p.IsValid() {
				t.Errorf("invalid prefix from %x", body)
			}
		})
	})
}
