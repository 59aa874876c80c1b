package pod

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"onlink/cni/pod/podtest"
)

// BenchmarkWire measures the wiring of a pod alone: veth, addresses, routes
// and neighbours. Removal, which waits for the kernel, is not counted.
func BenchmarkWire(b *testing.B) {
	for _, addresses := range [][]netip.Addr{
		{netip.MustParseAddr("10.65.0.1")},
		{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd00:65::1")},
	} {
		b.Run(fmt.Sprintf("%d-addresses", len(addresses)), func(b *testing.B) {
			host, inside := podtest.New(b), podtest.New(b)
			home, err := os.Open(host.Path)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = home.Close() }()
			netns, err := openNetns(inside.Path, home)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = netns.Close() }()
			ctx, device := b.Context(), HostDevice(testID, "eth0")
			th := testThreads(b, home, wiringThreads)
			w := &Wiring{
				Attachment: Attachment{ContainerID: testID, IfName: "eth0"}, NetnsFile: netns, hostDevice: device,
				MAC: MAC(testID, "eth0"), Addresses: addresses, MTU: 1480, Table: 254,
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := th.do(ctx, w.connect); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := th.do(ctx, func(t *thread) error { return removeDevice(t, device) }); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// testThreads returns threads that end with the test.
func testThreads(t testing.TB, home *os.File, count int) *threads {
	t.Helper()
	th, err := newThreads(home, count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := th.close(); err != nil {
			t.Error(err)
		}
	})
	return th
}

// BenchmarkDel measures the cost of DEL for the runtime, with the removals behind
// it going on, and the removal of one veth alone for comparison.
func BenchmarkDel(b *testing.B) {
	for _, grouped := range []bool{true, false} {
		b.Run(map[bool]string{true: "grouped", false: "one-by-one"}[grouped], func(b *testing.B) {
			home, err := os.Open(podtest.New(b).Path)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = home.Close() }()
			var pods [2 * reapBatch]*os.File
			for i := range pods {
				if pods[i], err = openNetns(podtest.New(b).Path, home); err != nil {
					b.Fatal(err)
				}
				defer func() { _ = pods[i].Close() }()
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			h := &Host{home: home, wiring: testThreads(b, home, wiringThreads), reaping: testThreads(b, home, 1)}
			th := h.wiring
			r := NewReaper(h, ReaperConfig{
				Release: func(context.Context, Attachment) error { return nil }, Forget: func(...string) error { return nil },
				Log: slog.New(slog.DiscardHandler),
			})
			go r.Run(ctx)
			i := 0
			for b.Loop() {
				b.StopTimer()
				i++
				a := Attachment{ContainerID: fmt.Sprintf("pod-%d", i), IfName: fmt.Sprintf("eth%d", i)}
				w := &Wiring{
					Attachment: a, NetnsFile: pods[i%len(pods)], hostDevice: HostDevice(a.ContainerID, a.IfName), MAC: MAC(a.ContainerID, a.IfName),
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)})}, MTU: 1480, Table: 254,
				}
				if err := th.do(ctx, w.connect); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				err := th.do(ctx, func(t *thread) error {
					if grouped {
						_, err := retireDevice(t, a)
						return err
					}
					return removeDevice(t, w.hostDevice)
				})
				if err != nil {
					b.Fatal(err)
				}
				if grouped {
					r.Add(a)
				}
			}
			b.StopTimer()
			if err := r.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}
