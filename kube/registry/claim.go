package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// Bounds of the search for a free block: how many it tries without a list of the
// owned ones, with one, and how many lists it reads.
const (
	blindTries  = 8
	listedTries = 8
	maxLists    = 3
	listPage    = 500
)

// Claim implements [ipam.Registry].
func (s *Server) Claim(ctx context.Context, req ipam.ClaimRequest) (ipam.Block, error) {
	b, err := s.claim(ctx, req)
	if err != nil {
		return ipam.Block{}, fmt.Errorf("claim block of pool %q for node %q: %w", req.Pool, req.Node, err)
	}
	return b, nil
}

func (s *Server) claim(ctx context.Context, req ipam.ClaimRequest) (ipam.Block, error) {
	if err := errors.Join(req.Validate(), s.mine(req.Caller)); err != nil {
		return ipam.Block{}, err
	}
	if err := s.names.hold(ctx, req.Caller, renewal{}); err != nil {
		return ipam.Block{}, err
	}
	if err := s.own.load(ctx, req.Caller); err != nil { // also when it is known: Blocks may be lost since
		return ipam.Block{}, err
	}
	if err := s.own.settling(ctx, req.Caller); err != nil {
		return ipam.Block{}, err
	}
	only, err := s.pods.block(ctx, req)
	if err != nil {
		return ipam.Block{}, err
	}
	exact := req.Block.IsValid()
	switch {
	case only.IsValid() && exact && only != req.Block:
		return ipam.Block{}, fmt.Errorf("%w: the pool has fromNodePodCIDR and the block of this node is %v", ipam.ErrBlockTaken, only)
	case only.IsValid() && !exact && s.own.block(only) != nil:
		return ipam.Block{}, fmt.Errorf("%w: the pool has fromNodePodCIDR and this node owns its only block %v", ipam.ErrPoolExhausted, only)
	case only.IsValid():
		req.Block, exact = only, true
	}
	if exact {
		return s.claimExact(ctx, req)
	}
	return s.claimAny(ctx, req)
}

// claimExact claims the block that the request names. The node's own one is given
// again.
func (s *Server) claimExact(ctx context.Context, req ipam.ClaimRequest) (ipam.Block, error) {
	o, taken, err := s.try(ctx, req, req.Block)
	if err != nil {
		return ipam.Block{}, err
	}
	if taken != nil {
		return ipam.Block{}, fmt.Errorf("%w: %v is in %v of node %q", ipam.ErrBlockTaken, req.Block, taken.CIDR, taken.Node)
	}
	return o, nil
}

// claimAny claims the first free block of the pool, from the node's own beginning.
// In a pool that is nearly full it reads the names of the owned blocks once.
func (s *Server) claimAny(ctx context.Context, req ipam.ClaimRequest) (ipam.Block, error) {
	c := newCover(req.BlockSize, req.Reserved)
	for _, b := range s.own.all() {
		c.add(b.CIDR)
	}
	tries := blindTries
	for range 1 + maxLists {
		for p := range candidates(req, c) {
			if tries--; tries < 0 {
				break
			}
			b, taken, err := s.try(ctx, req, p)
			if err != nil || taken == nil {
				return b, err
			}
			c.add(taken.CIDR)
			c.add(p)
		}
		if tries >= 0 {
			return ipam.Block{}, fmt.Errorf("%w: all %d blocks of %v are owned or reserved", ipam.ErrPoolExhausted, req.Count(), req.PoolCIDR)
		}
		tries = listedTries
		if err := s.coverOwned(ctx, c); err != nil {
			return ipam.Block{}, err
		}
	}
	return ipam.Block{}, errBusy
}

// try claims one block. It returns the owner's block when there is one.
func (s *Server) try(ctx context.Context, req ipam.ClaimRequest, p netip.Prefix) (got ipam.Block, taken *ipam.Block, err error) {
	for range maxRetries {
		o, fresh, err := s.create(ctx, req, p)
		if err != nil {
			return ipam.Block{}, nil, err
		}
		if fresh {
			return s.settleClaim(ctx, req, o)
		}
		have, ok := fromObject(o)
		switch {
		case !ok:
			return ipam.Block{}, &ipam.Block{CIDR: p, Node: o.Spec.Node}, nil // a stranger's object
		case have.Node == req.Node && (req.Block == p):
			return s.giveAgain(ctx, req, p)
		case have.Node != "":
			if have.Node == req.Node {
				s.own.keep(o) // claimed before, and the answer was lost
			}
			return ipam.Block{}, &have, nil
		}
		o = o.DeepCopy()
		fill(o, ipam.Block{CIDR: p, Pool: req.Pool, Node: req.Node, Epoch: nextEpoch(o.Spec.Epoch)})
		o, err = s.opt.Client.Blocks.Update(ctx, o, metav1.UpdateOptions{})
		switch {
		case err == nil:
			return s.settleClaim(ctx, req, o)
		case apierrors.IsConflict(err), absent(err): // another node claimed it, or it was deleted
		default:
			return ipam.Block{}, nil, explain("claim the freed block "+p.String(), err)
		}
	}
	return ipam.Block{}, nil, errBusy
}

