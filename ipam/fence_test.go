package ipam

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// lose gives the registry an empty file in the place of its own.
func (f *flaky) lose(t *testing.T) {
	t.Helper()
	s, err := OpenStore(dbPath(t), StoreOptions{Lost: true})
	if err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Registry = s.BoltRegistry()
}

// owners returns which of the nodes have a block confirmed.
func owners(block netip.Prefix, nodes ...*node) []string {
	var out []string
	for _, n := range nodes {
		for _, b := range n.Blocks() {
			if b.CIDR == block && b.Confirmed {
				out = append(out, n.cfg.Node)
			}
		}
	}
	return out
}

// TestForcedReleaseThenLoss is the worst that can happen to a block. Its node
// is cut off and taken for dead, an operator releases it by force, another node
// claims it; then the registry's file is lost, and with it the fence. Whoever
// of the two comes back first, in the end the block is the later claim's alone,
// the node that was cut off says that it has lost it, and nobody gets an
// address of it there.
func TestForcedReleaseThenLoss(t *testing.T) {
	for _, deadFirst := range []bool{true, false} {
		name := map[bool]string{true: "the dead node comes back first", false: "the new owner comes back first"}[deadFirst]
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { forcedReleaseThenLoss(t, deadFirst) }) })
	}
}

func forcedReleaseThenLoss(t *testing.T, deadFirst bool) {
	first := openStore(t, dbPath(t)).BoltRegistry()
	links := map[string]*flaky{"dead": {Registry: first}, "heir": {Registry: first}}
	start := func(name string) *node {
		return startNode(t, Config{Node: name, Registry: links[name], Spare: -1})
	}
	dead, heir := start("dead"), start("heir")
	addr := dead.add(1)
	block := dead.Blocks()[0].CIDR

	links["dead"].cut(errCut, false)
	if taken, err := first.ForceRelease(t.Context(), "dead", true); err != nil || len(taken) == 0 {
		t.Fatalf("force release: %v %v", taken, err)
	}
	req := Request{Handle: handle(1000), Addresses: []netip.Addr{addrAt(block, 40)}}
	heir.assign(req)
	if got := owners(block, heir); len(got) != 1 {
		t.Fatalf("the heir did not get %v", block)
	}

	links["heir"].cut(errCut, false)
	links["heir"].lose(t)
	links["dead"].Registry = links["heir"].Registry
	order := []string{"heir", "dead"}
	if deadFirst {
		order = []string{"dead", "heir"}
	}
	for _, name := range order {
		links[name].cut(nil, false)
		time.Sleep(2 * DefaultAssertInterval)
		synctest.Wait()
	}
	time.Sleep(2 * DefaultAssertInterval)
	synctest.Wait()
	if got := owners(block, dead, heir); len(got) != 1 || got[0] != "heir" {
		t.Errorf("%v is confirmed on %v, want only heir", block, got)
	}
	list, err := links["heir"].List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		if b.CIDR == block && b.Node != "heir" {
			t.Errorf("the registry gives %v to %s", block, b.Node)
		}
	}
	if s := dead.Stats(); s.LostBlocks != 1 || s.LostBlockAssignments != 1 {
		t.Errorf("the dead node says it has lost %d blocks with %d addresses, want 1 and 1", s.LostBlocks, s.LostBlockAssignments)
	}
	if as, ok := dead.ByAddress(addr); !ok || as.Handle != handle(1) {
		t.Errorf("the pod of the lost block has lost its address")
	}
	if got := dead.add(2); block.Contains(got) {
		t.Errorf("the dead node gave %v of the lost block", got)
	}
	dead.sound()
	heir.sound()
}
