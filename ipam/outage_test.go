package ipam

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// errCut is what a flaky registry answers while it is cut off.
var errCut = errors.New("connection refused")

func TestServesFromHeldBlocksDuringOutage(t *testing.T) {
	s := openStore(t, dbPath(t))
	reg := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}
	n := startNode(t, Config{Store: s, Registry: reg, ClaimTimeout: time.Second})
	n.add(0)
	until(t, "a spare block", func() bool { return len(n.Blocks()) == 2 })
	n.stop()

	reg.cut(errCut, false) // restart without a registry
	n = startNode(t, Config{Store: s, Registry: reg, ClaimTimeout: time.Second})
	for i := range 128 {
		n.add(i)
	}
	for _, b := range n.Blocks() {
		if !b.Confirmed {
			t.Fatalf("block %v is not announced during an outage", b.CIDR)
		}
	}
	err := n.wantErr(Request{Handle: handle(200)}, ErrClaimFailed)
	if !errors.Is(err, errCut) {
		t.Fatalf("error is %v, want the registry's", err)
	}
	if n.Stats().RegistryLastError == "" {
		t.Fatal("stats do not tell of the outage")
	}
	if calls := n.Stats().RegistryCalls; calls["List"].Count+calls["Assert"].Count == 0 || calls["Release"].Count != 0 {
		t.Errorf("durations of calls: %v", calls)
	}
	reg.cut(nil, false)
	until(t, "an address after the outage", func() bool {
		_, err := n.Assign(context.Background(), Request{Handle: handle(200)})
		return err == nil
	})
	n.sound()
}

func TestHangingRegistryBlocksNobody(t *testing.T) {
	reg := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}
	n := startNode(t, Config{Registry: reg, Spare: -1, ClaimTimeout: time.Minute})
	n.add(0)
	reg.cut(nil, true)
	for i := range 64 {
		n.add(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		_, err := n.Assign(ctx, Request{Handle: handle(100)})
		waiting <- err
	}()
	until(t, "the claim is at the registry", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.registrar.attempts) == 1 && len(n.registrar.wanted) == 0
	})
	n.del(3) // held addresses come and go beside it
	n.assign(Request{Handle: handle(101), Addresses: pool4Addrs(n.Blocks()[0].CIDR.Addr().Next().Next().Next().String())})
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatalf("the one that waits: %v", err)
	}
	n.stop() // must not wait for the registry either
}

func TestClaimTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry(), hang: true}
		n := startNode(t, Config{Registry: reg})
		begin := time.Now()
		n.refuses(Request{Handle: handle(1)}, ErrClaimFailed)
		if d := time.Since(begin); d > 3*DefaultClaimTimeout {
			t.Fatalf("an assign waited %v for a registry that hangs", d)
		}
		reg.cut(nil, false)
		time.Sleep(2 * retryLast)
		n.add(1)
	})
}

func TestFencing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bolt := openStore(t, dbPath(t)).BoltRegistry()
		reg := &flaky{Registry: bolt}
		n := startNode(t, Config{Registry: reg})
		addr := n.add(1)
		synctest.Wait() // the spare block is there
		if got := n.Blocks(); len(got) != 2 {
			t.Fatalf("blocks are %+v, want one in use and one spare", got)
		}
		drain(n.Changed())
		reg.cut(errCut, false) // the node is away
		if _, err := bolt.ForceRelease(t.Context(), "n1", true); err != nil {
			t.Fatal(err)
		}
		var mine BlockUsage
		for _, b := range n.Blocks() {
			if b.Used > 0 {
				mine = b
			}
		}
		taken, err := bolt.Claim(t.Context(), ClaimRequest{Caller: Caller{Node: "n2"}, Pool: "default", PoolCIDR: pool4.CIDR, BlockSize: 26, Block: mine.CIDR})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultAssertInterval * 2)
		reg.cut(nil, false)
		time.Sleep(DefaultAssertInterval * 2)
		<-n.Changed()
		for _, b := range n.Blocks() {
			if b.CIDR == mine.CIDR && (b.Confirmed || b.Used != 1) {
				t.Fatalf("lost block is %+v, want it unconfirmed and its pod kept", b)
			}
		}
		if as, ok := n.ByAddress(addr); !ok || as.Handle != handle(1) {
			t.Fatalf("the pod of a lost block: %+v %v", as, ok)
		}
		if st := n.Stats(); st.LostBlocks != 1 || st.LostBlockAssignments != 1 {
			t.Fatalf("stats: %+v", st)
		}
		if a := n.add(2); mine.CIDR.Contains(a) {
			t.Fatalf("assigned %v of a block of another node", a)
		}
		n.refuses(Request{Handle: handle(3), Addresses: pool4Addrs(mine.CIDR.Addr().Next().String())}, ErrBlockTaken)
		n.del(1)
		time.Sleep(DefaultAssertInterval * 2)
		for _, b := range n.Blocks() {
			if b.CIDR == mine.CIDR {
				t.Fatalf("lost block is still held although empty: %+v", b)
			}
		}
		if got, err := bolt.List(t.Context(), "n2"); err != nil || len(got) != 1 || got[0] != taken {
			t.Fatalf("the new owner has %v (%v)", got, err)
		}
		n.sound()
	})
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func TestLostRegistryIsRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}
		a := startNode(t, Config{Node: "a", Registry: reg})
		b := startNode(t, Config{Node: "b", Registry: reg})
		a.add(1)
		b.add(2)
		synctest.Wait()
		fresh := openStore(t, dbPath(t)).BoltRegistry()
		reg.mu.Lock()
		reg.Registry = fresh
		reg.mu.Unlock()
		time.Sleep(DefaultAssertInterval * 2)
		all, err := fresh.List(t.Context(), "")
		if err != nil || len(all) != 4 {
			t.Fatalf("the new registry has %+v (%v), want the four held blocks", all, err)
		}
		for _, n := range []*node{a, b} {
			for _, u := range n.Blocks() {
				if !u.Confirmed {
					t.Fatalf("block %+v was lost", u)
				}
			}
		}
	})
}

