package ipam

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The page format of bbolt (its internal/common), in the machine's byte order.
// bbolt maps the file and follows its page numbers; on a damaged page it panics,
// faults, or recurses without end, which no caller can survive. So everything that
// bbolt will follow is checked here first, once, while the lock is held.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	pageHeader     = 16
	pageElement    = 16
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagFreelist   = 0x10
	flagBucket     = 0x01
	noFreelist     = ^uint64(0)
	maxPageSize    = 64 << 10
	maxBucketDepth = 8 // ours nest once
	maxTreeDepth   = 64
)

// boltMeta is the content of a meta page.
type boltMeta struct {
	pageSize       int
	root, freelist uint64
	pages          uint64 // high water mark
	txid           uint64
}

// pageCheck walks the pages of one file.
type pageCheck struct {
	f    io.ReaderAt
	meta boltMeta
	seen []bool   // page -> reached, also overflow pages
	idle [][]byte // single-page buffers to use again
}

// checkPages verifies every page that bbolt would reach in f. An empty file is
// sound: bbolt initialises it. Errors wrap [ErrCorrupt].
func checkPages(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: not a regular file", ErrForeign)
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: the file is empty", ErrCorrupt)
	}
	return checkPagesOf(f, info.Size())
}

// checkPagesOf is [checkPages] on any source of size bytes.
func checkPagesOf(f io.ReaderAt, size int64) error {
	meta, err := newestMeta(f, size)
	if err != nil {
		return err
	}
	if meta.pages < 3 || meta.pages > uint64(size)/uint64(meta.pageSize) {
		return fmt.Errorf("%w: file has %d bytes, %d pages of %d are in use (cut short?)",
			ErrCorrupt, size, meta.pages, meta.pageSize)
	}
	c := &pageCheck{f: f, meta: meta, seen: make([]bool, meta.pages)}
	c.seen[0], c.seen[1] = true, true
	free, err := c.freelist()
	if err != nil {
		return err
	}
	if err := c.tree(meta.root, nil, nil, 0, 0); err != nil {
		return err
	}
	for _, id := range free {
		if c.seen[id] {
			return fmt.Errorf("%w: page %d is free and in use", ErrCorrupt, id)
		}
		c.seen[id] = true // a second time is the same fault
	}
	return nil
}

// newestMeta returns the valid meta page with the higher transaction number.
func newestMeta(f io.ReaderAt, size int64) (boltMeta, error) {
	first, err := readMeta(f, 0)
	if err == nil {
		// The second page's place is known from the first.
		if second, err2 := readMeta(f, int64(first.pageSize)); err2 == nil &&
			second.pageSize == first.pageSize && second.txid > first.txid {
			return second, nil
		}
		return first, nil
	}
	for at := int64(1024); at <= maxPageSize && at < size; at *= 2 {
		if m, err2 := readMeta(f, at); err2 == nil && int64(m.pageSize) == at {
			return m, nil
		}
	}
	return boltMeta{}, err
}

// readMeta reads and checks the meta page at an offset.
func readMeta(f io.ReaderAt, at int64) (boltMeta, error) {
	var b [pageHeader + 64]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return boltMeta{}, fmt.Errorf("%w: meta page: %w", ErrCorrupt, err)
	}
	ne, m := binary.NativeEndian, b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:56]) // a hash.Hash never returns an error
	switch {
	case ne.Uint32(m) != boltMagic:
		return boltMeta{}, fmt.Errorf("%w: no database file (wrong magic number)", ErrCorrupt)
	case ne.Uint32(m[4:]) != boltVersion:
		return boltMeta{}, fmt.Errorf("%w: file format %d", ErrCorrupt, ne.Uint32(m[4:]))
	case ne.Uint64(m[56:]) != sum.Sum64():
		return boltMeta{}, fmt.Errorf("%w: meta page: checksum differs", ErrCorrupt)
	}
	ps := int(ne.Uint32(m[8:]))
	if ps < 1024 || ps > maxPageSize || ps&(ps-1) != 0 {
		return boltMeta{}, fmt.Errorf("%w: page size %d", ErrCorrupt, ps)
	}
	return boltMeta{pageSize: ps, root: ne.Uint64(m[16:]), freelist: ne.Uint64(m[32:]), pages: ne.Uint64(m[40:]), txid: ne.Uint64(m[48:])}, nil
}

// page reads page id with its overflow pages and marks them reached.
func (c *pageCheck) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.meta.pages {
		return nil, fmt.Errorf("%w: page %d does not exist", ErrCorrupt, id)
	}
	var b []byte
	if k := len(c.idle); k > 0 {
		b, c.idle = c.idle[k-1], c.idle[:k-1]
	} else {
		b = make([]byte, c.meta.pageSize)
	}
	at := int64(id) * int64(c.meta.pageSize)
	if _, err := c.f.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("%w: read page %d: %w", ErrCorrupt, id, err)
	}
	if got := binary.NativeEndian.Uint64(b); got != id {
		return nil, fmt.Errorf("%w: page %d has the number %d", ErrCorrupt, id, got)
	}
	n := uint64(binary.NativeEndian.Uint32(b[12:])) + 1
	if n > c.meta.pages-id {
		return nil, fmt.Errorf("%w: page %d is longer than the file", ErrCorrupt, id)
	}
	for i := id; i < id+n; i++ {
		if c.seen[i] {
			return nil, fmt.Errorf("%w: page %d is used twice", ErrCorrupt, i)
		}
		c.seen[i] = true
	}
	if n == 1 {
		return b, nil
	}
	b = append(b, make([]byte, (n-1)*uint64(c.meta.pageSize))...)
	if _, err := c.f.ReadAt(b[c.meta.pageSize:], at+int64(c.meta.pageSize)); err != nil {
		return nil, fmt.Errorf("%w: read page %d: %w", ErrCorrupt, id, err)
	}
	return b, nil
}

