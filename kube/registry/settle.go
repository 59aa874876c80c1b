package registry

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// newName is how young the Lease of a node is in a cluster that is being made: there
// Leases come before the first Block.
const newName = 10 * time.Minute

// sample is how many Leases are read to see whether nodes hold names for long: where
// all Blocks are lost nearly all do. In a cluster that is being made every node reads
// them.
const sample = 50

// bereave notes that the API server lost Blocks: one of this node's is absent, or the
// resource is not served. Until every node had time for an assert, a claim could take
// a range that a node assigns addresses of.
func (s *Server) bereave(by ipam.Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = time.Now().Add(by.Patience())
}

// settling returns [ipam.ErrSettling] for a while after Blocks were lost.
func (s *Server) settling(ctx context.Context, by ipam.Caller) error {
	s.mu.Lock()
	left, looked := time.Until(s.settled), s.looked
	s.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("%w: Blocks were deleted, claims are accepted in %v", ipam.ErrSettling, left.Round(time.Second))
	}
	if looked {
		return nil
	}
	lost, err := s.orphaned(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.looked = true
	s.mu.Unlock()
	if !lost {
		return nil
	}
	s.bereave(by)
	return fmt.Errorf("%w: other nodes hold names for long and there is no Block, claims are accepted in %v", ipam.ErrSettling, by.Patience())
}

// orphaned reports whether the cluster has lost all Blocks, for a process that began
// after that: other nodes hold their names for long, and no node owns a Block.
func (s *Server) orphaned(ctx context.Context) (bool, error) {
	blocks, err := s.opt.Client.Blocks.List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel, Limit: 1})
	if err != nil {
		return false, explain("list blocks", err)
	}
	if len(blocks.Items) > 0 {
		return false, nil
	}
	leases, err := s.opt.Client.CoordinationV1().Leases(s.opt.Namespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel, Limit: sample})
	if err != nil {
		return false, explain("list Leases", err)
	}
	for i := range leases.Items {
		l := &leases.Items[i]
		h := holderOf(NodeOf(l), l)
		if h.Instance != "" && h.Node != s.opt.Node && time.Since(h.Since) > newName {
			return true, nil
		}
	}
	return false, nil
}