// giveAgain answers an exact claim of a block that the node has already. The caller
// renews its Lease before the Block is read: another machine may have taken the name
// over since the last look at it, and the controller may be about to free the block.
func (s *Server) giveAgain(ctx context.Context, req ipam.ClaimRequest, p netip.Prefix) (ipam.Block, *ipam.Block, error) {
	if err := s.names.hold(ctx, req.Caller, renewal{due: true, block: p}); err != nil {
		return ipam.Block{}, nil, err
	}
	for range maxRetries {
		o, err := s.own.find(ctx, p)
		if err != nil {
			return ipam.Block{}, nil, err
		}
		if o == nil {
			break
		}
		if have, ok := fromObject(o); !ok || have.Node != req.Node {
			return ipam.Block{}, &ipam.Block{CIDR: p, Node: o.Spec.Node}, nil
		}
		if o, err = s.own.trust(ctx, o); err != nil {
			return ipam.Block{}, nil, err
		}
		if o != nil {
			s.own.keep(o)
			have, _ := fromObject(o)
			return have, nil, nil
		}
	}
	return ipam.Block{}, nil, errBusy
}

// create creates the object of a claim; otherwise it returns the present one.
func (s *Server) create(ctx context.Context, req ipam.ClaimRequest, p netip.Prefix) (o *v1alpha1.Block, fresh bool, err error) {
	for range maxRetries {
		o, err = s.opt.Client.Blocks.Create(ctx,
			toObject(ipam.Block{CIDR: p, Pool: req.Pool, Node: req.Node, Epoch: nextEpoch(0)}), metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return o, err == nil, explain("create Block "+v1alpha1.BlockName(p), err)
		}
		o, err = s.opt.Client.Blocks.Get(ctx, v1alpha1.BlockName(p), metav1.GetOptions{})
		if !absent(err) {
			return o, false, explain("read Block "+v1alpha1.BlockName(p), err)
		}
	}
	return nil, false, errBusy
}

// settleClaim ends a claim: the caller must hold its name still, and no block of
// another length may overlap, which the name of an object does not show. Without
// both answers the claim is undone.
func (s *Server) settleClaim(ctx context.Context, req ipam.ClaimRequest, o *v1alpha1.Block) (ipam.Block, *ipam.Block, error) {
	b, _ := fromObject(o)
	if err := s.names.holds(ctx, req.Caller); err != nil {
		if !errors.Is(err, ipam.ErrRefused) { // refused: the Block is the new holder's
			s.undo(ctx, o)
		}
		return ipam.Block{}, nil, err
	}
	other, err := s.overlapping(ctx, b.CIDR)
	if err != nil {
		s.undo(ctx, o)
		return ipam.Block{}, nil, err
	}
	if other != nil {
		s.undo(ctx, o)
		return ipam.Block{}, other, nil
	}
	s.own.keep(o)
	return b, nil, nil
}

// undo frees a block that was claimed just now. Where that fails the next assert
// finds it as this node's.
func (s *Server) undo(ctx context.Context, o *v1alpha1.Block) {
	if err := s.free(context.WithoutCancel(ctx), o); err != nil {
		s.opt.Log.Warn("failed to undo a claim", "block", o.Spec.CIDR, "err", err)
	}
}

// overlapping returns an owned block of another length that overlaps p, nil when
// there is none. Such blocks exist after a pool was made again with another length.
func (s *Server) overlapping(ctx context.Context, p netip.Prefix) (*ipam.Block, error) {
	key := sizeLabel(p.Addr())
	list, err := s.opt.Client.Blocks.List(ctx, metav1.ListOptions{
		LabelSelector: fmt.Sprintf("%s,%s,%s!=%s", v1alpha1.NodeLabel, key, key, strconv.Itoa(p.Bits())),
	})
	if err != nil {
		return nil, explain("list blocks of other lengths", err)
	}
	for i := range list.Items {
		if b, ok := fromObject(&list.Items[i]); ok && b.CIDR.Overlaps(p) {
			return &b, nil
		}
	}
	return nil, nil //nolint:nilnil // none overlaps
}

// coverOwned covers all owned blocks.
func (s *Server) coverOwned(ctx context.Context, c *cover) error {
	return s.eachPage(ctx, v1alpha1.NodeLabel, func(o *v1alpha1.Block) {
		if b, ok := fromObject(o); ok {
			c.add(b.CIDR)
		}
	})
}

// eachPage lists blocks, a page at a time.
func (s *Server) eachPage(ctx context.Context, selector string, each func(*v1alpha1.Block)) error {
	opts := metav1.ListOptions{LabelSelector: selector, Limit: listPage}
	for {
		list, err := s.opt.Client.Blocks.List(ctx, opts)
		if err != nil {
			return explain("list blocks", err)
		}
		for i := range list.Items {
			each(&list.Items[i])
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			return nil
		}
	}
}
