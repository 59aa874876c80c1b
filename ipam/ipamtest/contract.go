// Package ipamtest holds the tests that every [ipam.Registry] must pass. It is
// for tests only: each implementation calls [RegistryContract] from its own.
package ipamtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"onlink/ipam"
)

// RegistryContract runs the contract against registries that open makes. Each
// call of open returns an empty registry that lives until its test ends, and
// that does not wait after it heard of a claim of later than all it knew.
func RegistryContract(t *testing.T, open func(t *testing.T) ipam.Registry) {
	t.Helper()
	for _, tc := range append([]contractTest{
		{"claim gives disjoint blocks until the pool is empty", claimAll},
		{"claim of one exact block", claimExact},
		{"claim skips reserved blocks", claimReserved},
		{"claim respects blocks of another size", claimOtherSize},
		{"claim refuses malformed requests", claimMalformed},
		{"claim in ipv6", claim6},
		{"epochs of a block grow", epochs},
		{"release", release},
		{"list by node", list},
		{"assert rebuilds a lost registry", assertRebuilds},
		{"assert refuses what another node owns", assertConflict},
		{"assert of two who say they have a block", assertLater},
		{"assert tells an old epoch from a new one", assertStale},
		{"assert refuses blocks of another node", assertForeign},
		{"concurrent claims", concurrent},
		{"an ended context", ended},
	}, nameContract...) {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open(t)) })
	}
}

// contractTest is one sentence of the contract.
type contractTest struct {
	name string
	run  func(*testing.T, ipam.Registry)
}

// Request returns a claim of a /26 of a /24 pool: four blocks.
func Request(node string) ipam.ClaimRequest {
	return ipam.ClaimRequest{Caller: ipam.Caller{Node: node}, Pool: "default", PoolCIDR: netip.MustParsePrefix("10.244.0.0/24"), BlockSize: 26}
}

func claim(t *testing.T, r ipam.Registry, req ipam.ClaimRequest) ipam.Block {
	t.Helper()
	b, err := r.Claim(t.Context(), req)
	if err != nil {
		t.Fatalf("claim %+v: %v", req, err)
	}
	if b.Node != req.Node || b.Pool != req.Pool || b.CIDR.Bits() != req.BlockSize || !req.PoolCIDR.Contains(b.CIDR.Addr()) || b.Epoch == 0 {
		t.Fatalf("claim %+v: got %+v", req, b)
	}
	return b
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want one that wraps %v", err, want)
	}
}

func wantList(t *testing.T, r ipam.Registry, node string, want ...ipam.Block) {
	t.Helper()
	got, err := r.List(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	opts := []cmp.Option{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b ipam.Block) bool { return a.CIDR.Addr().Less(b.CIDR.Addr()) }),
	}
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Fatalf("list of node %q differs (-want +got):\n%s", node, d)
	}
}

func claimAll(t *testing.T, r ipam.Registry) {
	var got []ipam.Block
	for i := range 4 {
		b := claim(t, r, Request(fmt.Sprintf("node%d", i%2)))
		for _, o := range got {
			if o.CIDR.Overlaps(b.CIDR) {
				t.Fatalf("%v and %v overlap", o, b)
			}
		}
		got = append(got, b)
	}
	_, err := r.Claim(t.Context(), Request("node0"))
	wantErr(t, err, ipam.ErrPoolExhausted)
	wantList(t, r, "", got...)
}

func claimExact(t *testing.T, r ipam.Registry) {
	req := Request("a")
	req.Block = netip.MustParsePrefix("10.244.0.128/26")
	b := claim(t, r, req)
	if b.CIDR != req.Block {
		t.Fatalf("got %v, want %v", b.CIDR, req.Block)
	}
	if again := claim(t, r, req); again != b {
		t.Fatalf("claimed again: %+v, want %+v", again, b)
	}
	req.Node = "b"
	_, err := r.Claim(t.Context(), req)
	wantErr(t, err, ipam.ErrBlockTaken)
	wantList(t, r, "", b)
}

func claimReserved(t *testing.T, r ipam.Registry) {
	req := Request("a")
	req.Reserved = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/25"), netip.MustParsePrefix("10.244.0.192/32")}
	seen := map[string]bool{claim(t, r, req).CIDR.String(): true, claim(t, r, req).CIDR.String(): true}
	if want := map[string]bool{"10.244.0.128/26": true, "10.244.0.192/26": true}; !cmp.Equal(seen, want) {
		t.Fatalf("got %v, want %v", seen, want)
	}
	_, err := r.Claim(t.Context(), req)
	wantErr(t, err, ipam.ErrPoolExhausted)
}

