//go:debug multipathtcp=0

package fib

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/internal/ours"
	"onlink/rib"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// via is a hop: "10.0.0.1 va", or "va" for a bare device; always onlink, so
// that no test needs an address.
func via(s string) rib.Hop {
	f := strings.Fields(s)
	if len(f) == 1 {
		return rib.Hop{Dev: f[0]}
	}
	return rib.Hop{Via: netip.MustParseAddr(f[0]), Dev: f[1], Onlink: true}
}

func unicast(prefix string, hops ...string) rib.Route {
	list := make([]rib.Hop, len(hops))
	for i, h := range hops {
		list[i] = via(h)
	}
	return rib.Route{Prefix: pfx(prefix), Kind: rib.Unicast, Hops: rib.MakeHops(list...)}
}

func local(prefix, dev string) rib.Route {
	return rib.Route{Prefix: pfx(prefix), Kind: rib.Local, Hops: rib.MakeHops(rib.Hop{Dev: dev})}
}

func blackhole(prefix string) rib.Route {
	return rib.Route{Prefix: pfx(prefix), Kind: rib.Blackhole}
}

// held renders the kernel's routes of our protocol.
func held(t *testing.T, tab *Table) []string {
	t.Helper()
	list, err := tab.Dump(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, r := range list {
		words := []string{r.Prefix.String()}
		if r.Type != "unicast" {
			words = append(words, r.Type)
		}
		for _, h := range r.Hops {
			if h.Via.IsValid() {
				words = append(words, "via", h.Via.String())
			}
			words = append(words, "dev", h.Dev)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

func wantHeld(t *testing.T, tab *Table, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), held(t, tab)); diff != "" {
		t.Errorf("kernel routes (-want +got):\n%s", diff)
	}
	for _, r := range tab.Failures() {
		t.Logf("failure: %v: %v", r.Prefix, r.Err)
	}
}

// writes returns the number of messages that the table has written.
func writes(s Stats) uint64 {
	return s.Added + s.Changed + s.Deleted + s.Objects + s.ObjectsDeleted
}

func TestRoutes(t *testing.T) {
	steps := []struct {
		name   string
		set    []rib.Route
		delete []string
		want   []string
	}{
		{name: "add IPv4", set: []rib.Route{unicast("10.1.0.0/26", "10.0.0.1 va")}, want: []string{"10.1.0.0/26 via 10.0.0.1 dev va"}},
		{name: "add IPv6", set: []rib.Route{unicast("2001:db8:1::/122", "fd00::1 va")}, want: []string{"2001:db8:1::/122 via fd00::1 dev va"}},
		{name: "add IPv4 via IPv6", set: []rib.Route{unicast("10.1.0.0/26", "fd00::1 va")}, want: []string{"10.1.0.0/26 via fd00::1 dev va"}},
		{name: "blackhole", set: []rib.Route{blackhole("10.1.0.0/26"), blackhole("2001:db8::/64")}, want: []string{"10.1.0.0/26 blackhole", "2001:db8::/64 blackhole"}},
		{name: "local", set: []rib.Route{local("10.1.0.5/32", "va"), local("2001:db8::5/128", "va")}, want: []string{"10.1.0.5/32 dev va", "2001:db8::5/128 dev va"}},
		{name: "default route", set: []rib.Route{unicast("0.0.0.0/0", "10.0.0.1 va"), unicast("::/0", "fd00::1 va")}, want: []string{"0.0.0.0/0 via 10.0.0.1 dev va", "::/0 via fd00::1 dev va"}},
		{name: "multipath", set: []rib.Route{unicast("10.1.0.0/26", "10.0.0.1 va", "10.0.0.2 vb")}, want: []string{"10.1.0.0/26 via 10.0.0.1 dev va via 10.0.0.2 dev vb"}},
		{name: "multipath of both families", set: []rib.Route{unicast("10.1.0.0/26", "10.0.0.1 va", "fd00::2 vb")}, want: []string{"10.1.0.0/26 via 10.0.0.1 dev va via fd00::2 dev vb"}},
		{name: "multipath IPv6", set: []rib.Route{unicast("2001:db8:1::/122", "fd00::1 va", "fd00::2 vb")}, want: []string{"2001:db8:1::/122 via fd00::1 dev va via fd00::2 dev vb"}},
		{name: "latest Set wins", set: []rib.Route{unicast("10.1.0.0/26", "10.0.0.1 va"), unicast("10.1.0.0/26", "10.0.0.2 vb")}, want: []string{"10.1.0.0/26 via 10.0.0.2 dev vb"}},
		{name: "unresolved", set: []rib.Route{unicast("10.1.0.0/26", "10.0.0.1 va"), {Prefix: pfx("10.1.0.0/26")}}},
		{name: "set and delete", set: []rib.Route{unicast("10.1.0.0/26", "10.0.0.1 va")}, delete: []string{"10.1.0.0/26"}},
		{name: "host bits", set: []rib.Route{unicast("10.1.0.9/26", "10.0.0.1 va")}, want: []string{"10.1.0.0/26 via 10.0.0.1 dev va"}},
		{name: "invalid prefix", set: []rib.Route{{Kind: rib.Blackhole}}},
	}
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		tab.AllowSweep()
		if tab.UsesNexthopObjects() == cfg.NoNexthopObjects {
			t.Fatalf("UsesNexthopObjects = %v", tab.UsesNexthopObjects())
		}
		for _, s := range steps {
			here(t, s.name, func(t *testing.T) {
				for _, r := range s.set {
					tab.Set(r)
				}
				for _, p := range s.delete {
					tab.Delete(pfx(p))
				}
				mustApply(t, tab)
				wantHeld(t, tab, s.want...)
				before := tab.Stats()
				after := mustResync(t, tab)
				if writes(after) != writes(before) || after.Drift != 0 {
					t.Errorf("resync of unchanged routes: before %+v after %+v", before, after)
				}
				for _, r := range s.set {
					tab.Delete(r.Prefix)
				}
				mustApply(t, tab)
				wantHeld(t, tab)
				if n := tab.Stats(); n.Nexthops != 0 || n.Desired != 0 {
					t.Errorf("left behind: %+v", n)
				}
			})
		}
	})
}

