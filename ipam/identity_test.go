package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

// copyOf is the database of another machine with the same disk.
func copyOf(t *testing.T, s *Store) *Store {
	t.Helper()
	var b bytes.Buffer
	if err := s.Backup(&b); err != nil {
		t.Fatal(err)
	}
	path := dbPath(t)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return openStore(t, path)
}

// announced are the blocks that a node has confirmed.
func announced(n *node) []netip.Prefix {
	var out []netip.Prefix
	for _, b := range n.Blocks() {
		if b.Confirmed {
			out = append(out, b.CIDR)
		}
	}
	return out
}

// wantSilent wants a node to announce nothing, to give out nothing, and to say
// why in these words.
func (n *node) wantSilent(id int, want error, words ...string) {
	n.t.Helper()
	if got := announced(n); len(got) != 0 {
		n.t.Errorf("it announces %v", got)
	}
	err := n.wantErr(Request{Handle: handle(id)}, want)
	if why := n.Standing(); !errors.Is(why, want) {
		n.t.Errorf("standing is %v, want %v", why, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			n.t.Errorf("%q does not name %q", err, w)
		}
	}
}

// settle lets one assert and its answer pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestSecondMachine: of two machines with one name the first keeps it, and the
// second gives out nothing, until the first is gone for sure.
func TestSecondMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := openStore(t, dbPath(t)).BoltRegistry()
		first := startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: reg})
		addr := first.add(1)
		settle(time.Second)
		const still = "its block is announced by 192.0.2.1"
		var elsewhere atomic.Value
		elsewhere.Store(still)
		second := startNode(t, Config{
			Node: "worker", Address: adr("192.0.2.2"), Registry: reg,
			Announced: func(context.Context, []netip.Prefix) string { return elsewhere.Load().(string) },
		})
		for range 5 { // the first asserts on, the second asks on
			settle(time.Minute)
			second.wantSilent(2, ErrRefused, "192.0.2.1", "192.0.2.2", "worker")
			if got := announced(first); len(got) != 2 {
				t.Fatalf("the first announces %v, want its two blocks", got)
			}
		}
		if again := first.add(3); again == addr {
			t.Fatalf("the first gave %v twice", addr)
		}

		first.stop()
		settle(3 * time.Minute)
		second.wantSilent(2, ErrRefused, still)
		elsewhere.Store("")
		settle(10 * time.Second)
		if got := second.add(2); second.Standing() != nil || len(announced(second)) != 2 {
			t.Fatalf("the second got %v, standing %v, blocks %v: the first is gone, its blocks are the second's", got, second.Standing(), second.Blocks())
		}
		first = startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: reg, Store: first.cfg.Store})
		settle(time.Second)
		first.wantSilent(4, ErrRefused, "192.0.2.2")
		if as, ok := first.ByAddress(addr); !ok || as.Handle != handle(1) {
			t.Errorf("the pod of the first has lost its address")
		}
	})
}

// TestCopiedDatabase: a copy of a database on another machine is not used, with
// the registry and without.
func TestCopiedDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := openStore(t, dbPath(t)).BoltRegistry()
		first := startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: reg})
		first.add(1)
		settle(time.Second)
		link := &flaky{Registry: reg, err: errCut}
		second := startNode(t, Config{Node: "worker", Address: adr("192.0.2.2"), Registry: link, Store: copyOf(t, first.cfg.Store)})
		settle(5 * time.Minute)
		second.wantSilent(2, ErrUnconfirmed, "192.0.2.1", "192.0.2.2")
		link.cut(nil, false)
		for range 5 {
			settle(time.Minute)
			second.wantSilent(2, ErrRefused, "192.0.2.1", "192.0.2.2", "same database")
		}
		// The refusal outlives a restart without the registry.
		second.stop()
		link.cut(errCut, false)
		second = startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: link, Store: second.cfg.Store})
		settle(time.Minute)
		second.wantSilent(2, ErrUnconfirmed, "192.0.2.2")
		if got := announced(first); len(got) != 2 {
			t.Errorf("the first announces %v, want its two blocks", got)
		}
	})
}