func TestLostNodeFileIsRebuilt(t *testing.T) {
	reg := openStore(t, dbPath(t)).BoltRegistry()
	n := startNode(t, Config{Registry: reg})
	was := n.assign(Request{Handle: handle(1), Netns: "/run/netns/x"})
	n.stop()
	n = startNode(t, Config{Registry: reg}) // a new file
	until(t, "its blocks are back", func() bool {
		for _, b := range n.Blocks() {
			if b.CIDR == was.Blocks[0] {
				return true
			}
		}
		return false
	})
	// What the agent does with each veth it finds.
	got := n.assign(Request{Handle: handle(1), Netns: was.Netns, Addresses: was.Addresses})
	if got.Addresses[0] != was.Addresses[0] {
		t.Fatalf("adopted %+v", got)
	}
	n.sound()
}

func TestCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := Pool{Name: "p", CIDR: pfx("10.0.0.0/30"), BlockSize: 30}
		s := openStore(t, dbPath(t))
		n := startNode(t, Config{Store: s, Pools: []Pool{pool}})
		first := n.add(0)
		for i := 1; i < 4; i++ {
			n.add(i)
		}
		n.del(2)
		time.Sleep(time.Second)
		n.del(0)
		err := n.wantErr(Request{Handle: handle(10)}, ErrExhausted)
		if want := "2 cooling down (first one is free in 59s)"; !strings.Contains(err.Error(), want) {
			t.Fatalf("error %q does not say %q", err, want)
		}
		time.Sleep(30 * time.Second)
		n.stop()
		n = startNode(t, Config{Store: s, Pools: []Pool{pool}}) // kept over a restart
		n.refuses(Request{Handle: handle(10)}, ErrExhausted)
		time.Sleep(28 * time.Second)
		n.refuses(Request{Handle: handle(10)}, ErrExhausted)
		time.Sleep(time.Second)
		if a := n.add(10); a == first {
			t.Fatal("the address freed last was used again first")
		}
		n.refuses(Request{Handle: handle(11)}, ErrExhausted)
		time.Sleep(time.Second)
		if a := n.add(11); a != first {
			t.Fatalf("got %v, want %v, which rested for its 60 s", a, first)
		}
	})
}

func TestLeastRecentlyUsedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := Pool{Name: "p", CIDR: pfx("10.0.0.0/29"), BlockSize: 29}
		n := startNode(t, Config{Pools: []Pool{pool}, Cooldown: -1})
		order := []int{5, 1, 7, 0, 3}
		var want []string
		for i := range 8 {
			n.add(i)
		}
		for _, i := range order {
			as, _ := n.Lookup(handle(i))
			want = append(want, as.Addresses[0].String())
			n.del(i)
			time.Sleep(time.Millisecond)
		}
		var got []string
		for i := range order {
			got = append(got, n.add(100+i).String())
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("reused in the order %v, want %v", got, want)
		}
	})
}

func TestSpareBlocksComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dbPath(t))
		n := startNode(t, Config{Store: s})
		for i := range 65 {
			n.add(i)
			synctest.Wait()
		}
		if got := len(n.Blocks()); got != 3 {
			t.Fatalf("65 addresses: %d blocks, want 2 and a spare one", got)
		}
		for i := range 65 {
			n.del(i)
		}
		time.Sleep(DefaultReleaseAfter / 2)
		if got := len(n.Blocks()); got != 3 {
			t.Fatalf("soon after: %d blocks, want all 3 still", got)
		}
		drain(n.Changed())
		time.Sleep(DefaultReleaseAfter)
		<-n.Changed()
		left := n.Blocks()
		if len(left) != 1 {
			t.Fatalf("later: blocks %+v, want one", left)
		}
		reg, err := s.BoltRegistry().List(t.Context(), "n1")
		if err != nil || len(reg) != 1 || reg[0] != left[0].Block {
			t.Fatalf("registry has %v (%v)", reg, err)
		}
		n.sound()
	})
}

// TestCrashWhileGivingBack stops between the registry's release and the file's:
// the block must not serve after a restart that does not reach the registry.
func TestCrashWhileGivingBack(t *testing.T) {
	s := openStore(t, dbPath(t))
	bolt := openStore(t, dbPath(t)).BoltRegistry()
	n := startNode(t, Config{Store: s, Registry: bolt, Spare: -1})
	n.add(0)
	n.stop()
	b := n.Blocks()[0].Block
	if err := s.commit([]change{dropAssignment(Assignment{Handle: handle(0)}, time.Now()), saveBlock(heldBlock{Block: b, lost: true})}); err != nil {
		t.Fatal(err)
	}
	if err := bolt.Release(t.Context(), n.registrar.caller(), b); err != nil {
		t.Fatal(err)
	}
	reg := &flaky{Registry: bolt, err: errCut}
	n = startNode(t, Config{Store: s, Registry: reg, Spare: -1})
	n.refuses(Request{Handle: handle(1)}, ErrClaimFailed)
	if u := n.Blocks(); len(u) != 1 || u[0].Confirmed {
		t.Fatalf("blocks are %+v, want one that is not announced", u)
	}
	reg.cut(nil, false)
	until(t, "the block is settled with the registry", func() bool {
		_, err := n.Assign(context.Background(), Request{Handle: handle(1)})
		return err == nil
	})
}
