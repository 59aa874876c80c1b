package ipam

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Repair fixes those faults of [Store.Check] that have one right answer, in one
// transaction, and returns a sentence for each step. No agent may use the store
// meanwhile. The other faults need a decision: see [Allocator.Recover].
//
//   - An address that is free and assigned is assigned: a pod may have it.
//   - A free address outside the held blocks is removed.
//   - A held block that the registry in this file gives to another node is
//     lost, and not announced any more.
func (s *Store) Repair() ([]string, error) {
	var out []string
	err := s.update(func(tx *bolt.Tx) error {
		out = nil
		c, err := readContents(tx)
		if err != nil {
			return err
		}
		for _, repair := range []func(*bolt.Tx, *contents) ([]string, error){repairFreed, repairBlocks} {
			done, err := repair(tx, c)
			if err != nil {
				return err
			}
			out = append(out, done...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("repair database %s: %w", s.path, err)
	}
	return out, nil
}

// repairFreed drops the records of freed addresses that are not free or not
// ours.
func repairFreed(tx *bolt.Tx, c *contents) ([]string, error) {
	var out []string
	drop := func(key []byte, text string, args ...any) error {
		out = append(out, fmt.Sprintf(text, args...))
		return tx.Bucket(bucketFreed).Delete(key)
	}
	for _, a := range c.assignments {
		for _, addr := range a.Addresses {
			if _, ok := c.freed[addr]; !ok {
				continue
			}
			if err := drop(addrKey(addr), "address %v is assigned to %v: no longer free", addr, a.Handle); err != nil {
				return nil, err
			}
			delete(c.freed, addr)
		}
	}
	for addr := range c.freed {
		if c.blockOf(addr) != nil {
			continue
		}
		if err := drop(addrKey(addr), "free address %v is in no held block: removed", addr); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// repairBlocks marks blocks of other nodes as lost.
func repairBlocks(tx *bolt.Tx, c *contents) ([]string, error) {
	var out []string
	for _, b := range c.order {
		o, ok, err := owned(tx, b.CIDR)
		if err != nil {
			return nil, err
		}
		if !ok || o.Node == b.Node || b.lost {
			continue
		}
		b.lost = true
		if err := saveBlock(b.heldBlock)(tx); err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("block %v belongs to node %q: marked as lost", b.CIDR, o.Node))
	}
	return out, nil
}
