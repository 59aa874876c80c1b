package fib

import (
	"context"
	"strings"
	"testing"
)

// TestSweepElsewhere leaves routes of ours and of others in several tables, of
// both families: only ours are removed, and none from the writer's table or a
// spared one.
func TestSweepElsewhere(t *testing.T) {
	freshNetns(t)
	wire(t, "va")
	ip(t, "addr add 192.0.2.1/24 dev va")
	ip(t, "-6 addr add 2001:db8::1/64 dev va nodad")
	for _, line := range []string{
		"route add blackhole 10.1.0.0/26 proto 179",
		"route add 10.1.0.1/32 dev va proto 179",
		"route add 10.1.0.1/32 dev va proto 179 metric 7",
		"route add 10.1.0.2/32 dev va proto static",
		"route add 10.2.0.0/26 proto 179 nexthop via 192.0.2.9 dev va nexthop via 192.0.2.8 dev va",
		"route add 10.3.0.0/26 via 192.0.2.9 proto 179 table 77",
		"route add 10.3.0.0/26 via 192.0.2.9 proto 179 table 7777",
		"route add 10.3.0.0/26 via 192.0.2.9 proto 179 table 100",
		"route add 10.3.0.0/26 via 192.0.2.9 proto 179 table 20300",
		"-6 route add blackhole fd00::/122 proto 179",
		"-6 route add fd00::1/128 dev va proto 179",
		"-6 route add fd00::2/128 dev va proto static",
		"-6 route add fd00:1::/64 proto 179 nexthop via 2001:db8::9 dev va nexthop via 2001:db8::8 dev va",
		"-6 route add fd00::1/128 dev va proto 179 table 7777",
		"-6 route add fd00::1/128 dev va proto 179 table 20300",
	} {
		ip(t, line)
	}
	tab := openTable(t, Config{Table: 100})
	n, err := tab.SweepElsewhere(context.Background(), 20300)
	if err != nil || n < 10 {
		t.Fatalf("removed %d routes, %v; want 10 or more", n, err)
	}
	for _, family := range []string{"-4", "-6"} {
		left := strings.Split(strings.TrimSpace(ip(t, family+" route show table all proto 179")), "\n")
		for _, line := range left {
			if !strings.Contains(line, "table 100") && !strings.Contains(line, "table 20300") {
				t.Errorf("left: %s", line)
			}
		}
		if want := map[string]int{"-4": 2, "-6": 1}[family]; len(left) != want {
			t.Errorf("%d routes are left, want the %d of tables 100 and 20300: %q", len(left), want, left)
		}
		if !strings.Contains(ip(t, family+" route show proto static"), "va") {
			t.Errorf("ip %s: a route of another protocol is gone", family)
		}
	}
	if n, err := tab.SweepElsewhere(context.Background(), 20300); n != 0 || err != nil {
		t.Errorf("a second sweep removed %d routes, %v", n, err)
	}
}
