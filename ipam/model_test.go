package ipam

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// How long TestModel runs, and which way; a million steps take a minute:
//
//	go test ./ipam -run TestModel -args -model.steps=1000000 -model.seed=7
var (
	modelSteps = flag.Int("model.steps", 20_000, "random operations of TestModel")
	modelSeed  = flag.Uint64("model.seed", 20, "seed of TestModel")
)

// model is what the allocator must agree with: a map, when an address was
// freed, and which workloads addresses are kept for.
type model struct {
	has      map[Handle][]netip.Addr
	owner    map[netip.Addr]Handle
	freed    map[netip.Addr]time.Time
	works    map[string]*workload
	draining bool
	count    map[string]int // of what happened
}

func newModel() *model {
	return &model{
		has: map[Handle][]netip.Addr{}, owner: map[netip.Addr]Handle{}, freed: map[netip.Addr]time.Time{},
		works: map[string]*workload{}, count: map[string]int{},
	}
}

// Times of the model's node. Addresses are kept for workloads for longer than
// they cool down, and for less than the longest pause between two operations.
const (
	modelCooldown = 10 * time.Second
	modelSticky   = 40 * time.Second
	modelPause    = 2 * time.Minute
)

var modelPools = []Pool{
	{Name: "four", CIDR: pfx("10.1.0.0/27"), BlockSize: 29, Reserved: []netip.Prefix{pfx("10.1.0.8/31")}},
	{Name: "six", CIDR: pfx("fd00::/122"), BlockSize: 125},
	{Name: "more", CIDR: pfx("10.2.0.0/28"), BlockSize: 30},
}

// TestModel does random operations and compares every answer with the model's.
// Time is synctest's, the file is real.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := *modelSeed
		rnd := rand.New(rand.NewPCG(seed, seed))
		path := dbPath(t)
		s := openStore(t, path)
		cfg := Config{Store: s, Pools: modelPools, Cooldown: modelCooldown, Sticky: modelSticky, ReleaseAfter: time.Minute}
		n := startNode(t, cfg)
		m := newModel()
		for step := range *modelSteps {
			switch r := rnd.IntN(1000); {
			case r < 450:
				m.assign(t, n, rnd)
			case r < 850:
				m.release(t, n, rnd)
			case r < 965:
				time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
			case r < 975:
				m.pause(t, n)
			case r < 985:
				m.draining = !m.draining
				n.SetDraining(m.draining)
				m.count["drain or undrain"]++
			default:
				n.stop()
				n = startNode(t, cfg)
				n.SetDraining(m.draining) // a file tells the agent
				m.count["restart"]++
			}
			if step%100 == 0 {
				m.compare(t, n)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		m.compare(t, n)
		t.Logf("%d steps: %v", *modelSteps, m.count)
	})
}

func (m *model) assign(t *testing.T, n *node, rnd *rand.Rand) {
	t.Helper()
	req := Request{Handle: handle(rnd.IntN(60)), Namespace: "ns"}
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
	if rnd.IntN(3) == 0 {
		req.Sticky = fmt.Sprintf("work-%d", rnd.IntN(8))
	}
	synctest.Wait() // what the registry loop does is done
	wanted := m.keptFor(n, &req)
	as, err := n.Assign(context.Background(), req)
	if had, ok := m.has[req.Handle]; ok {
		if err != nil || !slices.Equal(as.Addresses, had) {
			t.Errorf("%v again: %v %v, want %v", req.Handle, as.Addresses, err, had)
		}
		return
	}
	if err != nil {
		m.refused(t, &req, exact, err)
		return
	}
	if wanted != nil && !slices.Equal(as.Addresses, wanted) {
		t.Errorf("%v of workload %q got %v, kept for it is %v", req.Handle, req.Sticky, as.Addresses, wanted)
	}
	for _, a := range as.Addresses {
		if o, ok := m.owner[a]; ok {
			t.Errorf("%v is given to %v and belongs to %v", a, req.Handle, o)
		}
		if a != exact && wanted == nil {
			m.chosen(t, a, &req)
		}
		m.owner[a] = req.Handle
	}
	m.has[req.Handle] = as.Addresses
	m.hold(&req, as.Addresses)
	m.count["assign"]++
}

// chosen checks an address that the allocator was free to choose.
func (m *model) chosen(t *testing.T, a netip.Addr, req *Request) {
	t.Helper()
	if m.cools(a) {
		t.Errorf("%v is used again after %v", a, time.Since(m.freed[a]))
	}
	if modelPools[0].reserves(a) {
		t.Errorf("reserved %v was chosen", a)
	}
	// A block that was claimed for it may have brought a workload's own back.
	if w := m.keeper(a); w != nil && w != m.works[req.Sticky] {
		t.Errorf("%v got %v, which is kept for a workload for another %v", req.Handle, a, modelSticky-time.Since(w.freed))
	}
}

// cools reports whether an address must rest.
func (m *model) cools(a netip.Addr) bool {
	at, ok := m.freed[a]
	return ok && time.Since(at) < modelCooldown
}

// refused checks that a request was rightly refused.
func (m *model) refused(t *testing.T, req *Request, exact netip.Addr, err error) {
	t.Helper()
	m.count["refused"]++
	_, used := m.owner[exact]
	switch {
	case errors.Is(err, ErrAddressInUse) && used:
	case !errors.Is(err, ErrExhausted):
		t.Errorf("assign %+v: %v", req, err)
	case (req.IPv4 || !req.IPv6) && !exact.IsValid() && m.left(true) == 0:
	case (req.IPv6 || !req.IPv4) && m.left(false) == 0:
	default:
		t.Errorf("assign %+v: %v; left are %d IPv4 and %d IPv6 addresses", req, err, m.left(true), m.left(false))
	}
}

// left counts the addresses of a family that anybody could get.
func (m *model) left(is4 bool) int {
	count := 0
	for i := range modelPools {
		p := &modelPools[i]
		if p.is4() != is4 {
			continue
		}
		for ord := range size(p.CIDR) {
			a := addrAt(p.CIDR, ord)
			if _, used := m.owner[a]; !used && !m.cools(a) && !p.reserves(a) && m.keeper(a) == nil {
				count++
			}
		}
	}
	return count
}

func (m *model) release(t *testing.T, n *node, rnd *rand.Rand) {
	t.Helper()
	h := handle(rnd.IntN(60))
	as, ok, err := n.Release(context.Background(), h)
	had, want := m.has[h]
	if err != nil || ok != want || !slices.Equal(as.Addresses, had) {
		t.Errorf("release %v: %v %v %v, want %v", h, as.Addresses, ok, err, had)
	}
	for _, a := range had {
		delete(m.owner, a)
		m.freed[a] = time.Now()
	}
	delete(m.has, h)
	m.letGo(h)
}

// pause lets blocks that nobody uses go. Of a draining node all of them do.
func (m *model) pause(t *testing.T, n *node) {
	t.Helper()
	time.Sleep(modelPause)
	synctest.Wait()
	m.count["pause"]++
	if !m.draining {
		return
	}
	for _, b := range n.Blocks() {
		if b.Used == 0 {
			t.Errorf("a draining node keeps %v, which nobody uses", b.CIDR)
		}
	}
	m.count["pause of a draining node"]++
}

func (m *model) compare(t *testing.T, n *node) {
	t.Helper()
	n.sound()
	all := n.Assignments()
	if len(all) != len(m.has) {
		t.Errorf("%d assignments, want %d", len(all), len(m.has))
	}
	for _, as := range all {
		if !slices.Equal(as.Addresses, m.has[as.Handle]) {
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
		if !slices.Equal(got[h], want) {
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