// freelist returns the free pages.
func (c *pageCheck) freelist() ([]uint64, error) {
	if c.meta.freelist == noFreelist {
		return nil, nil
	}
	b, err := c.page(c.meta.freelist)
	if err != nil {
		return nil, err
	}
	ne := binary.NativeEndian
	if ne.Uint16(b[8:]) != flagFreelist {
		return nil, fmt.Errorf("%w: page %d is no free list", ErrCorrupt, c.meta.freelist)
	}
	count, ids := uint64(ne.Uint16(b[10:])), b[pageHeader:]
	if count == 0xFFFF {
		count, ids = ne.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return nil, fmt.Errorf("%w: free list of %d pages does not fit its page", ErrCorrupt, count)
	}
	free := make([]uint64, count)
	for i := range free {
		free[i] = ne.Uint64(ids[8*i:])
		if free[i] < 2 || free[i] >= c.meta.pages {
			return nil, fmt.Errorf("%w: free page %d does not exist", ErrCorrupt, free[i])
		}
	}
	return free, nil
}

// tree checks the B+tree under page id: its keys are at or above low and below
// high (nil: no bound).
func (c *pageCheck) tree(id uint64, low, high []byte, depth, nested int) error {
	if depth > maxTreeDepth || nested > maxBucketDepth {
		return fmt.Errorf("%w: page %d is nested too deep", ErrCorrupt, id)
	}
	b, err := c.page(id)
	if err != nil {
		return err
	}
	if err := c.node(id, b, low, high, depth, nested); err != nil {
		return err
	}
	if len(b) == c.meta.pageSize {
		c.idle = append(c.idle, b)
	}
	return nil
}

// node checks one page (or inline bucket) and the pages it refers to.
func (c *pageCheck) node(id uint64, b, low, high []byte, depth, nested int) error {
	ne := binary.NativeEndian
	flags, count := ne.Uint16(b[8:]), int(ne.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("%w: page %d is of kind %#x", ErrCorrupt, id, flags)
	}
	if pageHeader+count*pageElement > len(b) || (flags == flagBranch && count == 0) {
		return fmt.Errorf("%w: page %d has %d entries", ErrCorrupt, id, count)
	}
	keys, err := c.entries(id, b, low, high, nested)
	if err != nil || flags == flagLeaf {
		return err
	}
	for i := range keys {
		next := high
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		child := ne.Uint64(b[pageHeader+i*pageElement+8:])
		if err := c.tree(child, keys[i], next, depth+1, nested); err != nil {
			return err
		}
	}
	return nil
}

// entries checks the elements of a page, the buckets among them too, and
// returns their keys.
func (c *pageCheck) entries(id uint64, b, low, high []byte, nested int) ([][]byte, error) {
	ne := binary.NativeEndian
	branch, count := ne.Uint16(b[8:]) == flagBranch, int(ne.Uint16(b[10:]))
	keys := make([][]byte, 0, count)
	for i := range count {
		e, err := element(b, i, branch)
		if err != nil {
			return nil, fmt.Errorf("%w: page %d entry %d", err, id, i)
		}
		sorted := (i == 0 || bytes.Compare(keys[i-1], e.key) < 0) && bytes.Compare(e.key, low) >= 0 &&
			(high == nil || bytes.Compare(e.key, high) < 0)
		if !sorted {
			return nil, fmt.Errorf("%w: page %d entry %d: key out of order", ErrCorrupt, id, i)
		}
		keys = append(keys, e.key)
		if e.bucket {
			if err := c.bucket(id, e.value, nested+1); err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}

// pageEntry is one element of a page.
type pageEntry struct {
	key, value []byte
	bucket     bool
}

// element returns element i of a page.
func element(b []byte, i int, branch bool) (pageEntry, error) {
	ne, at := binary.NativeEndian, pageHeader+i*pageElement
	e := b[at:]
	var flags, pos, ksize, vsize uint64
	if branch {
		pos, ksize = uint64(ne.Uint32(e)), uint64(ne.Uint32(e[4:]))
	} else {
		flags, pos, ksize, vsize = uint64(ne.Uint32(e)), uint64(ne.Uint32(e[4:])), uint64(ne.Uint32(e[8:])), uint64(ne.Uint32(e[12:]))
	}
	start := uint64(at) + pos
	if ksize == 0 || start+ksize+vsize > uint64(len(b)) || flags > flagBucket {
		return pageEntry{}, ErrCorrupt
	}
	return pageEntry{key: b[start : start+ksize], value: b[start+ksize : start+ksize+vsize], bucket: flags == flagBucket}, nil
}

// bucket checks a bucket from its header: its own tree, or a page inline.
func (c *pageCheck) bucket(id uint64, v []byte, nested int) error {
	if len(v) < 16 {
		return fmt.Errorf("%w: page %d: bucket of %d bytes", ErrCorrupt, id, len(v))
	}
	if root := binary.NativeEndian.Uint64(v); root != 0 {
		return c.tree(root, nil, nil, 0, nested)
	}
	inline := v[16:]
	if len(inline) < pageHeader || nested > maxBucketDepth ||
		binary.NativeEndian.Uint64(inline) != 0 || binary.NativeEndian.Uint16(inline[8:]) != flagLeaf {
		return fmt.Errorf("%w: page %d: malformed inline bucket", ErrCorrupt, id)
	}
	return c.node(id, inline, nil, nil, 0, nested)
}
