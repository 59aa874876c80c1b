package ipam

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestRecover loses the file of a node that has pods, and rebuilds it from
// them and the registry.
func TestRecover(t *testing.T) {
	reg := openStore(t, dbPath(t)).BoltRegistry()
	n := startNode(t, Config{Registry: reg})
	var pods []Running
	for i := range 3 {
		n.add(i)
		as, _ := n.Lookup(handle(i))
		pods = append(pods, Running{Assignment: as})
	}
	until(t, "the spare block", func() bool { return len(n.Blocks()) == 2 })
	claimed := n.Blocks()
	n.stop()

	pods = append(pods,
		running(10, pods[0].Addresses[0].String()), // a duplicate
		running(11, "192.0.2.1"),                   // in no pool
		running(12),                                // nothing to enter
		Running{Assignment: Assignment{Handle: Handle{ContainerID: "c13"}, Addresses: pool4Addrs("10.244.0.99")}}, // no handle
	)
	s := openStore(t, dbPath(t))
	a, err := New(Config{Node: "n1", Pools: []Pool{pool4}, Registry: reg, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Recover(pods)
	if err != nil || len(got.Entered) != 4 || len(got.Kept) != 2 || len(got.Refused) != 1 {
		t.Fatalf("recovered %+v, %v; want 4 entered, 2 kept out of use and 1 refused", got, err)
	}
	if !errors.Is(got.Refused[0], ErrInvalidRequest) {
		t.Errorf("refused %v, want %v", got.Refused[0], ErrInvalidRequest)
	}
	if as, ok := a.Lookup(handle(11)); !ok || as.Addresses[0] != adr("192.0.2.1") {
		t.Errorf("the pod of a pool that is gone has %v, want its address", as.Addresses)
	}
	if _, ok := a.Lookup(handle(10)); ok {
		t.Error("two attachments have one address")
	}
	if again, err := a.Recover(pods[:3]); err != nil || len(again.Entered) != 0 {
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
	n.del(11) // of which the check says rightly that its block is gone
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
	if got, err := a.Recover([]Running{running(1, "10.244.0.70")}); err != nil || len(got.Entered) != 1 {
		t.Fatal(got, err)
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

// running is a pod that the kernel shows with addresses.
func running(i int, addrs ...string) Running {
	return Running{Assignment: Assignment{Handle: handle(i), Addresses: pool4Addrs(addrs...), Namespace: "shop", Pod: fmt.Sprint("p", i)}}
}
