package ipam

import (
	"strings"
	"testing"
	"time"
)

func TestRepair(t *testing.T) {
	s := openStore(t, dbPath(t))
	as := Assignment{Handle: handle(1), Addresses: pool4Addrs("10.244.0.1"), Pools: []string{"default"}, Assigned: time.Now()}
	twin := Assignment{Handle: handle(2), Addresses: pool4Addrs("10.244.0.1"), Pools: []string{"default"}}
	stray := Assignment{Handle: handle(3), Addresses: pool4Addrs("10.9.0.1"), Pools: []string{"default"}}
	block := Block{CIDR: pfx("10.244.0.0/26"), Pool: "default", Node: "n1", Epoch: 3}
	theirs := block
	theirs.Node, theirs.Epoch = "n2", 4
	err := s.commit([]change{
		saveBlock(heldBlock{Block: block}), saveAssignment(as), dropAssignment(twin, time.Now()), dropAssignment(stray, time.Now()),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BoltRegistry().Assert(t.Context(), Caller{Node: "n2"}, []Block{theirs}); err != nil {
		t.Fatal(err)
	}
	if bad, err := s.Check(); err != nil || len(bad) != 2 {
		t.Fatalf("check before: %q %v, want two problems", bad, err)
	}
	done, err := s.Repair()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.244.0.1 is assigned to c1/eth0", "10.9.0.1 is in no held block", `belongs to node "n2"`} {
		if !strings.Contains(strings.Join(done, "\n"), want) {
			t.Errorf("repaired %q, lacks %q", done, want)
		}
	}
	if bad, err := s.Check(); err != nil || len(bad) != 0 {
		t.Fatalf("check after: %q %v", bad, err)
	}
	if done, err := s.Repair(); err != nil || len(done) != 0 {
		t.Fatalf("repaired again: %q %v", done, err)
	}
	n := startNode(t, Config{Store: s})
	if got, ok := n.Lookup(handle(1)); !ok || got.Addresses[0] != as.Addresses[0] {
		t.Errorf("the pod has %v", got)
	}
	n.sound()
}

// TestLostFileSettles: a registry whose file is known to have existed waits.
func TestLostFileSettles(t *testing.T) {
	s, err := OpenStore(dbPath(t), StoreOptions{Lost: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	n := startNode(t, Config{Store: s})
	n.refuses(Request{Handle: handle(1)}, ErrSettling)
}

// TestRepairSettles: an operator who asks for a repair says that a sound file
// is older than the registry that was in it.
func TestRepairSettles(t *testing.T) {
	path := dbPath(t)
	if err := openFile(t, path, StoreOptions{}).Close(); err != nil {
		t.Fatal(err)
	}
	s := openFile(t, path, StoreOptions{MoveAside: true, Lost: true})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	startNode(t, Config{Store: s}).refuses(Request{Handle: handle(1)}, ErrSettling)
}
