package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEagerBlock(t *testing.T) {
	n := startNode(t, Config{})
	<-n.Changed()
	b := n.Blocks()
	if len(b) != 1 || !b[0].Confirmed || b[0].Used != 0 || b[0].Size != 64 || b[0].Node != "n1" || b[0].Pool != "default" {
		t.Fatalf("blocks are %+v, want one empty confirmed one", b)
	}
}

func TestAssignIsIdempotent(t *testing.T) {
	n := startNode(t, Config{})
	req := Request{Handle: handle(1), Netns: "/run/netns/a", Namespace: "ns", Pod: "p", UID: "u", HostDevice: "onl1"}
	first := n.assign(req)
	if again := n.assign(req); !cmp.Equal(again, first, cmpNet) {
		t.Fatalf("second ADD: %s", cmp.Diff(first, again, cmpNet))
	}
	if !first.Blocks[0].Contains(first.Addresses[0]) || first.Blocks[0].Bits() != 26 || first.Pools[0] != "default" {
		t.Fatalf("assignment %+v names wrong block or pool", first)
	}
	req.Netns = "/run/netns/b"
	moved := n.assign(req)
	if moved.Addresses[0] != first.Addresses[0] {
		t.Fatal("another netns path got another address")
	}
	if got, ok := n.ByAddress(first.Addresses[0]); !ok || got.Netns != "/run/netns/b" || moved.Netns != got.Netns {
		t.Fatalf("by address: %+v %v", got, ok)
	}
	if got, ok := n.Lookup(req.Handle); !ok || got.Pod != "p" {
		t.Fatalf("lookup: %+v %v", got, ok)
	}
	got, ok, err := n.Release(t.Context(), req.Handle)
	if err != nil || !ok || got.HostDevice != "onl1" || got.Addresses[0] != first.Addresses[0] {
		t.Fatalf("release: %+v %v %v", got, ok, err)
	}
	if _, ok, err := n.Release(t.Context(), req.Handle); ok || err != nil {
		t.Fatalf("second DEL: %v %v", ok, err)
	}
	if _, ok := n.Lookup(req.Handle); ok {
		t.Fatal("lookup finds a released attachment")
	}
	n.sound()
}

