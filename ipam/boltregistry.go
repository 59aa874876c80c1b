package ipam

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// DefaultSettle is how long a registry whose file was damaged rejects claims,
// so that every node can assert its blocks first: twice the assert interval.
const DefaultSettle = 2 * DefaultAssertInterval

// BoltRegistry is the embedded [Registry]: it lives in the store of the agent
// that serves it, next to that node's own blocks but in other buckets.
//
// When its file is lost, nodes rebuild it with Assert. Claim returns
// [ErrSettling] for [DefaultSettle] after a damaged file was moved aside, and when
// the file is an older copy (a node asserts a later claim than the file has, or
// the marker has one; see [StoreOptions].Marker), but not at a first start. It
// would otherwise assign a block that another node is about to assert.
type BoltRegistry struct {
	store  *Store
	settle time.Duration
	own    bool // it acts for the node whose file this is
}

// BoltRegistry returns the registry in the store's file.
func (s *Store) BoltRegistry() *BoltRegistry {
	return &BoltRegistry{store: s, settle: DefaultSettle}
}

var _ Registry = (*BoltRegistry)(nil)

// WithSettle returns the registry with another time than [DefaultSettle]. It
// must be longer than two asserts of every node are apart.
func (r *BoltRegistry) WithSettle(d time.Duration) *BoltRegistry {
	other := *r
	other.settle = d
	return &other
}

// Claim implements [Registry].
func (r *BoltRegistry) Claim(ctx context.Context, req ClaimRequest) (Block, error) {
	if err := req.Validate(); err != nil {
		return Block{}, err
	}
	var b Block
	err := r.update(ctx, func(tx *bolt.Tx) error {
		if err := r.hold(tx, req.Caller, true); err != nil {
			return err
		}
		if err := r.settled(tx); err != nil {
			return err
		}
		cidr, err := freeBlock(ctx, tx, req)
		if err != nil {
			return err
		}
		if have, ok, err := owned(tx, cidr); err != nil || ok {
			b = have
			return err
		}
		epoch, err := nextEpoch(tx)
		if err != nil {
			return err
		}
		b = Block{CIDR: cidr, Pool: req.Pool, Node: req.Node, Epoch: epoch}
		return putOwned(tx, b)
	})
	if err == nil {
		err = r.store.mark(b.Epoch)
	}
	if err != nil {
		return Block{}, fmt.Errorf("claim block of pool %q for node %q: %w", req.Pool, req.Node, err)
	}
	r.store.heard.note(req.Node)
	return b, nil
}

// settled returns [ErrSettling] while a rebuilt registry waits for the nodes.
func (r *BoltRegistry) settled(tx *bolt.Tx) error {
	v, err := getMeta(tx, metaSettleFrom)
	if err != nil || v == nil {
		return err
	}
	rd := reader{b: v}
	from := rd.time()
	if left := r.settle - time.Since(from); !rd.bad && left > 0 && left <= r.settle {
		return fmt.Errorf("%w: its file was damaged, lost or an older copy, claims are accepted in %v", ErrSettling, left.Round(time.Second))
	}
	return nil
}

