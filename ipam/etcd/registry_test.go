//go:debug multipathtcp=0
package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"onlink/ipam"
	"onlink/ipam/ipamtest"
)

func TestContract(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			s := startServer(t, secure)
			ipamtest.RegistryContract(t, func(t *testing.T) ipam.Registry { return s.open(t) })
		})
	}
}

// TestAuth uses a cluster whose users have rights on one prefix each.
func TestAuth(t *testing.T) {
	s := startServer(t, true)
	admin := s.admin()
	defer admin.Close() //nolint:errcheck // a test's client
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "rootpw"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "onlink"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "onlink", "/onlink/", "/onlink0", 2) // READWRITE
			return err
		},
		func() error { _, err := admin.UserAdd(ctx, "onlink", "pw"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "onlink", "onlink"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		config Config
		ok     bool
	}{
		{"its own prefix", Config{Prefix: "/onlink/", User: "onlink", Password: "pw"}, true},
		{"another prefix", Config{Prefix: "/other/", User: "onlink", Password: "pw"}, false},
		{"wrong password", Config{Prefix: "/onlink/", User: "onlink", Password: "no"}, false},
		{"the name in the certificate", Config{Prefix: "/onlink/"}, true},
		{"the name in the certificate, another prefix", Config{Prefix: "/other/"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Endpoints, tt.config.TLS = []string{s.endpoint}, s.tls
			r, err := Open(tt.config)
			if err == nil {
				defer r.Close() //nolint:errcheck // a test's client
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, err = r.Claim(ctx, ipamtest.Request("a"))
			}
			if (err == nil) != tt.ok {
				t.Fatalf("claim: %v, want success: %v", err, tt.ok)
			}
		})
	}
}

// TestManyClaim lets many nodes claim at once from a pool that they fill to
// nine tenths: no two get one block, and a claim is not overtaken again and
// again.
func TestManyClaim(t *testing.T) {
	s := startServer(t, false)
	const nodes = 230
	pool := netip.MustParsePrefix("10.0.0.0/18") // 256 blocks
	prefix := "/many/"
	clients := make([]*Registry, 8)
	for i := range clients {
		clients[i] = s.openAt(t, prefix)
	}
	var mu sync.Mutex
	seen := map[netip.Prefix]string{}
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() {
			req := ipam.ClaimRequest{Caller: ipam.Caller{Node: fmt.Sprintf("node-%d", i)}, Pool: "p", PoolCIDR: pool, BlockSize: 26}
			b, err := clients[i%len(clients)].Claim(t.Context(), req)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if o, taken := seen[b.CIDR]; taken {
				t.Errorf("%v is %s's and %s's", b.CIDR, o, req.Node)
			}
			seen[b.CIDR] = req.Node
		})
	}
	wg.Wait()
	if len(seen) != nodes {
		t.Errorf("%d blocks, want %d", len(seen), nodes)
	}
}

func TestForceReleaseAndWatch(t *testing.T) {
	s := startServer(t, false)
	r := s.open(t)
	old, err := r.Claim(t.Context(), ipamtest.Request("dead/node")) // a name with a slash
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	released, ended := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(ended)
		r.WatchReleases(ctx, func() { released <- struct{}{} })
	}()
	if err := hear(t, r, released); err != nil { // the watch stands
		t.Fatal(err)
	}
	got, err := r.ForceRelease(t.Context(), "dead/node", false)
	if err != nil || len(got) != 1 || got[0] != old {
		t.Fatalf("force release: %v %v", got, err)
	}
	cancel()
	<-ended
	if lost, err := r.Assert(t.Context(), ipam.Caller{Node: "dead/node"}, []ipam.Block{old}); err != nil || len(lost) != 1 {
		t.Fatalf("the dead node came back and asserted: lost %v, %v", lost, err)
	}
	req := ipamtest.Request("dead/node")
	req.Block = old.CIDR
	again, err := r.Claim(t.Context(), req)
	if err != nil || again.Epoch <= old.Epoch {
		t.Fatalf("claim of a fenced block: %+v %v", again, err)
	}
	if lost, err := r.Assert(t.Context(), ipam.Caller{Node: "dead/node"}, []ipam.Block{again}); err != nil || len(lost) != 0 {
		t.Fatalf("assert of the new claim: lost %v, %v", lost, err)
	}
	if _, err := r.ForceRelease(t.Context(), "", true); !errors.Is(err, ipam.ErrInvalidRequest) {
		t.Fatalf("force release of no node: %v", err)
	}
}

// hear claims and releases until the watch tells.
func hear(t *testing.T, r *Registry, released <-chan struct{}) error {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		b, err := r.Claim(t.Context(), ipamtest.Request("x"))
		if err == nil {
			err = r.Release(t.Context(), ipam.Caller{Node: b.Node}, b)
		}
		if err != nil {
			return err
		}
		select {
		case <-released:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("nobody told of a release")
}

// TestForeignRecords: what onlink did not write is an error, not a panic.
func TestForeignRecords(t *testing.T) {
	s := startServer(t, false)
	r := s.open(t)
	c := s.admin()
	defer c.Close() //nolint:errcheck // a test's client
	if _, err := c.Put(t.Context(), r.keys.block(netip.MustParsePrefix("10.244.0.0/26")), "garbage"); err != nil {
		t.Fatal(err)
	}
	if list, err := r.List(t.Context(), ""); !errors.Is(err, errRecord) {
		t.Errorf("list: %v, %v", list, err)
	}
	req := ipamtest.Request("a")
	req.Block = netip.MustParsePrefix("10.244.0.0/26")
	if b, err := r.Claim(t.Context(), req); err == nil {
		t.Errorf("claimed %v over garbage", b)
	}
	if _, err := c.Put(t.Context(), r.keys.base(), "x"); err != nil {
		t.Fatal(err)
	}
	r.forgetBase()
	if b, err := r.Claim(t.Context(), ipamtest.Request("b")); !errors.Is(err, errRecord) {
		t.Errorf("claim with a broken base: %v, %v", b, err)
	}
}

// FuzzRecords gives arbitrary keys and values to the parser: what it accepts
// has a key that names exactly that block.
func FuzzRecords(f *testing.F) {
	k := keys{"/onlink/"}
	f.Add(k.block(netip.MustParsePrefix("10.244.0.0/26")), record{Pool: "p", Node: "n", Base: 7}.encode(), int64(3))
	f.Add(k.block(netip.MustParsePrefix("fd00::/122")), record{Node: "n", Epoch: 1 << 60}.encode(), int64(-1))
	f.Add("/onlink/blocks/4/0af40000/33", "{}", int64(0))
	f.Fuzz(func(t *testing.T, key, value string, rev int64) {
		b, err := parse(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev})
		if err != nil {
			return
		}
		if b.Node == "" || !b.CIDR.IsValid() || b.CIDR.Masked() != b.CIDR {
			t.Errorf("%q %q is %+v", key, value, b)
		}
		if again, err := parseBlock(k.block(b.CIDR)); err != nil || again != b.CIDR {
			t.Errorf("%v is %v again (%v)", b.CIDR, again, err)
		}
	})
}

func TestSiege(t *testing.T) {
	s := startServer(t, false)
	ipamtest.Siege(t, ipamtest.Fort{
		Open:    func(t *testing.T, _ int) ipam.Registry { return s.openAt(t, "/siege/") },
		Trouble: []func(*testing.T){s.restart, ipamtest.Pause, ipamtest.Pause},
		Pools:   []ipam.Pool{{Name: "p", CIDR: netip.MustParsePrefix("10.0.0.0/19"), BlockSize: 27}},
	})
}
