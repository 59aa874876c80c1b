package rib

import (
	"net/netip"
	"runtime"
	"strconv"
	"testing"
)

// feed makes n /26 updates over as many nodes as have four blocks each.
func feed(n int) ([]Update, underlay) {
	u := underlay{}
	updates := make([]Update, n)
	for i := range updates {
		node := i / 4
		nh := netip.AddrFrom4([4]byte{172, 16 + byte(node>>16), byte(node >> 8), byte(node)})
		reach := Reach{Kind: OnLink, Hops: MakeHops(Hop{Dev: "eth0"}), Match: netip.MustParsePrefix("172.16.0.0/16")}
		if node%2 == 1 {
			reach = Reach{Kind: Gateway, Hops: MakeHops(Hop{Via: netip.MustParseAddr("172.16.0.1"), Dev: "eth0"}), Match: netip.MustParsePrefix("0.0.0.0/0")}
		}
		u[nh] = reach
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)}), 26)
		updates[i] = Update{Prefix: p, Paths: []Path{{NextHop: nh, Peer: netip.MustParseAddr("172.16.0.10")}}}
	}
	return updates, u
}

func loaded(n int) (*Table, []Update, underlay) {
	updates, u := feed(n)
	t := NewTable(u)
	t.SetPools([]Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Tunnel: "onlink-ipip"}})
	for _, up := range updates {
		t.Update(up)
	}
	return t, updates, u
}

// BenchmarkLoad: a whole table, from the first update to the drained changes.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			updates, u := feed(n)
			b.ReportAllocs()
			var before, after runtime.MemStats
			var t *Table
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				t = NewTable(u)
				t.SetPools([]Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Tunnel: "onlink-ipip"}})
				for _, up := range updates {
					t.Update(up)
				}
				if got := len(t.Drain()); got != n {
					b.Fatalf("%d changes, want %d", got, n)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "routes/s")
			b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(n), "B/route")
			runtime.KeepAlive(t)
			runtime.KeepAlive(updates)
		})
	}
}

// BenchmarkUpdate: one prefix moves to another node and back.
func BenchmarkUpdate(b *testing.B) {
	t, updates, _ := loaded(100_000)
	t.Drain()
	moved := updates[len(updates)-1]
	moved.Prefix = updates[0].Prefix
	b.ReportAllocs()
	for b.Loop() {
		t.Update(moved)
		t.Update(updates[0])
		t.Drain()
	}
}

// BenchmarkNextHopChanged: the node of four of 10,000 routes moves behind a
// gateway and back.
func BenchmarkNextHopChanged(b *testing.B) {
	t, updates, u := loaded(10_000)
	t.Drain()
	nh := updates[0].Paths[0].NextHop
	direct, behind := u[nh], u[updates[4].Paths[0].NextHop]
	b.ReportAllocs()
	for b.Loop() {
		u[nh] = behind
		t.NextHopsChanged([]netip.Addr{nh})
		if got := len(t.Drain()); got != 4 {
			b.Fatalf("%d changes, want 4", got)
		}
		u[nh] = direct
		t.NextHopsChanged([]netip.Addr{nh})
		t.Drain()
	}
}

// BenchmarkAllNextHopsUnchanged: an event that changes no next hop, 2,500 nodes.
func BenchmarkAllNextHopsUnchanged(b *testing.B) {
	t, _, _ := loaded(10_000)
	t.Drain()
	b.ReportAllocs()
	for b.Loop() {
		t.AllNextHopsChanged()
	}
	if got := len(t.Drain()); got != 0 {
		b.Fatalf("%d changes, want none", got)
	}
}