// freeBlock returns the requested block, or the first that overlaps no owned one,
// beginning at the node's own starting point.
func freeBlock(ctx context.Context, tx *bolt.Tx, req ClaimRequest) (netip.Prefix, error) {
	c := tx.Bucket(bucketRegistry).Cursor()
	if req.Block.IsValid() {
		o, ok, err := overlapping(c, req.Block)
		if err != nil {
			return netip.Prefix{}, err
		}
		if ok && (o.Node != req.Node || o.CIDR != req.Block) {
			return netip.Prefix{}, fmt.Errorf("%w: %v is in %v of node %q", ErrBlockTaken, req.Block, o.CIDR, o.Node)
		}
		return req.Block, nil
	}
	n, start := blockCount(req.PoolCIDR, req.BlockSize), req.Start()
	for i := range n {
		if i%1024 == 0 && ctx.Err() != nil {
			return netip.Prefix{}, ctx.Err()
		}
		b := blockAt(req.PoolCIDR, req.BlockSize, (start+i)%n)
		if insideAny(b, req.Reserved) {
			continue
		}
		if _, taken, err := overlapping(c, b); err != nil || !taken {
			return b, err
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: all %d blocks of %v are owned or reserved", ErrPoolExhausted, n, req.PoolCIDR)
}

// overlapping returns an owned block that shares an address with p. Owned
// blocks are disjoint and sorted, so only the neighbours of p's place count.
func overlapping(c *bolt.Cursor, p netip.Prefix) (Block, bool, error) {
	k, v := c.Seek(prefixKey(p))
	if k != nil {
		b, err := decodeOwned(k, v)
		if err != nil || b.CIDR.Overlaps(p) {
			return b, err == nil, err
		}
		k, v = c.Prev()
	} else {
		k, v = c.Last()
	}
	if k == nil {
		return Block{}, false, nil
	}
	b, err := decodeOwned(k, v)
	return b, err == nil && b.CIDR.Overlaps(p), err
}

// Release implements [Registry].
func (r *BoltRegistry) Release(ctx context.Context, by Caller, b Block) error {
	err := by.validate()
	if err == nil && by.Node != b.Node {
		err = fmt.Errorf("%w: the block names node %q", ErrInvalidRequest, b.Node)
	}
	if err != nil {
		return fmt.Errorf("release block %v of node %q: %w", b.CIDR, by.Node, err)
	}
	err = r.update(ctx, func(tx *bolt.Tx) error {
		if err := r.hold(tx, by, true); err != nil {
			return err
		}
		have, ok, err := owned(tx, b.CIDR)
		if err != nil || !ok {
			return err
		}
		if have.Node != b.Node || have.Epoch > b.Epoch {
			return fmt.Errorf("%w: node %q owns it with epoch %d", ErrNotOwner, have.Node, have.Epoch)
		}
		return tx.Bucket(bucketRegistry).Delete(prefixKey(b.CIDR))
	})
	if err != nil {
		return fmt.Errorf("release block %v of node %q epoch %d: %w", b.CIDR, b.Node, b.Epoch, err)
	}
	r.store.heard.note(by.Node)
	return nil
}

// ForceRelease takes all blocks from a node that will not return, and returns
// them. If the node returns, its asserts of them are rejected. The name is free
// then: the next caller holds it. Without force it takes none from a node that called
// lately.
func (r *BoltRegistry) ForceRelease(ctx context.Context, node string, force bool) ([]Block, error) {
	var out []Block
	err := r.update(ctx, func(tx *bolt.Tx) error {
		if node == "" {
			return fmt.Errorf("%w: node name is empty", ErrInvalidRequest)
		}
		h, err := holderOf(tx, node)
		if err == nil {
			err = AdmitRelease(node, h, r.store.heard.age(node), force)
		}
		if err != nil {
			return err
		}
		if out, err = registryBlocks(tx, node); err != nil {
			return err
		}
		for _, b := range out {
			key := prefixKey(b.CIDR)
			if err := put(tx, bucketFences, key, binary.LittleEndian.AppendUint64(nil, b.Epoch)); err != nil {
				return err
			}
			if err := tx.Bucket(bucketRegistry).Delete(key); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketHolders).Delete([]byte(node))
	})
	if err != nil {
		return nil, fmt.Errorf("release all blocks of node %q: %w", node, err)
	}
	r.store.heard.forget(node)
	return out, nil
}

// Assert implements [Registry]. Nothing is written when the registry has all of
// the blocks, which is the usual case.
func (r *BoltRegistry) Assert(ctx context.Context, by Caller, held []Block) (lost []Block, err error) {
	if err := by.checkAssert(held); err != nil {
		return nil, err
	}
	news := false
	err = r.view(ctx, func(tx *bolt.Tx) error {
		_, changed, err := r.admit(tx, by, len(held) > 0)
		if err != nil {
			return err
		}
		news = changed
		for _, b := range held {
			have, ok, err := owned(tx, b.CIDR)
			if err != nil {
				return err
			}
			news = news || !ok || have != b
		}
		return nil
	})
	if err == nil && news {
		err = r.update(ctx, func(tx *bolt.Tx) error {
			if err := r.hold(tx, by, len(held) > 0); err != nil {
				return err
			}
			lost, err = assertEach(tx, held)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("assert blocks of node %q: %w", by.Node, err)
	}
	r.store.heard.note(by.Node)
	return lost, nil
}

// checkAssert checks the blocks that a caller asserts.
func (c Caller) checkAssert(held []Block) error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("assert blocks: %w", err)
	}
	for _, b := range held {
		if b.Node != c.Node || !b.CIDR.IsValid() || b.CIDR.Masked() != b.CIDR || size(b.CIDR) > 4096 || len(b.Pool) > maxName {
			return fmt.Errorf("assert block %v for node %q: %w: it names node %q or is malformed", b.CIDR, c.Node, ErrInvalidRequest, b.Node)
		}
	}
	return nil
}

// assertEach records the blocks that may be recorded and returns the others.
func assertEach(tx *bolt.Tx, held []Block) (lost []Block, err error) {
	for _, b := range held {
		ok, err := assertOne(tx, b)
		if err != nil {
			return nil, err
		}
		if !ok {
			lost = append(lost, b)
		}
	}
	return lost, nil
}

// assertOne records b unless another node has a better right to it, and reports
// whether it is b.Node's.
func assertOne(tx *bolt.Tx, b Block) (bool, error) {
	o, ok, err := overlapping(tx.Bucket(bucketRegistry).Cursor(), b.CIDR)
	if err != nil {
		return false, err
	}
	if ok {
		better, err := outranks(tx, o, b)
		if err != nil || better {
			return false, err
		}
	}
	key := prefixKey(b.CIDR)
	if v := tx.Bucket(bucketFences).Get(key); v != nil {
		p, err := unseal(bucketFences, key, v)
		if err != nil {
			return false, err
		}
		rd := reader{b: p}
		if b.Epoch <= rd.uint64() || rd.bad {
			return false, nil
		}
	}
	last, err := metaUint(tx, metaEpoch)
	if err != nil {
		return false, err
	}
	if b.Epoch > last {
		if err := putMetaUint(tx, metaEpoch, b.Epoch); err != nil {
			return false, err
		}
		// This registry never gave that claim, or has forgotten it: it may have
		// forgotten others.
		if b.Epoch > recoveredEpoch {
			if err := startSettling(tx); err != nil {
				return false, err
			}
		}
	}
	return true, putEntry(tx, heldBlock{Block: b, asserted: true})
}

// outranks reports whether the owner o of a block, or of a part of it, has a
// better right to it than b.Node. A claim that this registry gave is certain. Of
// two nodes that both assert a block the later claim counts: the other one did not
// call while it lost the block, and the registry that took it was lost since.
func outranks(tx *bolt.Tx, o, b Block) (bool, error) {
	switch {
	case o.CIDR != b.CIDR:
		return true, nil
	case o.Node == b.Node:
		return o.Epoch > b.Epoch, nil
	case o.Epoch >= b.Epoch:
		return true, nil
	}
	e, err := decodeEntry(prefixKey(o.CIDR), tx.Bucket(bucketRegistry).Get(prefixKey(o.CIDR)))
	return !e.asserted, err
}

// List implements [Registry].
func (r *BoltRegistry) List(ctx context.Context, node string) ([]Block, error) {
	var out []Block
	err := r.view(ctx, func(tx *bolt.Tx) error {
		var err error
		out, err = registryBlocks(tx, node)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list blocks of node %q: %w", node, err)
	}
	return out, nil
}

func (r *BoltRegistry) update(ctx context.Context, f func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.store.update(f)
}

func (r *BoltRegistry) view(ctx context.Context, f func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.store.view(f)
}

// nextEpoch returns an epoch above all earlier ones. Its floor is the wall
// clock (microseconds), so that a registry whose file was lost does not begin
// below the nodes' epochs.
func nextEpoch(tx *bolt.Tx) (uint64, error) {
	last, err := metaUint(tx, metaEpoch)
	if err != nil {
		return 0, err
	}
	e := max(last+1, uint64(max(time.Now().UnixMicro(), 0)))
	return e, putMetaUint(tx, metaEpoch, e)
}

// owned returns the registry's entry of exactly this block.
func owned(tx *bolt.Tx, p netip.Prefix) (Block, bool, error) {
	key := prefixKey(p)
	v := tx.Bucket(bucketRegistry).Get(key)
	if v == nil {
		return Block{}, false, nil
	}
	b, err := decodeOwned(key, v)
	return b, err == nil, err
}

// putOwned stores the owner of a block.
func putOwned(tx *bolt.Tx, b Block) error { return putEntry(tx, heldBlock{Block: b}) }

// putEntry stores an entry of the registry; its fence, if any, has served.
func putEntry(tx *bolt.Tx, b heldBlock) error {
	key := prefixKey(b.CIDR)
	if err := tx.Bucket(bucketFences).Delete(key); err != nil {
		return err
	}
	return put(tx, bucketRegistry, key, encodeHeld(b))
}

// decodeOwned reads the owner in an entry of the registry from its stored
// value.
func decodeOwned(key, value []byte) (Block, error) {
	b, err := decodeEntry(key, value)
	return b.Block, err
}

// decodeEntry reads an entry of the registry from its stored value.
func decodeEntry(key, value []byte) (heldBlock, error) {
	p, err := unseal(bucketRegistry, key, value)
	if err != nil {
		return heldBlock{}, err
	}
	return decodeHeld(key, p)
}

// registryBlocks returns the entries of a node, or all when node is empty, and
// checks them: two that overlap are [ErrCorrupt].
func registryBlocks(tx *bolt.Tx, node string) ([]Block, error) {
	var out []Block
	var prev netip.Prefix
	err := tx.Bucket(bucketRegistry).ForEach(func(k, v []byte) error {
		b, err := decodeOwned(bytes.Clone(k), v)
		if err != nil {
			return err
		}
		if prev.IsValid() && prev.Overlaps(b.CIDR) {
			return fmt.Errorf("%w: registry blocks %v and %v overlap", ErrCorrupt, prev, b.CIDR)
		}
		prev = b.CIDR
		if node == "" || b.Node == node {
			out = append(out, b)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Block) int { return comparePrefix(a.CIDR, b.CIDR) })
	return out, err
}
