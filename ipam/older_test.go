package ipam

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestRecoverOlder puts a file before an allocator that says otherwise than the
// pods that run: in every case the pods keep what the kernel shows, nobody else
// gets it, and file and memory are sound.
func TestRecoverOlder(t *testing.T) {
	six := Pool{Name: "six", CIDR: pfx("fd00:10::/112"), BlockSize: 122}
	gone := func(i int, addrs ...string) Assignment {
		return Assignment{Handle: handle(i), Addresses: pool4Addrs(addrs...)}
	}
	for _, tc := range []struct {
		name      string
		file      []Assignment
		sticky    map[string]sticky
		freed     []string
		pods      []Running
		want      map[int][]string // of attachments afterwards; those not in it have nothing
		displaced int
		kept      []string
		workload  string // of attachment 1 afterwards
	}{
		{
			name: "the address is of a pod that is gone", file: []Assignment{gone(9, "10.244.0.1")},
			pods: []Running{running(1, "10.244.0.1")}, want: map[int][]string{1: {"10.244.0.1"}}, displaced: 1,
		},
		{
			name: "one of two families is of a pod that is gone", file: []Assignment{gone(9, "10.244.0.1", "fd00:10::1")},
			pods: []Running{running(1, "10.244.0.5", "fd00:10::1")}, displaced: 1,
			want: map[int][]string{1: {"10.244.0.5", "fd00:10::1"}, 9: {"10.244.0.1"}},
		},
		{
			name: "the same attachment had another address", file: []Assignment{gone(1, "10.244.0.1")},
			pods: []Running{running(1, "10.244.0.2")}, want: map[int][]string{1: {"10.244.0.2"}},
		},
		{
			name: "two attachments have changed places", file: []Assignment{gone(1, "10.244.0.1"), gone(2, "10.244.0.2")},
			pods: []Running{running(1, "10.244.0.2"), running(2, "10.244.0.1")},
			want: map[int][]string{1: {"10.244.0.2"}, 2: {"10.244.0.1"}},
		},
		{
			name: "three attachments have moved on", file: []Assignment{gone(1, "10.244.0.1"), gone(2, "10.244.0.2"), gone(3, "10.244.0.3")},
			pods: []Running{running(1, "10.244.0.2"), running(2, "10.244.0.3"), running(4, "10.244.0.1")},
			want: map[int][]string{1: {"10.244.0.2"}, 2: {"10.244.0.3"}, 4: {"10.244.0.1"}}, displaced: 1,
		},
		{
			name: "the address cools down", freed: []string{"10.244.0.1"},
			pods: []Running{running(1, "10.244.0.1")}, want: map[int][]string{1: {"10.244.0.1"}},
		},
		{
			name: "the address is kept for another workload", sticky: map[string]sticky{"shop/web-0": {addrs: pool4Addrs("10.244.0.1", "fd00:10::1"), freed: time.Now()}},
			pods: []Running{running(1, "10.244.0.1")}, want: map[int][]string{1: {"10.244.0.1"}},
		},
		{
			name: "the addresses are kept for its own workload", sticky: map[string]sticky{"shop/web-0": {addrs: pool4Addrs("10.244.0.1"), freed: time.Now()}},
			pods: []Running{running(1, "10.244.0.1")}, want: map[int][]string{1: {"10.244.0.1"}}, workload: "shop/web-0",
		},
		{
			name: "the kernel shows nothing of a pod", file: []Assignment{gone(1, "10.244.0.1", "fd00:10::1")},
			pods: []Running{running(1)}, want: map[int][]string{1: {"10.244.0.1", "fd00:10::1"}},
		},
		{
			name: "the kernel shows one family of a pod", file: []Assignment{gone(1, "10.244.0.1", "fd00:10::1")},
			pods: []Running{running(1, "10.244.0.1")}, want: map[int][]string{1: {"10.244.0.1", "fd00:10::1"}},
		},
		{
			name: "a pod without a route lost its address to one that has it", file: []Assignment{gone(1, "10.244.0.1")},
			pods: []Running{running(1), running(2, "10.244.0.1")}, want: map[int][]string{2: {"10.244.0.1"}}, displaced: 1,
		},
		{
			name: "two running pods have one address", file: []Assignment{gone(1, "10.244.0.1")},
			pods: []Running{running(2, "10.244.0.1"), running(1, "10.244.0.1")}, want: map[int][]string{1: {"10.244.0.1"}}, kept: []string{"10.244.0.1"},
		},
		{
			name: "two unknown pods have one address", pods: []Running{running(2, "10.244.0.1", "fd00:10::2"), running(1, "10.244.0.1", "fd00:10::1")},
			want: map[int][]string{2: {"10.244.0.1", "fd00:10::2"}, 1: {"fd00:10::1"}}, kept: []string{"10.244.0.1"},
		},
		{
			name: "a pod has two addresses of a family", pods: []Running{running(1, "10.244.0.7", "10.244.0.8")},
			want: map[int][]string{1: {"10.244.0.7"}}, kept: []string{"10.244.0.8"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := openStore(t, dbPath(t))
			cfg := Config{Node: "n1", Pools: []Pool{pool4, six}, Registry: s.BoltRegistry(), Store: s, Cooldown: -1, Sticky: 24 * time.Hour, Spare: -1}
			var todo []change
			for i, cidr := range []string{"10.244.0.0/26", "fd00:10::/122"} {
				b, err := s.BoltRegistry().Claim(t.Context(), ClaimRequest{Caller: Caller{Node: "n1"}, Pool: cfg.Pools[i].Name, PoolCIDR: cfg.Pools[i].CIDR, BlockSize: cfg.Pools[i].BlockSize, Block: pfx(cidr)})
				if err != nil {
					t.Fatal(err)
				}
				todo = append(todo, saveBlock(heldBlock{Block: b}))
			}
			for _, as := range tc.file {
				as.Pools = make([]string, len(as.Addresses))
				todo = append(todo, saveAssignment(as))
			}
			for key, st := range tc.sticky {
				todo = append(todo, saveSticky(key, st))
			}
			for _, addr := range tc.freed {
				as := Assignment{Handle: handle(99), Addresses: pool4Addrs(addr)}
				todo = append(todo, dropAssignment(as, time.Now()))
			}
			if err := s.commit(todo); err != nil {
				t.Fatal(err)
			}
			a, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Recover(tc.pods)
			if err != nil || len(got.Refused) > 0 || len(got.Displaced) != tc.displaced {
				t.Fatalf("recovered %+v, %v; want nobody refused and %d displaced", got, err, tc.displaced)
			}
			wantAssigned(t, a, tc.want)
			var kept []string
			for _, q := range a.Quarantined() {
				kept = append(kept, q.Address.String())
			}
			if !slices.Equal(kept, tc.kept) {
				t.Errorf("kept out of use: %v, want %v", kept, tc.kept)
			}
			if as, _ := a.Lookup(handle(1)); as.Sticky != tc.workload {
				t.Errorf("attachment 1 is of workload %q, want %q", as.Sticky, tc.workload)
			}
			n := start(t, a)
			n.sound()
			n.notGiven(tc.pods, tc.sticky)
			n.sound()
		})
	}
}