// TestTransitions takes one prefix from every kind of route to every other.
func TestTransitions(t *testing.T) {
	kinds := map[bool][]rib.Route{
		false: {
			unicast("10.1.0.0/26", "10.0.0.1 va"), unicast("10.1.0.0/26", "10.0.0.1 vb"), unicast("10.1.0.0/26", "fd00::1 va"),
			unicast("10.1.0.0/26", "10.0.0.1 va", "10.0.0.2 va"), unicast("10.1.0.0/26", "10.0.0.3 va", "10.0.0.2 vb"),
			blackhole("10.1.0.0/26"), local("10.1.0.0/26", "va"),
		},
		true: {
			unicast("2001:db8::/122", "fd00::1 va"), unicast("2001:db8::/122", "fd00::1 vb"),
			unicast("2001:db8::/122", "fd00::1 va", "fd00::2 va"), unicast("2001:db8::/122", "fd00::3 va", "fd00::2 vb"),
			blackhole("2001:db8::/122"), local("2001:db8::/122", "va"),
		},
	}
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		tab.AllowSweep()
		for v6, routes := range kinds {
			for i, from := range routes {
				for j, to := range routes {
					tab.Set(from)
					mustApply(t, tab)
					tab.Set(to)
					mustApply(t, tab)
					if s := mustResync(t, tab); s.Drift != 0 || len(held(t, tab)) != 1 {
						t.Fatalf("v6 %v, %d to %d: drift %d, kernel %v", v6, i, j, s.Drift, held(t, tab))
					}
					if ok, err := tab.Installed(to.Prefix); !ok {
						t.Fatalf("v6 %v, %d to %d: not installed: %v", v6, i, j, err)
					}
				}
			}
			tab.Delete(routes[0].Prefix)
			mustApply(t, tab)
		}
		wantHeld(t, tab)
		if s := tab.Stats(); s.Nexthops != 0 {
			t.Errorf("%d objects left", s.Nexthops)
		}
	})
}

