package cni

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
)

// BenchmarkWire measures the wiring of a pod alone: veth, addresses, routes
// and neighbours. Removal, which waits for the kernel, is not counted.
func BenchmarkWire(b *testing.B) {
	for _, addresses := range [][]netip.Addr{
		{netip.MustParseAddr("10.65.0.1")},
		{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd00:65::1")},
	} {
		b.Run(fmt.Sprintf("%d-addresses", len(addresses)), func(b *testing.B) {
			host, pod := newSpace(b), newSpace(b)
			home, err := os.Open(host.path)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = home.Close() }()
			netns, err := openNetns(pod.path, home)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = netns.Close() }()
			ctx := b.Context()
			th := testThreads(b, home, wiringThreads)
			w := &wiring{
				attachment: Attachment{ContainerID: testID, IfName: "eth0"}, netns: netns, hostDevice: testDevice,
				mac: podMAC(testID, "eth0"), addresses: addresses, mtu: 1480, table: 254,
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := th.do(ctx, w.connect); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := th.do(ctx, func(t *thread) error { return removeDevice(t, testDevice) }); err != nil {
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
