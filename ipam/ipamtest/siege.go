package ipamtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"onlink/ipam"
)

// Numbers of a siege.
const (
	siegeNodes   = 8
	siegeWorkers = 4
	siegeTime    = 3 * time.Second
)

// Fort is a registry under siege.
type Fort struct {
	// Open returns the registry as one node sees it; the test's end closes it.
	Open func(t *testing.T, node int) ipam.Registry
	// Trouble are things that happen to the registry, such as a restart or the
	// loss of its file. Each returns when the registry works again.
	Trouble []func(t *testing.T)
	Pools   []ipam.Pool
}

// errPartition is what a node gets that is cut off.
var errPartition = errors.New("network is unreachable")

// Siege lets eight nodes with four workers each assign and release while the
// registry is in trouble and nodes are cut off from it. At every moment no two
// nodes may have one block confirmed, held blocks must give addresses however
// the registry is, and in the end registry and nodes must agree.
func Siege(t *testing.T, f Fort) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	nodes := make([]*siegeNode, siegeNodes)
	for i := range nodes {
		nodes[i] = newSiegeNode(ctx, t, i, f)
	}
	working, stopWork := context.WithCancel(ctx)
	var work sync.WaitGroup
	for _, n := range nodes {
		for w := range siegeWorkers {
			work.Go(func() { n.work(working, t, w) })
		}
	}
	var watch sync.WaitGroup
	watch.Go(func() { watchOwners(working, t, nodes) })
	for _, n := range nodes { // all hold a block when trouble begins
		waitFor(t, "every node assigns", func() error {
			if n.assigned.Load() == 0 {
				return fmt.Errorf("node %d assigned nothing", n.id)
			}
			return nil
		})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for begin := time.Now(); time.Since(begin) < siegeTime; {
		n := nodes[rnd.IntN(len(nodes))]
		n.cut.Store(true)
		f.Trouble[rnd.IntN(len(f.Trouble))](t)
		n.cut.Store(false)
	}
	stopWork()
	work.Wait()
	watch.Wait()
	agree(ctx, t, nodes)
	total := int64(0)
	for _, n := range nodes {
		total += n.assigned.Load()
	}
	t.Logf("%d addresses assigned", total)
	stop()
	for _, n := range nodes {
		<-n.done
	}
}

// siegeNode is a node and its link to the registry.
type siegeNode struct {
	ipam.Registry
	*ipam.Allocator
	id       int
	cut      atomic.Bool
	assigned atomic.Int64
	done     chan struct{}
}

