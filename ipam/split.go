package ipam

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Split is one [Registry] made of two, so that neither is a single point of
// failure: the first has the lower half of every pool, the second the upper
// one. A node claims from the half its name selects, and from the other when
// that one does not answer or is full. All nodes must list the two in the same
// order, and have the same pools.
//
// While one does not answer, Assert and List cover the other alone: a block that
// is not known to be lost is kept. They fail when neither answers.
type Split struct {
	parts [2]Registry

	mu      sync.Mutex
	pools   []netip.Prefix // guarded by mu
	problem [2]error       // of the last call to each; guarded by mu
}

var _ Registry = (*Split)(nil)

// NewSplit returns the registry made of two, for these pools.
func NewSplit(first, second Registry, pools []Pool) *Split {
	s := &Split{parts: [2]Registry{first, second}}
	s.SetPools(pools)
	return s
}

// SetPools replaces the pools.
func (s *Split) SetPools(pools []Pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = nil
	for _, p := range pools {
		s.pools = append(s.pools, p.CIDR)
	}
}

// Problem returns which of the two did not answer its last call; nil: both did.
func (s *Split) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.problem[0], s.problem[1])
}

// heard records whether a part answered.
func (s *Split) heard(part int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem[part] = nil
	if !answered(err) && !errors.Is(err, context.Canceled) {
		s.problem[part] = fmt.Errorf("registry %d of 2: %w", part+1, err)
	}
}

// halves returns the two halves of a pool.
func halves(pool netip.Prefix) [2]netip.Prefix {
	return [2]netip.Prefix{blockAt(pool, pool.Bits()+1, 0), blockAt(pool, pool.Bits()+1, 1)}
}

// partOf returns which registry has a block. The block of a pool that is not
// known belongs to the first.
func (s *Split) partOf(block netip.Prefix) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		if p.Contains(block.Addr()) && p.Bits() < block.Bits() {
			if halves(p)[1].Contains(block.Addr()) {
				return 1
			}
			return 0
		}
	}
	return 0
}

// Claim implements [Registry].
func (s *Split) Claim(ctx context.Context, req ClaimRequest) (Block, error) {
	if err := req.Validate(); err != nil {
		return Block{}, err
	}
	if req.BlockSize == req.PoolCIDR.Bits() {
		return Block{}, fmt.Errorf("%w: pool %q is one block, which two registries cannot split", ErrInvalidRequest, req.Pool)
	}
	half := halves(req.PoolCIDR)
	if req.Block.IsValid() {
		part := 0
		if half[1].Contains(req.Block.Addr()) {
			part = 1
		}
		req.PoolCIDR, req.Reserved = half[part], within(req.Reserved, half[part])
		b, err := s.parts[part].Claim(ctx, req)
		s.heard(part, err)
		return b, err
	}
	var full, other error
	for _, part := range s.order(req.Node) {
		r := req
		r.PoolCIDR, r.Reserved = half[part], within(req.Reserved, half[part])
		b, err := s.claimFrom(ctx, part, r)
		switch {
		case err == nil:
			return b, nil
		case errors.Is(err, ErrRefused):
			return Block{}, err // of one half is of both
		case errors.Is(err, ErrPoolExhausted):
			full = err
		case other == nil:
			other = err
		}
	}
	if other != nil {
		return Block{}, other // there may be blocks behind it
	}
	return Block{}, full
}

// claimFrom calls one part, for half of the remaining time, so that a part which
// hangs leaves some for the other.
func (s *Split) claimFrom(ctx context.Context, part int, req ClaimRequest) (Block, error) {
	ctx, cancel := halfTime(ctx)
	defer cancel()
	b, err := s.parts[part].Claim(ctx, req)
	s.heard(part, err)
	return b, err
}

// halfTime returns a context that ends after half of the time that ctx leaves.
func halfTime(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok {
		return context.WithTimeout(ctx, time.Until(end)/2)
	}
	return context.WithCancel(ctx)
}