// TestMove moves the routes of a node to another device.
func TestMove(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		var want []string
		for i := range 100 {
			tab.Set(unicast(fmt.Sprintf("10.1.%d.0/24", i), "10.0.0.1 va"))
			want = append(want, fmt.Sprintf("10.1.%d.0/24 via 10.0.0.1 dev vb", i))
		}
		mustApply(t, tab)
		before := tab.Stats()
		for i := range 100 {
			tab.Set(unicast(fmt.Sprintf("10.1.%d.0/24", i), "10.0.0.1 vb"))
		}
		mustApply(t, tab)
		got := tab.Stats()
		wantWrites := uint64(100)
		if tab.UsesNexthopObjects() {
			wantWrites = 1
		}
		if n := writes(got) - writes(before); n != wantWrites {
			t.Errorf("moving a node took %d messages, want %d", n, wantWrites)
		}
		wantHeld(t, tab, want...)
		if s := mustResync(t, tab); s.Drift != 0 {
			t.Errorf("drift %d", s.Drift)
		}
		for i := range 100 {
			tab.Delete(pfx(fmt.Sprintf("10.1.%d.0/24", i)))
		}
		mustApply(t, tab)
		wantHeld(t, tab)
		if s := tab.Stats(); s.Deleted != 100 || s.Nexthops != 0 {
			t.Errorf("after the node died: %+v", s)
		}
	})
}

func TestRepair(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		routes := []rib.Route{
			unicast("10.1.0.0/26", "10.0.0.1 va"), unicast("10.1.1.0/26", "10.0.0.1 va", "10.0.0.2 vb"),
			blackhole("10.1.2.0/26"), unicast("2001:db8::/64", "fd00::1 va"), local("10.1.3.1/32", "vb"),
		}
		for _, r := range routes {
			tab.Set(r)
		}
		mustApply(t, tab)
		want := held(t, tab)
		if len(want) != len(routes) {
			t.Fatalf("installed %v", want)
		}
		edits := []struct {
			name, line string
			drift      uint64
		}{
			{"IPv4 deleted", "route del 10.1.0.0/26", 1},
			{"multipath deleted", "route del 10.1.1.0/26", 1},
			{"blackhole deleted", "route del blackhole 10.1.2.0/26", 1},
			{"IPv6 deleted", "-6 route del 2001:db8::/64", 1},
			{"changed to another device", "route replace 10.1.0.0/26 via 10.0.0.9 dev vb onlink proto 179", 1},
			{"changed to blackhole", "route replace blackhole 10.1.0.0/26 proto 179", 1},
			{"pod route deleted", "route del 10.1.3.1/32", 1},
			{"device down", "link set va down", 0},
		}
		for _, e := range edits {
			here(t, e.name, func(t *testing.T) {
				before := tab.Stats().Drift
				ip(t, e.line)
				if e.drift == 0 {
					ip(t, "link set va up")
					tab.LinkChanged("va")
					mustApply(t, tab)
				}
				s := mustResync(t, tab)
				if e.drift != 0 && s.Drift-before != e.drift {
					t.Errorf("drift %d, want %d", s.Drift-before, e.drift)
				}
				wantHeld(t, tab, want...)
				if again := mustResync(t, tab); writes(again) != writes(s) {
					t.Errorf("second resync wrote: %+v then %+v", s, again)
				}
			})
		}
	})
}

