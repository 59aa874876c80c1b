package bfd

import (
	"net/netip"
	"testing"
	"time"

	"onlink/internal/strictyaml"
)

// TestReadSettings: a value that the section accepts makes a session that the
// monitor accepts, at both ends of every bound.
func TestReadSettings(t *testing.T) {
	t.Parallel()
	peer := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		text string
		want Session
		err  string
	}{
		{"bfd: {}", Session{Peer: peer, Interval: 300 * time.Millisecond, Multiplier: 3}, ""},
		{"bfd: {interval: 50ms, multiplier: 2, hops: multi}", Session{Peer: peer, Multihop: true, Interval: 50 * time.Millisecond, Multiplier: 2}, ""},
		{"bfd: {interval: 1m, multiplier: 255, hops: single}", Session{Peer: peer, Interval: time.Minute, Multiplier: 255}, ""},
		{"bfd:", Session{}, `f:1: bfd: is empty; write "bfd: {}" for 300 ms times 3, or remove the key`},
		{"bfd: {interval: 49ms}", Session{}, "f:1: bfd.interval: 49ms is out of range; use 50ms to 1m0s"},
		{"bfd: {multiplier: 1}", Session{}, "f:1: bfd.multiplier: 1 is out of range; use 2 to 255"},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			var s *Settings
			d := strictyaml.Parse("f", []byte(c.text), func(v strictyaml.Value) {
				v.Mapping(strictyaml.Fields{"bfd": func(v strictyaml.Value) { s = ReadSettings(v) }})
			})
			if err := d.Err(); c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			got := s.Session(peer, netip.Addr{})
			if got != c.want || got.validate() != nil {
				t.Errorf("got %+v (%v), want %+v", got, got.validate(), c.want)
			}
		})
	}
}
