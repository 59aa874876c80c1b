package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// lockChild makes this test binary hold a store open, for TestLockNamesHolder.
const lockChild = "ONLINK_IPAM_LOCK_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockChild); path != "" {
		os.Exit(holdStore(path))
	}
	os.Exit(m.Run())
}

// holdStore opens the store, says so, and keeps it until stdin ends.
func holdStore(path string) int {
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("open")
	_, _ = os.Stdin.Read(make([]byte, 1))
	if err := s.Close(); err != nil {
		return 1
	}
	return 0
}

func TestLockNamesHolder(t *testing.T) {
	path := dbPath(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), lockChild+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4)
	if _, err := out.Read(line); err != nil || string(line) != "open" {
		t.Fatalf("child said %q, %v", line, err)
	}
	begin := time.Now()
	_, err = OpenStore(path, StoreOptions{MoveAside: true})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d (", cmd.Process.Pid)) || !strings.Contains(err.Error(), path) {
		t.Errorf("second opener: %v, want one that names %s and process %d", err, path, cmd.Process.Pid)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("waited %v for the lock", d)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	openStore(t, path)
}

func TestStoreFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "onlink.db")
	s := openStore(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, want 0600", info.Mode().Perm())
	}
	if !s.Created() || s.MovedAside() != "" || s.Path() != path {
		t.Errorf("created %v, moved %q, path %q", s.Created(), s.MovedAside(), s.Path())
	}
	left, err := filepath.Glob(path + "?*")
	if err != nil || len(left) != 0 {
		t.Errorf("creation left %v (%v)", left, err)
	}
}

// sampleFile returns the bytes of a store with n assignments and some more.
func sampleFile(t testing.TB, n int) []byte {
	t.Helper()
	path := dbPath(t)
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true
	node := startNode(t, Config{Store: s, Pools: []Pool{{Name: "default", CIDR: pfx("10.244.0.0/20")}}})
	for i := range n {
		node.assign(Request{Handle: handle(i), Netns: "/run/netns/cni-" + strings.Repeat("x", 30), Pod: fmt.Sprintf("pod-%d", i)})
	}
	for i := range n / 4 {
		node.del(i * 3)
	}
	node.sound()
	node.stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedFiles(t *testing.T) {
	good := sampleFile(t, 150)
	meta, err := newestMeta(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	inUse := int(meta.pages) * meta.pageSize // behind it is only room to grow
	foreign := func() []byte {
		path := dbPath(t)
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("consul")); return err })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}()
	for _, tc := range []struct {
		name string
		file []byte
		want error
	}{
		{"empty", nil, ErrCorrupt},
		{"one byte", []byte{0}, ErrCorrupt},
		{"zero", make([]byte, 64<<10), ErrCorrupt},
		{"text", bytes.Repeat([]byte("not a database\n"), 5000), ErrCorrupt},
		{"another sqlite", append([]byte("SQLite format 3\x00"), make([]byte, 8192)...), ErrCorrupt},
		{"cut to a page", good[:4096], ErrCorrupt},
		{"cut in half", good[:inUse/2], ErrCorrupt},
		{"cut in a page", good[:inUse-77], ErrCorrupt},
		{"zero behind the meta pages", append(append([]byte(nil), good[:8192]...), make([]byte, len(good)-8192)...), ErrCorrupt},
		{"another program's", foreign, ErrForeign},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := dbPath(t)
			if err := os.WriteFile(path, tc.file, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := OpenStore(path, StoreOptions{})
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), s.Close()))
			}
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error is %v, want one that wraps %v and names the file", err, tc.want)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, tc.file) {
				t.Fatalf("the file was changed (%v)", err)
			}
			s, err = OpenStore(path, StoreOptions{MoveAside: true})
			if errors.Is(tc.want, ErrForeign) {
				if !errors.Is(err, ErrForeign) {
					t.Fatalf("move aside of another program's file: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if got, err := os.ReadFile(s.MovedAside()); err != nil || !bytes.Equal(got, tc.file) || !strings.HasPrefix(s.MovedAside(), path+".corrupt-") {
				t.Fatalf("moved aside to %q: %v", s.MovedAside(), err)
			}
			if _, err := s.BoltRegistry().Claim(t.Context(), ClaimRequest{Caller: Caller{Node: "a"}, Pool: "p", PoolCIDR: pfx("10.0.0.0/24"), BlockSize: 26}); !errors.Is(err, ErrSettling) {
				t.Fatalf("claim right after a lost registry: %v", err)
			}
		})
	}
}

