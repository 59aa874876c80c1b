package ipam

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lostStore is the file of a registry whose file before is known to be lost.
func lostStore(t *testing.T) *Store {
	t.Helper()
	s := openFile(t, dbPath(t), StoreOptions{Lost: true})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestLostRegistryKeepsNames: a registry that has forgotten who holds a name
// does not give it to a machine without blocks that asks first.
func TestLostRegistryKeepsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: openStore(t, dbPath(t)).BoltRegistry()})
		addr := first.add(1)
		settle(time.Second)
		first.stop()

		lost := lostStore(t).BoltRegistry()
		second := startNode(t, Config{Node: "worker", Address: adr("192.0.2.2"), Registry: lost})
		settle(time.Second)
		second.refuses(Request{Handle: handle(2)}, ErrSettling)
		first = startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: lost, Store: first.cfg.Store})
		settle(time.Second)
		if first.Standing() != nil || len(announced(first)) == 0 {
			t.Fatalf("the first is cut off: standing %v, announces %v", first.Standing(), announced(first))
		}
		for range 5 {
			settle(time.Minute)
			second.wantSilent(2, ErrRefused, "192.0.2.1", "192.0.2.2")
		}
		if as, ok := first.ByAddress(addr); !ok || as.Handle != handle(1) {
			t.Error("the pod of the first has lost its address")
		}
		first.add(3)
	})
}

// TestOlderRegistryKeepsBlocks: of a registry that is an older copy, and does not
// trust the holders it knows, a machine of the same name adopts no blocks.
func TestOlderRegistryKeepsBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, dbPath(t))
		first := startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: store.BoltRegistry()})
		first.add(1)
		settle(time.Second)
		if err := store.commit([]change{forgetHolders}); err != nil {
			t.Fatal(err)
		}
		second := startNode(t, Config{Node: "worker", Address: adr("192.0.2.2"), Registry: store.BoltRegistry()})
		settle(time.Second)
		second.refuses(Request{Handle: handle(2)}, ErrSettling)
		if got := second.Blocks(); len(got) != 0 {
			t.Errorf("it has the blocks %v", got)
		}
		for range 5 {
			settle(time.Minute)
			second.wantSilent(2, ErrRefused, "192.0.2.1", "192.0.2.2")
		}
		if first.Standing() != nil || len(announced(first)) == 0 {
			t.Fatalf("the first is cut off: standing %v, announces %v", first.Standing(), announced(first))
		}
	})
}

// TestLostRegistryAndCopy: a copy of a database whose blocks are announced by
// another machine does not ask a registry that has forgotten everything, and
// becomes the node once they are announced no more.
func TestLostRegistryAndCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: openStore(t, dbPath(t)).BoltRegistry()})
		first.add(1)
		settle(time.Second)
		first.stop()

		lost := lostStore(t).BoltRegistry()
		const still = "its block is still announced with next hop 192.0.2.1"
		var elsewhere atomic.Value
		elsewhere.Store(still)
		second := startNode(t, Config{
			Node: "worker", Address: adr("192.0.2.2"), Registry: lost, Store: copyOf(t, first.cfg.Store),
			Announced: func(context.Context, []netip.Prefix) string { return elsewhere.Load().(string) },
		})
		for range 5 {
			settle(time.Minute)
			second.wantSilent(2, ErrUnconfirmed, still, "192.0.2.1", "192.0.2.2")
		}
		first = startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: lost, Store: first.cfg.Store})
		settle(time.Second)
		first.add(3)
		first.stop()
		elsewhere.Store("")
		settle(DefaultSettle + time.Minute)
		if second.Standing() != nil {
			t.Fatalf("the first is gone: the standing of the second is %v", second.Standing())
		}
		second.add(2)
	})
}
