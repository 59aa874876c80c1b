package fib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"onlink/rib"
)

// onWire resolves every next hop to device va.
type onWire struct{}

func (onWire) Reach(netip.Addr) rib.Reach {
	return rib.Reach{Kind: rib.OnLink, Hops: rib.MakeHops(rib.Hop{Dev: "va"}), Match: pfx("10.0.0.0/8")}
}

// TestChurn changes routes a thousand times a second, decided by rib and written
// by fib: at the end the kernel holds the decided routes, none has drifted on the
// way and memory has not grown. ONLINK_LONG=60s runs it that long.
func TestChurn(t *testing.T) {
	seconds := 2
	if text := os.Getenv("ONLINK_LONG"); text != "" {
		long, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("ONLINK_LONG: %v", err)
		}
		seconds = int(long.Seconds())
	}
	const universe, nodes, batch = 20_000, 200, 10
	freshNetns(t)
	wire(t, "va")
	ip(t, "address add 10.0.0.1/8 dev va")
	r, kernel := rib.NewTable(onWire{}), openTable(t, Config{})
	random := rand.New(rand.NewPCG(1, 2))
	change := func(count int) {
		for range count {
			i := random.IntN(universe)
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244 + byte(i>>14), byte(i >> 6), byte(i << 2)}), 30)
			var paths []rib.Path
			if random.IntN(3) > 0 {
				hop := netip.AddrFrom4([4]byte{10, 1, 0, byte(2 + random.IntN(nodes))})
				paths = []rib.Path{{NextHop: hop, Peer: netip.MustParseAddr("10.1.1.1")}}
			}
			r.Update(rib.Update{Prefix: p, Paths: paths})
		}
		for _, c := range r.Drain() {
			if c.Deleted {
				kernel.Delete(c.Route.Prefix)
			} else {
				kernel.Set(c.Route)
			}
		}
		mustApply(t, kernel)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	change(3 * universe) // every prefix has been used
	before, cpu, began := heap(), cpuTime(t), time.Now()
	tick := time.NewTicker(time.Second * batch / 1000)
	defer tick.Stop()
	for range seconds * 1000 / batch {
		<-tick.C
		change(batch)
	}
	took, used := time.Since(began), cpuTime(t)-cpu
	after := heap()
	t.Logf("%d changes in %s, %.1f%% of a core, heap %d KiB before and %d KiB after",
		seconds*1000, took.Round(time.Millisecond), 100*used.Seconds()/took.Seconds(), before>>10, after>>10)

	if _, err := kernel.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := kernel.Stats(); s.Drift != 0 || s.Errors != 0 || s.Failing != 0 {
		t.Errorf("drift %d, errors %d, failing %d; want none", s.Drift, s.Errors, s.Failing)
	}
	if after > before+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	var want []string
	for route := range r.Routes() {
		want = append(want, fmt.Sprintf("%s via %s dev va", route.Prefix, route.Hops.At(0).Via))
	}
	if diff := cmp.Diff(want, held(t, kernel)); diff != "" {
		t.Errorf("kernel (-decided +held):\n%s", diff)
	}
}

// cpuTime returns the processor time that this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
