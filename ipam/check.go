package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Check verifies the file's invariants and returns the violations, one sentence
// each; none when all is well. It works on an open store, in use or opened
// read-only by onlinkd fsck ([OpenStore] has then checked the pages).
func (s *Store) Check() ([]string, error) {
	var out []string
	err := s.view(func(tx *bolt.Tx) error {
		out = problems(tx)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check database %s: %w", s.path, err)
	}
	return out, nil
}

// problems checks every record of a transaction.
func problems(tx *bolt.Tx) []string {
	c, err := readContents(tx)
	if err != nil {
		return []string{err.Error()} // the rest cannot be read
	}
	var out []string
	for i, b := range c.order {
		if i > 0 && c.order[i-1].CIDR.Overlaps(b.CIDR) {
			out = append(out, fmt.Sprintf("held blocks %v and %v overlap", c.order[i-1].CIDR, b.CIDR))
		}
		o, ok, err := owned(tx, b.CIDR)
		if err == nil && ok && o.Node != b.Node && !b.lost {
			out = append(out, fmt.Sprintf("block %v is held, but the registry in this file gives it to node %q", b.CIDR, o.Node))
		}
	}
	for _, a := range c.assignments {
		for _, addr := range a.Addresses {
			if _, ok := c.freed[addr]; ok {
				out = append(out, fmt.Sprintf("address %v is free and assigned to %v", addr, a.Handle))
			}
			if c.blockOf(addr) == nil {
				out = append(out, fmt.Sprintf("address %v of %v is in no held block", addr, a.Handle))
			}
		}
	}
	return out
}

// Check verifies the file as [Store.Check] does, and that memory agrees with
// it. It runs in the order of the commits, so that it may be used under load.
func (a *Allocator) Check(ctx context.Context) ([]string, error) {
	a.mu.Lock()
	if err := a.queue.closed; err != nil {
		a.mu.Unlock()
		return nil, fmt.Errorf("check assignments: %w", err)
	}
	memory := make(map[Handle][]netip.Addr, len(a.stock.byHandle))
	for h, e := range a.stock.byHandle {
		memory[h] = e.Addresses
	}
	var out []string
	// The transaction that this lands in holds exactly what memory has now.
	b := a.queue.addLocked(func(tx *bolt.Tx) error {
		out = append(problems(tx), differences(tx, memory)...)
		return nil
	})
	a.mu.Unlock()
	if err := b.wait(ctx); err != nil {
		return nil, fmt.Errorf("check assignments: %w", err)
	}
	return out, nil
}

// differences compares the stored assignments with memory's.
func differences(tx *bolt.Tx, memory map[Handle][]netip.Addr) []string {
	c, err := readContents(tx)
	if err != nil {
		return nil // problems has reported it
	}
	var out []string
	for _, as := range c.assignments {
		if !slices.Equal(memory[as.Handle], as.Addresses) {
			out = append(out, fmt.Sprintf("attachment %v has %v in the file and %v in memory", as.Handle, as.Addresses, memory[as.Handle]))
		}
		delete(memory, as.Handle)
	}
	for h, addrs := range memory {
		out = append(out, fmt.Sprintf("attachment %v has %v in memory and nothing in the file", h, addrs))
	}
	return out
}
