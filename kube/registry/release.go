package registry

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// Release implements [ipam.Registry].
func (s *Server) Release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	if err := s.release(ctx, by, b); err != nil {
		return fmt.Errorf("release block %v of node %q epoch %d: %w", b.CIDR, b.Node, b.Epoch, err)
	}
	return nil
}

func (s *Server) release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	if err := s.mine(by); err != nil {
		return err
	}
	if b.Node != by.Node {
		return fmt.Errorf("%w: the block names node %q", ipam.ErrInvalidRequest, b.Node)
	}
	if err := s.names.hold(ctx, by, renewal{}); err != nil {
		return err
	}
	for range maxRetries {
		o, err := s.opt.Client.Blocks.Get(ctx, v1alpha1.BlockName(b.CIDR), metav1.GetOptions{})
		if absent(err) {
			s.own.keep(toObject(ipam.Block{CIDR: b.CIDR, Epoch: b.Epoch}))
			return nil
		}
		if err != nil {
			return explain("read Block "+v1alpha1.BlockName(b.CIDR), err)
		}
		if o.Spec.Node == "" {
			s.own.keep(o)
			return nil
		}
		if have, ok := fromObject(o); !ok || have.Node != b.Node || have.Epoch > b.Epoch {
			return fmt.Errorf("%w: node %q owns it with epoch %d", ipam.ErrNotOwner, o.Spec.Node, o.Spec.Epoch)
		}
		err = s.free(ctx, o)
		if !apierrors.IsConflict(err) {
			return err
		}
	}
	return errBusy
}

// free takes an object from its owner, as of the version that was read. The object
// stays, for its epoch.
func (s *Server) free(ctx context.Context, o *v1alpha1.Block) error {
	b, ok := fromObject(o)
	if !ok {
		return nil
	}
	o = o.DeepCopy()
	fill(o, ipam.Block{CIDR: b.CIDR, Pool: b.Pool, Epoch: nextEpoch(o.Spec.Epoch)})
	o, err := s.opt.Client.Blocks.Update(ctx, o, metav1.UpdateOptions{})
	switch {
	case absent(err):
		s.own.keep(toObject(ipam.Block{CIDR: b.CIDR, Epoch: b.Epoch}))
		return nil
	case err != nil:
		return explain("free Block "+v1alpha1.BlockName(b.CIDR), err)
	}
	s.own.keep(o)
	return nil
}

// ForceRelease implements [ipam.ForceReleaser] for an operator's command while no
// controller runs. It takes nothing from a node that exists, also by force: the controller frees
// the blocks of deleted ones by three proofs, and an operator has none of them.
func (s *Server) ForceRelease(ctx context.Context, node string, force bool) ([]ipam.Block, error) {
	_, err := s.opt.Client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	switch {
	case node == "":
		return nil, fmt.Errorf("release all blocks: %w: node name is empty", ipam.ErrInvalidRequest)
	case err == nil:
		return nil, fmt.Errorf("release all blocks of node %q: %w: the Node exists: delete it first", node, ipam.ErrInvalidRequest)
	case !absent(err):
		return nil, explain("read Node "+node, err)
	}
	h, err := s.names.held(ctx, node)
	if err == nil {
		err = ipam.AdmitRelease(node, h.holder, h.sinceRenewal(), force)
	}
	if err != nil {
		return nil, fmt.Errorf("release all blocks of node %q: %w", node, err)
	}
	objects, err := s.own.blocksOf(ctx, node)
	if err != nil {
		return nil, err
	}
	var out []ipam.Block
	for _, o := range objects {
		b, _ := fromObject(o)
		if err := s.free(ctx, o); err != nil {
			return out, fmt.Errorf("release all blocks of node %q: %w", node, err)
		}
		out = append(out, b)
	}
	sortBlocks(out)
	if err := s.vacate(ctx, node); err != nil {
		return out, fmt.Errorf("release name of node %q: %w", node, err)
	}
	return out, nil
}
