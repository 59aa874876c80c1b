package ipam

import (
	"fmt"
	"net/netip"
	"time"

	bolt "go.etcd.io/bbolt"
)

// contents is all that the file says of this node.
type contents struct {
	blocks      []heldBlock
	assignments []Assignment
	freed       map[netip.Addr]time.Time
	sticky      map[string]sticky
	boot        string
}

// load reads the file and checks every record of this node and of the
// registry: an unreadable one, or an address that two attachments have, is
// [ErrCorrupt].
func (s *Store) load() (*contents, error) {
	if c := s.fresh.Swap(nil); c != nil {
		return c, nil
	}
	c := &contents{freed: map[netip.Addr]time.Time{}}
	err := s.view(func(tx *bolt.Tx) error { return c.read(tx) })
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
	return c.assignments, nil
}

// readContents reads what a transaction sees.
func readContents(tx *bolt.Tx) (*contents, error) {
	c := &contents{freed: map[netip.Addr]time.Time{}}
	return c, c.read(tx)
}

// block returns the held block that addr lies in, or nil.
func (c *contents) block(addr netip.Addr) *heldBlock {
	for i := range c.blocks {
		if c.blocks[i].CIDR.Contains(addr) {
			return &c.blocks[i]
		}
	}
	return nil
}

// read fills c from a transaction.
func (c *contents) read(tx *bolt.Tx) error {
	boot, err := getMeta(tx, metaBoot)
	if err != nil {
		return err
	}
	c.boot = string(boot)
	err = forEach(tx, bucketBlocks, func(k, v []byte) error {
		b, err := decodeHeld(k, v)
		c.blocks = append(c.blocks, b)
		return err
	})
	if err != nil {
		return err
	}
	// About the number of assignments, so that a full node is not copied often.
	c.assignments = make([]Assignment, 0, tx.Size()/512)
	err = forEach(tx, bucketAssignments, func(k, v []byte) error {
		a, err := decodeAssignment(k, v)
		c.assignments = append(c.assignments, a)
		return err
	})
	if err != nil {
		return err
	}
	if err := c.unique(); err != nil {
		return err
	}
	err = forEach(tx, bucketFreed, func(k, v []byte) error {
		addr, err := parseAddrKey(k)
		if err != nil {
			return err
		}
		r := reader{b: v}
		c.freed[addr] = r.time()
		return r.done("freed address", k)
	})
	if err != nil {
		return err
	}
	if c.sticky, err = readSticky(tx); err != nil {
		return err
	}
	_, err = registryBlocks(tx, "")
	return err
}

// unique returns [ErrCorrupt] when two attachments have one address.
func (c *contents) unique() error {
	owner := make(map[netip.Addr]int, len(c.assignments))
	for i := range c.assignments {
		for _, addr := range c.assignments[i].Addresses {
			if o, ok := owner[addr]; ok {
				return fmt.Errorf("%w: address %v is assigned to %v and to %v",
					ErrCorrupt, addr, c.assignments[o].Handle, c.assignments[i].Handle)
			}
			owner[addr] = i
		}
	}
	return nil
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
