package registry

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// TakeOver implements [ipam.Registry].
func (s *Server) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	out, err := s.takeOver(ctx, by, from, force)
	if err != nil {
		return nil, fmt.Errorf("take over from node %q: %w", from, err)
	}
	return out, nil
}

func (s *Server) takeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	if err := s.mine(by); err != nil {
		return nil, err
	}
	if from == "" {
		return nil, fmt.Errorf("%w: the former owner's name is empty", ipam.ErrInvalidRequest)
	}
	own, err := s.names.held(ctx, by.Node)
	if err != nil {
		return nil, err
	}
	if err := ipam.AdmitTakeOver(by.Node, own.holder, by, own.age, force); err != nil {
		return nil, err
	}
	if from != by.Node {
		former, err := s.names.held(ctx, from)
		if err != nil {
			return nil, err
		}
		if err := ipam.AdmitTakeOver(from, former.holder, by, former.age, force); err != nil {
			return nil, err
		}
	}
	s.names.unsure()
	ok, err := s.names.record(ctx, own, by.Node, ipam.Holder{Caller: by, Since: time.Now()}, renewal{})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errBusy
	}
	if from != by.Node {
		if err := s.vacate(ctx, from); err != nil {
			return nil, err
		}
	}
	objects, err := s.own.blocksOf(ctx, from)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if err := s.move(ctx, o, by.Node); err != nil {
			return nil, err
		}
	}
	if err := s.own.load(ctx, by); err != nil {
		return nil, err
	}
	s.names.confirm(by)
	return s.own.all(), nil
}

// move gives a block to a node with a new epoch, unless it changed its owner since.
func (s *Server) move(ctx context.Context, o *v1alpha1.Block, to string) error {
	from := o.Spec.Node
	for range maxRetries {
		b, ok := fromObject(o)
		if !ok || b.Node != from {
			return nil
		}
		next := o.DeepCopy()
		fill(next, ipam.Block{CIDR: b.CIDR, Pool: b.Pool, Node: to, Epoch: nextEpoch(o.Spec.Epoch)})
		_, err := s.opt.Client.Blocks.Update(ctx, next, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) {
			if absent(err) {
				return nil
			}
			return explain("move Block "+o.Name, err)
		}
		o, err = s.opt.Client.Blocks.Get(ctx, o.Name, metav1.GetOptions{})
		if absent(err) {
			return nil
		}
		if err != nil {
			return explain("read Block "+next.Name, err)
		}
	}
	return errBusy
}

// vacate makes a name free: its Lease stays, without a holder.
func (s *Server) vacate(ctx context.Context, node string) error {
	for range maxRetries {
		h, err := s.names.held(ctx, node)
		if err != nil || h.lease == nil || h.holder.Instance == "" {
			return err
		}
		if ok, err := s.names.record(ctx, h, node, ipam.Holder{}, renewal{due: true}); err != nil || ok {
			return err
		}
	}
	return errBusy
}
