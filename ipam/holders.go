package ipam

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// heardFrom records the last call of each name's holder. It is not in the file: a
// call of every node a minute would be a write each. After a restart all of them
// count as having called at the start.
type heardFrom struct {
	mu    sync.Mutex
	start time.Time
	at    map[string]time.Time // guarded by mu
}

func newHeardFrom() *heardFrom {
	return &heardFrom{start: time.Now(), at: map[string]time.Time{}}
}

// age is the time since the last call of a name's holder.
func (h *heardFrom) age(node string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, ok := h.at[node]
	if !ok {
		last = h.start
	}
	return time.Since(last)
}

// note records a call of the holder of a name.
func (h *heardFrom) note(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[node] = time.Now()
}

// forget drops a name that has no holder any more.
func (h *heardFrom) forget(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.at, node)
}

// OwnNode returns the registry for the node whose file it is in: that machine has
// the file, so no other can hold its name.
func (r *BoltRegistry) OwnNode() *BoltRegistry {
	own := *r
	own.own = true
	return &own
}

// admit returns the holder of the caller's name after this call, and whether it is
// to be recorded. A registry that settles has lost the holders: only a caller with
// blocks becomes one. Another machine of the same name that happened to call first
// would cut off the one whose pods run, and adopt its blocks.
func (r *BoltRegistry) admit(tx *bolt.Tx, by Caller, holds bool) (next Holder, changed bool, err error) {
	h, err := holderOf(tx, by.Node)
	if err != nil {
		return Holder{}, false, err
	}
	if h.Instance == "" && by.Instance != "" && !holds && !r.own {
		if err := r.settled(tx); err != nil {
			return Holder{}, false, err
		}
	}
	next, changed, err = Admit(h, by, r.store.heard.age(by.Node))
	if err != nil && r.own && by.Instance != "" {
		return Holder{Caller: by, Since: time.Now()}, true, nil
	}
	return next, changed, err
}

// hold is admit in a transaction that writes.
func (r *BoltRegistry) hold(tx *bolt.Tx, by Caller, holds bool) error {
	next, changed, err := r.admit(tx, by, holds)
	if err != nil || !changed {
		return err
	}
	return putHolder(tx, by.Node, next)
}

// TakeOver implements [Registry].
func (r *BoltRegistry) TakeOver(ctx context.Context, by Caller, from string, force bool) ([]Block, error) {
	if err := errors.Join(by.validate(), Caller{Node: from}.validate()); err != nil {
		return nil, fmt.Errorf("take over from node %q: %w", from, err)
	}
	var out []Block
	err := r.update(ctx, func(tx *bolt.Tx) error {
		for _, name := range []string{by.Node, from} {
			h, err := holderOf(tx, name)
			if err != nil {
				return err
			}
			if err := AdmitTakeOver(name, h, by, r.store.heard.age(name), force || r.own); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketHolders).Delete([]byte(from)); err != nil {
			return err
		}
		if err := putHolder(tx, by.Node, Holder{Caller: by, Since: time.Now()}); err != nil {
			return err
		}
		if err := moveBlocks(tx, from, by.Node); err != nil {
			return err
		}
		var err error
		out, err = registryBlocks(tx, by.Node)
		return err
	})
	for _, b := range out {
		err = errors.Join(err, r.store.mark(b.Epoch))
	}
	if err != nil {
		return nil, fmt.Errorf("take over from node %q: %w", from, err)
	}
	if from != by.Node {
		r.store.heard.forget(from)
	}
	r.store.heard.note(by.Node)
	return out, nil
}

// moveBlocks gives all blocks of a node to another, or to itself, with new
// epochs: their former owner has lost them.
func moveBlocks(tx *bolt.Tx, from, to string) error {
	blocks, err := registryBlocks(tx, from)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if b.Epoch, err = nextEpoch(tx); err != nil {
			return err
		}
		b.Node = to
		if err := putOwned(tx, b); err != nil {
			return err
		}
	}
	return nil
}

// holderOf returns the holder of a name; the zero Holder: none.
func holderOf(tx *bolt.Tx, node string) (Holder, error) {
	key := []byte(node)
	v := tx.Bucket(bucketHolders).Get(key)
	if v == nil {
		return Holder{}, nil
	}
	p, err := unseal(bucketHolders, key, v)
	if err != nil {
		return Holder{}, err
	}
	return decodeHolder(key, p)
}

// putHolder records the holder of a name. A Holder without an instance is none.
func putHolder(tx *bolt.Tx, node string, h Holder) error {
	if h.Instance == "" {
		return tx.Bucket(bucketHolders).Delete([]byte(node))
	}
	return put(tx, bucketHolders, []byte(node), encodeHolder(h))
}

func encodeHolder(h Holder) []byte {
	v := appendString(appendString(nil, h.Instance), h.Before)
	v = appendOptional(appendOptional(v, h.Address), h.Address6)
	v = binary.LittleEndian.AppendUint64(v, uint64(h.Period))
	return appendTime(v, h.Since)
}

func decodeHolder(key, payload []byte) (Holder, error) {
	r := reader{b: payload}
	h := Holder{Caller: Caller{Node: string(key), Instance: r.string()}, Before: r.string()}
	h.Address, h.Address6 = r.optional(), r.optional()
	h.Period = time.Duration(r.uint64()) //nolint:gosec // written as a duration
	h.Since = r.time()
	return h, r.done("holder", key)
}

// appendOptional appends an address that may be missing.
func appendOptional(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, 0)
	}
	return appendAddr(b, a)
}

// optional reads an address that may be missing.
func (r *reader) optional() netip.Addr {
	if !r.bad && len(r.b) > 0 && r.b[0] == 0 {
		r.byte()
		return netip.Addr{}
	}
	return r.addr()
}

// forgetHolders is for a registry that is an older copy: it settles, and whoever
// asserts first holds the name. The holder it remembers may have been replaced.
func forgetHolders(tx *bolt.Tx) error {
	if err := tx.DeleteBucket(bucketHolders); err != nil {
		return err
	}
	if _, err := tx.CreateBucket(bucketHolders); err != nil {
		return err
	}
	return startSettling(tx)
}

// checkHolders reads all holders.
func checkHolders(tx *bolt.Tx) error {
	return forEach(tx, bucketHolders, func(k, v []byte) error {
		_, err := decodeHolder(k, v)
		return err
	})
}