func claimOtherSize(t *testing.T, r ipam.Registry) {
	big := Request("a")
	big.BlockSize = 25
	a := claim(t, r, big)
	small := Request("b")
	b1, b2 := claim(t, r, small), claim(t, r, small)
	for _, b := range []ipam.Block{b1, b2} {
		if b.CIDR.Overlaps(a.CIDR) {
			t.Fatalf("%v overlaps %v", b.CIDR, a.CIDR)
		}
	}
	_, err := r.Claim(t.Context(), small)
	wantErr(t, err, ipam.ErrPoolExhausted)
	big.Node, big.Block = "c", netip.PrefixFrom(b1.CIDR.Addr(), 25).Masked()
	_, err = r.Claim(t.Context(), big)
	wantErr(t, err, ipam.ErrBlockTaken)
	small.Block = netip.PrefixFrom(a.CIDR.Addr(), 26)
	_, err = r.Claim(t.Context(), small)
	wantErr(t, err, ipam.ErrBlockTaken)
}

func claimMalformed(t *testing.T, r ipam.Registry) {
	for name, edit := range map[string]func(*ipam.ClaimRequest){
		"no node":             func(q *ipam.ClaimRequest) { q.Node = "" },
		"no pool":             func(q *ipam.ClaimRequest) { q.PoolCIDR = netip.Prefix{} },
		"host bits":           func(q *ipam.ClaimRequest) { q.PoolCIDR = netip.MustParsePrefix("10.244.0.1/24") },
		"no block size":       func(q *ipam.ClaimRequest) { q.BlockSize = 0 },
		"block size too long": func(q *ipam.ClaimRequest) { q.BlockSize = 33 },
		"block outside":       func(q *ipam.ClaimRequest) { q.Block = netip.MustParsePrefix("10.245.0.0/26") },
		"block of other size": func(q *ipam.ClaimRequest) { q.Block = netip.MustParsePrefix("10.244.0.0/27") },
	} {
		req := Request("a")
		edit(&req)
		if b, err := r.Claim(t.Context(), req); err == nil {
			t.Errorf("%s: claimed %+v", name, b)
		}
	}
	wantList(t, r, "")
}

func claim6(t *testing.T, r ipam.Registry) {
	req := ipam.ClaimRequest{Caller: ipam.Caller{Node: "a"}, Pool: "six", PoolCIDR: netip.MustParsePrefix("fd00:10::/48"), BlockSize: 122}
	a, b := claim(t, r, req), claim(t, r, req)
	if a.CIDR.Overlaps(b.CIDR) {
		t.Fatalf("%v and %v overlap", a, b)
	}
	four := claim(t, r, Request("a"))
	wantList(t, r, "a", four, a, b)
}

func epochs(t *testing.T, r ipam.Registry) {
	last := uint64(0)
	for _, node := range []string{"a", "b", "a"} {
		req := Request(node)
		req.Block = netip.MustParsePrefix("10.244.0.64/26")
		b := claim(t, r, req)
		if b.Epoch <= last {
			t.Fatalf("epoch %d follows %d", b.Epoch, last)
		}
		last = b.Epoch
		if err := r.Release(t.Context(), ipam.Caller{Node: b.Node}, b); err != nil {
			t.Fatal(err)
		}
	}
}

func release(t *testing.T, r ipam.Registry) {
	a := claim(t, r, Request("a"))
	stranger := a
	stranger.Node = "b"
	wantErr(t, r.Release(t.Context(), ipam.Caller{Node: stranger.Node}, stranger), ipam.ErrNotOwner)
	old := a
	old.Epoch--
	wantErr(t, r.Release(t.Context(), ipam.Caller{Node: old.Node}, old), ipam.ErrNotOwner)
	wantList(t, r, "a", a)
	for i := range 2 {
		if err := r.Release(t.Context(), ipam.Caller{Node: a.Node}, a); err != nil {
			t.Fatalf("release %d: %v", i, err)
		}
	}
	wantList(t, r, "")
}

func list(t *testing.T, r ipam.Registry) {
	wantList(t, r, "a")
	a, b := claim(t, r, Request("a")), claim(t, r, Request("b"))
	wantList(t, r, "a", a)
	wantList(t, r, "b", b)
	wantList(t, r, "c")
	wantList(t, r, "", a, b)
}

