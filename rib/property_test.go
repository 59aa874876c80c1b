package rib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// model is the whole input of a table, so that a second one can receive the same
// at once.
type model struct {
	reach  underlay
	pools  []Pool
	own    []netip.Prefix
	pods   map[netip.Prefix]string
	permit Permit
	paths  map[netip.Prefix][]Path
}

// scratch returns a new table with the same input.
func (m *model) scratch() *Table {
	t := NewTable(m.reach)
	t.SetPermitted(m.permit)
	t.SetPools(m.pools)
	t.SetOwn(m.own)
	for p, dev := range m.pods {
		t.SetPod(p, dev)
	}
	for p, paths := range m.paths {
		t.Update(Update{Prefix: p, Paths: paths})
	}
	return t
}

// Small sets of values make collisions, covers and shared next hops likely.
func someAddr(r *rand.Rand) netip.Addr {
	if r.IntN(16) == 0 {
		return netip.MustParseAddr([]string{"169.254.0.1", "224.0.0.1", "fe80::1", "fe80::1%eth0"}[r.IntN(4)])
	}
	if r.IntN(4) == 0 {
		return netip.MustParseAddr(fmt.Sprintf("fd00::%d", r.IntN(4)))
	}
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), 0, byte(r.IntN(5))})
}

func somePrefix(r *rand.Rand) netip.Prefix {
	a := someAddr(r)
	bits := []int{0, 8, 15, 16, 24, 30, 31, 32}[r.IntN(8)]
	if a.Is6() {
		bits *= 4
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func somePaths(r *rand.Rand) []Path {
	var paths []Path
	for range r.IntN(4) {
		paths = append(paths, Path{NextHop: someAddr(r), Peer: someAddr(r), EBGP: r.IntN(2) == 0})
	}
	return paths
}

func someReach(r *rand.Rand, a netip.Addr) Reach {
	reach := Reach{Kind: ReachKind(r.IntN(6))}
	dev := []string{"eth0", "eth1"}[r.IntN(2)]
	switch reach.Kind {
	case OnLink:
		reach.Hops = MakeHops(Hop{Dev: dev})
	case Gateway:
		reach.Hops = MakeHops(Hop{Via: someAddr(r), Dev: dev}, Hop{Via: someAddr(r), Dev: "eth1"})
	case Unreachable, Blackholed, Self, Dead:
	}
	if r.IntN(4) > 0 {
		reach.Match = netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
	}
	return reach
}

// step does one random thing to both.
func (m *model) step(r *rand.Rand, t *Table) string {
	switch n := r.IntN(20); {
	case n < 9:
		p := somePrefix(r)
		paths := somePaths(r)
		delete(m.paths, p)
		if len(paths) > 0 {
			m.paths[p] = paths
		}
		t.Update(Update{Prefix: p, Paths: paths})
		return fmt.Sprint("update ", p, paths)
	case n < 14:
		a := someAddr(r)
		m.reach[a] = someReach(r, a)
		if r.IntN(2) == 0 {
			t.AllNextHopsChanged()
		} else {
			t.NextHopsChanged([]netip.Addr{a})
		}
		return fmt.Sprint("reach ", a, m.reach[a])
	case n < 15:
		m.pools = nil
		for range r.IntN(3) {
			m.pools = append(m.pools, Pool{Prefix: somePrefix(r), Encap: Encap(r.IntN(3)), Tunnel: []string{"", "t4"}[r.IntN(2)], Tunnel6: "t6"})
		}
		t.SetPools(m.pools)
		return fmt.Sprint("pools ", m.pools)
	case n < 16:
		m.own = nil
		for range r.IntN(3) {
			m.own = append(m.own, somePrefix(r))
		}
		t.SetOwn(m.own)
		return fmt.Sprint("own ", m.own)
	case n < 18:
		a := someAddr(r)
		p := netip.PrefixFrom(a, a.BitLen())
		if _, ok := m.pods[p]; ok {
			delete(m.pods, p)
			t.DeletePod(p)
			return fmt.Sprint("unpod ", p)
		}
		m.pods[p] = fmt.Sprint("onl", r.IntN(3))
		t.SetPod(p, m.pods[p])
		return fmt.Sprint("pod ", p)
	default:
		m.permit = Permit{Default: r.IntN(2) == 0}
		for range r.IntN(2) {
			m.permit.NodeSubnets = append(m.permit.NodeSubnets, somePrefix(r))
			m.permit.Prefixes = append(m.permit.Prefixes, somePrefix(r))
			m.permit.Peers = append(m.permit.Peers, someAddr(r))
			m.permit.PoolPeers = append(m.permit.PoolPeers, someAddr(r))
		}
		t.SetPermitted(m.permit)
		return fmt.Sprint("permit ", m.permit)
	}
}

// TestIncrementalEqualsScratch: after any history the table has the routes of one
// that received all input at once, and the changes of Drain add up to the
// installable routes.
func TestIncrementalEqualsScratch(t *testing.T) {
	const histories, steps = 1000, 60
	met := map[Reason]bool{} // the reasons that occurred in the histories
	for seed := range uint64(histories) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &model{reach: underlay{}, pods: map[netip.Prefix]string{}, paths: map[netip.Prefix][]Path{}}
		table := NewTable(m.reach)
		kernel := map[netip.Prefix]Route{}
		var history []string
		var underlay watchedUnderlay
		for range steps {
			history = append(history, m.step(r, table))
			if err := underlay.update(table); err != nil {
				t.Fatalf("seed %d: %v\nafter %s", seed, err, lines(history))
			}
			if r.IntN(3) > 0 {
				continue
			}
			apply(t, kernel, table.Drain())
			want := m.scratch()
			for reason := range want.Counts().ByReason {
				met[reason] = true
			}
			if diff := cmp.Diff(spellAll(want), spellAll(table)); diff != "" {
				t.Fatalf("seed %d: scratch -want +incremental\n%s\nafter %s", seed, diff, lines(history))
			}
			in := table.Inputs()
			if diff := cmp.Diff(spellAll(want), spellAll(in.Table(m.reach))); diff != "" {
				t.Fatalf("seed %d: scratch -want +copy\n%s\nafter %s", seed, diff, lines(history))
			}
			if diff := cmp.Diff(installable(want), kernelLines(kernel)); diff != "" {
				t.Fatalf("seed %d: installable -want +told\n%s\nafter %s", seed, diff, lines(history))
			}
			if got, want := slices.Collect(table.NextHops()), slices.Collect(want.NextHops()); !slices.Equal(got, want) {
				t.Fatalf("seed %d: watches %v, want %v\nafter %s", seed, got, want, lines(history))
			}
			if diff := cmp.Diff(fmt.Sprint(want.Nodes(), want.Devices()), fmt.Sprint(table.Nodes(), table.Devices())); diff != "" {
				t.Fatalf("seed %d: nodes and devices, scratch -want +incremental\n%s\nafter %s", seed, diff, lines(history))
			}
		}
	}
	for reason := ReasonNone + 1; reason < numReasons; reason++ {
		if !met[reason] && reason != ReasonAggregate && reason != ReasonNoPath {
			t.Errorf("no history met a route that is %s", reason)
		}
	}
}

// watchedUnderlay is the nodes and devices of a table's latest generation.
type watchedUnderlay struct {
	generation uint64
	answers    string
}

// update reads the table, whose nodes and devices may differ only in a new
// generation.
func (u *watchedUnderlay) update(t *Table) error {
	now := watchedUnderlay{t.Generation(), fmt.Sprint(t.Nodes(), t.Devices())}
	old := *u
	*u = now
	if old.answers != "" && old.generation == now.generation && old.answers != now.answers {
		return fmt.Errorf("generation %d: %s, then %s", now.generation, old.answers, now.answers)
	}
	return nil
}

// apply applies the changes of Drain to a kernel: no prefix may occur twice, and
// no change may have no effect.
func apply(t *testing.T, kernel map[netip.Prefix]Route, changes []Change) {
	t.Helper()
	seen := map[netip.Prefix]bool{}
	for _, c := range changes {
		p := c.Route.Prefix
		old, had := kernel[p]
		if seen[p] || c.Deleted && !had || !c.Deleted && old == c.Route {
			t.Fatalf("needless change: %+v", c)
		}
		seen[p] = true
		if c.Deleted {
			delete(kernel, p)
		} else {
			kernel[p] = c.Route
		}
	}
}

func spellAll(t *Table) (out []string) {
	for r := range t.Routes() {
		out = append(out, spell(r))
	}
	return out
}

func installable(t *Table) (out []string) {
	for r := range t.Routes() {
		if r.Kind.Installable() {
			out = append(out, spell(r))
		}
	}
	slices.Sort(out)
	return out
}

func kernelLines(kernel map[netip.Prefix]Route) (out []string) {
	for _, r := range kernel {
		out = append(out, spell(r))
	}
	slices.Sort(out)
	return out
}

func lines(s []string) string { return "\n" + strings.Join(s, "\n") }

// TestMakeHops: sets are sets.
func TestMakeHops(t *testing.T) {
	a := Hop{Via: netip.MustParseAddr("10.0.0.1"), Dev: "eth0"}
	b := Hop{Via: netip.MustParseAddr("10.0.0.1"), Dev: "eth1"}
	if MakeHops(a, b, a) != MakeHops(b, a) {
		t.Error("order and repetition make a different set")
	}
	if MakeHops(a) == MakeHops(b) || MakeHops() != (Hops{}) {
		t.Error("different sets are equal, or the empty one is not zero")
	}
}
