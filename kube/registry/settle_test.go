package registry

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// TestClaimants: of other nodes that hold a name and a block those are looked at of
// which the last assert is oldest.
func TestClaimants(t *testing.T) {
	t.Parallel()
	now := time.Now()
	lease := func(node, instance, block string, age time.Duration) coordinationv1.Lease {
		var l coordinationv1.Lease
		fillLease(&l, node, ipam.Holder{Caller: ipam.Caller{Node: node, Instance: instance}})
		r := renewal{due: true}
		if block != "" {
			r.block = netip.MustParsePrefix(block)
		}
		r.fill(&l)
		at := metav1.NewMicroTime(now.Add(-age))
		l.Spec.RenewTime = &at
		return l
	}
	broken := lease("broken", "i", "", time.Hour)
	broken.Annotations[blockAnnotation] = "10.0.0.0"
	all := []coordinationv1.Lease{
		lease("me", "i", "10.244.0.0/26", time.Hour), lease("young", "i", "10.244.1.0/26", time.Second), lease("old", "i", "10.244.2.0/26", 50*time.Second),
		lease("vacated", "", "10.244.3.0/26", time.Hour), lease("drained", "i", "", time.Hour), broken,
	}
	names := func(list []claimant) string {
		var out []string
		for _, c := range list {
			out = append(out, c.node+" "+c.block.String())
		}
		return strings.Join(out, ", ")
	}
	if got, want := names(claimants(all, "me")), "old 10.244.2.0/26, young 10.244.1.0/26"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for range 10 {
		all = append(all, lease("oldest", "i", "10.244.4.0/26", time.Minute))
	}
	if got := claimants(all, "me"); len(got) != probes || got[0].node != "oldest" {
		t.Errorf("%q, want %d of the oldest", names(got), probes)
	}
}

// TestRenewalKeepsBlock: a Lease that a claim writes names the block of the last assert.
func TestRenewalKeepsBlock(t *testing.T) {
	t.Parallel()
	var l coordinationv1.Lease
	fillLease(&l, "n1", ipam.Holder{Caller: ipam.Caller{Node: "n1", Instance: "i"}})
	low, high := netip.MustParsePrefix("10.244.1.0/26"), netip.MustParsePrefix("10.244.9.0/26")
	for i, step := range []struct {
		r    renewal
		want string
	}{
		{renewal{}, ""},
		{renewal{due: true, block: oneOf([]ipam.Block{{CIDR: high}, {CIDR: low}})}, low.String()},
		{renewal{}, low.String()},
		{renewal{due: true, block: oneOf(nil)}, ""},
	} {
		if step.r.fill(&l); l.Annotations[blockAnnotation] != step.want {
			t.Errorf("step %d: %q, want %q", i, l.Annotations[blockAnnotation], step.want)
		}
	}
}

// TestListGoesBack: a list with a lower version than a former one shows that etcd was
// restored from a backup.
func TestListGoesBack(t *testing.T) {
	t.Parallel()
	s := New(Options{Node: "n1"})
	own := map[netip.Prefix]*v1alpha1.Block{netip.MustParsePrefix("10.244.1.0/26"): {}}
	for _, tt := range []struct {
		before, now uint64
		want        bool
	}{{0, 7, false}, {7, 7, false}, {7, 8, false}, {7, 6, true}} {
		lost, err := s.own.went(t.Context(), own, tt.before, &ownList{blocks: own, revision: tt.now})
		if err != nil || lost != tt.want {
			t.Errorf("from %d to %d: lost %v, %v; want %v", tt.before, tt.now, lost, err, tt.want)
		}
	}
}

// TestListBesideWrite: a list that a claim overtook does not hide the claimed block.
func TestListBesideWrite(t *testing.T) {
	t.Parallel()
	s := New(Options{Node: "n1"})
	b := ipam.Block{CIDR: netip.MustParsePrefix("10.244.1.0/26"), Pool: "p", Node: "n1", Epoch: 1}
	empty := &ownList{blocks: map[netip.Prefix]*v1alpha1.Block{}}
	writes := s.own.writes
	s.own.keep(toObject(b))
	if s.own.take(empty, writes) || s.own.block(b.CIDR) == nil {
		t.Fatal("the list from before the claim counts")
	}
	if !s.own.take(empty, s.own.writes) || s.own.block(b.CIDR) != nil {
		t.Fatal("the list from after it does not count")
	}
}
