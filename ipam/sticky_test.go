package ipam

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSticky gives a workload its address again, over a release, a cool-down
// that has not passed, other pods and a restart, until it is kept no longer.
func TestSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Store: openStore(t, dbPath(t)), Pools: []Pool{{Name: "p", CIDR: pfx("10.0.0.0/29"), BlockSize: 29}}, Cooldown: 10 * time.Second, Sticky: time.Hour}
		n := startNode(t, cfg)
		web := func(i int) Request {
			return Request{Handle: handle(i), Namespace: "shop", Pod: "web-0", Sticky: "web-0"}
		}
		first := n.assign(web(0)).Addresses[0]
		if twin := n.assign(web(1)).Addresses[0]; twin == first {
			t.Fatalf("two have %v", first)
		}
		n.del(1)
		n.del(0)
		if again := n.assign(web(2)).Addresses[0]; again != first {
			t.Fatalf("got %v, had %v", again, first)
		}
		n.del(2)
		time.Sleep(time.Minute)
		for i := range 7 { // all others
			as := n.assign(Request{Handle: handle(100 + i), Namespace: "other", Sticky: fmt.Sprint("x", i)})
			if as.Addresses[0] == first {
				t.Fatalf("%v was given to another", first)
			}
		}
		n.refuses(Request{Handle: handle(200)}, ErrExhausted)
		n.refuses(Request{Handle: handle(200), Namespace: "other", Sticky: "web-0"}, ErrExhausted) // another namespace
		n.sound()
		n.stop()
		n = startNode(t, cfg)
		if again := n.assign(web(3)).Addresses[0]; again != first {
			t.Fatalf("after a restart got %v, had %v", again, first)
		}
		n.stop() // while it has it
		n = startNode(t, cfg)
		n.del(3)
		n.stop()
		n = startNode(t, cfg)
		n.refuses(Request{Handle: handle(200)}, ErrExhausted)
		time.Sleep(time.Hour + 2*DefaultAssertInterval)
		if got := n.add(200); got != first {
			t.Fatalf("got %v, want %v, which is kept no longer", got, first)
		}
		n.sound()
		if len(n.workloads.all) != 7 {
			t.Errorf("%d workloads are remembered, want those 7 that run", len(n.workloads.all))
		}
	})
}

// TestStickyAfterReboot: the workload ended with the machine.
func TestStickyAfterReboot(t *testing.T) {
	cfg := Config{Store: openStore(t, dbPath(t)), BootID: "one"}
	n := startNode(t, cfg)
	req := Request{Handle: handle(1), Namespace: "shop", Sticky: "db-0"}
	first := n.assign(req).Addresses[0]
	n.stop()
	cfg.BootID = "two"
	n = startNode(t, cfg)
	for i := range 5 {
		if got := n.add(10 + i); got == first {
			t.Fatalf("%v was given to another", first)
		}
	}
	req.Handle = handle(2)
	if again := n.assign(req).Addresses[0]; again != first {
		t.Fatalf("got %v, had %v", again, first)
	}
	n.sound()
}

// TestClockWasAhead: what a run whose clock was a year ahead has stored counts
// from now on. A freed address is used again after its cool-down, and a sticky
// one is kept for its time, over any number of restarts.
func TestClockWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Store: openStore(t, dbPath(t)), Pools: []Pool{{Name: "p", CIDR: pfx("10.0.0.0/31"), BlockSize: 31}}, Cooldown: time.Minute, Sticky: time.Hour}
		n := startNode(t, cfg)
		n.assign(Request{Handle: handle(0), Namespace: "shop", Sticky: "web-0"})
		n.add(1)
		n.del(0)
		n.del(1)
		n.stop()
		ahead := time.Now().Add(365 * 24 * time.Hour)
		err := cfg.Store.commit([]change{
			dropAssignment(Assignment{Handle: handle(0), Addresses: pool4Addrs("10.0.0.0", "10.0.0.1")}, ahead),
			saveSticky("shop/web-0", sticky{addrs: pool4Addrs("10.0.0.0"), freed: ahead}),
		})
		if err != nil {
			t.Fatal(err)
		}
		n = startNode(t, cfg)
		n.refuses(Request{Handle: handle(2)}, ErrExhausted) // both rest
		time.Sleep(61 * time.Second)
		if got := n.add(2); got != adr("10.0.0.1") {
			t.Errorf("got %v, want 10.0.0.1, which has rested", got)
		}
		for range 3 { // restarts do not begin the time anew
			n.stop()
			time.Sleep(20 * time.Minute)
			n = startNode(t, cfg)
		}
		time.Sleep(2 * DefaultAssertInterval)
		if got := n.add(3); got != adr("10.0.0.0") {
			t.Errorf("got %v, want 10.0.0.0, which is kept no longer", got)
		}
	})
}
