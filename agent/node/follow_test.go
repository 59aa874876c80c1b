package node

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"onlink/fib/underlay"
)

// TestFollow: what becomes of a change of the node's addresses after it has
// lasted, and what status says until then.
func TestFollow(t *testing.T) {
	addr := netip.MustParseAddr
	id := Identity{Address: addr("10.0.0.11"), Address6: addr("fd00:1::11")}
	only4 := Identity{Address: id.Address}
	for _, c := range []struct {
		name    string
		id      Identity
		host    []string
		found   Identity // zero: refused
		needs6  bool
		refused error // by the rest of the configuration
		restart string
		trouble string
	}{
		{name: "as before", id: id, host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw"}, found: id},
		{
			name: "auto would choose another now", id: id, host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw", "10.9.0.1/24 eth1 hw"},
			found: Identity{Address: addr("10.9.0.1")},
		},
		{
			name: "IPv6 came, and a pool waits for it", id: only4, host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw"}, found: id, needs6: true,
			restart: "10.0.0.11 and fd00:1::11 instead of 10.0.0.11",
		},
		{name: "IPv6 came, and nobody waits for it", id: only4, host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw"}, found: id},
		{
			name: "another address took its place", id: only4, host: []string{"10.0.0.12/24 eth0 hw"}, found: Identity{Address: addr("10.0.0.12")},
			restart: "10.0.0.12 instead of 10.0.0.11", trouble: "this node has lost 10.0.0.11",
		},
		{
			name: "deprecated, and there is another", id: only4, host: []string{"10.0.0.11/24 eth0 hw deprecated", "10.0.0.12/24 eth0 hw"}, found: Identity{Address: addr("10.0.0.12")},
			restart: "10.0.0.12 instead of 10.0.0.11",
		},
		{name: "deprecated, and there is no other", id: only4, host: []string{"10.0.0.11/24 eth0 hw deprecated"}},
		{name: "asked for again", id: id, host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw pending"}, found: only4},
		{name: "gone", id: only4, host: []string{"192.168.1.1/24 eth1 hw"}, trouble: "this node has lost 10.0.0.11"},
		{name: "one of two gone", id: id, host: []string{"10.0.0.11/24 eth0 hw"}, found: only4, trouble: "this node has lost fd00:1::11"},
		{name: "another machine has it", id: id, host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw dadfailed"}, found: only4, trouble: "this node has lost fd00:1::11"},
		{
			name: "the mesh does not know the new one", id: only4, host: []string{"10.0.0.12/24 eth0 hw"}, found: Identity{Address: addr("10.0.0.12")}, refused: errors.New("bgp.mesh: no"),
			trouble: "it has 10.0.0.12 instead of 10.0.0.11 now, which the configuration rejects: bgp.mesh: no",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			f := &Follower{
				id: c.id, started: start, addrs: func() []underlay.Address { return host(t, c.host...) },
				find: func() (Identity, error) {
					if c.found == (Identity{}) {
						return Identity{}, errNoAddress
					}
					return c.found, nil
				},
				needs: func(v4 bool) bool { return !v4 && c.needs6 }, accepts: func(Identity) error { return c.refused },
			}
			late := start.Add(followAge)
			if err := f.look(late); err != nil {
				t.Errorf("followed at once: %v", err)
			}
			if got := strings.Join(f.Problems(), "; "); !strings.Contains(got, c.trouble) || (got == "") != (c.trouble == "") {
				t.Errorf("status says %q, want %q", got, c.trouble)
			}
			err := f.look(late.Add(followAfter))
			if errors.Is(err, ErrMoved) != (c.restart != "") || err != nil && !strings.Contains(err.Error(), c.restart) {
				t.Errorf("in the end: %v, want a restart with %q", err, c.restart)
			}
		})
	}
}

// TestFollowPatience: a change that does not last is not followed, nor is an
// exchange right after the start.
func TestFollowPatience(t *testing.T) {
	start := time.Now()
	old, other := netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.12")
	now := old
	f := &Follower{
		id: Identity{Address: old}, started: start,
		addrs:   func() []underlay.Address { return host(t, now.String()+"/24 eth0 hw") },
		find:    func() (Identity, error) { return Identity{Address: now}, nil },
		needs:   func(bool) bool { return false },
		accepts: func(Identity) error { return nil },
	}
	now = other
	for _, at := range []time.Duration{0, followAfter, followAge - time.Second} {
		if err := f.look(start.Add(at)); err != nil {
			t.Fatalf("followed %v after the start: %v", at, err)
		}
	}
	now = old
	if err := f.look(start.Add(followAge)); err != nil || len(f.Problems()) > 0 {
		t.Fatalf("the address is back: %v, %q", err, f.Problems())
	}
	now = other
	if err := f.look(start.Add(2 * followAge)); err != nil {
		t.Fatalf("followed at once: %v", err)
	}
	if err := f.look(start.Add(2*followAge + followAfter)); !errors.Is(err, ErrMoved) {
		t.Errorf("not followed: %v", err)
	}
}

// TestFollowerRests: a Follower looks once while nothing changes, and follows an
// address that was replaced.
func TestFollowerRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, other := netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.12")
		var now atomic.Value
		now.Store(old)
		var looks atomic.Int32
		change := make(chan struct{})
		f := &Follower{
			log: slog.New(slog.DiscardHandler), id: Identity{Address: old}, started: time.Now(),
			renewed: func() (<-chan struct{}, <-chan struct{}) { return change, nil },
			addrs: func() []underlay.Address {
				looks.Add(1)
				return host(t, now.Load().(netip.Addr).String()+"/24 eth0 hw")
			},
			find:    func() (Identity, error) { return Identity{Address: now.Load().(netip.Addr)}, nil },
			needs:   func(bool) bool { return false },
			accepts: func(Identity) error { return nil },
		}
		ended := make(chan error, 1)
		go func() { ended <- f.Run(t.Context()) }()
		time.Sleep(10 * followAge)
		if n := looks.Load(); n != 1 {
			t.Errorf("%d looks at a host that did not change", n)
		}
		now.Store(other)
		began := time.Now()
		close(change)
		if err := <-ended; !errors.Is(err, ErrMoved) || time.Since(began) > followAfter+2*followEvery {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
