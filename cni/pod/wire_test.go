package pod

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/cni/pod/podtest"
)

// FuzzWiring encodes the messages of attachments with any names and addresses:
// none may panic, an alias fits into the kernel's limit as long as the IDs do,
// and leads back to the attachment.
func FuzzWiring(f *testing.F) {
	f.Add("id", "eth0", "default", "web-0", []byte{10, 0, 0, 1}, []byte{0xfd, 15: 1}, 1480)
	f.Add(testID, "net1", "", "", []byte{}, []byte{1}, 0)
	f.Add("a b", "%d", "\n", strings.Repeat("p", 300), []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, -1)
	f.Fuzz(func(t *testing.T, id, ifname, namespace, name string, first, second []byte, mtu int) {
		var addresses []netip.Addr
		for _, b := range [][]byte{first, second} {
			if a, ok := netip.AddrFromSlice(b); ok {
				addresses = append(addresses, a)
			}
		}
		a := Attachment{ContainerID: id, IfName: ifname, Namespace: namespace, Pod: name}
		w := NewWiring(a, addresses)
		w.MTU = mtu
		w.chooseIndexes(&thread{}, 0)
		w.createBatch(3).Stamp(1)
		w.podBatch().Stamp(1)
		w.hostBatch().Stamp(1)
		odd := func(c rune) bool { return c < '!' || c > '~' }
		if id == "" || ifname == "" || len(id) > 128 || len(ifname) > 15 || strings.ContainsFunc(id+ifname, odd) {
			return // no attachment of a request
		}
		if len(a.Alias()) > MaxAlias {
			t.Fatalf("alias of %d bytes", len(a.Alias()))
		}
		if back, ok := parseAlias(a.Alias(), w.HostDevice()); !ok || back.Key() != a.Key() {
			t.Fatalf("alias %q does not lead back to %q", a.Alias(), a.Key())
		}
	})
}

// TestIndexTaken wires a pod where another interface has the next interface
// index.
func TestIndexTaken(t *testing.T) {
	const next = 7
	here, there := podtest.New(t), podtest.New(t)
	home, err := os.Open(here.Path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHost(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	for range cap(h.wiring.free) { // each of them in turn
		th := <-h.wiring.free
		th.nextIndex = next
		h.wiring.free <- th
	}
	here.Do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = "taken", firstHostIndex+next
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "taken1"})
	})
	w := NewWiring(Attachment{ContainerID: testID, IfName: "eth0", Netns: there.Path}, []netip.Addr{netip.MustParseAddr("10.65.0.1")})
	w.Table = 254
	if w.NetnsFile, err = h.OpenNetns(there.Path); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.NetnsFile.Close() }()
	if err := h.Connect(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	found, err := h.Check(t.Context(), w)
	if err != nil || len(found) > 0 {
		t.Errorf("error %v, differences %q", err, found)
	}
}