func TestRepairObjects(t *testing.T) {
	freshNetns(t)
	wire(t, "va")
	wire(t, "vb")
	tab := openTable(t, Config{})
	tab.Set(unicast("10.1.0.0/26", "10.0.0.1 va"))
	tab.Set(unicast("10.1.1.0/26", "10.0.0.1 va", "10.0.0.2 vb"))
	mustApply(t, tab)
	want := held(t, tab)
	for _, line := range []string{
		"nexthop del id %d", "nexthop replace id %d via 10.0.0.77 dev vb onlink proto 179", "nexthop flush proto 179",
	} {
		if strings.Contains(line, "%d") {
			line = fmt.Sprintf(line, ours.FirstNexthopID)
		}
		ip(t, line)
		mustResync(t, tab)
		wantHeld(t, tab, want...)
	}
}

func TestForeign(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		for _, c := range []struct{ prefix, via, ip string }{
			{"10.9.0.0/24", "10.0.0.1 va", ""}, {"2001:db8:9::/64", "fd00::1 va", "-6 "}, {"10.9.1.0/32", "10.0.0.1 va", ""},
		} {
			here(t, c.prefix, func(t *testing.T) {
				tab := openTable(t, cfg)
				ip(t, c.ip+"route add "+c.prefix+" dev vb proto static")
				alien := ip(t, c.ip+"route show "+c.prefix)
				tab.Set(unicast(c.prefix, c.via))
				tab.Set(unicast("10.8.0.0/24", "10.0.0.1 va"))
				if err := tab.Apply(context.Background()); !errors.Is(err, ErrForeign) {
					t.Errorf("Apply: %v", err)
				}
				wantHeld(t, tab, "10.8.0.0/24 via 10.0.0.1 dev va")
				f := tab.Failures()
				if len(f) != 1 || f[0].OwnerProtocol != "static" || f[0].Dev != "va" || !errors.Is(f[0].Err, ErrForeign) {
					t.Errorf("Failures: %+v", f)
				}
				if _, err := tab.Resync(context.Background()); !errors.Is(err, ErrForeign) {
					t.Errorf("Resync: %v", err)
				}
				if got := ip(t, c.ip+"route show "+c.prefix); got != alien {
					t.Errorf("foreign route is now %q, was %q", got, alien)
				}
				ip(t, c.ip+"route del "+c.prefix)
				mustResync(t, tab)
				if ok, err := tab.Installed(pfx(c.prefix)); !ok || len(tab.Failures()) != 0 {
					t.Errorf("after the foreign route left: %v, %v", err, tab.Failures())
				}
				tab.Delete(pfx(c.prefix))
				tab.Delete(pfx("10.8.0.0/24"))
				mustApply(t, tab)
			})
		}
	})
}

// TestRestart opens a second table over the routes of a first one.
func TestRestart(t *testing.T) {
	kept := []rib.Route{
		unicast("10.1.0.0/26", "10.0.0.1 va"), unicast("10.1.1.0/26", "10.0.0.1 va", "10.0.0.2 vb"),
		unicast("2001:db8::/64", "fd00::1 va"), unicast("2001:db8:1::/64", "fd00::1 va", "fd00::2 vb"),
		blackhole("10.1.2.0/26"), blackhole("2001:db8:2::/64"), local("10.1.2.1/32", "va"), local("2001:db8:2::1/128", "va"),
	}
	bothWays(t, func(t *testing.T, cfg Config) {
		first := openTable(t, cfg)
		for _, r := range append([]rib.Route{unicast("10.1.9.0/26", "10.0.0.9 vb"), unicast("10.1.8.0/26", "10.0.0.8 vb")}, kept...) {
			first.Set(r)
		}
		mustApply(t, first)
		all := held(t, first)
		ip(t, "route add 10.1.7.0/26 dev va metric 77 proto 179")
		ip(t, "route add 10.1.6.0/26 dev va proto bird")

		tab := openTable(t, cfg)
		if s := mustResync(t, tab); writes(s) != 0 || s.Stale != len(all) {
			t.Errorf("adoption: %+v", s)
		}
		for _, r := range kept {
			tab.Set(r)
		}
		tab.Set(unicast("10.1.8.0/26", "10.0.0.7 vb")) // changed while the agent was down
		mustApply(t, tab)
		s := tab.Stats()
		if s.Added+s.Changed+s.Moved != 1 || s.Deleted != 0 || s.Stale != 1 {
			t.Errorf("after the same routes were set: %+v", s)
		}
		if got := len(held(t, tab)); got != len(all)+1 {
			t.Errorf("%d routes before the sweep, want %d", got, len(all)+1)
		}
		tab.AllowSweep()
		mustResync(t, tab)
		tab2 := mustResync(t, tab)
		if got := len(held(t, tab)); got != len(all)-1 || tab2.Stale != 0 {
			t.Errorf("after the sweep: %v, %+v", held(t, tab), tab2)
		}
		if ip(t, "route show 10.1.6.0/26") == "" {
			t.Error("the sweep removed another protocol's route")
		}
		if n := strings.Count(ip(t, "nexthop"), "proto 179"); n != tab2.Nexthops {
			t.Errorf("kernel holds %d objects, we know %d", n, tab2.Nexthops)
		}
	})
}