// TestAddressChanges: a machine that comes back at another address keeps the
// blocks with running pods announced, and is whole again when the old address
// was silent for two periods.
func TestAddressChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := openStore(t, dbPath(t)).BoltRegistry()
		n := startNode(t, Config{Node: "worker", Address: adr("192.0.2.1"), Registry: reg})
		addr := n.add(1)
		block := n.Blocks()[0].CIDR
		settle(30 * time.Second)
		n.stop()
		n = startNode(t, Config{
			Node: "worker", Address: adr("192.0.2.2"), Registry: reg, Store: n.cfg.Store, Running: []Handle{handle(1)},
			Announced: func(context.Context, []netip.Prefix) string { return "peers keep its announcement" },
		})
		for range 8 {
			if got := announced(n); len(got) != 1 || got[0] != block || !block.Contains(addr) {
				t.Fatalf("it announces %v, want %v of the pod that runs", got, block)
			}
			n.refuses(Request{Handle: handle(2)}, n.Standing())
			settle(10 * time.Second)
		}
		settle(time.Minute)
		if n.Standing() != nil || len(announced(n)) != 2 {
			t.Fatalf("the old address is silent: standing %v, blocks %v", n.Standing(), n.Blocks())
		}
		n.add(2)
		n.sound()
	})
}

// TestRenamedMachine: the database of another name gives out nothing; pods keep
// their addresses; take-over goes on under the new name.
func TestRenamedMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := openStore(t, dbPath(t)).BoltRegistry()
		at := adr("192.0.2.1")
		n := startNode(t, Config{Node: "worker1", Address: at, Registry: reg})
		addr := n.add(1)
		settle(time.Second)
		before, err := reg.List(t.Context(), "worker1")
		if err != nil || len(before) != 2 {
			t.Fatalf("the registry has %v (%v), want two blocks", before, err)
		}
		n.stop()

		n = startNode(t, Config{Node: "worker1.example.com", Address: at, Registry: reg, Store: n.cfg.Store, Running: []Handle{handle(1)}})
		settle(5 * time.Minute)
		n.wantSilent(2, ErrOtherNode, `"worker1"`, `"worker1.example.com"`, "take-over worker1")
		if got := n.add(1); got != addr {
			t.Errorf("the running pod has %v now, want %v", got, addr)
		}
		if all, err := reg.List(t.Context(), ""); err != nil || len(all) != 2 || all[0] != before[0] {
			t.Errorf("the registry has %v (%v), want what it had", all, err)
		}
		if _, err := n.TakeOver(t.Context(), "worker2", false); !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("take over of a third node: %v", err)
		}
		took, err := n.TakeOver(t.Context(), "worker1", false)
		if err != nil || len(took) != 2 || took[0].Node != "worker1.example.com" || took[0].Epoch <= before[0].Epoch {
			t.Fatalf("take over: %v %v", took, err)
		}
		settle(time.Minute)
		if n.Standing() != nil || len(announced(n)) != 2 {
			t.Fatalf("standing %v, blocks %v after the take-over", n.Standing(), n.Blocks())
		}
		if got := n.add(2); got == addr {
			t.Errorf("%v was given twice", addr)
		}
		n.sound()
		n.stop()
		n = startNode(t, Config{Node: "worker1.example.com", Address: at, Registry: reg, Store: n.cfg.Store})
		if n.Standing() != nil || n.add(1) != addr {
			t.Errorf("after a restart: standing %v", n.Standing())
		}
	})
}

// mostlyCut is a registry of which a cut leaves take-overs.
type mostlyCut struct{ *flaky }

func (m mostlyCut) TakeOver(ctx context.Context, by Caller, from string, force bool) ([]Block, error) {
	return m.Registry.TakeOver(ctx, by, from, force)
}