// TestRandomFlips damages bytes anywhere. The file must be refused, or what it
// holds must be what was stored (the damage hit a page that is not in use, or
// the older meta page): never a panic, never something else.
func TestRandomFlips(t *testing.T) {
	good := sampleFile(t, 120)
	path := dbPath(t)
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	want := storedHandles(t, path)
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	refused := 0
	rnd := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		bad := bytes.Clone(good)
		for range 1 + rnd.IntN(4) {
			at := rnd.IntN(len(bad))
			if rnd.IntN(2) == 0 {
				at = at / 4096 * 4096 // a page's header, where it hurts most
				at += rnd.IntN(64)
			}
			bad[at] ^= byte(1 << rnd.IntN(8))
		}
		// A truncated file is flushed by some file systems, a new one is not.
		if err := errors.Join(os.Remove(path), os.WriteFile(path, bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStore(path, StoreOptions{})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerSchema) && !errors.Is(err, ErrForeign) {
				t.Fatalf("error is %v", err)
			}
			refused++
			continue
		}
		got, err := s.load()
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		for _, a := range got.assignments {
			if want[a.Handle] != a.Addresses[0].String() {
				t.Fatalf("%v has %v, stored was %q", a.Handle, a.Addresses, want[a.Handle])
			}
		}
	}
	if refused == 0 {
		t.Fatal("no damage was noticed")
	}
}

func storedHandles(t *testing.T, path string) map[Handle]string {
	t.Helper()
	s := openStore(t, path)
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	out := map[Handle]string{}
	for _, a := range c.assignments {
		out[a.Handle] = a.Addresses[0].String()
	}
	return out
}

