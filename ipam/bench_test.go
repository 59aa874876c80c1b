package ipam

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// BenchmarkAssign measures durable assigns and releases, half each, at several
// numbers of concurrent callers.
func BenchmarkAssign(b *testing.B) {
	for _, c := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("c=%d", c), func(b *testing.B) {
			n := startNode(b, Config{Pools: []Pool{{Name: "p", CIDR: pfx("10.0.0.0/16"), BlockSize: 24}}, Cooldown: -1})
			for i := range 500 { // a node that has pods
				n.add(1_000_000 + i)
			}
			b.ReportAllocs()
			turns := make(chan struct{}) // closed when the benchmark has enough
			var wg sync.WaitGroup
			for w := range c {
				wg.Go(func() {
					req := Request{
						Handle: handle(w), Netns: "/run/netns/cni-6f1c2f0e-6a3e-4a7e-9d0c-6d7c1f0a2b3c",
						Namespace: "default", Pod: "web-6d7c1f0a2b3c", UID: "6f1c2f0e-6a3e-4a7e-9d0c-6d7c1f0a2b3c", HostDevice: "onl0123456789a",
					}
					for range turns {
						if _, err := n.Assign(b.Context(), req); err != nil {
							b.Error(err)
						}
						if _, _, err := n.Release(b.Context(), req.Handle); err != nil {
							b.Error(err)
						}
					}
				})
			}
			ops, begin := 0, time.Now()
			for b.Loop() {
				turns <- struct{}{}
				ops++
			}
			close(turns)
			wg.Wait()
			d := time.Since(begin)
			b.ReportMetric(float64(2*ops)/d.Seconds(), "changes/s")
		})
	}
}

// BenchmarkStart opens a node with 65,536 addresses in 1,024 blocks.
func BenchmarkStart(b *testing.B) {
	path := dbPath(b)
	pool := Pool{Name: "p", CIDR: pfx("10.0.0.0/16"), BlockSize: 26}
	fill(b, path, pool)
	b.ReportAllocs()
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		s, err := OpenStore(path, StoreOptions{})
		if err != nil {
			b.Fatal(err)
		}
		a, err := New(Config{Node: "n1", Store: s, Registry: s.BoltRegistry(), Pools: []Pool{pool}})
		if err != nil || len(a.stock.byHandle) != 65536 || len(a.stock.blocks) != 1024 {
			b.Fatalf("%d addresses, %v", len(a.stock.byHandle), err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "heap_MB")
		runtime.KeepAlive(a)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// fill writes a full node to a file.
func fill(b testing.TB, path string, pool Pool) {
	b.Helper()
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var todo []change
	for i := range 1024 {
		cidr := blockAt(pool.CIDR, pool.BlockSize, uint64(i))
		todo = append(todo, saveBlock(heldBlock{Block: Block{CIDR: cidr, Pool: pool.Name, Node: "n1", Epoch: uint64(i + 1)}}))
		for n := range 64 {
			todo = append(todo, saveAssignment(Assignment{
				Handle: Handle{ContainerID: fmt.Sprintf("%064x", i*64+n), IfName: "eth0"}, Addresses: []netip.Addr{addrAt(cidr, n)}, Pools: []string{pool.Name},
				Netns: "/run/netns/cni-6f1c2f0e-6a3e-4a7e-9d0c-6d7c1f0a2b3c", Pod: "web-6d7c1f0a2b3c", Namespace: "default", HostDevice: "onl0123456789a", Assigned: time.Now(),
			}))
		}
	}
	if err := s.commit(todo); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRegistry is a registry that serves many nodes of two blocks each: what its
// file and its heap hold, and what an assert of one node costs, which each node makes
// once a minute.
func BenchmarkRegistry(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			path := dbPath(b)
			s := openStore(b, path)
			reg := s.BoltRegistry()
			caller := func(i int) Caller {
				return Caller{Node: fmt.Sprintf("worker-%05d.example", i), Instance: fmt.Sprintf("%032x", i), Address: netip.AddrFrom4([4]byte{10, 57, byte(i >> 8), byte(i)}), Period: time.Minute}
			}
			held := make([][]Block, nodes)
			for i := range held {
				for range 2 {
					claimed, err := reg.Claim(b.Context(), ClaimRequest{Caller: caller(i), Pool: "default", PoolCIDR: pfx("10.128.0.0/9"), BlockSize: 26})
					if err != nil {
						b.Fatal(err)
					}
					held[i] = append(held[i], claimed)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			i := 0
			for b.Loop() {
				if lost, err := reg.Assert(b.Context(), caller(i%nodes), held[i%nodes]); err != nil || len(lost) > 0 {
					b.Fatal(lost, err)
				}
				i++
			}
			file, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "heap_MB")
			b.ReportMetric(float64(file.Size())/(1<<20), "file_MB")
		})
	}
}
