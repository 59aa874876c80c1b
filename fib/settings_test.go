package fib

import (
	"net/netip"
	"testing"
	"time"

	"onlink/internal/strictyaml"
)

// TestSettings: the section, and the table that it configures.
func TestSettings(t *testing.T) {
	t.Parallel()
	a4, a6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, c := range []struct {
		text   string
		want   Config
		resync time.Duration
		err    string
	}{
		{"", Config{Table: 254}, 90 * time.Second, ""},
		{"{table: 100, metric: 50, resync: 2m, source: 10.0.0.1}", Config{Table: 100, Metric: 50, Source4: a4}, 2 * time.Minute, ""},
		{"{metric: 0, resync: 24h, source: 'fd00::1'}", Config{Table: 254, Source6: a6}, 24 * time.Hour, ""},
		{"{source: auto}", Config{Table: 254}, 90 * time.Second, ""},
		{"{table: 0}", Config{}, 0, "f:1: table: 0 is out of range; use 1 to 4294967295"},
		{"{resync: 999ms}", Config{}, 0, "f:1: resync: 999ms is out of range; use 1s to 24h0m0s"},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			s := DefaultSettings()
			if err := strictyaml.Parse("f", []byte(c.text), s.Read).Err(); c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if got := s.Config(nil); got != c.want || s.Resync != c.resync {
				t.Errorf("got %+v and %v, want %+v and %v", got, s.Resync, c.want, c.resync)
			}
		})
	}
}
