package ipamtest

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/ipam"
)

// nameContract is the part of the contract that is about machines: a name is
// held by one.
var nameContract = []contractTest{
	{"a second machine of one name is refused", secondMachine},
	{"a copy of a database at another address is refused", copiedDatabase},
	{"a machine with a new database keeps its name", newDatabase},
	{"a caller without an instance", noInstance},
	{"a machine that is silent loses its name", silentMachine},
	{"a machine that lives is taken over by force only", takeOver},
	{"a renamed machine takes its blocks along", renamed},
	{"a name is free after a forced release", forcedName},
	{"nodes and where their blocks lead", nodesListed},
}

// machine is one that asks; its period is short.
func machine(node, instance, address string) ipam.Caller {
	return ipam.Caller{Node: node, Instance: instance, Address: netip.MustParseAddr(address), Period: time.Second}
}

// claimBy claims a block for a machine.
func claimBy(t *testing.T, r ipam.Registry, by ipam.Caller) ipam.Block {
	t.Helper()
	req := Request(by.Node)
	req.Caller = by
	return claim(t, r, req)
}

// wantRefused wants every call of a machine refused, with the holder named, and
// returns the refusal of its assert.
func wantRefused(t *testing.T, r ipam.Registry, by, holder ipam.Caller, block ipam.Block) *ipam.HeldError {
	t.Helper()
	before, err := r.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	req := Request(by.Node)
	req.Caller = by
	_, claimErr := r.Claim(t.Context(), req)
	_, assertErr := r.Assert(t.Context(), by, []ipam.Block{block})
	_, emptyErr := r.Assert(t.Context(), by, nil)
	var last *ipam.HeldError
	for what, err := range map[string]error{
		"claim": claimErr, "assert": assertErr, "assert of nothing": emptyErr, "release": r.Release(t.Context(), by, block),
	} {
		wantErr(t, err, ipam.ErrRefused)
		if !errors.As(err, &last) {
			t.Fatalf("%s: %v does not say who holds the name", what, err)
		}
		if last.Node != by.Node || last.Holder.Instance != holder.Instance || last.Holder.Address != holder.Address ||
			last.By.Address != by.Address || last.Holder.Since.IsZero() {
			t.Fatalf("%s: refused by %+v, want holder %+v and caller %+v", what, last, holder, by)
		}
	}
	wantList(t, r, "", before...)
	return last
}

func secondMachine(t *testing.T, r ipam.Registry) {
	first, second := machine("a", "i1", "192.0.2.1"), machine("a", "i2", "192.0.2.2")
	b := claimBy(t, r, first)
	if e := wantRefused(t, r, second, first, b); e.Silent || e.Age > 5*time.Second {
		t.Fatalf("the holder was heard of just now: %+v", e)
	}
	if lost, err := r.Assert(t.Context(), first, []ipam.Block{b}); err != nil || len(lost) != 0 {
		t.Fatalf("the holder goes on: %v %v", lost, err)
	}
	second.Node = "b"
	claimBy(t, r, second) // under a name of its own it is welcome
}

func copiedDatabase(t *testing.T, r ipam.Registry) {
	first := machine("a", "i1", "192.0.2.1")
	b := claimBy(t, r, first)
	_ = wantRefused(t, r, machine("a", "i1", "192.0.2.2"), first, b)
}

func newDatabase(t *testing.T, r ipam.Registry) {
	old, fresh := machine("a", "i1", "192.0.2.1"), machine("a", "i2", "192.0.2.1")
	b := claimBy(t, r, old)
	if lost, err := r.Assert(t.Context(), fresh, nil); err != nil || len(lost) != 0 {
		t.Fatalf("the machine with a new database: %v %v", lost, err)
	}
	wantList(t, r, "a", b)
	// Two databases in use at one address must not take turns.
	_ = wantRefused(t, r, old, fresh, b)
}

func noInstance(t *testing.T, r ipam.Registry) {
	before := ipam.Caller{Node: "a"}
	b := claimBy(t, r, before) // of the version before: nothing is known of it
	first := machine("a", "i1", "192.0.2.1")
	if lost, err := r.Assert(t.Context(), first, []ipam.Block{b}); err != nil || len(lost) != 0 {
		t.Fatalf("the same machine after its upgrade: %v %v", lost, err)
	}
	_, err := r.Assert(t.Context(), before, []ipam.Block{b})
	wantErr(t, err, ipam.ErrRefused)
}

// silent asserts for a machine until the registry says that the holder is
// silent.
func silent(t *testing.T, r ipam.Registry, by ipam.Caller) *ipam.HeldError {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; <-time.After(100 * time.Millisecond) {
		_, err := r.Assert(t.Context(), by, nil)
		var e *ipam.HeldError
		if !errors.As(err, &e) {
			t.Fatalf("assert of %+v: %v, want a refusal that names the holder", by, err)
		}
		if e.Silent {
			return e
		}
		if time.Now().After(end) {
			t.Fatalf("not silent within 10 s: %v", err)
		}
	}
}

