package policy

import (
	"net/netip"
	"strings"
	"testing"
)

// TestDecide: each step of the selection decides when all before it are equal, in both
// orders, and names itself. The first column is the better path.
func TestDecide(t *testing.T) {
	path := func(edit func(*Candidate)) *Candidate {
		c := &Candidate{
			LocalPref: 100, ASPath: "65001 65002", Origin: "igp", External: true, MED: 10,
			RouterID: netip.MustParseAddr("10.0.0.5"), Peer: netip.MustParseAddr("10.0.0.5"),
		}
		edit(c)
		return c
	}
	for _, c := range []struct {
		name          string
		better, worse func(*Candidate)
		want          Decision
		says          string
	}{
		{"stale", func(c *Candidate) { c.LocalPref = 1 }, func(c *Candidate) { c.Stale = true }, ByStale, "long-lived stale"},
		{"LOCAL_PREF", func(c *Candidate) { c.LocalPref, c.ASPath = 200, "1 2 3 4" }, func(*Candidate) {}, ByLocalPref, "100 is lower than 200"},
		{"own", func(c *Candidate) { c.Own, c.External, c.Origin = true, false, "incomplete" }, func(*Candidate) {}, ByOwn, "originates the prefix itself"},
		{"AS_PATH", func(c *Candidate) { c.Origin = "egp" }, func(c *Candidate) { c.ASPath = "65001 65002 65003" }, ByASPath, "3 ASes instead of 2"},
		{"AS_PATH, a set counts once", func(c *Candidate) { c.ASPath = "65001 {65002,65003,65004}"; c.MED = 1 }, func(c *Candidate) { c.ASPath = "65001 65002 65003" }, ByASPath, "3 ASes instead of 2"},
		{"origin", func(c *Candidate) { c.Origin = "egp"; c.MED = 99 }, func(c *Candidate) { c.Origin = "incomplete" }, ByOrigin, "incomplete comes after egp"},
		{"MED", func(c *Candidate) { c.External = false }, func(c *Candidate) { c.MED = 11 }, ByMED, "11 is higher than 10"},
		{"MED of our own AS", func(c *Candidate) { c.ASPath, c.MED = "", 1 }, func(c *Candidate) { c.ASPath, c.MED = "", 2 }, ByMED, "2 is higher than 1"},
		{"MED of two ASes is not compared", func(c *Candidate) { c.MED = 99 }, func(c *Candidate) { c.ASPath, c.External = "65009 65002", false }, ByExternal, "of our AS"},
		{"external", func(c *Candidate) { c.RouterID = netip.MustParseAddr("10.0.0.9") }, func(c *Candidate) { c.External = false }, ByExternal, "of our AS"},
		{"router ID", func(c *Candidate) { c.Peer = netip.MustParseAddr("10.0.0.99") }, func(c *Candidate) { c.RouterID = netip.MustParseAddr("10.0.0.6") }, ByRouterID, "10.0.0.6 is higher than 10.0.0.5"},
		{"peer", func(*Candidate) {}, func(c *Candidate) { c.Peer = netip.MustParseAddr("10.0.0.6") }, ByPeer, "10.0.0.6 is higher than 10.0.0.5"},
		{"peer of each family", func(c *Candidate) { c.Peer = netip.MustParseAddr("192.0.2.1") }, func(c *Candidate) { c.Peer = netip.MustParseAddr("2001:db8::1") }, ByPeer, "is higher than 192.0.2.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			good, bad := path(c.better), path(c.worse)
			if d, better := Decide(good, bad); d != c.want || !better {
				t.Errorf("step %d, better %t; want %d and true", d, better, c.want)
			}
			if d, better := Decide(bad, good); d != c.want || better {
				t.Errorf("the other way round: step %d, better %t; want %d and false", d, better, c.want)
			}
			if got := c.want.Reason(good, bad); !strings.Contains(got, c.says) {
				t.Errorf("says %q, want %q in it", got, c.says)
			}
		})
	}
	if d, _ := Decide(path(func(*Candidate) {}), path(func(*Candidate) {})); d != ByNothing {
		t.Errorf("two paths of one speaker differ in step %d", d)
	}
}
