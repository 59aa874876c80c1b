package nft

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
)

// senders makes a Senders on a host and closes it at the end.
func senders(t *testing.T, h *host) *Senders {
	t.Helper()
	needNFTables(t, h)
	var s *Senders
	h.do(func() (err error) {
		if err := SupportsSenders(); err != nil {
			return err
		}
		s, err = NewSenders(nil)
		return err
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// refused returns how many packets the table has dropped.
func refused(t *testing.T, h *host) (n uint64) {
	t.Helper()
	h.do(func() error {
		drops, err := Drops()
		n = drops[DropMAC]
		return err
	})
	return n
}

// isRefused sends packets until the table has dropped one; none may arrive.
func isRefused(t *testing.T, pod *host, source string, node *host, address string) {
	t.Helper()
	in, out, err := both(pod, source, node, "udp", address, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, in, out)
	before := refused(t, node)
	awaitDrop(t, in, func() error {
		_, err := out.WriteTo([]byte("forged"), target("udp", address, 5000))
		return err
	}, func() bool { return refused(t, node) > before })
}

// TestSenders lets a pod send with its own MAC address, with another one, from
// a device nobody knows, and after somebody removed the table.
func TestSenders(t *testing.T) {
	pod, node := newHost(t), newHost(t)
	s := senders(t, node)
	const device = "onl0123456789a"
	wire(node, pod, device, []string{"10.0.0.1/24", "fd00::1/64"}, []string{"10.0.0.2/24", "fd00::2/64"})
	node.isPods(device)
	setMAC := func(text string) net.HardwareAddr {
		mac, err := net.ParseMAC(text)
		if err != nil {
			t.Fatal(err)
		}
		pod.do(func() error {
			link, err := netlink.LinkByName(device)
			if err != nil {
				return err
			}
			return netlink.LinkSetHardwareAddr(link, mac)
		})
		return mac
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	passes := func() {
		t.Helper()
		arrives(t, pod, "10.0.0.2", node, "udp", "10.0.0.1", 5000)
		arrives(t, pod, "fd00::2", node, "udp", "fd00::1", 5000)
	}
	fails := func() {
		t.Helper()
		isRefused(t, pod, "10.0.0.2", node, "10.0.0.1")
		isRefused(t, pod, "fd00::2", node, "fd00::1")
	}
	own, other := "02:00:00:00:00:01", "02:00:00:00:00:02"
	mac := setMAC(own)
	must(s.Replace(nil))
	fails()
	must(s.Allow(device, mac))
	passes()
	setMAC(other)
	fails()
	must(s.Allow("onl000000000aa", setMAC(other))) // another pod's address is no better
	fails()
	must(s.Allow(device, setMAC(other)))
	passes()
	must(s.Repair()) // it notes the generation of the ruleset that it has seen
	must(s.Repair())
	node.do(func() error {
		conn, err := dial()
		if err != nil {
			return err
		}
		conn.DelTable(sendersTable())
		return conn.Flush()
	})
	must(s.Repair())
	passes()
	setMAC(own)
	fails()
	must(s.Forget(device, "onl-unknown"))
	setMAC(other)
	fails()
	must(s.Replace(map[string]net.HardwareAddr{device: setMAC(other)}))
	passes()
}

// TestSendersAtOnce changes the table from many goroutines while somebody
// removes it: in the end the kernel holds what was asked for.
func TestSendersAtOnce(t *testing.T) {
	node := newHost(t)
	s := senders(t, node)
	if err := s.Replace(nil); err != nil {
		t.Fatal(err)
	}
	const pods = 40
	mac := func(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(i)} }
	var wg sync.WaitGroup
	errs := make([]error, pods)
	for i := range pods {
		wg.Go(func() {
			device := fmt.Sprintf("onl%011x", i)
			errs[i] = errors.Join(s.Allow(device, mac(i)), s.Allow(device, mac(i+1)), s.Forget(device))
			if i%2 == 0 {
				errs[i] = errors.Join(errs[i], s.Allow(device, mac(i)))
			}
			if i%10 == 0 {
				errs[i] = errors.Join(errs[i], s.Repair())
			}
		})
	}
	node.do(func() error {
		conn, err := dial()
		if err != nil {
			return err
		}
		conn.AddTable(sendersTable())
		conn.DelTable(sendersTable())
		return conn.Flush()
	})
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := s.Repair(); err != nil {
		t.Fatal(err)
	}
	node.do(func() error {
		conn, err := dial()
		if err != nil {
			return err
		}
		elements, err := conn.GetSetElements(sendersSet(sendersTable()))
		there := map[string]bool{}
		for _, e := range elements {
			there[string(e.Key)] = true
		}
		for i := range pods {
			want := sender(fmt.Sprintf("onl%011x", i), string(mac(i)))
			if got := there[string(want.Key)]; got != (i%2 == 0) {
				t.Errorf("pod %d may send: %v, want %v", i, got, i%2 == 0)
			}
		}
		if len(there) != pods/2 {
			t.Errorf("%d senders, want %d", len(there), pods/2)
		}
		return err
	})
}

// BenchmarkSenders is what one pod costs.
func BenchmarkSenders(b *testing.B) {
	node := newHost(b)
	var s *Senders
	node.do(func() (err error) { s, err = NewSenders(nil); return err })
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	all := map[string]net.HardwareAddr{}
	for i := range 500 {
		all[fmt.Sprintf("onl%011x", i)] = net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}
	}
	if err := s.Replace(all); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.Allow("onlffffffffff", net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}); err != nil {
			b.Fatal(err)
		}
	}
}
