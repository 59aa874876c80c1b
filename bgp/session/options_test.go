package session

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"onlink/internal/strictyaml"
)

// readPeer reads the options of a peer of AS 65001 or 64512, on a node of AS 64512.
func readPeer(text string, asn uint32) (Options, error) {
	o := Default()
	d := strictyaml.Parse("f", []byte("peer: "+text), func(v strictyaml.Value) {
		v.Mapping(strictyaml.Fields{"peer": func(v strictyaml.Value) { v.Mapping(o.Fields()) }})
	})
	o.Fill()
	o.Validate("peer", d, asn, 64512)
	return o, d.Err()
}

const inner, outer = 64512, 65001

// TestOptions: the keys' values, at both ends of every bound.
func TestOptions(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		text string
		asn  uint32
		want Options
	}{
		{"", inner, Options{HoldTime: 90 * s, Keepalive: 30 * s, ConnectRetry: 5 * s}},
		{"{holdTime: 3s, connectRetry: 2s, ttlSecurity: 254}", inner, Options{HoldTime: 3 * s, Keepalive: s, ConnectRetry: 2 * s, TTLSecurity: 254}},
		{"{holdTime: 65535s, keepalive: 21845s, connectRetry: 1h}", inner, Options{HoldTime: 65535 * s, Keepalive: 21845 * s, ConnectRetry: time.Hour}},
		{"{holdTime: 10s}", inner, Options{HoldTime: 10 * s, Keepalive: 3 * s, ConnectRetry: 5 * s}}, // whole seconds
		{
			"{multihop: 255, localASN: 4294967295, allowOwnAS: 10, longLivedRestart: 16777215s, localAddress: 'fd00::1'}", outer,
			Options{
				HoldTime: 90 * s, Keepalive: 30 * s, ConnectRetry: 5 * s, Multihop: 255, LocalAS: 4294967295, AllowOwnAS: 10,
				LongLived: 16777215 * s, LocalAddress: netip.MustParseAddr("fd00::1"),
			},
		},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			if got, err := readPeer(c.text, c.asn); err != nil || got != c.want {
				t.Errorf("got %+v (%v), want %+v", got, err, c.want)
			}
		})
	}
}

// TestMistakes: what is out of bounds, and what contradicts; of two keys one of
// which has a mistake only that is reported.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		asn  uint32
		want string
	}{
		{"{holdTime: 2s}", inner, "f:1: peer.holdTime: 2s is out of range; use 3s to 18h12m15s"},
		{"{holdTime: 2s, keepalive: 60s}", inner, "f:1: peer.holdTime: 2s is out of range; use 3s to 18h12m15s"},
		{"{holdTime: 9s, keepalive: 4s}", inner, "f:1: peer.keepalive: 4s is more than a third of the hold time 9s; use at most 3s (RFC 4271 section 10)"},
		{"{keepalive: 1500ms}", inner, "f:1: peer.keepalive: 1.5s is not a whole number of seconds; use 1s or 2s"},
		{"{connectRetry: 1s}", inner, "f:1: peer.connectRetry: 1s is out of range; use 2s to 1h0m0s"},
		{"{ttlSecurity: 255}", inner, "f:1: peer.ttlSecurity: 255 is out of range; use 0 to 254"},
		{"{allowOwnAS: 11}", outer, "f:1: peer.allowOwnAS: 11 is out of range; use 0 to 10"},
		{"{multihop: 2}", inner, "f:1: peer.multihop: is for peers of another AS, and this one is of ours (64512); remove it"},
		{"{multihop: 2, ttlSecurity: 1}", outer, "f:1: peer.multihop: cannot be combined with ttlSecurity, which sends with TTL 255 (RFC 5082); remove one"},
		{"{localASN: 65002}", inner, "f:1: peer.localASN: is for peers of another AS, and this one is of ours (64512); remove it"},
		{"{localASN: 65001}", outer, "f:1: peer.localASN: 65001 is the peer's own AS; use another"},
		{"{localASN: 23456}", outer, "f:1: peer.localASN: 23456 is AS_TRANS, which is reserved; use your own AS, or a private one such as 64512"},
		{"{longLivedRestart: 1h}", inner, "f:1: peer.longLivedRestart: is for peers of another AS, and this one is of ours (64512); remove it: the blocks of a dead node must go"},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			if _, err := readPeer(c.text, c.asn); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// TestInside: what a mesh shares are keys of a peer too.
func TestInside(t *testing.T) {
	t.Parallel()
	o := Default()
	all := o.Fields()
	inside := slices.Sorted(maps.Keys(o.Inside()))
	if want := []string{"connectRetry", "holdTime", "keepalive", "ttlSecurity"}; !slices.Equal(inside, want) {
		t.Errorf("a mesh shares %q, want %q", inside, want)
	}
	for _, key := range inside {
		if all[key] == nil {
			t.Errorf("%s is no key of a peer", key)
		}
	}
}
