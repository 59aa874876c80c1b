package registry

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// sample is how many Leases are read to see whether a node lost its Block, and probes
// how many of those nodes are looked at: of the others' asserts the oldest shows a loss
// longest.
const (
	sample = 50
	probes = 4
)

// bereave notes that the API server lost Blocks: one of this node's is absent, or the
// resource is not served. Until every node had time for an assert, a claim could take
// a range that a node assigns addresses of.
func (h *holdings) bereave(by ipam.Caller) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = time.Now().Add(by.Patience())
}

// settling returns [ipam.ErrSettling] for a while after Blocks were lost. A node with
// blocks has seen by the list of them that none is lost; one without looks at others'.
func (h *holdings) settling(ctx context.Context, by ipam.Caller) error {
	h.mu.Lock()
	left, waited := time.Until(h.settled), time.Since(h.settled) < by.Patience()
	blocks := len(h.blocks)
	h.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("%w: Blocks were deleted, claims are accepted in %v", ipam.ErrSettling, left.Round(time.Second))
	}
	if blocks > 0 || waited {
		return nil
	}
	node, err := h.orphan(ctx)
	if err != nil || node == "" {
		return err
	}
	h.bereave(by)
	return fmt.Errorf("%w: the Block that node %q asserted is gone, claims are accepted in %v", ipam.ErrSettling, node, by.Patience())
}

// orphan returns a node that asserted a Block which is gone, for a node that has none
// itself: its Lease names the Block. "" is that the sample has none. It looks at those
// that asserted longest ago: the next assert makes the Block again.
func (h *holdings) orphan(ctx context.Context) (string, error) {
	leases, err := h.opt.Client.CoordinationV1().Leases(h.opt.Namespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel, Limit: sample})
	if err != nil {
		return "", explain("list Leases", err)
	}
	for _, c := range claimants(leases.Items, h.opt.Node) {
		o, err := h.find(ctx, c.block)
		if err != nil {
			return "", err
		}
		if o == nil {
			return c.node, nil
		}
	}
	return "", nil
}

// claimant is a node and a block that it asserted.
type claimant struct {
	node  string
	block netip.Prefix
	at    time.Time
}

// claimants returns the nodes besides one whose last asserts are oldest.
func claimants(leases []coordinationv1.Lease, besides string) []claimant {
	var out []claimant
	for i := range leases {
		l := &leases[i]
		holder := holderOf(NodeOf(l), l)
		block, err := netip.ParsePrefix(l.Annotations[blockAnnotation])
		if holder.Instance == "" || holder.Node == besides || err != nil {
			continue // it holds no name, or no block
		}
		c := claimant{node: holder.Node, block: block}
		if l.Spec.RenewTime != nil {
			c.at = l.Spec.RenewTime.Time
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b claimant) int { return a.at.Compare(b.at) })
	return out[:min(len(out), probes)]
}

// went reports whether the API server lost Blocks, by a list of this node's own: one
// that it knew of is no object any more, or the version of the list is below that of a
// former one, as after etcd was restored from a backup.
func (h *holdings) went(ctx context.Context, before map[netip.Prefix]*v1alpha1.Block, revision uint64, now *ownList) (bool, error) {
	if now.revision < revision {
		return true, nil
	}
	for p := range before {
		if now.blocks[p] != nil {
			continue
		}
		if o, err := h.find(ctx, p); err != nil || o == nil {
			return err == nil, err
		}
	}
	return false, nil
}
