package ipam

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pfx and adr shorten tables.
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func adr(s string) netip.Addr   { return netip.MustParseAddr(s) }

// cmpNet lets cmp compare addresses.
var cmpNet = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

// openStore opens a store that lives until the test ends.
func openStore(t testing.TB, path string) *Store {
	t.Helper()
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, bench := t.(*testing.B); !bench {
		// What a test sees does not depend on the flush, only how long it takes
		// on a shared disk.
		s.db.NoSync = true
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "onlink.db") }

// node is an allocator that runs.
type node struct {
	*Allocator
	t    testing.TB
	stop func() // ends Run and waits for it; may be called again
}

// addressOf is where a node of a test is: one address per name.
func addressOf(node string) netip.Addr {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // a hash.Hash never returns an error
	v := h.Sum32()
	return netip.AddrFrom4([4]byte{198, 18, byte(v >> 8), byte(v)})
}

// pool4 is a pool of four blocks of 64.
var pool4 = Pool{Name: "default", CIDR: pfx("10.244.0.0/24"), BlockSize: 26}

// startNode starts an allocator; empty fields of cfg get values for a test.
func startNode(t testing.TB, cfg Config) *node {
	t.Helper()
	if cfg.Node == "" {
		cfg.Node = "n1"
	}
	if !cfg.Address.IsValid() {
		cfg.Address = addressOf(cfg.Node)
	}
	if cfg.Pools == nil {
		cfg.Pools = []Pool{pool4}
	}
	if cfg.Store == nil {
		cfg.Store = openStore(t, dbPath(t))
	}
	if cfg.Registry == nil {
		cfg.Registry = cfg.Store.BoltRegistry()
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, a)
}

// start runs an allocator until the test ends.
func start(t testing.TB, a *Allocator) *node {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	n := &node{Allocator: a, t: t}
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

func handle(i int) Handle { return Handle{ContainerID: fmt.Sprintf("c%d", i), IfName: "eth0"} }

func (n *node) assign(req Request) Assignment {
	n.t.Helper()
	as, err := n.Assign(context.Background(), req)
	if err != nil {
		n.t.Fatal(err)
	}
	return as
}

func (n *node) add(i int) netip.Addr {
	n.t.Helper()
	return n.assign(Request{Handle: handle(i)}).Addresses[0]
}

func (n *node) del(i int) {
	n.t.Helper()
	if _, _, err := n.Release(context.Background(), handle(i)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) wantErr(req Request, want error) error {
	n.t.Helper()
	as, err := n.Assign(context.Background(), req)
	if !errors.Is(err, want) {
		n.t.Fatalf("assign %v: got %v and error %v, want one that wraps %v", req.Handle, as, err, want)
	}
	return err
}

// refuses is wantErr for those who need no more of the error.
func (n *node) refuses(req Request, want error) {
	n.t.Helper()
	_ = n.wantErr(req, want)
}

// until waits for what another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 10 s: %s", what)
		case <-tick.C:
		}
	}
}

// sound fails the test when memory and file disagree or break an invariant.
func (n *node) sound() {
	n.t.Helper()
	bad, err := n.Check(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, b := range bad {
		n.t.Errorf("check: %s", b)
	}
}

// flaky is a registry that can be cut off.
type flaky struct {
	Registry
	mu   sync.Mutex
	err  error
	hang bool
}

func (f *flaky) cut(err error, hang bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.hang = err, hang
}

func (f *flaky) gate(ctx context.Context) error {
	f.mu.Lock()
	err, hang := f.err, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (f *flaky) Claim(ctx context.Context, req ClaimRequest) (Block, error) {
	if err := f.gate(ctx); err != nil {
		return Block{}, err
	}
	return f.Registry.Claim(ctx, req)
}

func (f *flaky) Release(ctx context.Context, by Caller, b Block) error {
	if err := f.gate(ctx); err != nil {
		return err
	}
	return f.Registry.Release(ctx, by, b)
}

func (f *flaky) Assert(ctx context.Context, by Caller, held []Block) ([]Block, error) {
	if err := f.gate(ctx); err != nil {
		return nil, err
	}
	return f.Registry.Assert(ctx, by, held)
}

func (f *flaky) List(ctx context.Context, node string) ([]Block, error) {
	if err := f.gate(ctx); err != nil {
		return nil, err
	}
	return f.Registry.List(ctx, node)
}

func (f *flaky) TakeOver(ctx context.Context, by Caller, from string, force bool) ([]Block, error) {
	if err := f.gate(ctx); err != nil {
		return nil, err
	}
	return f.Registry.TakeOver(ctx, by, from, force)
}

func pool4Addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, adr(a))
	}
	return out
}