// TestTakeOverOfFreedBlocks: what the registry does not give with the name was freed
// meanwhile, and may be another node's: it is not announced and gives no address until
// an assert confirms it, also after a restart in between.
func TestTakeOverOfFreedBlocks(t *testing.T) {
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprintf("another node has them %v", taken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := mostlyCut{&flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}}
				at := adr("192.0.2.1")
				n := startNode(t, Config{Node: "worker1", Address: at, Registry: reg})
				addr := n.add(1)
				settle(time.Second)
				blocks, err := reg.List(t.Context(), "worker1")
				if err != nil || len(blocks) != 2 {
					t.Fatalf("the registry has %v (%v), want two blocks", blocks, err)
				}
				by := n.registrar.caller()
				n.stop()
				for _, b := range blocks {
					if err := reg.Release(t.Context(), by, b); err != nil {
						t.Fatal(err)
					}
					if taken {
						req := ClaimRequest{Caller: Caller{Node: "heir", Instance: "heir", Address: adr("192.0.2.9")}, Pool: b.Pool, PoolCIDR: b.CIDR, BlockSize: b.CIDR.Bits()}
						if _, err := reg.Claim(t.Context(), req); err != nil {
							t.Fatal(err)
						}
					}
				}
				n = startNode(t, Config{Node: "worker2", Address: at, Registry: reg, Store: n.cfg.Store, Running: []Handle{handle(1)}})
				settle(time.Second)
				n.wantSilent(2, ErrOtherNode)
				reg.cut(errCut, false)
				if took, err := n.TakeOver(t.Context(), "worker1", false); err != nil || len(took) != 0 {
					t.Fatalf("take over: %v (%v), want no block", took, err)
				}
				silent := func(when string) {
					t.Helper()
					settle(time.Second)
					if got := announced(n); len(got) != 0 || n.Standing() != nil {
						t.Errorf("%s it announces %v (standing %v)", when, got, n.Standing())
					}
					n.refuses(Request{Handle: handle(2)}, ErrClaimFailed)
					if got := n.add(1); got != addr {
						t.Errorf("%s the running pod has %v, want %v", when, got, addr)
					}
				}
				silent("after the take-over")
				n.stop()
				n = startNode(t, Config{Node: "worker2", Address: at, Registry: reg, Store: n.cfg.Store, Running: []Handle{handle(1)}})
				silent("after a restart")
				reg.cut(nil, false)
				settle(time.Minute)
				got := announced(n)
				if has := slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Contains(addr) }); has == taken {
					t.Errorf("the registry answers: it announces %v", got)
				}
				n.add(2)
			})
		})
	}
}

// TestRefusedAssertFences: any refusal of an assert is the registry's word, not
// a registry that is away.
func TestRefusedAssertFences(t *testing.T) {
	for _, err := range []error{ErrInvalidRequest, ErrRefused} {
		synctest.Test(t, func(t *testing.T) {
			reg := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}
			n := startNode(t, Config{Registry: reg})
			addr := n.add(1)
			settle(time.Second)
			n.stop()
			reg.cut(err, false)
			n = startNode(t, Config{Registry: reg, Store: n.cfg.Store})
			settle(time.Second)
			n.wantSilent(2, err)
			if s := n.Stats(); s.RegistryLastError != "" || s.RegistrySynced {
				t.Errorf("the registry counts as away (%q) or in sync (%v)", s.RegistryLastError, s.RegistrySynced)
			}
			if got := n.add(1); got != addr {
				t.Errorf("the running pod has %v now, want %v", got, addr)
			}
			reg.cut(nil, false)
			settle(refusedRetry + time.Second)
			if n.Standing() != nil || len(announced(n)) != 2 {
				t.Errorf("the registry takes it again: standing %v, blocks %v", n.Standing(), n.Blocks())
			}
		})
	}
}

// TestNoIdentityYet: a database of the version before is adopted by the node
// that its blocks name, and by no other.
func TestNoIdentityYet(t *testing.T) {
	s := openStore(t, dbPath(t))
	n := startNode(t, Config{Node: "worker1", Store: s})
	n.add(1)
	n.stop()
	forget := func() {
		if err := s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete([]byte(metaIdentity)) }); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	n = startNode(t, Config{Node: "worker1", Store: s})
	if n.Standing() != nil || n.tenure.identity.Instance == "" {
		t.Errorf("standing %v, identity %+v", n.Standing(), n.tenure.identity)
	}
	n.stop()
	forget()
	n = startNode(t, Config{Node: "worker2", Store: s})
	n.wantSilent(2, ErrOtherNode, `"worker1"`, `"worker2"`)
	n.stop()
	n = startNode(t, Config{Node: "worker2", Store: s}) // and it stays so
	n.wantSilent(2, ErrOtherNode, `"worker1"`)
}