func TestRestartKeepsEverything(t *testing.T) {
	path := dbPath(t)
	want := map[int]netip.Addr{}
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{Store: s})
	for i := range 100 {
		want[i] = n.add(i)
	}
	blocks := n.Blocks()
	n.stop()
	if _, err := n.Assign(t.Context(), Request{Handle: handle(1000)}); !errors.Is(err, ErrClosed) {
		t.Fatalf("assign after the end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n = startNode(t, Config{Store: openStore(t, path)})
	for i, addr := range want {
		if got := n.add(i); got != addr {
			t.Fatalf("attachment %d had %v, has %v", i, addr, got)
		}
	}
	if d := cmp.Diff(blocks[:2], n.Blocks()[:2], cmpNet); len(blocks) < 2 || d != "" {
		t.Fatalf("blocks differ:\n%s", d)
	}
	n.sound()
}

func TestExhausted(t *testing.T) {
	n := startNode(t, Config{})
	seen := map[netip.Addr]bool{}
	for i := range 256 {
		addr := n.add(i)
		if seen[addr] || !pool4.CIDR.Contains(addr) {
			t.Fatalf("address %v is given twice or outside", addr)
		}
		seen[addr] = true
	}
	if !seen[adr("10.244.0.0")] || !seen[adr("10.244.0.255")] {
		t.Error("the first and the last address of the pool must be usable")
	}
	n.del(7)
	err := n.wantErr(Request{Handle: handle(999)}, ErrExhausted)
	for _, part := range []string{`pool "default"`, "4 blocks", "255 of 256", "1 cooling down", "add a pool"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	n.sound()
}

func TestPoolsInOrder(t *testing.T) {
	pools := []Pool{
		{Name: "small", CIDR: pfx("10.1.0.0/30"), BlockSize: 31},
		{Name: "manual", CIDR: pfx("10.2.0.0/24"), BlockSize: 28, Manual: true},
		{Name: "off", CIDR: pfx("10.3.0.0/24"), BlockSize: 28, Disabled: true},
		{Name: "rest", CIDR: pfx("10.4.0.0/24"), BlockSize: 28},
	}
	n := startNode(t, Config{Pools: pools})
	for i := range 4 {
		if a := n.add(i); !pools[0].CIDR.Contains(a) {
			t.Fatalf("address %d is %v, want one of the first pool", i, a)
		}
	}
	if a := n.add(4); !pools[3].CIDR.Contains(a) {
		t.Fatalf("first pool is full: got %v, want one of the last", a)
	}
	if a := n.assign(Request{Handle: handle(5), Pools: []string{"manual"}}); !pools[1].CIDR.Contains(a.Addresses[0]) || a.Pools[0] != "manual" {
		t.Fatalf("manual pool by name: got %+v", a)
	}
	n.refuses(Request{Handle: handle(6), Pools: []string{"off"}}, ErrInvalidRequest)
	n.refuses(Request{Handle: handle(6), Pools: []string{"nosuch"}}, ErrInvalidRequest)
	n.refuses(Request{Handle: handle(6), Pools: []string{"small"}}, ErrExhausted)
	n.refuses(Request{Handle: handle(6), IPv6: true}, ErrExhausted)
	n.sound()
}

func TestDualStackIsAllOrNothing(t *testing.T) {
	pools := []Pool{
		{Name: "four", CIDR: pfx("10.1.0.0/28"), BlockSize: 28},
		{Name: "six", CIDR: pfx("fd00::/127"), BlockSize: 128},
	}
	n := startNode(t, Config{Pools: pools})
	as := n.assign(Request{Handle: handle(0)})
	if len(as.Addresses) != 2 || !as.Addresses[0].Is4() || !as.Addresses[1].Is6() || !cmp.Equal(as.Pools, []string{"four", "six"}) {
		t.Fatalf("assigned %+v, want both families, IPv4 first", as)
	}
	if as := n.assign(Request{Handle: handle(1), IPv4: true}); len(as.Addresses) != 1 || !as.Addresses[0].Is4() {
		t.Fatalf("asked for IPv4 only: %+v", as)
	}
	n.assign(Request{Handle: handle(2), IPv6: true})
	n.refuses(Request{Handle: handle(3)}, ErrExhausted)
	used := 0
	for _, b := range n.Blocks() {
		used += b.Used
	}
	if used != 4 {
		t.Fatalf("%d addresses are in use, want 4: half an assign was kept", used)
	}
	n.sound()
}

func TestSpecificAddresses(t *testing.T) {
	pool := pool4
	pool.Reserved = []netip.Prefix{pfx("10.244.0.0/28")}
	other := Pool{Name: "b", CIDR: pfx("10.5.0.0/24"), BlockSize: 26, Disabled: true}
	n := startNode(t, Config{Pools: []Pool{pool, other}})
	want := func(i int, a string) {
		t.Helper()
		as := n.assign(Request{Handle: handle(i), Addresses: []netip.Addr{adr(a)}})
		if len(as.Addresses) != 1 || as.Addresses[0] != adr(a) {
			t.Fatalf("asked for %s, got %+v", a, as)
		}
	}
	for i := range 4 { // one of every block: those not held are claimed
		want(i, fmt.Sprintf("10.244.0.%d", i*64+5))
	}
	n.refuses(Request{Handle: handle(10), Addresses: []netip.Addr{adr("10.244.0.5")}}, ErrAddressInUse)
	n.refuses(Request{Handle: handle(10), Addresses: []netip.Addr{adr("10.9.0.5")}}, ErrInvalidRequest)
	n.refuses(Request{Handle: handle(10), Addresses: []netip.Addr{adr("10.5.0.5")}}, ErrInvalidRequest)
	n.refuses(Request{Handle: handle(10), Addresses: []netip.Addr{adr("10.244.0.9"), adr("10.244.0.8")}}, ErrInvalidRequest)
	n.refuses(Request{Handle: handle(10), Addresses: []netip.Addr{{}}}, ErrInvalidRequest)
	n.refuses(Request{Handle: Handle{IfName: "eth0"}}, ErrInvalidRequest)
	n.refuses(Request{Handle: Handle{ContainerID: "a\x00b", IfName: "eth0"}}, ErrInvalidRequest)
	n.del(0)
	want(11, "10.244.0.5") // sticky: cooling does not count for a named address
	for i := range 100 {
		if a := n.add(100 + i); pool.Reserved[0].Contains(a) {
			t.Fatalf("reserved address %v was chosen", a)
		}
	}
	n.sound()
}

func TestSpecificAddressOfAnotherNode(t *testing.T) {
	reg := openStore(t, dbPath(t)).BoltRegistry()
	req := ClaimRequest{Caller: Caller{Node: "n2"}, Pool: "default", PoolCIDR: pool4.CIDR, BlockSize: 26, Block: pfx("10.244.0.64/26")}
	if _, err := reg.Claim(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{Registry: reg})
	n.refuses(Request{Handle: handle(1), Addresses: []netip.Addr{adr("10.244.0.70")}}, ErrBlockTaken)
}

func TestConcurrentUse(t *testing.T) {
	n := startNode(t, Config{Pools: []Pool{{Name: "default", CIDR: pfx("10.244.0.0/20")}}, Cooldown: -1})
	var mu sync.Mutex
	owner := map[netip.Addr]int{}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 40 {
				id := w*1000 + i%7
				as, err := n.Assign(context.Background(), Request{Handle: handle(id)})
				if err != nil {
					t.Errorf("assign: %v", err)
					return
				}
				mu.Lock()
				if o, ok := owner[as.Addresses[0]]; ok && o != id {
					t.Errorf("%v is given to %d and %d", as.Addresses[0], o, id)
				}
				owner[as.Addresses[0]] = id
				mu.Unlock()
				if i%3 == 0 {
					mu.Lock()
					delete(owner, as.Addresses[0])
					mu.Unlock()
					if _, _, err := n.Release(context.Background(), handle(id)); err != nil {
						t.Errorf("release: %v", err)
					}
				}
			}
		})
	}
	wg.Go(func() { // two that ask for one attachment at once
		for i := range 30 {
			var as [2]Assignment
			var pair sync.WaitGroup
			for k := range as {
				pair.Go(func() { as[k], _ = n.Assign(context.Background(), Request{Handle: handle(1_000_000 + i)}) })
			}
			pair.Wait()
			if !cmp.Equal(as[0], as[1], cmpNet) || len(as[0].Addresses) == 0 {
				t.Errorf("one attachment got %+v and %+v", as[0], as[1])
			}
		}
	})
	wg.Wait()
	n.sound()
	if s := n.Stats(); s.Changes <= s.Commits {
		t.Errorf("%d changes in %d commits: no group was formed", s.Changes, s.Commits)
	}
}

