package ipam

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/netip"
)

// ClaimRequest is a claim of one block of a pool.
type ClaimRequest struct {
	Caller
	Pool      string // name, kept with the block
	PoolCIDR  netip.Prefix
	BlockSize int // prefix length of a block
	// Reserved ranges: a block that lies wholly in one is not handed out.
	Reserved []netip.Prefix
	// Block, when valid, is the requested block: Claim gives that one or returns
	// [ErrBlockTaken]. A block the node owns already is given again.
	Block netip.Prefix
}

// Validate checks a request, for registries that serve strangers.
func (r ClaimRequest) Validate() error {
	if err := r.validate(); err != nil {
		return err
	}
	p := Pool{Name: r.Pool, CIDR: r.PoolCIDR, BlockSize: r.BlockSize, Reserved: r.Reserved}
	if err := p.Validate(); err != nil {
		return err
	}
	if r.BlockSize == 0 || len(r.Pool) > maxName {
		return fmt.Errorf("%w: block size is missing or pool name too long", ErrInvalidRequest)
	}
	if r.Block.IsValid() && (r.Block.Masked() != r.Block || r.Block.Bits() != r.BlockSize || !r.PoolCIDR.Contains(r.Block.Addr())) {
		return fmt.Errorf("%w: block %v is not a /%d of %v", ErrInvalidRequest, r.Block, r.BlockSize, r.PoolCIDR)
	}
	return nil
}

// Start returns the number of the block at which a registry begins its search for
// a free one: a hash of the node's name, so that concurrent claims do not compete
// for one block and a node that lost everything finds the same ones again.
func (r ClaimRequest) Start() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.Node)) // a hash.Hash never returns an error
	v := h.Sum64()
	v ^= v >> 32 // FNV's low bits alone spread similar names badly
	return v % blockCount(r.PoolCIDR, r.BlockSize)
}

// Count returns how many blocks the pool has, at most 2^32.
func (r ClaimRequest) Count() uint64 { return blockCount(r.PoolCIDR, r.BlockSize) }

// At returns block number n of the pool; n is below Count.
func (r ClaimRequest) At(n uint64) netip.Prefix { return blockAt(r.PoolCIDR, r.BlockSize, n) }

// Number returns the number of the block that addr, of the pool, lies in.
func (r ClaimRequest) Number(addr netip.Addr) uint64 {
	a, from := toU128(addr), toU128(r.PoolCIDR.Addr())
	lo, borrow := bits.Sub64(a.lo, from.lo, 0)
	hi, _ := bits.Sub64(a.hi, from.hi, borrow)
	host := addr.BitLen() - r.BlockSize
	if host >= 64 {
		return hi >> (host - 64)
	}
	return hi<<(64-host) | lo>>host
}

// ReleaseWatcher is a [Registry] that signals released blocks, so that a node
// which found a pool full need not poll.
type ReleaseWatcher interface {
	// WatchReleases calls released after blocks became free, until ctx ends.
	// It may call it too often, and misses nothing for longer than a
	// reconnection.
	WatchReleases(ctx context.Context, released func())
}

// Registry records the owner of every block: no two blocks it has given overlap.
// A node's name is held by one machine at a time, see [Admit]: calls of another
// one are rejected with a [HeldError]. Every method is bounded by its context and
// may be called concurrently; all are idempotent.
type Registry interface {
	// Claim gives the node a free block, with an epoch above all earlier ones of
	// that block. Errors: [ErrPoolExhausted], [ErrBlockTaken], [ErrSettling],
	// [ErrRefused].
	Claim(ctx context.Context, req ClaimRequest) (Block, error)
	// Release releases a block. A free block is a success; one with another owner
	// or a newer epoch is [ErrNotOwner].
	Release(ctx context.Context, by Caller, b Block) error
	// Assert states that the caller holds these blocks. The registry records those
	// that it lacks (a lost registry is rebuilt so); it returns in lost those that
	// are not the node's any more (another owner, a newer epoch, or released by
	// force). Of two nodes that assert a block which this registry gave to neither,
	// the one with the larger epoch has it, whichever called first.
	Assert(ctx context.Context, by Caller, held []Block) (lost []Block, err error)
	// List returns the blocks of a node, or of all nodes when node is empty,
	// in order of address. A registry that does not list all returns [ErrUnlisted].
	List(ctx context.Context, node string) ([]Block, error)
	// TakeOver makes the caller the holder of its name, and gives it all blocks
	// of node from, which is its own name or its former one, each with a new
	// epoch. It returns all blocks of the caller's name. Without force a machine
	// that holds one of the two names and called within two of its periods keeps
	// it, and the error is a [HeldError].
	TakeOver(ctx context.Context, by Caller, from string, force bool) ([]Block, error)
}

// ForceReleaser is a [Registry] that can take all blocks from a node that will
// not come back.
type ForceReleaser interface {
	// ForceRelease takes the blocks and returns them. If the node does come
	// back, its asserts of them are refused. Without force a node that called within
	// two of its periods keeps them, see [AdmitRelease].
	ForceRelease(ctx context.Context, node string, force bool) ([]Block, error)
}
