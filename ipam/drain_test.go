package ipam

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestDraining empties a node: its blocks go when their pods are gone, and are
// there again afterwards.
func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, Config{})
		n.add(1)
		synctest.Wait()
		if got := len(n.Blocks()); got != 2 {
			t.Fatalf("%d blocks before, want one in use and a spare one", got)
		}
		n.SetDraining(true)
		time.Sleep(time.Second)
		if got := n.Blocks(); len(got) != 1 || got[0].Used != 1 {
			t.Fatalf("blocks are %+v, want the one in use", got)
		}
		n.del(1)
		time.Sleep(3 * DefaultAssertInterval) // its address cools down first
		if got := n.Blocks(); len(got) != 0 {
			t.Fatalf("blocks are %+v, want none", got)
		}
		left, err := n.cfg.Registry.List(t.Context(), "n1")
		if err != nil || len(left) != 0 {
			t.Fatalf("registry has %v, %v", left, err)
		}
		n.add(2) // a pod comes all the same
		n.del(2)
		n.SetDraining(false)
		time.Sleep(time.Second)
		if got := len(n.Blocks()); got == 0 {
			t.Fatal("no block after draining")
		}
		n.sound()
	})
}

// TestDrainedNodeServes gives addresses of both families on a drained node,
// which gives every block back as soon as nobody uses it: not before those who
// waited for it have looked.
func TestDrainedNodeServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, Config{Cooldown: -1, Pools: []Pool{pool4, {Name: "six", CIDR: pfx("fd00::/120"), BlockSize: 122}}})
		n.SetDraining(true)
		for i := range 30 {
			time.Sleep(2 * promiseTime)
			time.Sleep(DefaultAssertInterval)
			if got := n.Blocks(); len(got) != 0 {
				t.Fatalf("blocks are %+v, want none", got)
			}
			if as := n.assign(Request{Handle: handle(i)}); len(as.Addresses) != 2 {
				t.Fatalf("got %v, want both families", as.Addresses)
			}
			n.del(i)
		}
		n.sound()
	})
}
