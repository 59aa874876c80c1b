package remote

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// FuzzRegistryRequests gives arbitrary requests to the served registry: none
// may panic, and whatever they do, no two blocks in it overlap.
func FuzzRegistryRequests(f *testing.F) {
	seed := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(&onlinkv1.ClaimRequest{Node: "a", Pool: "p", PoolCidr: "10.244.0.0/24", BlockSize: 26, Reserved: []string{"10.244.0.0/28"}})
	seed(&onlinkv1.ClaimRequest{Node: "b", Pool: "p", PoolCidr: "fd00::/48", BlockSize: 122, Block: "fd00::/122"})
	block := &onlinkv1.OwnedBlock{Cidr: "10.244.0.0/25", Pool: "p", Node: "a", Epoch: 1 << 63}
	seed(&onlinkv1.AssertRequest{Node: "a", Blocks: []*onlinkv1.OwnedBlock{block}})
	seed(&onlinkv1.ReleaseRequest{Block: block})
	seed(&onlinkv1.ForceReleaseRequest{Node: "a"})
	store, err := ipam.OpenStore(filepath.Join(f.TempDir(), "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := store.Close(); err != nil {
			f.Error(err)
		}
	})
	s := &service{reg: store.BoltRegistry(), audit: noted(store)}
	ctx := context.Background()
	f.Fuzz(func(t *testing.T, raw []byte) {
		var claim onlinkv1.ClaimRequest
		if proto.Unmarshal(raw, &claim) == nil {
			_, _ = s.Claim(ctx, &claim) // may refuse
		}
		var assert onlinkv1.AssertRequest
		if proto.Unmarshal(raw, &assert) == nil {
			_, _ = s.Assert(ctx, &assert) // may refuse
		}
		var release onlinkv1.ReleaseRequest
		if proto.Unmarshal(raw, &release) == nil {
			_, _ = s.Release(ctx, &release) // may refuse
		}
		var force onlinkv1.ForceReleaseRequest
		if proto.Unmarshal(raw, &force) == nil {
			_, _ = s.ForceRelease(ctx, &force) // may refuse
		}
		list, err := s.List(ctx, &onlinkv1.ListRequest{})
		if err != nil {
			t.Fatalf("the registry cannot be read after %x: %v", raw, err)
		}
		var last netip.Prefix
		for _, b := range list.GetBlocks() {
			p := netip.MustParsePrefix(b.GetCidr())
			if last.IsValid() && last.Overlaps(p) {
				t.Fatalf("%v and %v overlap after %x", last, p, raw)
			}
			last = p
		}
	})
}
