package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
	"unsafe"

	bolt "go.etcd.io/bbolt"
)

// Sizes of what a disk writes at once.
const (
	sectorSize = 512
	metaPages  = 2 // the first two pages of a file
)

// disk is what a power cut leaves of a store's file: everything up to the last
// flush, and of the writes after it any part. It sees every write bbolt does.
// Tests use it from one goroutine.
type disk struct {
	t       *testing.T
	page    int
	flushed []byte  // the file as of the last flush
	pending []write // since, in order
	writes  int     // seen in all
	// cut looks at the disk before each write and after it.
	cut func()
}

// write is one write of the file.
type write struct {
	at   int64
	data []byte
}

// onDisk makes d see what a store writes from now on. bbolt has no public way
// to its writes, so the function it calls for them is replaced: its name and
// type are checked here, and a release without them fails the test.
func onDisk(t *testing.T, s *Store) *disk {
	t.Helper()
	field := privateField(t, s.db, "ops", "writeAt")
	writeAt, ok := field.(*func([]byte, int64) (int, error))
	if !ok {
		t.Fatalf("bbolt writes with %T", field)
	}
	image, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, page: s.db.Info().PageSize, flushed: image, cut: func() {}}
	really := *writeAt
	*writeAt = func(b []byte, at int64) (int, error) {
		d.grow(s.path)
		if at < int64(metaPages*d.page) {
			d.flush() // bbolt flushes what a meta page tells of before it writes the page: TestFlushes
		}
		d.cut()
		n, err := really(b, at)
		d.pending = append(d.pending, write{at, bytes.Clone(b[:n])})
		d.writes++
		d.cut()
		return n, err
	}
	return d
}

// privateField returns a pointer to a field of a struct of another package.
func privateField(t *testing.T, of any, path ...string) any {
	t.Helper()
	v := reflect.ValueOf(of).Elem()
	for _, name := range path {
		if v = v.FieldByName(name); !v.IsValid() {
			t.Fatalf("bbolt has no field %v any more", path)
		}
	}
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Interface() //nolint:gosec // see onDisk
}

// grow gives the image the file's size, which bbolt flushes when it changes it.
func (d *disk) grow(path string) {
	info, err := os.Stat(path)
	if err != nil {
		d.t.Fatal(err)
	}
	if more := info.Size() - int64(len(d.flushed)); more > 0 {
		d.flushed = append(d.flushed, make([]byte, more)...)
	}
}

// flush makes all that was written durable.
func (d *disk) flush() {
	for _, w := range d.pending {
		copy(d.flushed[w.at:], w.data)
	}
	d.pending = nil
}

// kept returns the file of which every pending write is there that keep says,
// and of write number torn only the sectors of which tear is true.
func (d *disk) kept(keep func(i int) bool, torn int, tear func(sector int) bool) []byte {
	image := bytes.Clone(d.flushed)
	for i, w := range d.pending {
		if i != torn {
			if keep(i) {
				copy(image[w.at:], w.data)
			}
			continue
		}
		for off := 0; off < len(w.data); off += sectorSize {
			if tear(off / sectorSize) {
				copy(image[w.at+int64(off):], w.data[off:min(off+sectorSize, len(w.data))])
			}
		}
	}
	return image
}

// state is every record of a file, as text: what two states have in common can
// be compared at once.
type state map[string]string

