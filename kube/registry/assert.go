package registry

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// Assert implements [ipam.Registry]. When the API server has all of the blocks,
// which is the usual case, it is one list of the node's own ones and the renewal of
// its Lease.
func (s *Server) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) (lost []ipam.Block, err error) {
	lost, err = s.assert(ctx, by, held)
	if err != nil {
		return nil, fmt.Errorf("assert blocks of node %q: %w", by.Node, err)
	}
	return lost, nil
}

func (s *Server) assert(ctx context.Context, by ipam.Caller, held []ipam.Block) (lost []ipam.Block, err error) {
	if err := s.mine(by); err != nil {
		return nil, err
	}
	for _, b := range held {
		if b.Node != by.Node || !b.CIDR.IsValid() || b.CIDR.Masked() != b.CIDR || b.CIDR.Bits() < ipam.Largest(b.CIDR.Addr()) {
			return nil, fmt.Errorf("%w: block %v names node %q or is malformed", ipam.ErrInvalidRequest, b.CIDR, b.Node)
		}
	}
	if err := s.names.hold(ctx, by, renewal{due: true, block: oneOf(held)}); err != nil {
		return nil, err
	}
	if err := s.own.loadTrusted(ctx, by); err != nil {
		return nil, err
	}
	for _, b := range held {
		ok, err := s.assertOne(ctx, by, b)
		if err != nil {
			return nil, fmt.Errorf("block %v: %w", b.CIDR, err)
		}
		if !ok {
			lost = append(lost, b)
		}
	}
	return lost, nil
}

// assertOne records b unless another node has a better right to it, and reports
// whether it is b.Node's.
func (s *Server) assertOne(ctx context.Context, by ipam.Caller, b ipam.Block) (bool, error) {
	o := s.own.block(b.CIDR)
	for range maxRetries {
		if mine, done, err := s.tryAssert(ctx, by, b, o); done || err != nil {
			return mine, err
		}
		o = nil
	}
	return false, errBusy
}

// tryAssert is one attempt of assertOne with the object of the block, nil: it is read. It
// reports false for done when another write came first.
func (s *Server) tryAssert(ctx context.Context, by ipam.Caller, b ipam.Block, o *v1alpha1.Block) (mine, done bool, err error) {
	if o == nil {
		if o, err = s.own.find(ctx, b.CIDR); err != nil {
			return false, false, err
		}
	}
	if mine, decided := decide(o, b); decided {
		if mine {
			o, err = s.own.trust(ctx, o)
		}
		if o == nil || err != nil {
			return false, false, err
		}
		s.own.keep(o)
		return mine, true, nil
	}
	written, err := s.write(ctx, o, b)
	if err != nil {
		if ofAnother(o, b) && denied(err) {
			return false, true, nil // admission lets a node write no block of another
		}
		return false, false, err
	}
	if o == nil {
		s.own.bereave(by)
	}
	if written == nil {
		return false, false, nil
	}
	mine, err = s.settleAssert(ctx, by, b, written)
	return mine, true, err
}

// ofAnother reports whether the object of a block is another node's.
func ofAnother(o *v1alpha1.Block, b ipam.Block) bool {
	return o != nil && o.Spec.Node != "" && o.Spec.Node != b.Node
}

// decide reports whether the object of a block settles an assert of b without a
// write, and then whether b is its owner's.
func decide(o *v1alpha1.Block, b ipam.Block) (mine, decided bool) {
	if o == nil {
		return false, false
	}
	have, ok := fromObject(o)
	mine = ok && have.Node == b.Node && have.Epoch == b.Epoch
	return mine, mine || !ok || outranks(o, have, b)
}

// outranks reports whether the owner in an object has a better right to a block than
// b.Node. A claim, and a release, is certain. Of two nodes that both assert a block
// the later claim counts: the other one did not call while it lost the block, and
// the object that recorded this was deleted since.
func outranks(o *v1alpha1.Block, have, b ipam.Block) bool {
	if have.Epoch > b.Epoch || have.Epoch == b.Epoch && have.Node != b.Node {
		return true
	}
	return have.Node != b.Node && have.Node != "" && o.Annotations[assertedAnnotation] == ""
}

// write makes an object say what the node asserts; nil: another write came first.
func (s *Server) write(ctx context.Context, o *v1alpha1.Block, b ipam.Block) (*v1alpha1.Block, error) {
	fresh := o == nil
	if fresh {
		o = toObject(b)
	} else {
		o = o.DeepCopy()
		fill(o, b)
	}
	metav1.SetMetaDataAnnotation(&o.ObjectMeta, assertedAnnotation, "true")
	var err error
	if fresh {
		o, err = s.opt.Client.Blocks.Create(ctx, o, metav1.CreateOptions{})
	} else {
		o, err = s.opt.Client.Blocks.Update(ctx, o, metav1.UpdateOptions{})
	}
	switch {
	case err == nil:
		s.opt.Log.Warn("recorded a block that the API server did not have as this node's", "block", b.CIDR, "epoch", b.Epoch, "new", fresh)
		return o, nil
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), absent(err):
		return nil, nil //nolint:nilnil // another write came first
	}
	return nil, explain("record Block "+v1alpha1.BlockName(b.CIDR), err)
}

// settleAssert checks what names do not show, as settleClaim does. An own block may
// be around or inside another own one: the agent puts the one in the place of the
// other.
func (s *Server) settleAssert(ctx context.Context, by ipam.Caller, b ipam.Block, o *v1alpha1.Block) (bool, error) {
	if err := s.names.holds(ctx, by); err != nil {
		return false, err
	}
	other, err := s.overlapping(ctx, b.CIDR)
	if err != nil {
		s.undo(ctx, o)
		return false, err
	}
	if other != nil {
		s.undo(ctx, o)
		return false, nil
	}
	s.own.keep(o)
	return true, nil
}
