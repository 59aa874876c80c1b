package ipam

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// modelSteps is how long TestModel runs; 1000000 takes some minutes:
//
//	go test ./ipam -run TestModel -args -model.steps=1000000
var modelSteps = flag.Int("model.steps", 3000, "random operations of TestModel")

// model is what the allocator must agree with: a map, and when an address was
// freed.
type model struct {
	has   map[Handle][]netip.Addr
	owner map[netip.Addr]Handle
	freed map[netip.Addr]time.Time
}

func newModel() *model {
	return &model{has: map[Handle][]netip.Addr{}, owner: map[netip.Addr]Handle{}, freed: map[netip.Addr]time.Time{}}
}

const modelCooldown = 10 * time.Second

var modelPools = []Pool{
	{Name: "four", CIDR: pfx("10.1.0.0/27"), BlockSize: 29, Reserved: []netip.Prefix{pfx("10.1.0.8/31")}},
	{Name: "six", CIDR: pfx("fd00::/122"), BlockSize: 125},
	{Name: "more", CIDR: pfx("10.2.0.0/28"), BlockSize: 30},
}

// TestModel does random operations and compares every answer with the model's.
// Time is synctest's, the file is real.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := uint64(20)
		rnd := rand.New(rand.NewPCG(seed, seed))
		path := dbPath(t)
		s := openStore(t, path)
		cfg := Config{Store: s, Pools: modelPools, Cooldown: modelCooldown, ReleaseAfter: time.Minute}
		n := startNode(t, cfg)
		m := newModel()
		for step := range *modelSteps {
			switch r := rnd.IntN(100); {
			case r < 45:
				m.assign(t, n, rnd)
			case r < 85:
				m.release(t, n, rnd)
			case r < 97:
				time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
			case r < 98:
				time.Sleep(2 * time.Minute) // empty blocks go
			default:
				n.stop()
				n = startNode(t, cfg)
			}
			if step%100 == 0 {
				m.compare(t, n)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		m.compare(t, n)
	})
}

func (m *model) assign(t *testing.T, n *node, rnd *rand.Rand) {
	t.Helper()
	req := Request{Handle: handle(rnd.IntN(60))}
	switch rnd.IntN(4) {
	case 0:
		req.IPv4 = true
	case 1:
		req.IPv6 = true
	}
	exact := netip.Addr{}
	if rnd.IntN(10) == 0 {
		exact = addrAt(modelPools[0].CIDR, rnd.IntN(32))
		req.Addresses = []netip.Addr{exact}
	}
	as, err := n.Assign(context.Background(), req)
	if had, ok := m.has[req.Handle]; ok {
		if err != nil || !equalAddrs(as.Addresses, had) {
			t.Errorf("%v again: %v %v, want %v", req.Handle, as.Addresses, err, had)
		}
		return
	}
	if err != nil {
		if !errors.Is(err, ErrExhausted) && !errors.Is(err, ErrAddressInUse) {
			t.Errorf("assign %+v: %v", req, err)
		}
		if _, used := m.owner[exact]; errors.Is(err, ErrAddressInUse) && !used {
			t.Errorf("%v is said to be in use and is not", exact)
		}
		return
	}
	for _, a := range as.Addresses {
		if o, ok := m.owner[a]; ok {
			t.Errorf("%v is given to %v and belongs to %v", a, req.Handle, o)
		}
		if at, ok := m.freed[a]; ok && a != exact && time.Since(at) < modelCooldown {
			t.Errorf("%v is used again after %v", a, time.Since(at))
		}
		if a != exact && modelPools[0].reserves(a) {
			t.Errorf("reserved %v was chosen", a)
		}
		m.owner[a] = req.Handle
	}
	m.has[req.Handle] = as.Addresses
}

