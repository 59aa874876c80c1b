package ipam_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"onlink/ipam"
	"onlink/ipam/ipamtest"
)

func openRegistry(t *testing.T) *ipam.BoltRegistry {
	t.Helper()
	s, err := ipam.OpenStore(filepath.Join(t.TempDir(), "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s.BoltRegistry().WithSettle(time.Nanosecond)
}

func TestBoltRegistryContract(t *testing.T) {
	ipamtest.RegistryContract(t, func(t *testing.T) ipam.Registry { return openRegistry(t) })
}

// TestSplitRegistryContract: two registries that split the pools are one.
func TestSplitRegistryContract(t *testing.T) {
	var pools []ipam.Pool
	for _, cidr := range []string{"10.244.0.0/20", "fd00:10::/48"} {
		pools = append(pools, ipam.Pool{Name: cidr, CIDR: netip.MustParsePrefix(cidr)})
	}
	// The contract's small pool is the first part of the large one.
	pools = append([]ipam.Pool{{Name: "default", CIDR: ipamtest.Request("a").PoolCIDR}}, pools...)
	ipamtest.RegistryContract(t, func(t *testing.T) ipam.Registry {
		return ipam.NewSplit(openRegistry(t), openRegistry(t), pools)
	})
}

func TestForceReleaseFences(t *testing.T) {
	r := openRegistry(t)
	old, err := r.Claim(t.Context(), ipamtest.Request("dead"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.ForceRelease(t.Context(), "dead", true)
	if err != nil || len(got) != 1 || got[0] != old {
		t.Fatalf("force release: %v %v", got, err)
	}
	lost, err := r.Assert(t.Context(), ipam.Caller{Node: "dead"}, []ipam.Block{old})
	if err != nil || len(lost) != 1 {
		t.Fatalf("the dead node came back and asserted: lost %v, %v", lost, err)
	}
	req := ipamtest.Request("dead")
	req.Block = old.CIDR
	again, err := r.Claim(t.Context(), req)
	if err != nil || again.Epoch <= old.Epoch {
		t.Fatalf("claim of a fenced block: %+v %v", again, err)
	}
	if lost, err := r.Assert(t.Context(), ipam.Caller{Node: "dead"}, []ipam.Block{again}); err != nil || len(lost) != 0 {
		t.Fatalf("assert of the new claim: lost %v, %v", lost, err)
	}
	if _, err := r.ForceRelease(t.Context(), "", true); !errors.Is(err, ipam.ErrInvalidRequest) {
		t.Fatalf("force release of no node: %v", err)
	}
}

// siegePools are large enough for all nodes, and small enough that they meet.
var siegePools = []ipam.Pool{{Name: "p", CIDR: netip.MustParsePrefix("10.0.0.0/19"), BlockSize: 27}}

func TestSiegeBolt(t *testing.T) {
	b := ipamtest.NewBolt(t)
	ipamtest.Siege(t, ipamtest.Fort{
		Open:    func(*testing.T, int) ipam.Registry { return b },
		Trouble: []func(*testing.T){b.Restart, b.Restart, b.Lose, ipamtest.Pause},
		Pools:   siegePools,
	})
}

func TestSiegeSplit(t *testing.T) {
	a, b := ipamtest.NewBolt(t), ipamtest.NewBolt(t)
	ipamtest.Siege(t, ipamtest.Fort{
		Open:    func(*testing.T, int) ipam.Registry { return ipam.NewSplit(a, b, siegePools) },
		Trouble: []func(*testing.T){a.Restart, b.Restart, b.Lose, ipamtest.Pause},
		Pools:   siegePools,
	})
}