func TestMigrations(t *testing.T) {
	path := dbPath(t)
	s := openStore(t, path)
	var ran []int
	step := func(n int) func(*bolt.Tx) error {
		return func(*bolt.Tx) error { ran = append(ran, n); return nil }
	}
	known := len(migrations)
	var steps []func(*bolt.Tx) error
	for n := range known + 2 {
		steps = append(steps, step(n))
	}
	for range 2 { // the second time there is nothing to do
		if err := s.update(func(tx *bolt.Tx) error { return migrate(tx, steps) }); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int{known, known + 1}; !slices.Equal(ran, want) {
		t.Fatalf("ran steps %v, want %v", ran, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := OpenStore(path, StoreOptions{MoveAside: true})
	if !errors.Is(err, ErrNewerSchema) || !strings.Contains(err.Error(), fmt.Sprintf("schema %d, supported up to %d", len(steps), len(migrations))) {
		t.Fatalf("a newer file: %v", err)
	}
	broken := append(slices.Clone(steps), func(*bolt.Tx) error { return errors.New("boom") })
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Update(func(tx *bolt.Tx) error { return migrate(tx, broken) }); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("migrate schema %d to %d", known+2, known+3)) {
		t.Fatalf("a failing step: %v", err)
	}
}

// firstSchema writes a file of schema 1, which has no sticky addresses, with
// one assignment.
func firstSchema(t *testing.T) (path string, as Assignment) {
	t.Helper()
	path = dbPath(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	as = Assignment{Handle: handle(1), Addresses: pool4Addrs("10.244.0.1"), Pools: []string{"default"}, Assigned: time.Now()}
	err = db.Update(func(tx *bolt.Tx) error {
		if err := migrate(tx, migrations[:1]); err != nil {
			return err
		}
		return errors.Join(
			saveBlock(heldBlock{Block: Block{CIDR: pfx("10.244.0.0/26"), Pool: "default", Node: "n1", Epoch: 1}})(tx), saveAssignment(as)(tx))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path, as
}

// TestCheckFirstSchema checks a file of schema 1 as fsck does: it is sound,
// and stays as it is.
func TestCheckFirstSchema(t *testing.T) {
	path, as := firstSchema(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(path, StoreOptions{ReadOnly: true})
	if err != nil {
		t.Fatalf("open an older file for checks: %v", err)
	}
	bad, err := s.Check()
	if err != nil || len(bad) != 0 {
		t.Errorf("check: %q %v", bad, err)
	}
	got, err := s.Assignments()
	if err != nil || len(got) != 1 || got[0].Handle != as.Handle {
		t.Errorf("assignments: %+v %v, want that of %v", got, err, as.Handle)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed by the check (%v)", err)
	}

	t.Run("without a bucket", func(t *testing.T) {
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketFreed) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		for _, readOnly := range []bool{true, false} {
			if _, err := OpenStore(path, StoreOptions{ReadOnly: readOnly}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("read only %v: %v, want %v", readOnly, err, ErrCorrupt)
			}
		}
	})
}

// TestMigrateFirstSchema opens a file of schema 1 for use.
func TestMigrateFirstSchema(t *testing.T) {
	path, as := firstSchema(t)
	n := startNode(t, Config{Store: openStore(t, path)})
	if got := n.assign(Request{Handle: handle(1), Sticky: "x"}); got.Addresses[0] != as.Addresses[0] {
		t.Fatalf("got %v, want %v", got.Addresses, as.Addresses)
	}
	n.assign(Request{Handle: handle(2), Sticky: "x"})
	n.sound()
}

func TestBackup(t *testing.T) {
	n := startNode(t, Config{})
	for i := range 20 {
		n.add(i)
	}
	var b bytes.Buffer
	if err := n.cfg.Store.Backup(&b); err != nil {
		t.Fatal(err)
	}
	n.add(20)
	path := dbPath(t)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(path, StoreOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	bad, err := s.Check()
	if err != nil || len(bad) != 0 {
		t.Fatalf("check of the copy: %v %v", bad, err)
	}
	c, err := s.load()
	if err != nil || len(c.assignments) != 20 {
		t.Fatalf("copy has %d assignments (%v), want 20", len(c.assignments), err)
	}
}

func TestCheckFindsFaults(t *testing.T) {
	s := openStore(t, dbPath(t))
	as := Assignment{Handle: handle(1), Addresses: pool4Addrs("10.244.0.1"), Pools: []string{"default"}, Assigned: time.Now()}
	freed := Assignment{Handle: handle(2), Addresses: pool4Addrs("10.244.0.1"), Pools: []string{"default"}}
	if err := s.commit([]change{saveAssignment(as), dropAssignment(freed, time.Now())}); err != nil {
		t.Fatal(err)
	}
	bad, err := s.Check()
	if err != nil || len(bad) != 2 || !strings.Contains(bad[0], "free and assigned") || !strings.Contains(bad[1], "no held block") {
		t.Fatalf("check: %q %v", bad, err)
	}
	twice := as
	twice.Handle = handle(3)
	if err := s.commit([]change{saveAssignment(twice)}); err != nil {
		t.Fatal(err)
	}
	if bad, err := s.Check(); err != nil || len(bad) != 1 || !strings.Contains(bad[0], "assigned to c1/eth0 and to c3/eth0") {
		t.Fatalf("check: %q %v", bad, err)
	}
	if _, err := s.load(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("an address that two have: %v", err)
	}
}

// TestCommitFails breaks one transaction: nothing of its batch may count, and
// the next one must work.
func TestCommitFails(t *testing.T) {
	n := startNode(t, Config{})
	before := n.add(1)
	n.mu.Lock() // the failing change, an assign and a release in one batch
	broken := n.queue.addLocked(func(*bolt.Tx) error { return errors.New("disk full") })
	n.mu.Unlock()
	_, err := n.Assign(context.Background(), Request{Handle: handle(2)})
	if err == nil { // the assign came after the broken batch had gone: it stands
		n.del(2)
	}
	if err := broken.wait(t.Context()); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Fatalf("broken batch: %v", err)
	}
	if got, ok := n.Lookup(handle(1)); !ok || got.Addresses[0] != before {
		t.Fatalf("after a failed commit: %+v %v", got, ok)
	}
	if n.Stats().CommitErrors != 1 {
		t.Fatalf("stats: %+v", n.Stats())
	}
	n.add(3)
	n.sound()
}