func (m *model) release(t *testing.T, n *node, rnd *rand.Rand) {
	t.Helper()
	h := handle(rnd.IntN(60))
	as, ok, err := n.Release(context.Background(), h)
	had, want := m.has[h]
	if err != nil || ok != want || !equalAddrs(as.Addresses, had) {
		t.Errorf("release %v: %v %v %v, want %v", h, as.Addresses, ok, err, had)
	}
	for _, a := range had {
		delete(m.owner, a)
		m.freed[a] = time.Now()
	}
	delete(m.has, h)
}

func (m *model) compare(t *testing.T, n *node) {
	t.Helper()
	n.sound()
	all := n.Assignments()
	if len(all) != len(m.has) {
		t.Errorf("%d assignments, want %d", len(all), len(m.has))
	}
	for _, as := range all {
		if !equalAddrs(as.Addresses, m.has[as.Handle]) {
			t.Errorf("%v has %v, want %v", as.Handle, as.Addresses, m.has[as.Handle])
		}
	}
	used := 0
	for _, b := range n.Blocks() {
		used += b.Used
	}
	if used != len(m.owner) {
		t.Errorf("blocks count %d used addresses, want %d", used, len(m.owner))
	}
}

func equalAddrs(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestCrash copies the file at random moments under load, as a machine that
// dies then would leave it in the page cache's order of writes, and opens the
// copy: everything that was answered before the copy began is in it, nothing is
// in it twice, and it can be worked on.
func TestCrash(t *testing.T) {
	n := startNode(t, Config{Pools: []Pool{{Name: "p", CIDR: pfx("10.0.0.0/22"), BlockSize: 28}}})
	rnd := rand.New(rand.NewPCG(7, 7))
	m := newModel()
	for round := range 20 {
		for range rnd.IntN(8) {
			m.assign4(t, n, rnd)
			m.release(t, n, rnd)
		}
		// One request is on its way while the file is copied.
		late := handle(1000 + round)
		done := make(chan error, 1)
		go func() {
			_, err := n.Assign(context.Background(), Request{Handle: late})
			done <- err
		}()
		image := snapshot(t, n.cfg.Store)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		verifyImage(t, image, m, late)
		if _, _, err := n.Release(context.Background(), late); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *model) assign4(t *testing.T, n *node, rnd *rand.Rand) {
	t.Helper()
	h := handle(rnd.IntN(60))
	as, err := n.Assign(context.Background(), Request{Handle: h})
	if err != nil {
		t.Fatal(err)
	}
	m.has[h] = as.Addresses
	for _, a := range as.Addresses {
		m.owner[a] = h
	}
}

// snapshot copies the file while a commit may be writing it. bbolt overwrites
// no page of its last two transactions, so a copy during which the meta pages
// moved on by less than two is one that a crash could have left.
func snapshot(t *testing.T, s *Store) []byte {
	t.Helper()
	for range 1000 {
		b, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(s.path)
		if err != nil {
			t.Fatal(err)
		}
		after, err := newestMeta(f, int64(len(b)))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		before, err := newestMeta(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if after.txid-before.txid < 2 {
			return b
		}
	}
	t.Fatal("commits are always faster than a copy")
	return nil
}

func verifyImage(t *testing.T, image []byte, m *model, late Handle) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		t.Fatalf("open the copy: %v", err)
	}
	defer func() { _ = s.Close() }()
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	got := map[Handle][]netip.Addr{}
	for _, as := range c.assignments {
		got[as.Handle] = as.Addresses
	}
	delete(got, late) // it may be in or not
	if len(got) != len(m.has) {
		t.Fatalf("copy has %d assignments, want %d", len(got), len(m.has))
	}
	for h, want := range m.has {
		if !equalAddrs(got[h], want) {
			t.Fatalf("copy has %v for %v, want %v", got[h], h, want)
		}
	}
	after := startNode(t, Config{Store: s, Pools: []Pool{{Name: "p", CIDR: pfx("10.0.0.0/22"), BlockSize: 28}}})
	a := after.add(5000)
	if o, ok := m.owner[a]; ok {
		t.Fatalf("after the crash %v is given out, which is %v's", a, o)
	}
	after.sound()
	after.stop()
}