// within returns the parts of ranges inside a half pool.
func within(ranges []netip.Prefix, half netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		switch {
		case !r.Overlaps(half):
		case r.Bits() < half.Bits():
			out = append(out, half)
		default:
			out = append(out, r)
		}
	}
	return out
}

// Release implements [Registry].
func (s *Split) Release(ctx context.Context, by Caller, b Block) error {
	part := s.partOf(b.CIDR)
	err := s.parts[part].Release(ctx, by, b)
	s.heard(part, err)
	return err
}

// Assert implements [Registry].
func (s *Split) Assert(ctx context.Context, by Caller, held []Block) ([]Block, error) {
	if err := by.checkAssert(held); err != nil {
		return nil, err
	}
	var share [2][]Block
	for _, b := range held {
		part := s.partOf(b.CIDR)
		share[part] = append(share[part], b)
	}
	// One after the other, first the one that decides the holder of the name: of
	// two concurrent machines each would get the name from one half.
	var lost []Block
	var errs []error
	for i, part := range s.order(by.Node) {
		got, err := s.assertTo(ctx, i == 0, part, by, share[part])
		if refusal(err) {
			return nil, err
		}
		lost = append(lost, got...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(s.parts) {
		return nil, errors.Join(errs...)
	}
	return lost, ctx.Err()
}

// assertTo asserts to one part, the first for half of the time.
func (s *Split) assertTo(ctx context.Context, first bool, part int, by Caller, held []Block) ([]Block, error) {
	if first {
		var cancel context.CancelFunc
		ctx, cancel = halfTime(ctx)
		defer cancel()
	}
	lost, err := s.parts[part].Assert(ctx, by, held)
	s.heard(part, err)
	return lost, err
}

// order returns the parts in the order in which a node calls them.
func (s *Split) order(node string) [2]int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // a hash.Hash never returns an error
	first := int(h.Sum32()>>16) % 2
	return [2]int{first, 1 - first}
}

// List implements [Registry].
func (s *Split) List(ctx context.Context, node string) ([]Block, error) {
	var found [2][]Block
	err := s.both(ctx, func(ctx context.Context, part int) (err error) {
		found[part], err = s.parts[part].List(ctx, node)
		return err
	})
	all := slices.Concat(found[0], found[1])
	slices.SortFunc(all, func(a, b Block) int { return comparePrefix(a.CIDR, b.CIDR) })
	return all, err
}

// ForceRelease implements [ForceReleaser] with the parts that do; it needs all
// of them to answer.
func (s *Split) ForceRelease(ctx context.Context, node string, force bool) ([]Block, error) {
	var all []Block
	for _, part := range s.parts {
		f, ok := part.(ForceReleaser)
		if !ok {
			continue
		}
		blocks, err := f.ForceRelease(ctx, node, force)
		all = append(all, blocks...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// TakeOver implements [Registry]; it needs both to answer.
func (s *Split) TakeOver(ctx context.Context, by Caller, from string, force bool) ([]Block, error) {
	var all []Block
	for _, part := range s.order(by.Node) {
		blocks, err := s.parts[part].TakeOver(ctx, by, from, force)
		s.heard(part, err)
		if err != nil {
			return nil, err // the next try finds the half that succeeded done
		}
		all = append(all, blocks...)
	}
	slices.SortFunc(all, func(a, b Block) int { return comparePrefix(a.CIDR, b.CIDR) })
	return all, nil
}

// both calls f for the two parts at once. One that fails is forgiven, unless
// it refused the request: then the request is wrong.
func (s *Split) both(ctx context.Context, f func(context.Context, int) error) error {
	short, cancel := halfTime(ctx)
	defer cancel()
	var errs [2]error
	var wg sync.WaitGroup
	for part := range s.parts {
		wg.Go(func() {
			errs[part] = f(short, part)
			s.heard(part, errs[part])
		})
	}
	wg.Wait()
	for _, err := range errs {
		if errors.Is(err, ErrInvalidRequest) || errors.Is(err, ErrRefused) {
			return err
		}
	}
	if errs[0] != nil && errs[1] != nil {
		return errors.Join(errs[0], errs[1])
	}
	return ctx.Err()
}
