package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"onlink/ipam"
)

// Bounds of the search for a free block.
const (
	pageKeys = 256 // keys read at a time
	pageFree = 16  // free blocks collected of a page
)

// Claim implements [ipam.Registry].
func (r *Registry) Claim(ctx context.Context, req ipam.ClaimRequest) (ipam.Block, error) {
	b, err := r.claim(ctx, req)
	if err != nil {
		return ipam.Block{}, fmt.Errorf("claim block of pool %q for node %q: %w", req.Pool, req.Node, err)
	}
	return b, nil
}

// claimant is the remaining budget of one call.
type claimant struct {
	mayHold clientv3.Cmp // the node's name is the caller's
	tries   int          // transactions
}

func (r *Registry) claim(ctx context.Context, req ipam.ClaimRequest) (ipam.Block, error) {
	if err := errors.Join(req.Validate(), validNode(req.Node)); err != nil {
		return ipam.Block{}, err
	}
	mayHold, err := r.hold(ctx, req.Caller)
	if err != nil {
		return ipam.Block{}, err
	}
	c := &claimant{mayHold: mayHold, tries: maxRetries}
	if req.Block.IsValid() {
		b, owners, err := r.try(ctx, req, req.Block, c)
		if err != nil || len(owners) == 0 {
			return b, err
		}
		if owners[0].Node == req.Node && owners[0].CIDR == req.Block {
			return owners[0], nil
		}
		return ipam.Block{}, fmt.Errorf("%w: %v is in %v of node %q", ipam.ErrBlockTaken, req.Block, owners[0].CIDR, owners[0].Node)
	}
	n, start := req.Count(), req.Start()
	for _, part := range [][2]uint64{{start, n}, {0, start}} {
		b, ok, err := r.claimBetween(ctx, req, part[0], part[1], c)
		if err != nil || ok {
			return b, err
		}
	}
	return ipam.Block{}, fmt.Errorf("%w: all %d blocks of %v are owned or reserved", ipam.ErrPoolExhausted, n, req.PoolCIDR)
}

// claimBetween claims one of the blocks with numbers from to below end.
func (r *Registry) claimBetween(ctx context.Context, req ipam.ClaimRequest, from, end uint64, c *claimant) (ipam.Block, bool, error) {
	for from < end {
		free, next, err := r.page(ctx, req, from, end)
		if err != nil {
			return ipam.Block{}, false, err
		}
		// The first is as good as any; after another node took it, one at
		// random, because others do the same search.
		for i := 0; len(free) > 0; i = rand.IntN(max(len(free), 1)) { //nolint:gosec // spread, not secrecy
			tried := free[i]
			b, owners, err := r.try(ctx, req, tried, c)
			if err != nil || len(owners) == 0 {
				return b, err == nil, err
			}
			free = slices.DeleteFunc(free, func(p netip.Prefix) bool { return p == tried || p.Overlaps(owners[0].CIDR) })
		}
		from = next
	}
	return ipam.Block{}, false, nil
}

// page reads one page of owned blocks and returns free blocks between them,
// and the number of the block to go on with.
func (r *Registry) page(ctx context.Context, req ipam.ClaimRequest, from, end uint64) (free []netip.Prefix, next uint64, err error) {
	first, _ := r.keys.span(req.At(from))
	_, stop := r.keys.span(req.At(end - 1))
	res, err := r.client.Get(ctx, first, clientv3.WithRange(stop), clientv3.WithLimit(pageKeys), clientv3.WithKeysOnly())
	if err != nil {
		return nil, 0, err
	}
	at := from
	collect := func(until uint64) {
		for at < until && len(free) < pageFree {
			b := req.At(at)
			at++
			if i := slices.IndexFunc(req.Reserved, func(p netip.Prefix) bool { return p.Bits() <= b.Bits() && p.Contains(b.Addr()) }); i >= 0 {
				at = max(at, req.Number(last(req.Reserved[i]))+1)
				continue
			}
			free = append(free, b)
		}
	}
	for _, kv := range res.Kvs {
		owned, err := parseBlock(string(kv.Key))
		if err != nil {
			return nil, 0, err
		}
		collect(req.Number(owned.Addr()))
		if len(free) == pageFree {
			return free, at, nil
		}
		at = max(at, req.Number(last(owned))+1)
	}
	if !res.More {
		collect(end)
	}
	return free, at, nil
}

// overlap has the keys that must be absent for a block to be free.
type overlap struct {
	cmps []clientv3.Cmp
	gets []clientv3.Op
}

// overlapping returns the comparisons that hold when no node owns a part of p,
// and the reads that return the owners.
func (r *Registry) overlapping(p netip.Prefix) overlap {
	from, end := r.keys.span(p)
	o := overlap{
		cmps: []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(from), "=", 0).WithRange(end)},
		gets: []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(2))},
	}
	for bits := ipam.Largest(p.Addr()); bits < p.Bits(); bits++ {
		outer, err := p.Addr().Prefix(bits)
		if err != nil || outer.Addr() == p.Addr() {
			continue // in the range above
		}
		key := r.keys.block(outer)
		o.cmps = append(o.cmps, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		o.gets = append(o.gets, clientv3.OpGet(key))
	}
	return o
}

// owners reads the blocks from the answers to an overlap's reads.
func owners(res *clientv3.TxnResponse) ([]ipam.Block, error) {
	var out []ipam.Block
	for _, one := range res.Responses {
		blocks, err := parseAll(one.GetResponseRange().GetKvs())
		if err != nil {
			return nil, err
		}
		out = append(out, blocks...)
	}
	return out, nil
}

// try claims one block in one transaction. It returns the owners of overlapping
// blocks when there are any.
func (r *Registry) try(ctx context.Context, req ipam.ClaimRequest, p netip.Prefix, c *claimant) (ipam.Block, []ipam.Block, error) {
	o := r.overlapping(p)
	for {
		if c.tries--; c.tries < 0 {
			return ipam.Block{}, nil, errBusy
		}
		base, baseRev, err := r.epochBase(ctx)
		if err != nil {
			return ipam.Block{}, nil, err
		}
		value := record{Pool: req.Pool, Node: req.Node, Base: base}.encode()
		res, err := r.client.Txn(ctx).
			If(append([]clientv3.Cmp{c.mayHold, clientv3.Compare(clientv3.ModRevision(r.keys.base()), "=", baseRev)}, o.cmps...)...).
			Then(clientv3.OpPut(r.keys.block(p), value), clientv3.OpPut(r.keys.node(req.Node)+blockPart(p), value), clientv3.OpDelete(r.keys.fence(p))).
			Else(o.gets...).Commit()
		if err != nil {
			return ipam.Block{}, nil, err
		}
		if res.Succeeded {
			return ipam.Block{CIDR: p, Pool: req.Pool, Node: req.Node, Epoch: base + uint64(max(res.Header.Revision, 0))}, nil, nil
		}
		taken, err := owners(res)
		if err != nil || len(taken) > 0 {
			return ipam.Block{}, taken, err
		}
		// The comparison of the base or of the holder did not hold.
		r.forgetBase()
		if c.mayHold, err = r.hold(ctx, req.Caller); err != nil {
			return ipam.Block{}, nil, err
		}
	}
}