// wantAssigned compares all assignments.
func wantAssigned(t *testing.T, a *Allocator, want map[int][]string) {
	t.Helper()
	all := a.Assignments()
	if len(all) != len(want) {
		t.Errorf("%d attachments have addresses, want %d: %v", len(all), len(want), all)
	}
	for i, addrs := range want {
		as, _ := a.Lookup(handle(i))
		if !slices.Equal(as.Addresses, pool4Addrs(addrs...)) {
			t.Errorf("%v has %v, want %v", handle(i), as.Addresses, addrs)
		}
	}
}

// notGiven takes every address that can be had, and wants those of the running
// pods not to be among them.
func (n *node) notGiven(pods []Running, kept map[string]sticky) {
	n.t.Helper()
	used := map[netip.Addr]bool{}
	for _, p := range pods {
		for _, addr := range p.Addresses {
			used[addr] = true
		}
	}
	for addr := range used {
		n.refuses(Request{Handle: handle(500), Addresses: []netip.Addr{addr}}, ErrAddressInUse)
	}
	for key := range kept {
		as := n.assign(Request{Handle: handle(501), Namespace: "shop", Sticky: key[len("shop/"):]})
		for _, addr := range as.Addresses {
			if used[addr] {
				n.t.Errorf("%v of a running pod is given to the workload %s", addr, key)
			}
		}
	}
	for i := 1000; ; i++ {
		as, err := n.Assign(n.t.Context(), Request{Handle: handle(i), IPv4: true})
		if errors.Is(err, ErrExhausted) {
			return
		}
		if err != nil {
			n.t.Fatal(err)
		}
		if used[as.Addresses[0]] {
			n.t.Errorf("%v of a running pod is given again", as.Addresses[0])
		}
	}
}