func TestRebootFreesAll(t *testing.T) {
	path := dbPath(t)
	run := func(boot string, f func(*node)) {
		t.Helper()
		s, err := OpenStore(path, StoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n := startNode(t, Config{Store: s, BootID: boot})
		f(n)
		n.sound()
		n.stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	run("boot-1", func(n *node) { n.add(1); n.add(2) })
	run("boot-1", func(n *node) {
		if got := len(n.Assignments()); got != 2 {
			t.Fatalf("agent restart: %d assignments, want 2", got)
		}
	})
	run("boot-2", func(n *node) {
		if got := n.Assignments(); len(got) != 0 {
			t.Fatalf("reboot: still assigned %+v", got)
		}
		if b := n.Blocks(); len(b) == 0 || b[0].Cooling != 0 {
			t.Fatalf("reboot: blocks %+v, want them kept and rested", b)
		}
	})
}

func TestCollect(t *testing.T) {
	n := startNode(t, Config{})
	for i := range 10 {
		n.assign(Request{Handle: handle(i), Netns: fmt.Sprintf("/run/netns/%d", i%2)})
	}
	freed, err := n.Collect(t.Context(), func(a Assignment) bool {
		if a.Handle == handle(1) { // released and added again while we look
			n.del(1)
			n.assign(Request{Handle: handle(1), Netns: "/run/netns/new"})
		}
		return a.Netns == "/run/netns/1"
	})
	if err != nil || len(freed) != 4 || len(n.Assignments()) != 6 {
		t.Fatalf("collected %d (%v), %d left; want 4 and 6", len(freed), err, len(n.Assignments()))
	}
	if _, ok := n.Lookup(handle(1)); !ok {
		t.Fatal("a new assignment was collected in place of the old one")
	}
	n.sound()
}

func TestSetPools(t *testing.T) {
	n := startNode(t, Config{Cooldown: -1})
	n.add(1)
	next := Pool{Name: "new", CIDR: pfx("10.7.0.0/24"), BlockSize: 28}
	if err := n.SetPools([]Pool{next}); !errors.Is(err, ErrPoolInUse) {
		t.Fatalf("removed a pool in use: %v", err)
	}
	if err := n.SetPools([]Pool{next, next}); !errors.Is(err, ErrInvalidPool) {
		t.Fatalf("set invalid pools: %v", err)
	}
	draining := pool4
	draining.Disabled = true
	if err := n.SetPools([]Pool{draining, next}); err != nil {
		t.Fatal(err)
	}
	if a := n.add(2); !next.CIDR.Contains(a) {
		t.Fatalf("got %v of a disabled pool", a)
	}
	n.del(1)
	if err := n.SetPools([]Pool{next}); err != nil {
		t.Fatal(err)
	}
	until(t, "blocks of the removed pool are given back", func() bool {
		for _, b := range n.Blocks() {
			if pool4.CIDR.Overlaps(b.CIDR) {
				return false
			}
		}
		return true
	})
	left, err := n.cfg.Registry.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range left {
		if pool4.CIDR.Overlaps(b.CIDR) {
			t.Fatalf("registry still has %+v", b)
		}
	}
	n.sound()
}

func TestContextEnds(t *testing.T) {
	n := startNode(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Assign(ctx, Request{Handle: handle(1)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("assign: %v", err)
	}
	if !n.add(1).IsValid() {
		t.Fatal("no address after a cancelled try")
	}
}

func TestNewRefuses(t *testing.T) {
	s := openStore(t, dbPath(t))
	for name, cfg := range map[string]Config{
		"no node":      {Store: s, Registry: s.BoltRegistry()},
		"no registry":  {Node: "a", Store: s},
		"no store":     {Node: "a", Registry: s.BoltRegistry()},
		"a wrong pool": {Node: "a", Store: s, Registry: s.BoltRegistry(), Pools: []Pool{{Name: "x"}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClockSetBack(t *testing.T) {
	s := openStore(t, dbPath(t))
	n := startNode(t, Config{Store: s})
	addr := n.add(1)
	n.del(1)
	n.stop()
	far := time.Now().Add(24 * time.Hour)
	as := Assignment{Handle: handle(9), Addresses: []netip.Addr{addr}, Pools: []string{"default"}}
	if err := s.commit([]change{dropAssignment(as, far)}); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Node: "n1", Store: s, Registry: s.BoltRegistry(), Pools: []Pool{pool4}})
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, first := a.stock.blockOf(addr).cooling(time.Now(), DefaultCooldown); first > DefaultCooldown {
		t.Fatalf("address freed in the future rests for %v", first)
	}
}