// TestSweepSparesQueued is the rule that a pod's route depends on: a route that a
// resync sees before it is desired survives if it is set before the next one.
func TestSweepSparesQueued(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		tab.AllowSweep()
		mustResync(t, tab)
		ip(t, "route add 10.1.0.5/32 dev va proto 179")
		ip(t, "route add 10.1.0.6/32 dev va proto 179")
		before := mustResync(t, tab)
		tab.Set(local("10.1.0.5/32", "va"))
		mustApply(t, tab)
		wantHeld(t, tab, "10.1.0.5/32 dev va")
		if s := tab.Stats(); s.Added+s.Changed != before.Added+before.Changed || s.Deleted != before.Deleted+1 {
			t.Errorf("before %+v after %+v", before, s)
		}
	})
}

// TestAvoid: no route is written over a foreign device; once the device is ours
// the route is written.
func TestAvoid(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		tab.Avoid([]string{"vb"})
		tab.Set(unicast("10.2.0.0/24", "10.0.0.1 vb"))
		tab.Set(unicast("10.3.0.0/24", "10.0.0.1 va"))
		if err := tab.Apply(context.Background()); !errors.Is(err, ErrAvoid) {
			t.Errorf("Apply over an avoided device: %v", err)
		}
		wantHeld(t, tab, "10.3.0.0/24 via 10.0.0.1 dev va")
		tab.Avoid(nil)
		mustApply(t, tab)
		wantHeld(t, tab, "10.2.0.0/24 via 10.0.0.1 dev vb", "10.3.0.0/24 via 10.0.0.1 dev va")
	})
}

func TestDevices(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		tab.Set(local("10.1.0.5/32", "pod0"))
		tab.Set(unicast("10.2.0.0/24", "10.0.0.1 late", "10.0.0.2 va"))
		tab.Set(unicast("10.3.0.0/24", "10.0.0.1 va"))
		if err := tab.Apply(context.Background()); !errors.Is(err, ErrNoDevice) {
			t.Errorf("Apply without the device: %v", err)
		}
		if _, err := tab.Installed(pfx("10.1.0.5/32")); !errors.Is(err, ErrPending) {
			t.Errorf("pod route: %v, want pending", err)
		}
		if f := tab.Failures(); len(f) != 1 || f[0].Prefix != pfx("10.2.0.0/24") {
			t.Errorf("Failures: %+v", f)
		}
		wantHeld(t, tab, "10.3.0.0/24 via 10.0.0.1 dev va")

		// The CNI plugin writes the pod's route itself; then the Table is informed.
		wire(t, "pod0")
		ip(t, "route add 10.1.0.5/32 dev pod0 proto 179")
		before := writes(tab.Stats())
		tab.LinkChanged("pod0")
		if err := tab.Apply(context.Background()); err != nil {
			t.Error(err)
		}
		if n := writes(tab.Stats()) - before; n != 0 {
			t.Errorf("%d writes for a route the plugin had written", n)
		}
		if ok, err := tab.Installed(pfx("10.1.0.5/32")); !ok {
			t.Errorf("pod route: %v", err)
		}

		wire(t, "late")
		tab.LinkChanged("late")
		mustApply(t, tab)
		all := []string{"10.1.0.5/32 dev pod0", "10.2.0.0/24 via 10.0.0.1 dev late via 10.0.0.2 dev va", "10.3.0.0/24 via 10.0.0.1 dev va"}
		wantHeld(t, tab, all...)

		for _, dev := range []string{"va", "pod0", "late"} {
			ip(t, "link del "+dev)
			wire(t, dev)
			tab.LinkChanged(dev)
			mustApply(t, tab)
			wantHeld(t, tab, all...)
		}
		for _, dev := range []string{"va", "pod0", "late"} { // without a report
			ip(t, "link del "+dev)
			wire(t, dev)
		}
		mustResync(t, tab)
		wantHeld(t, tab, all...)
	})
}