func silentMachine(t *testing.T, r ipam.Registry) {
	gone, heir := machine("a", "i1", "192.0.2.1"), machine("a", "i2", "192.0.2.2")
	b := claimBy(t, r, gone)
	other := machine("b", "i3", "192.0.2.3")
	left := claimBy(t, r, other)
	if e := silent(t, r, heir); e.Age < gone.Patience() {
		t.Fatalf("silent for %v, want two periods at least", e.Age)
	}
	_ = silent(t, r, machine("b", "i4", "192.0.2.4"))
	if got, err := r.(ipam.ForceReleaser).ForceRelease(t.Context(), "b", false); err != nil || len(got) != 1 || got[0].CIDR != left.CIDR { //nolint:forcetypeassert // see forcedName
		t.Fatalf("release of a silent node's blocks: %v, %v, want %v", got, err, left)
	}
	got, err := r.TakeOver(t.Context(), heir, "a", false)
	if err != nil || len(got) != 1 || got[0].CIDR != b.CIDR || got[0].Epoch <= b.Epoch {
		t.Fatalf("take over: %v %v, want %v with a later epoch", got, err, b)
	}
	wantList(t, r, "a", got...)
	_ = wantRefused(t, r, gone, heir, b)
}

func takeOver(t *testing.T, r ipam.Registry) {
	old, heir := machine("a", "i1", "192.0.2.1"), machine("a", "i2", "192.0.2.2")
	b := claimBy(t, r, old)
	_, err := r.TakeOver(t.Context(), heir, "a", false)
	wantErr(t, err, ipam.ErrRefused)
	wantList(t, r, "a", b)
	got, err := r.TakeOver(t.Context(), heir, "a", true)
	if err != nil || len(got) != 1 || got[0].CIDR != b.CIDR || got[0].Epoch <= b.Epoch {
		t.Fatalf("take over by force: %v %v, want %v with a later epoch", got, err, b)
	}
	_ = wantRefused(t, r, old, heir, b)
	if lost, err := r.Assert(t.Context(), heir, []ipam.Block{b}); err != nil || len(lost) != 1 {
		t.Fatalf("the claim of before: lost %v, %v, want it lost", lost, err)
	}
	nobody := heir
	nobody.Instance = ""
	_, err = r.TakeOver(t.Context(), nobody, "a", true)
	wantErr(t, err, ipam.ErrInvalidRequest)
}

func renamed(t *testing.T, r ipam.Registry) {
	before, after := machine("a", "i1", "192.0.2.1"), machine("a.example", "i1", "192.0.2.1")
	b := claimBy(t, r, before)
	other := claimBy(t, r, machine("b", "i2", "192.0.2.2"))
	stranger := machine("c", "i3", "192.0.2.3")
	_, err := r.TakeOver(t.Context(), stranger, "a", false)
	wantErr(t, err, ipam.ErrRefused)
	for range 2 { // again: after a crash in between
		got, err := r.TakeOver(t.Context(), after, "a", false)
		if err != nil || len(got) != 1 || got[0].CIDR != b.CIDR || got[0].Node != "a.example" || got[0].Epoch <= b.Epoch {
			t.Fatalf("take over under another name: %v %v", got, err)
		}
		wantList(t, r, "", got[0], other)
	}
	if lost, err := r.Assert(t.Context(), before, []ipam.Block{b}); err != nil || len(lost) != 1 {
		t.Fatalf("the block under the old name: lost %v, %v, want it lost", lost, err)
	}
}

func forcedName(t *testing.T, r ipam.Registry) {
	f, ok := r.(ipam.ForceReleaser)
	if !ok {
		t.Fatal("a registry must be able to release by force")
	}
	gone, heir := machine("a", "i1", "192.0.2.1"), machine("a", "i2", "192.0.2.2")
	b := claimBy(t, r, gone)
	if _, err := f.ForceRelease(t.Context(), "a", false); !errors.Is(err, ipam.ErrRefused) || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Fatalf("the blocks of a node that called a moment ago: %v, want a refusal that names its address", err)
	}
	wantList(t, r, "a", b)
	if lost, err := r.Assert(t.Context(), gone, []ipam.Block{b}); err != nil || len(lost) > 0 {
		t.Fatalf("after the refusal: lost %v, %v", lost, err)
	}
	if got, err := f.ForceRelease(t.Context(), "a", true); err != nil || len(got) != 1 || got[0].CIDR != b.CIDR {
		t.Fatalf("by force: %v, %v, want %v", got, err, b)
	}
	claimBy(t, r, heir)
	_ = wantRefused(t, r, gone, heir, b)
}

// nodesListed: a registry tells the addresses of the machines that hold names,
// as they were told last, and of no machine that was refused.
func nodesListed(t *testing.T, r ipam.Registry) {
	lister, ok := r.(ipam.NodeLister)
	if !ok {
		t.Fatal("the registry lists no nodes")
	}
	listed := func(want ...ipam.Node) {
		t.Helper()
		got, err := lister.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b ipam.Node) int { return strings.Compare(a.Name, b.Name) })
		if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
			t.Errorf("nodes %v, want %v", got, want)
		}
	}
	listed()
	a, b := machine("n1", "one", "10.57.0.11"), machine("n/2", "two", "10.57.0.12")
	b.Address6 = netip.MustParseAddr("fd57::12")
	claimBy(t, r, a)
	claimBy(t, r, b)
	if _, err := r.Assert(t.Context(), machine("n1", "other", "10.57.0.13"), nil); !errors.Is(err, ipam.ErrRefused) {
		t.Fatalf("assert of a second machine: %v", err)
	}
	listed(ipam.Node{Name: "n/2", Addresses: []netip.Addr{b.Address, b.Address6}}, ipam.Node{Name: "n1", Addresses: []netip.Addr{a.Address}})
}