func stateOf(t *testing.T, s *Store) state {
	t.Helper()
	out := state{}
	err := s.view(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				out[fmt.Sprintf("%s/%x", name, k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// reopen opens an image as an agent would after the machine came back, and
// returns its state. It must be sound.
func reopen(t *testing.T, path string, image []byte) state {
	t.Helper()
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	s.db.NoSync = true
	bad, err := s.Check()
	if err != nil || len(bad) > 0 {
		t.Fatalf("check: %q %v", bad, err)
	}
	out := stateOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// powerCut is TestPowerCut at work.
type powerCut struct {
	*disk
	rnd    *rand.Rand
	path   string // of the images
	before state  // of the last transaction that was answered
	news   []state
	opened int
}

// TestPowerCut does one transaction after the other, of every kind there is,
// and at every write of the file makes what a power cut at that moment could
// leave: everything up to the last flush, and of what was written since the
// first so many writes, any of them in any order, or one of them in part. Each
// of these files must open, be sound, and hold the state before or after the
// transaction, record for record: the one before while its meta page was not
// written, the one after when it was answered.
func TestPowerCut(t *testing.T) {
	s := openStore(t, dbPath(t))
	// No growth in large steps: it is then that pages behind the end appear.
	s.db.AllocSize = 4096
	c := &powerCut{
		disk: onDisk(t, s), rnd: rand.New(rand.NewPCG(3, 3)), path: filepath.Join(t.TempDir(), "cut.db"), before: stateOf(t, s),
	}
	c.cut = c.look
	steps := powerCutSteps(s)
	for i, step := range steps {
		c.step(s, fmt.Sprintf("step %d", i), step)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d transactions, %d writes, %d files opened", len(steps), c.writes, c.opened)
	if c.writes < 3*len(steps) {
		t.Errorf("%d writes of %d transactions: not all were seen", c.writes, len(steps))
	}
}

// step does one transaction. What comes out of the file at each write is
// collected and judged when the state after it is known.
func (c *powerCut) step(s *Store, what string, do func() error) {
	c.news = nil
	if err := do(); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	after := stateOf(c.t, s)
	for i, got := range c.news {
		if !maps.Equal(got, c.before) && !maps.Equal(got, after) {
			c.t.Errorf("%s: file %d of %d has neither the state before nor the one after: %d records, want %d or %d",
				what, i, len(c.news), len(got), len(c.before), len(after))
		}
	}
	c.flush() // the last flush of the transaction
	if got := c.open(c.kept(nil, -1, nil)); !maps.Equal(got, after) {
		c.t.Errorf("%s: was answered and is not on disk", what)
	}
	c.before = after
}

// look makes the files of this moment.
func (c *powerCut) look() {
	all := func(int) bool { return true }
	some := func(int) bool { return c.rnd.IntN(2) == 0 }
	meta := len(c.pending) > 0 && c.pending[0].at < int64(metaPages*c.page)
	images := [][]byte{c.kept(all, -1, nil)}
	if n := len(c.pending); n > 0 {
		images = append(images, c.kept(some, -1, nil), c.kept(some, c.rnd.IntN(n), some))
		if meta { // the one that matters is torn in every way that it can be
			for cutAt := range c.page / sectorSize {
				images = append(images, c.kept(all, 0, func(sector int) bool { return sector < cutAt }),
					c.kept(all, 0, func(sector int) bool { return sector >= cutAt }))
			}
		}
	}
	for _, image := range images {
		got := c.open(image)
		if !meta && !maps.Equal(got, c.before) {
			c.t.Errorf("write %d: data without its meta page changed the state: %d records, want %d", c.writes, len(got), len(c.before))
		}
		c.news = append(c.news, got)
	}
}

func (c *powerCut) open(image []byte) state {
	c.opened++
	return reopen(c.t, c.path, image)
}

// powerCutSteps are transactions of every kind that a node and its registry
// do.
func powerCutSteps(s *Store) []func() error {
	rnd := rand.New(rand.NewPCG(4, 4))
	now := time.Now()
	reg := s.BoltRegistry()
	as := func(i int) Assignment {
		return Assignment{
			Handle: handle(i), Addresses: []netip.Addr{addrAt(pfx("10.244.0.0/24"), i%256), addrAt(pfx("fd00::/120"), i%256)},
			Pools: []string{"four", "six"}, Netns: "/run/netns/a", Pod: fmt.Sprintf("pod-%d", i), Assigned: now, Sticky: "ns/w",
		}
	}
	commit := func(todo ...change) func() error { return func() error { return s.commit(todo) } }
	held := func(p netip.Prefix, lost bool) change {
		return saveBlock(heldBlock{Block: Block{CIDR: p, Pool: "p", Node: "n1", Epoch: 7}, lost: lost})
	}
	claim := func(node string) func() error {
		return func() error {
			_, err := reg.Claim(context.Background(), ClaimRequest{Caller: Caller{Node: node}, Pool: "p", PoolCIDR: pfx("10.9.0.0/16"), BlockSize: 26})
			return err
		}
	}
	steps := []func() error{
		commit(saveBoot("one")), commit(held(pfx("10.244.0.0/24"), false), held(pfx("fd00::/120"), false)),
		claim("n1"), claim("n2"), claim("n2"),
		func() error {
			_, err := reg.Assert(context.Background(), Caller{Node: "n3"}, []Block{{CIDR: pfx("10.8.0.0/26"), Pool: "p", Node: "n3", Epoch: 5}})
			return err
		},
		func() error { _, err := reg.ForceRelease(context.Background(), "n2", true); return err },
	}
	full := map[int]bool{}
	for range 60 {
		var group []change // what one commit takes together
		for range 1 + rnd.IntN(6) {
			i := rnd.IntN(256)
			if full[i] {
				group = append(group, dropAssignment(as(i), now), saveSticky("ns/w", sticky{addrs: as(i).Addresses, freed: now}))
			} else {
				group = append(group, saveAssignment(as(i)), saveSticky("ns/w", sticky{addrs: as(i).Addresses}))
			}
			full[i] = !full[i]
		}
		steps = append(steps, commit(group...))
	}
	var all []change // one large transaction: it grows and then shrinks the tree
	for i := range 256 {
		all = append(all, saveAssignment(as(i)))
	}
	steps = append(steps, commit(all...))
	var none []change
	for i := range 256 {
		none = append(none, dropAssignment(as(i), now))
	}
	return append(steps, commit(none...), commit(dropSticky("ns/w")),
		commit(held(pfx("10.244.0.0/24"), true)), commit(dropBlock(pfx("10.244.0.0/24"))))
}

// TestFlushes shows that a transaction waits for the disk twice, before its
// meta page and after it: on a file that cannot be flushed nothing is answered,
// and a meta page is not even written before what it tells of is on disk.
// TestPowerCut relies on it.
func TestFlushes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		fails    func(at int64, page int) bool // from the write at this place on no flush works
		newState bool
	}{
		{"the data", func(int64, int) bool { return true }, false},
		{"the meta page", func(at int64, page int) bool { return at < int64(metaPages*page) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := dbPath(t)
			s, err := OpenStore(path, StoreOptions{})
			if err != nil {
				t.Fatal(err)
			}
			// A pipe cannot be flushed: fdatasync(2) answers EINVAL.
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = errors.Join(r.Close(), w.Close()) }()
			file, ok := privateField(t, s.db, "file").(**os.File)
			if !ok {
				t.Fatal("bbolt has another file")
			}
			usual := *file
			writeAt, _ := privateField(t, s.db, "ops", "writeAt").(*func([]byte, int64) (int, error))
			really, page, metas := *writeAt, s.db.Info().PageSize, 0
			*writeAt = func(b []byte, at int64) (int, error) {
				if at < int64(metaPages*page) {
					metas++
				}
				if tc.fails(at, page) {
					*file = w
				}
				return really(b, at)
			}
			err = s.commit([]change{saveBoot("new")})
			*file = usual
			if err == nil {
				t.Error("a transaction was answered that is not on disk")
			}
			if want := map[bool]int{true: 1}[tc.newState]; metas != want {
				t.Errorf("%d meta pages were written, want %d", metas, want)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