func TestTableMetricSource(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		ip(t, "addr add 10.0.0.200/32 dev lo")
		ip(t, "addr add fd00::200/128 dev lo nodad")
		cfg.Table, cfg.Metric = 1000, 50
		cfg.Source4, cfg.Source6 = netip.MustParseAddr("10.0.0.200"), netip.MustParseAddr("fd00::200")
		tab := openTable(t, cfg)
		if s := mustResync(t, tab); s.Resyncs != 1 {
			t.Errorf("resync of a table that does not exist: %+v", s)
		}
		tab.Set(unicast("10.1.0.0/26", "10.0.0.1 va"))
		tab.Set(unicast("10.1.1.0/26", "10.0.0.1 va", "10.0.0.2 va"))
		tab.Set(unicast("2001:db8::/64", "fd00::1 va"))
		tab.Set(blackhole("2001:db8:1::/64"))
		tab.Set(local("10.1.0.1/32", "va"))
		mustApply(t, tab)
		before := tab.Stats()
		if s := mustResync(t, tab); writes(s) != writes(before) || s.Drift != 0 {
			t.Errorf("unchanged: before %+v after %+v", before, s)
		}
		out := ip(t, "route show table 1000") + ip(t, "-6 route show table 1000")
		if strings.Count(out, "metric 50") != 5 || strings.Count(out, "src ") != 3 {
			t.Errorf("kernel:\n%s", out)
		}
		ip(t, "route change 10.1.0.0/26 via 10.0.0.1 dev va onlink metric 50 proto 179 table 1000")
		if s := mustResync(t, tab); s.Drift != 1 {
			t.Errorf("a route without its source address: %+v", s)
		}
	})
}

func TestOneBadRoute(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		tab := openTable(t, cfg)
		tab.Set(unicast("2001:db8::/64", "10.0.0.1 va")) // cannot be expressed
		bad := unicast("10.2.0.0/24", "10.0.0.1 va")
		bad.Hops = rib.MakeHops(rib.Hop{Via: netip.MustParseAddr("192.0.2.1"), Dev: "va"}) // not reachable
		tab.Set(bad)
		for i := range 600 {
			tab.Set(unicast(fmt.Sprintf("10.%d.%d.0/24", 10+i/256, i%256), "10.0.0.1 va"))
		}
		err := tab.Apply(context.Background())
		if !errors.Is(err, ErrBadRoute) {
			t.Errorf("Apply: %v", err)
		}
		if s := tab.Stats(); s.Added != 600 || s.Failing != 2 || len(tab.Failures()) != 2 {
			t.Errorf("stats %+v, failures %v", s, tab.Failures())
		}
		if tab.NextRetry().IsZero() {
			t.Error("no retry is planned")
		}
	})
}

func TestClosed(t *testing.T) {
	tab := New(Config{})
	tab.Set(blackhole("10.0.0.0/8"))
	if err := tab.Apply(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := tab.Resync(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Resync: %v", err)
	}
	if _, err := tab.Dump(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Dump: %v", err)
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
}