func newSiegeNode(ctx context.Context, t *testing.T, id int, f Fort) *siegeNode {
	t.Helper()
	n := &siegeNode{id: id, Registry: f.Open(t, id), done: make(chan struct{})}
	store, err := ipam.OpenStore(filepath.Join(t.TempDir(), "node.db"), ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Allocator, err = ipam.New(ipam.Config{
		Node: fmt.Sprintf("node%d", id), Pools: f.Pools, Registry: link{n}, Store: store, Cooldown: -1,
		AssertInterval: 300 * time.Millisecond, ClaimTimeout: 2 * time.Second, ReleaseAfter: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(n.done)
		if err := errors.Join(n.Run(ctx), store.Close()); err != nil {
			t.Errorf("node %d: %v", id, err)
		}
	}()
	return n
}

// work assigns and releases. While an address is free in the node's confirmed
// blocks, no trouble of the registry may keep a pod from it.
func (n *siegeNode) work(ctx context.Context, t *testing.T, worker int) {
	rnd := rand.New(rand.NewPCG(uint64(n.id), uint64(worker)))
	var mine []ipam.Handle
	for i := 0; ctx.Err() == nil; i++ {
		if len(mine) > 0 && (len(mine) > 40 || rnd.IntN(5) < 2) {
			at := rnd.IntN(len(mine))
			if _, _, err := n.Allocator.Release(ctx, mine[at]); err != nil && ctx.Err() == nil {
				t.Errorf("release on node %d: %v", n.id, err)
			}
			mine = append(mine[:at:at], mine[at+1:]...)
			continue
		}
		h := ipam.Handle{ContainerID: fmt.Sprintf("n%d-w%d-%d", n.id, worker, i), IfName: "eth0"}
		_, err := n.Assign(ctx, ipam.Request{Handle: h})
		switch {
		case err == nil:
			n.assigned.Add(1)
			mine = append(mine, h)
		case ctx.Err() != nil:
		case errors.Is(err, ipam.ErrClaimFailed), errors.Is(err, ipam.ErrExhausted): // its blocks are full
		default:
			t.Errorf("assign on node %d: %v", n.id, err)
		}
	}
}

// watchOwners looks for a block that two nodes have confirmed. Two looks at a
// node frame one at the other: a block that moves is not seen twice.
func watchOwners(ctx context.Context, t *testing.T, nodes []*siegeNode) {
	for ctx.Err() == nil {
		owner := map[netip.Prefix]ipam.Block{}
		for _, n := range nodes {
			for _, b := range n.Blocks() {
				if !b.Confirmed {
					continue
				}
				if o, ok := owner[b.CIDR]; ok && stillHas(nodes, o) && stillHas(nodes, b.Block) {
					t.Errorf("%v is confirmed on %s (epoch %d) and on %s (epoch %d)", b.CIDR, o.Node, o.Epoch, b.Node, b.Epoch)
					return
				}
				owner[b.CIDR] = b.Block
			}
		}
	}
}

func stillHas(nodes []*siegeNode, want ipam.Block) bool {
	for _, n := range nodes {
		for _, b := range n.Blocks() {
			if b.Block == want && b.Confirmed {
				return true
			}
		}
	}
	return false
}

// agree waits until the registry lists exactly what the nodes hold.
func agree(ctx context.Context, t *testing.T, nodes []*siegeNode) {
	t.Helper()
	waitFor(t, "registry and nodes agree", func() error { return difference(ctx, nodes) })
	seen := map[netip.Addr]string{}
	for _, n := range nodes {
		bad, err := n.Check(ctx)
		if err != nil || len(bad) > 0 {
			t.Errorf("check of node %d: %q %v", n.id, bad, err)
		}
		for _, as := range n.Assignments() {
			for _, a := range as.Addresses {
				if o, ok := seen[a]; ok {
					t.Errorf("%v is %s's and %v's", a, o, as.Handle)
				}
				seen[a] = as.Handle.String()
			}
		}
	}
}

// waitFor fails the test when something is lacking for too long.
func waitFor(t *testing.T, what string, lacks func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(30 * time.Second)
	for err := lacks(); err != nil; err = lacks() {
		if <-tick.C; time.Now().After(end) {
			t.Fatalf("not within 30 s: %s: %v", what, err)
		}
	}
}

func difference(ctx context.Context, nodes []*siegeNode) error {
	all, err := nodes[0].Registry.List(ctx, "")
	if err != nil {
		return err
	}
	listed := map[ipam.Block]bool{}
	for _, b := range all {
		listed[b] = true
	}
	for _, n := range nodes {
		for _, b := range n.Blocks() {
			if !b.Confirmed || !listed[b.Block] {
				return fmt.Errorf("node %d holds %+v, listed: %v", n.id, b, listed[b.Block])
			}
			delete(listed, b.Block)
		}
	}
	for b := range listed {
		return fmt.Errorf("%+v is nobody's", b)
	}
	return nil
}

// link is a node's way to the registry, which can be cut.
type link struct{ n *siegeNode }

func (l link) way() error {
	if l.n.cut.Load() {
		return errPartition
	}
	return nil
}

// both runs f unless the link is cut before, and loses the answer when it is
// cut after.
func both[T any](l link, f func() (T, error)) (T, error) {
	var none T
	if err := l.way(); err != nil {
		return none, err
	}
	v, err := f()
	if cut := l.way(); cut != nil {
		return none, cut
	}
	return v, err
}

// Claim implements [ipam.Registry].
func (l link) Claim(ctx context.Context, r ipam.ClaimRequest) (ipam.Block, error) {
	return both(l, func() (ipam.Block, error) { return l.n.Registry.Claim(ctx, r) })
}

// Release implements [ipam.Registry].
func (l link) Release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	_, err := both(l, func() (struct{}, error) { return struct{}{}, l.n.Registry.Release(ctx, by, b) })
	return err
}

// Assert implements [ipam.Registry].
func (l link) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) ([]ipam.Block, error) {
	return both(l, func() ([]ipam.Block, error) { return l.n.Registry.Assert(ctx, by, held) })
}

// TakeOver implements [ipam.Registry].
func (l link) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	return both(l, func() ([]ipam.Block, error) { return l.n.Registry.TakeOver(ctx, by, from, force) })
}

// List implements [ipam.Registry].
func (l link) List(ctx context.Context, node string) ([]ipam.Block, error) {
	return both(l, func() ([]ipam.Block, error) { return l.n.Registry.List(ctx, node) })
}
