package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// TestRecover loses the file of a node that has pods, and rebuilds it from
// them and the registry.
func TestRecover(t *testing.T) {
	reg := openStore(t, dbPath(t)).BoltRegistry()
	n := startNode(t, Config{Registry: reg})
	var pods []Assignment
	for i := range 3 {
		n.add(i)
		as, _ := n.Lookup(handle(i))
		pods = append(pods, as)
	}
	until(t, "the spare block", func() bool { return len(n.Blocks()) == 2 })
	claimed := n.Blocks()
	n.stop()

	pods = append(pods,
		Assignment{Handle: handle(10), Addresses: pods[0].Addresses},                         // a duplicate
		Assignment{Handle: handle(11), Addresses: []netip.Addr{adr("192.0.2.1")}},            // in no pool
		Assignment{Handle: handle(12)},                                                       // nothing to enter
		Assignment{Handle: Handle{ContainerID: "c13"}, Addresses: pool4Addrs("10.244.0.99")}, // no handle
	)
	s := openStore(t, dbPath(t))
	a, err := New(Config{Node: "n1", Pools: []Pool{pool4}, Registry: reg, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	entered, refused, err := a.Recover(pods)
	if err != nil || len(entered) != 3 || len(refused) != 4 {
		t.Fatalf("entered %v, refused %v, %v; want 3 and 4", entered, refused, err)
	}
	for i, want := range []error{ErrAddressInUse, ErrInvalidRequest, ErrInvalidRequest, ErrInvalidRequest} {
		if !errors.Is(refused[i], want) {
			t.Errorf("refused %v, want %v", refused[i], want)
		}
	}
	if again, _, err := a.Recover(pods[:3]); err != nil || len(again) != 0 {
		t.Fatalf("entered again: %v, %v", again, err)
	}
	// What was recovered is in the file, and the registry's word on the blocks
	// replaces what was guessed.
	n = startNode(t, Config{Registry: reg, Store: s})
	until(t, "the blocks of before", func() bool {
		got := n.Blocks()
		if len(got) != len(claimed) {
			return false
		}
		for i, b := range got {
			if b.Block != claimed[i].Block || !b.Confirmed {
				return false
			}
		}
		return true
	})
	for i := range 3 {
		as, ok := n.Lookup(handle(i))
		if !ok || !slices.Equal(as.Addresses, pods[i].Addresses) {
			t.Errorf("%v has %v, want %v", handle(i), as.Addresses, pods[i].Addresses)
		}
	}
	fresh := n.add(20)
	for _, p := range pods[:3] {
		if p.Addresses[0] == fresh {
			t.Errorf("%v is given twice", fresh)
		}
	}
	n.sound()
}

// TestRecoverWithoutRegistry loses node file and registry at once: the pods'
// blocks are the node's again when nobody else has them.
func TestRecoverWithoutRegistry(t *testing.T) {
	s := openStore(t, dbPath(t))
	a, err := New(Config{Node: "n1", Pools: []Pool{pool4}, Registry: s.BoltRegistry(), Store: s})
	if err != nil {
		t.Fatal(err)
	}
	pod := Assignment{Handle: handle(1), Addresses: pool4Addrs("10.244.0.70")}
	if _, refused, err := a.Recover([]Assignment{pod}); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	n := startNode(t, Config{Store: s})
	n.add(2)
	until(t, "the registry knows the block", func() bool {
		list, err := s.BoltRegistry().List(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			if b.CIDR == pfx("10.244.0.64/26") {
				return true
			}
		}
		return false
	})
	n.sound()
}
