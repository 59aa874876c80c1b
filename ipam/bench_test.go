package ipam

import (
	"fmt"
	"net/netip"
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