// assertAll asserts blocks for node a and returns the lost ones.
func assertAll(t *testing.T, r ipam.Registry, held ...ipam.Block) []ipam.Block {
	t.Helper()
	lost, err := r.Assert(t.Context(), ipam.Caller{Node: "a"}, held)
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

func assertRebuilds(t *testing.T, r ipam.Registry) {
	// What a node held before the registry was lost; its epoch is far ahead.
	old := ipam.Block{CIDR: netip.MustParsePrefix("10.244.0.64/26"), Pool: "default", Node: "a", Epoch: 1 << 60}
	for range 2 {
		if lost := assertAll(t, r, old); len(lost) != 0 {
			t.Fatalf("lost %v", lost)
		}
	}
	wantList(t, r, "a", old)
	for range 3 {
		if b := claim(t, r, Request("b")); b.CIDR.Overlaps(old.CIDR) {
			t.Fatalf("claimed %+v beside %+v", b, old)
		}
	}
	_, err := r.Claim(t.Context(), Request("b"))
	wantErr(t, err, ipam.ErrPoolExhausted)
	if err := r.Release(t.Context(), ipam.Caller{Node: old.Node}, old); err != nil {
		t.Fatal(err)
	}
	if b := claim(t, r, Request("b")); b.CIDR != old.CIDR || b.Epoch <= old.Epoch {
		t.Fatalf("claimed %+v after %+v", b, old)
	}
}

func assertConflict(t *testing.T, r ipam.Registry) {
	b := claim(t, r, Request("b"))
	mine := []ipam.Block{
		{CIDR: b.CIDR, Pool: "default", Node: "a", Epoch: b.Epoch + 5},
		{CIDR: netip.PrefixFrom(b.CIDR.Addr(), 27), Pool: "default", Node: "a", Epoch: b.Epoch + 6},
		{CIDR: netip.MustParsePrefix("10.9.0.0/26"), Pool: "other", Node: "a", Epoch: 3},
	}
	lost := assertAll(t, r, mine...)
	if len(lost) != 2 || lost[0] != mine[0] || lost[1] != mine[1] {
		t.Fatalf("lost %v, want the first two of %v", lost, mine)
	}
	wantList(t, r, "", b, mine[2])
}

// assertLater: of two nodes that assert a block which the registry gave to
// neither, the later claim counts, whoever comes first.
func assertLater(t *testing.T, r ipam.Registry) {
	cidr := netip.MustParsePrefix("10.244.0.64/26")
	says := func(node string, epoch uint64) ipam.Block {
		return ipam.Block{CIDR: cidr, Pool: "default", Node: node, Epoch: epoch}
	}
	for _, step := range []struct {
		b    ipam.Block
		lost bool
	}{
		{says("a", 100), false}, // was away when it lost the block
		{says("c", 200), false},
		{says("a", 100), true},
		{says("d", 150), true},
		{says("e", 200), true}, // of equals the first
		{says("c", 200), false},
	} {
		lost, err := r.Assert(t.Context(), ipam.Caller{Node: step.b.Node}, []ipam.Block{step.b})
		if err != nil {
			t.Fatalf("assert of %+v: %v", step.b, err)
		}
		if (len(lost) == 1) != step.lost {
			t.Fatalf("assert of %+v: lost %v, want %v", step.b, lost, step.lost)
		}
	}
	wantList(t, r, "", says("c", 200))
	wantList(t, r, "a")
}

func assertStale(t *testing.T, r ipam.Registry) {
	first := claim(t, r, Request("a"))
	if err := r.Release(t.Context(), ipam.Caller{Node: first.Node}, first); err != nil {
		t.Fatal(err)
	}
	req := Request("a")
	req.Block = first.CIDR
	second := claim(t, r, req)
	if lost := assertAll(t, r, first); len(lost) != 1 || lost[0] != first {
		t.Fatalf("lost %v, want the old claim %v", lost, first)
	}
	if lost := assertAll(t, r, second); len(lost) != 0 {
		t.Fatalf("lost %v", lost)
	}
	wantList(t, r, "a", second)
}

func assertForeign(t *testing.T, r ipam.Registry) {
	b := ipam.Block{CIDR: netip.MustParsePrefix("10.244.0.0/26"), Pool: "default", Node: "b", Epoch: 1}
	if _, err := r.Assert(t.Context(), ipam.Caller{Node: "a"}, []ipam.Block{b}); err == nil {
		t.Fatal("node a asserted a block of node b")
	}
	wantList(t, r, "")
}

func concurrent(t *testing.T, r ipam.Registry) {
	const nodes, each = 8, 8
	var mu sync.Mutex
	var got []ipam.Block
	var wg sync.WaitGroup
	for n := range nodes {
		wg.Go(func() {
			req := Request(fmt.Sprintf("node%d", n))
			req.PoolCIDR = netip.MustParsePrefix("10.244.0.0/20") // exactly nodes * each blocks
			for range each {
				b, err := r.Claim(t.Context(), req)
				if err != nil {
					t.Errorf("claim: %v", err)
					return
				}
				mu.Lock()
				got = append(got, b)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	seen := map[netip.Prefix]bool{}
	for _, b := range got {
		if seen[b.CIDR] {
			t.Fatalf("%+v was given twice", b)
		}
		seen[b.CIDR] = true
	}
	wantList(t, r, "", got...)
}

func ended(t *testing.T, r ipam.Registry) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := r.Claim(ctx, Request("a")); err == nil {
		t.Fatalf("claimed %v with an ended context", b)
	}
	wantList(t, r, "")
}
