package owners

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"onlink/bgp/policy"
	"onlink/fib/underlay"
	"onlink/ipam"
)

// registry answers from memory.
type registry struct {
	ipam.Registry

	asked  atomic.Int32
	blocks []ipam.Block
	nodes  []ipam.Node
	away   atomic.Bool // it does not answer

	unlisted bool // it lists no other node's blocks
}

func (r *registry) err() error {
	if r.away.Load() {
		return errors.New("away")
	}
	return nil
}

func (r *registry) List(context.Context, string) ([]ipam.Block, error) {
	if r.unlisted {
		return nil, fmt.Errorf("registry: %w", ipam.ErrUnlisted)
	}
	return r.blocks, r.err()
}

func (r *registry) Nodes(context.Context) ([]ipam.Node, error) {
	r.asked.Add(1)
	return r.nodes, r.err()
}

// speaker keeps what it is given last.
type speaker struct {
	owners   []policy.Block
	pools    []policy.Pool
	networks []policy.Network
	suspect  chan struct{}
}

func (s *speaker) SetOwners(_ context.Context, b []policy.Block) error { s.owners = b; return nil }
func (s *speaker) SetPools(_ context.Context, p []policy.Pool) error   { s.pools = p; return nil }
func (s *speaker) SetNetworks(_ context.Context, n []policy.Network) error {
	s.networks = n
	return nil
}
func (s *speaker) Suspect() <-chan struct{} { return s.suspect }

var (
	poolRange = netip.MustParsePrefix("10.244.0.0/16")
	small     = netip.MustParsePrefix("10.244.1.0/28")
	nodeB     = []netip.Addr{netip.MustParseAddr("192.0.2.2")}

	equal = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
)

// run starts a watch in the test's bubble.
func run(t *testing.T, reg ipam.Registry, s *speaker, change func(*Config)) *Watch {
	t.Helper()
	cfg := Config{
		Registry: reg, Speaker: s, Every: time.Minute, Log: slog.New(slog.DiscardHandler),
		Networks: func() []underlay.Network { return nil },
		Pools:    func() []policy.Pool { return []policy.Pool{{Prefix: poolRange, Block: 26}} },
	}
	if change != nil {
		change(&cfg)
	}
	w := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return w
}

// TestAnswer: the registry's answer reaches the speaker, blocks of nodes without
// address do not, and a smaller block makes the pool's blocks as small.
func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{
			blocks: []ipam.Block{{CIDR: small, Node: "b"}, {CIDR: netip.MustParsePrefix("10.244.2.0/26"), Node: "c"}},
			nodes:  []ipam.Node{{Name: "b", Addresses: nodeB}},
		}
		s := &speaker{suspect: make(chan struct{}, 1)}
		w := run(t, reg, s, nil)
		if diff := cmp.Diff([]policy.Block{{Prefix: small, Node: "b", Addresses: nodeB}}, s.owners, equal...); diff != "" {
			t.Errorf("owners (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]policy.Pool{{Prefix: poolRange, Block: 28}}, s.pools, equal...); diff != "" {
			t.Errorf("pools (-want +got):\n%s", diff)
		}
		if got := w.Blocks(); len(got) != 2 {
			t.Errorf("blocks %v, want those of both nodes", got)
		}
	})
}

// TestUnlisted: a registry that lists no other node's blocks gives no owner, and is
// not asked again for suspect announcements, which have no owner either.
func TestUnlisted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{unlisted: true}
		s := &speaker{suspect: make(chan struct{}, 1), owners: []policy.Block{{Prefix: small}}}
		var log bytes.Buffer
		run(t, reg, s, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		if len(s.owners) != 0 || len(s.pools) != 1 {
			t.Errorf("owners %v, pools %v: want no owner, and the pools", s.owners, s.pools)
		}
		for range 20 {
			s.suspect <- struct{}{}
			time.Sleep(2 * soonest)
		}
		if n := reg.asked.Load(); n != 1 {
			t.Errorf("asked %d times within 40 s, want once a minute", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := reg.asked.Load(); n != 2 {
			t.Errorf("asked %d times after 100 s, want 2", n)
		}
		if log.Len() > 0 {
			t.Errorf("it is no fault and is logged:\n%s", &log)
		}
	})
}

// TestSilentRegistry: an answer counts for a while without the registry, then no
// block has a known owner.
func TestSilentRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{blocks: []ipam.Block{{CIDR: small, Node: "b"}}, nodes: []ipam.Node{{Name: "b", Addresses: nodeB}}}
		s := &speaker{suspect: make(chan struct{}, 1)}
		w := run(t, reg, s, func(c *Config) { c.Every = 10 * time.Second })
		reg.away.Store(true)
		time.Sleep(kept - 15*time.Second)
		synctest.Wait()
		if len(s.owners) != 1 || len(w.Blocks()) != 1 {
			t.Errorf("owners %v and blocks %v before the answer has expired", s.owners, w.Blocks())
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(s.owners) != 0 || len(w.Blocks()) != 0 {
			t.Errorf("owners %v and blocks %v after the answer has expired", s.owners, w.Blocks())
		}
	})
}

// TestSuspect: a suspect announcement leads to a question at once, and many to
// one a second.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{}
		s := &speaker{suspect: make(chan struct{})}
		run(t, reg, s, func(c *Config) { c.Every = time.Hour })
		time.Sleep(time.Minute)
		s.suspect <- struct{}{}
		synctest.Wait()
		if n := reg.asked.Load(); n != 2 {
			t.Fatalf("asked %d times after a suspect announcement, want once more", n)
		}
		for range 50 {
			s.suspect <- struct{}{}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := reg.asked.Load(); n < 6 || n > 7 {
			t.Errorf("asked %d times, want one more for each of five seconds", n)
		}
	})
}

// TestNetworks: the speaker gets the subnets at the start and when they moved;
// gateways are none.
func TestNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		networks := []underlay.Network{
			{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Dev: "eth1"},
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Dev: "eth0"},
			{Prefix: netip.MustParsePrefix("192.0.2.254/32"), Dev: "eth0", Via: true},
		}
		s := &speaker{suspect: make(chan struct{}, 1)}
		moved := make(chan struct{})
		w := run(t, &registry{}, s, func(c *Config) {
			c.Networks, c.Moved = func() []underlay.Network { return networks }, moved
		})
		if err := w.Open(t.Context(), []ipam.Block{{CIDR: small}}); err != nil {
			t.Fatal(err)
		}
		want := []policy.Network{{Device: "eth0", Prefix: networks[1].Prefix}, {Device: "eth1", Prefix: networks[0].Prefix}}
		if diff := cmp.Diff(want, s.networks, equal...); diff != "" {
			t.Errorf("networks (-want +got):\n%s", diff)
		}
		if s.pools[0].Block != 28 {
			t.Errorf("pools %v, want the length of the own block", s.pools)
		}
		networks = networks[1:]
		moved <- struct{}{}
		synctest.Wait()
		if diff := cmp.Diff(want[:1], s.networks, equal...); diff != "" {
			t.Errorf("networks after a change (-want +got):\n%s", diff)
		}
	})
}

func TestInterval(t *testing.T) {
	remote := &registry{}
	for _, tt := range []struct {
		name      string
		reg       ipam.Registry
		reflector bool
		want      time.Duration
	}{
		{"own registry", &ipam.BoltRegistry{}, true, everyLocal},
		{"reflector", remote, true, everyReflector},
		{"node", remote, false, everyNode},
	} {
		if got := Interval(tt.reg, tt.reflector); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