// TestQuarantineEnds gives a quarantined address back when its pod has ended,
// and not when another one has.
func TestQuarantineEnds(t *testing.T) {
	s := openStore(t, dbPath(t))
	a, err := New(Config{Node: "n1", Pools: []Pool{pool4}, Registry: s.BoltRegistry(), Store: s, Cooldown: -1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Recover([]Running{running(1, "10.244.0.70"), running(2, "10.244.0.70")}); err != nil || len(got.Kept) != 1 {
		t.Fatalf("recovered %+v, %v; want one address kept out of use", got, err)
	}
	n := start(t, a)
	n.del(1) // of the two the one that has it in the file
	req := Request{Handle: handle(3), Addresses: pool4Addrs("10.244.0.70")}
	n.refuses(req, ErrAddressInUse)
	n.EndQuarantine(handle(1))
	n.refuses(req, ErrAddressInUse)
	n.EndQuarantine(handle(2))
	n.assign(req)
	n.sound()
}

// TestDoubtfulBlock: a block that the last run did not announce gives nothing,
// and is not announced, before the registry has said whose it is.
func TestDoubtfulBlock(t *testing.T) {
	reg := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}
	cfg := Config{Store: openStore(t, dbPath(t)), Registry: reg, Spare: -1}
	n := startNode(t, cfg)
	n.add(1)
	mine := n.Blocks()[0].Block
	n.stop()
	if err := reg.Release(t.Context(), n.registrar.caller(), mine); err != nil {
		t.Fatal(err)
	}
	other, err := reg.Claim(t.Context(), ClaimRequest{Caller: Caller{Node: "n2"}, Pool: "default", PoolCIDR: pool4.CIDR, BlockSize: 26, Block: mine.CIDR})
	if err != nil {
		t.Fatal(err)
	}
	reg.cut(errCut, false)
	a, err := New(Config{Node: "n1", Pools: []Pool{pool4}, Registry: reg, Store: cfg.Store, Spare: -1})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.DoubtBlocks([]netip.Prefix{pfx("10.99.0.0/26")}); len(got) != 1 || got[0] != mine.CIDR {
		t.Fatalf("doubts %v, want %v", got, mine.CIDR)
	}
	n = start(t, a)
	if b := n.Blocks()[0]; b.Confirmed || !b.Doubtful {
		t.Errorf("%+v is announced", b)
	}
	n.refuses(Request{Handle: handle(2)}, ErrClaimFailed)
	reg.cut(nil, false)
	until(t, "the registry is asked again", func() bool {
		as, err := n.Assign(t.Context(), Request{Handle: handle(2)})
		if err == nil && other.CIDR.Contains(as.Addresses[0]) {
			t.Errorf("%v of %v, which is another node's, is given", as.Addresses, other.CIDR)
		}
		return err == nil
	})
	until(t, "the block is lost", func() bool { return n.Stats().LostBlocks == 1 })
}

// TestGuessedBlock: a block that is known from its pods is replaced by what the
// registry has, of another size too.
func TestGuessedBlock(t *testing.T) {
	reg := openStore(t, dbPath(t)).BoltRegistry()
	small := pool4
	small.BlockSize = 28
	cfg := Config{Store: openStore(t, dbPath(t)), Registry: reg, Pools: []Pool{small}, Spare: -1}
	n := startNode(t, cfg)
	addr := n.add(1)
	claimed := n.Blocks()[0].Block
	n.stop()
	s := openStore(t, dbPath(t))
	a, err := New(Config{Node: "n1", Address: addressOf("n1"), Pools: []Pool{pool4}, Registry: reg, Store: s, Spare: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Recover([]Running{running(1, addr.String())}); err != nil {
		t.Fatal(err)
	}
	if b := a.Blocks()[0]; !b.Confirmed || !b.Doubtful || b.CIDR.Bits() != 26 {
		t.Fatalf("entered %+v, want a doubtful /26 that is announced", b)
	}
	n = start(t, a)
	until(t, "the registry's block", func() bool {
		b := n.Blocks()
		return len(b) == 1 && b[0].Block == claimed && !b[0].Doubtful && b[0].Used == 1
	})
	n.sound()
}

// TestKernelKnowsTheBlock: the kernel's drop route says which block it was.
func TestKernelKnowsTheBlock(t *testing.T) {
	s := openStore(t, dbPath(t))
	a, err := New(Config{Node: "n1", Pools: []Pool{pool4}, Registry: s.BoltRegistry(), Store: s})
	if err != nil {
		t.Fatal(err)
	}
	pod := running(1, "10.244.0.70")
	pod.DropRoutes = []netip.Prefix{pfx("10.244.0.64/28"), pfx("10.244.0.0/16")}
	if _, err := a.Recover([]Running{pod}); err != nil {
		t.Fatal(err)
	}
	if b := a.Blocks(); len(b) != 1 || b[0].CIDR != pfx("10.244.0.64/28") {
		t.Fatalf("entered %v, want 10.244.0.64/28", b)
	}
	a.DoubtBlocks([]netip.Prefix{pfx("10.244.0.64/28")})
	if b := a.Blocks()[0]; b.Doubtful {
		t.Errorf("%+v was announced by the last run and is doubted", b)
	}
}

// TestOlderRegistry puts an older copy of the registry's file back, or takes it
// away: it gives nobody a block that a node has claimed since.
func TestOlderRegistry(t *testing.T) {
	for _, tc := range []struct {
		name string
		back func(t *testing.T, path string, older []byte)
		// asserted: the node says what it has before another one claims
		marker, asserted bool
	}{
		{name: "restored, the marker says so", back: restore, marker: true},
		{name: "removed, the marker says so", back: func(t *testing.T, path string, _ []byte) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, marker: true},
		{name: "restored, a node says so", back: restore, asserted: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path, opt := filepath.Join(dir, "onlink.db"), StoreOptions{}
			if tc.marker {
				opt.Marker = filepath.Join(t.TempDir(), "registry.epoch")
			}
			req := func(node string) ClaimRequest {
				return ClaimRequest{Caller: Caller{Node: node}, Pool: "default", PoolCIDR: pool4.CIDR, BlockSize: 26}
			}
			s := openFile(t, path, opt)
			if _, err := s.BoltRegistry().Claim(t.Context(), req("n1")); err != nil {
				t.Fatal(err)
			}
			older := backup(t, s)
			late, err := s.BoltRegistry().Claim(t.Context(), req("n2"))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			tc.back(t, path, older)
			s = openFile(t, path, opt)
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			if s.Older() != tc.marker {
				t.Errorf("older: %v, want %v", s.Older(), tc.marker)
			}
			if tc.asserted {
				if lost, err := s.BoltRegistry().Assert(t.Context(), Caller{Node: "n2"}, []Block{late}); err != nil || len(lost) > 0 {
					t.Fatal(lost, err)
				}
			}
			if b, err := s.BoltRegistry().Claim(t.Context(), req("n3")); !errors.Is(err, ErrSettling) {
				t.Errorf("gave %v, error %v; want %v", b, err, ErrSettling)
			}
			if lost, err := s.BoltRegistry().Assert(t.Context(), Caller{Node: "n2"}, []Block{late}); err != nil || len(lost) > 0 {
				t.Errorf("n2 has lost %v, %v", lost, err)
			}
			for range 3 {
				b, err := s.BoltRegistry().WithSettle(0).Claim(t.Context(), req("n3"))
				if err != nil && !errors.Is(err, ErrPoolExhausted) {
					t.Fatal(err)
				}
				if err == nil && (b.CIDR == late.CIDR || b.Epoch <= late.Epoch) {
					t.Errorf("gave %+v after %+v", b, late)
				}
			}
		})
	}
}

func restore(t *testing.T, path string, older []byte) {
	t.Helper()
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
}

// openFile opens a file as an agent would.
func openFile(t *testing.T, path string, opt StoreOptions) *Store {
	t.Helper()
	s, err := OpenStore(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// backup returns a copy of a file in use.
func backup(t *testing.T, s *Store) []byte {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "copy")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Backup(f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
