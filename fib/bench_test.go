package fib

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
	"onlink/rib"
)

// shape makes n /26 routes spread over a number of next hops.
func shape(n, nodes int) []rib.Route {
	routes := make([]rib.Route, n)
	for i := range routes {
		node := uint32(i % nodes)
		via := netip.AddrFrom4([4]byte{172, byte(16 + node>>16), byte(node >> 8), byte(node)})
		dst := uint32(10<<24) + uint32(i)<<6
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(dst >> 24), byte(dst >> 16), byte(dst >> 8), byte(dst)}), 26)
		routes[i] = rib.Route{Prefix: p, Kind: rib.Unicast, Hops: rib.MakeHops(rib.Hop{Via: via, Dev: "va", Onlink: true})}
	}
	return routes
}

func benchTable(b *testing.B, cfg Config) *Table {
	b.Helper()
	freshNetns(b)
	wire(b, "va")
	t := openTable(b, cfg)
	t.AllowSweep()
	mustResync(b, t)
	return t
}

func perSecond(b *testing.B, routes int) {
	b.ReportMetric(float64(b.N)*float64(routes)/b.Elapsed().Seconds(), "routes/s")
}

// inOwn runs one sub-benchmark on a thread of its own.
func inOwn(b *testing.B, name string, run func(b *testing.B)) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		run(b)
	})
}

// load measures Set and Apply of routes; their removal is not measured.
func load(b *testing.B, t *Table, routes []rib.Route) {
	b.Helper()
	for b.Loop() {
		for _, r := range routes {
			t.Set(r)
		}
		mustApply(b, t)
		b.StopTimer()
		for _, r := range routes {
			t.Delete(r.Prefix)
		}
		mustApply(b, t)
		b.StartTimer()
	}
	perSecond(b, len(routes))
}

// BenchmarkWriter installs routes over one next hop; "bare" is the same
// messages without a Table, the floor.
func BenchmarkWriter(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		routes := shape(n, 1)
		inOwn(b, fmt.Sprintf("table/%d", n), func(b *testing.B) { load(b, benchTable(b, Config{}), routes) })
		inOwn(b, fmt.Sprintf("bare/%d", n), func(b *testing.B) { bare(b, routes) })
	}
}

// bare writes the routes' messages straight through the socket.
func bare(b *testing.B, routes []rib.Route) {
	b.Helper()
	t := benchTable(b, Config{})
	t.Set(routes[0])
	mustApply(b, t)
	nh := t.routes.entries.get(routes[0].Prefix).have
	run := func(v verb) {
		reqs := make([]request, 0, batchSize)
		for i, r := range routes {
			reqs = append(reqs, request{verb: v, key: t.cfg.key(r.Prefix), nh: nh, id: nh.id})
			if len(reqs) == batchSize || i == len(routes)-1 {
				if err := t.kernel.write(reqs); err != nil {
					b.Fatal(err)
				}
				reqs = reqs[:0]
			}
		}
	}
	run(deleteRoute)
	for b.Loop() {
		run(addRoute)
		b.StopTimer()
		run(deleteRoute)
		b.StartTimer()
	}
	perSecond(b, len(routes))
}

// BenchmarkNodes is a cluster: four blocks per node.
func BenchmarkNodes(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		routes := shape(4*nodes, nodes)
		for _, plain := range []bool{false, true} {
			name := fmt.Sprintf("objects/%d", nodes)
			if plain {
				name = fmt.Sprintf("plain/%d", nodes)
			}
			inOwn(b, name, func(b *testing.B) { load(b, benchTable(b, Config{NoNexthopObjects: plain}), routes) })
		}
	}
}

// BenchmarkWithdraw removes routes over 1000 next hops.
func BenchmarkWithdraw(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		routes := shape(n, 1000)
		inOwn(b, strconv.Itoa(n), func(b *testing.B) {
			t := benchTable(b, Config{})
			for b.Loop() {
				b.StopTimer()
				for _, r := range routes {
					t.Set(r)
				}
				mustApply(b, t)
				b.StartTimer()
				for _, r := range routes {
					t.Delete(r.Prefix)
				}
				mustApply(b, t)
			}
			perSecond(b, n)
		})
	}
}

// BenchmarkResync reads unchanged routes back: no write, and no allocation
// per route. "dump" is the bare dump, the floor.
func BenchmarkResync(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		routes := shape(n, 1000)
		for _, floor := range []bool{false, true} {
			name := fmt.Sprintf("resync/%d", n)
			if floor {
				name = fmt.Sprintf("dump/%d", n)
			}
			inOwn(b, name, func(b *testing.B) {
				t := benchTable(b, Config{})
				for _, r := range routes {
					t.Set(r)
				}
				mustApply(b, t)
				before := writes(t.Stats())
				for b.Loop() {
					if floor {
						if err := t.kernel.routes(ours.Protocol, func(*wireRoute) {}); err != nil {
							b.Fatal(err)
						}
						continue
					}
					mustResync(b, t)
				}
				if n := writes(t.Stats()) - before; n != 0 {
					b.Fatalf("%d writes", n)
				}
				perSecond(b, n)
			})
		}
	}
}

// BenchmarkSingle changes one route among many: the cost of one BGP update.
func BenchmarkSingle(b *testing.B) {
	const n = 100_000
	routes := shape(n, 1000)
	inOwn(b, strconv.Itoa(n), func(b *testing.B) {
		t := benchTable(b, Config{})
		for _, r := range routes {
			t.Set(r)
		}
		mustApply(b, t)
		i := 0
		for b.Loop() {
			r := routes[i%n]
			r.Hops = routes[(i+1)%n].Hops
			t.Set(r)
			if err := t.Apply(context.Background()); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}

// BenchmarkCodec is a route without the kernel: its message written, and read
// back.
func BenchmarkCodec(b *testing.B) {
	routes := shape(1024, 1)
	reqs := make([]request, len(routes))
	nh := madeHop(routes[0])
	for i, r := range routes {
		reqs[i] = request{verb: addRoute, key: routeKey{prefix: r.Prefix}, nh: nh, id: ours.FirstNexthopID}
	}
	e := encoder{table: 254}
	write := func() {
		e.B = e.B[:0]
		for i := range reqs {
			e.request(&reqs[i], uint32(i))
		}
	}
	inOwn(b, "write", func(b *testing.B) {
		for b.Loop() {
			write()
		}
		perSecond(b, len(routes))
	})
	inOwn(b, "read", func(b *testing.B) {
		write()
		var r wireRoute
		for b.Loop() {
			n := 0
			for rest := rtnl.Messages(e.B); ; n++ {
				m, ok := rest.Next()
				if !ok {
					break
				}
				if !decodeRoute(m.Body, &r) || r.nhid != ours.FirstNexthopID {
					b.Fatalf("route %d read as %+v", n, r.wireHead)
				}
			}
			if n != len(routes) {
				b.Fatalf("%d routes read, want %d", n, len(routes))
			}
		}
		perSecond(b, len(routes))
	})
}
