package registry

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// load reads this node's blocks: one list, selected by the node's label. It notes when
// the list shows that Blocks were lost.
func (s *Server) load(ctx context.Context, by ipam.Caller) error {
	for range maxRetries {
		s.mu.Lock()
		before, revision, writes := maps.Clone(s.own), s.revision, s.writes
		s.mu.Unlock()
		now, err := s.listOf(ctx, s.opt.Node)
		if unserved(err) {
			s.bereave(by)
		}
		if err != nil {
			return err
		}
		lost, err := s.went(ctx, before, revision, now)
		if err != nil {
			return err
		}
		if lost {
			s.opt.Log.Warn("the API server has lost Blocks: no block is claimed before every node asserted its own", "wait", by.Patience())
			s.bereave(by)
		}
		if s.take(now, writes) {
			return nil
		}
	}
	return errBusy
}

// take makes a list what is known of the own blocks; false: one was written since the
// list began, and may lack in it.
func (s *Server) take(l *ownList, writes int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes != writes {
		return false
	}
	s.own, s.revision, s.loaded = l.blocks, l.revision, true
	return true
}

// loadOnce is load where this process has not read the list yet.
func (s *Server) loadOnce(ctx context.Context) error {
	s.mu.Lock()
	loaded := s.loaded
	s.mu.Unlock()
	if loaded {
		return nil
	}
	return s.load(ctx, ipam.Caller{Node: s.opt.Node})
}

// loadTrusted is load for a caller that renewed its Lease just now: it removes the
// doubts of the controller from this node's blocks. The controller writes its doubt,
// then reads the Lease, then frees: a list from before the doubt is one from after the
// renewal, which the controller reads then; a list from after it has the doubt.
func (s *Server) loadTrusted(ctx context.Context, by ipam.Caller) error {
	for range maxRetries {
		if err := s.load(ctx, by); err != nil {
			return err
		}
		s.mu.Lock()
		own := slices.Collect(maps.Values(s.own))
		s.mu.Unlock()
		overtaken := false
		for _, o := range own {
			trusted, err := s.trust(ctx, o)
			switch {
			case err != nil:
				return err
			case trusted == nil:
				overtaken = true
			case trusted != o:
				s.keep(trusted)
			}
		}
		if !overtaken {
			return nil
		}
	}
	return errBusy
}

// trust removes the doubt of the controller from an own block; nil: another write came
// first.
func (s *Server) trust(ctx context.Context, o *v1alpha1.Block) (*v1alpha1.Block, error) {
	if _, doubted := o.Annotations[DoubtedAnnotation]; !doubted {
		return o, nil
	}
	next := o.DeepCopy()
	delete(next.Annotations, DoubtedAnnotation)
	next, err := s.opt.Client.Blocks.Update(ctx, next, metav1.UpdateOptions{})
	switch {
	case err == nil:
		s.opt.Log.Warn("the controller was about to free a block that this node has", "block", o.Spec.CIDR)
		return next, nil
	case apierrors.IsConflict(err), absent(err):
		return nil, nil //nolint:nilnil // another write came first
	}
	return nil, explain("keep Block "+o.Name, err)
}

// ownList is a list of a node's blocks.
type ownList struct {
	blocks   map[netip.Prefix]*v1alpha1.Block
	revision uint64 // of the list; 0: unknown
}

// blocksOf lists the blocks of a node.
func (s *Server) blocksOf(ctx context.Context, node string) (map[netip.Prefix]*v1alpha1.Block, error) {
	l, err := s.listOf(ctx, node)
	if err != nil {
		return nil, err
	}
	return l.blocks, nil
}

func (s *Server) listOf(ctx context.Context, node string) (*ownList, error) {
	list, err := s.opt.Client.Blocks.List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{v1alpha1.NodeLabel: LabelValue(node)}.String(),
	})
	if err != nil {
		return nil, explain("list the blocks of node "+node, err)
	}
	l := &ownList{blocks: map[netip.Prefix]*v1alpha1.Block{}}
	l.revision, _ = strconv.ParseUint(list.ResourceVersion, 10, 64) // of another form it shows no loss
	for i := range list.Items {
		o := &list.Items[i]
		if b, ok := fromObject(o); ok && b.Node == node {
			l.blocks[b.CIDR] = o
		}
	}
	return l, nil
}

// keep remembers an object as the API server has it.
func (s *Server) keep(o *v1alpha1.Block) {
	b, ok := fromObject(o)
	if !ok {
		return
	}
	s.all.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if b.Node != s.opt.Node {
		delete(s.own, b.CIDR)
		return
	}
	s.own[b.CIDR] = o
}

// owned returns the object of an own block, nil when it is none.
func (s *Server) owned(p netip.Prefix) *v1alpha1.Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[p]
}

// ownBlocks returns this node's blocks in order of address.
func (s *Server) ownBlocks() []ipam.Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ipam.Block, 0, len(s.own))
	for _, o := range s.own {
		if b, ok := fromObject(o); ok {
			out = append(out, b)
		}
	}
	sortBlocks(out)
	return out
}

func sortBlocks(blocks []ipam.Block) {
	slices.SortFunc(blocks, func(a, b ipam.Block) int {
		if c := a.CIDR.Addr().Compare(b.CIDR.Addr()); c != 0 {
			return c
		}
		return a.CIDR.Bits() - b.CIDR.Bits()
	})
}
