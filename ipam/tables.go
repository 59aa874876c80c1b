package ipam

import (
	"fmt"
	"net/netip"
	"time"

	bolt "go.etcd.io/bbolt"
)

// contents is all that the file says of this node. The allocator that it is
// loaded for takes its index and maps over as they are: a full node has 65,536
// addresses, and its pods wait for the agent that starts.
type contents struct {
	index
	assignments []entry // in order of their handles; the index points to them
	freed       map[netip.Addr]time.Time
	sticky      map[string]sticky
	boot        string
	identity    identity
}

// load reads the file and checks every record of this node and of the
// registry: an unreadable one, or an address that two attachments have, is
// [ErrCorrupt].
func (s *Store) load() (*contents, error) {
	if c := s.fresh.Swap(nil); c != nil {
		return c, nil
	}
	var c *contents
	err := s.view(func(tx *bolt.Tx) (err error) {
		c, err = readContents(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Assignments returns what the file has, for checks of a store that no
// allocator uses.
func (s *Store) Assignments() ([]Assignment, error) {
	c, err := s.load()
	if err != nil {
		return nil, fmt.Errorf("read assignments of %s: %w", s.path, err)
	}
	out := make([]Assignment, len(c.assignments))
	for i := range c.assignments {
		out[i] = c.assignments[i].Assignment
	}
	return out, nil
}

// readContents reads what a transaction sees.
func readContents(tx *bolt.Tx) (*contents, error) {
	c := &contents{index: newIndex(count(tx, bucketBlocks), count(tx, bucketAssignments))}
	boot, err := getMeta(tx, metaBoot)
	if err != nil {
		return nil, err
	}
	c.boot = string(boot)
	if c.identity, err = readIdentity(tx); err != nil {
		return nil, err
	}
	now := time.Now()
	err = forEach(tx, bucketBlocks, func(k, v []byte) error {
		b, err := decodeHeld(k, v)
		if err == nil {
			c.addBlock(newHeld(b, now))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := c.readAssignments(tx); err != nil {
		return nil, err
	}
	if c.freed, err = readFreed(tx); err != nil {
		return nil, err
	}
	if c.sticky, err = readSticky(tx); err != nil {
		return nil, err
	}
	if _, err := registryBlocks(tx, ""); err != nil {
		return nil, err
	}
	if _, err := readAudit(tx); err != nil {
		return nil, err
	}
	if err := checkHolders(tx); err != nil {
		return nil, err
	}
	return c, nil
}

// readAssignments reads all assignments. They are counted first, so that a
// full node's are not copied from one slice to a larger one again and again.
func (c *contents) readAssignments(tx *bolt.Tx) error {
	c.assignments = make([]entry, 0, count(tx, bucketAssignments))
	var d decoder
	return forEach(tx, bucketAssignments, func(k, v []byte) error {
		a, err := d.assignment(k, v)
		if err != nil {
			return err
		}
		c.assignments = append(c.assignments, entry{Assignment: a})
		return c.index.load(&c.assignments[len(c.assignments)-1])
	})
}

// overlap returns the first two held blocks that overlap; nil: there are none.
// It needs the order in which the file has them.
func (c *contents) overlap() error {
	for i := 1; i < len(c.order); i++ {
		if a, b := c.order[i-1].CIDR, c.order[i].CIDR; a.Overlaps(b) {
			return fmt.Errorf("%w: held blocks %v and %v overlap", ErrCorrupt, a, b)
		}
	}
	return nil
}

// readFreed reads when addresses were freed.
func readFreed(tx *bolt.Tx) (map[netip.Addr]time.Time, error) {
	out := make(map[netip.Addr]time.Time, count(tx, bucketFreed))
	err := forEach(tx, bucketFreed, func(k, v []byte) error {
		addr, err := parseAddrKey(k)
		if err != nil {
			return err
		}
		r := reader{b: v}
		out[addr] = r.time()
		return r.done("freed address", k)
	})
	return out, err
}

// count returns how many records a bucket has. The pages are read once more
// for it, the records are not.
func count(tx *bolt.Tx, bucket []byte) int {
	b := tx.Bucket(bucket)
	if b == nil {
		return 0
	}
	n, c := 0, b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
	}
	return n
}

// forEach calls f with every key and payload of a bucket. A bucket that is not
// there, in a file of an older schema opened for checks, is empty.
func forEach(tx *bolt.Tx, bucket []byte, f func(key, payload []byte) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return fmt.Errorf("%w: %s %q is a bucket", ErrCorrupt, bucket, k)
		}
		p, err := unseal(bucket, k, v)
		if err != nil {
			return err
		}
		return f(k, p)
	})
}

// put stores a payload under a key.
func put(tx *bolt.Tx, bucket, key, payload []byte) error {
	return tx.Bucket(bucket).Put(key, seal(bucket, key, payload))
}

// change is one step of a transaction.
type change func(*bolt.Tx) error

// saveAssignment stores a, and forgets that its addresses were free.
func saveAssignment(a Assignment) change {
	return func(tx *bolt.Tx) error {
		for _, addr := range a.Addresses {
			if err := tx.Bucket(bucketFreed).Delete(addrKey(addr)); err != nil {
				return err
			}
		}
		return put(tx, bucketAssignments, handleKey(a.Handle), encodeAssignment(&a))
	}
}

// dropAssignment removes a and notes when its addresses were freed.
func dropAssignment(a Assignment, at time.Time) change {
	return func(tx *bolt.Tx) error {
		for _, addr := range a.Addresses {
			if err := put(tx, bucketFreed, addrKey(addr), appendTime(nil, at)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketAssignments).Delete(handleKey(a.Handle))
	}
}

// saveBlock stores a held block.
func saveBlock(b heldBlock) change {
	return func(tx *bolt.Tx) error { return put(tx, bucketBlocks, prefixKey(b.CIDR), encodeHeld(b)) }
}

// dropBlock removes a held block and what is known of its free addresses.
func dropBlock(p netip.Prefix) change {
	return func(tx *bolt.Tx) error {
		freed := tx.Bucket(bucketFreed)
		for n := range size(p) {
			if err := freed.Delete(addrKey(addrAt(p, n))); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketBlocks).Delete(prefixKey(p))
	}
}

// commit makes changes durable, all or none.
func (s *Store) commit(changes []change) error {
	return s.update(func(tx *bolt.Tx) error {
		for _, c := range changes {
			if err := c(tx); err != nil {
				return err
			}
		}
		return nil
	})
}
