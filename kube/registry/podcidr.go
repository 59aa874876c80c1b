package registry

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// podBlock returns the only block that this node may have of a pool with
// fromNodePodCIDR; the zero Prefix for another pool.
func (s *Server) podBlock(ctx context.Context, req ipam.ClaimRequest) (netip.Prefix, error) {
	pool, err := s.pool(ctx, req.Pool)
	if err != nil || pool == nil || !pool.Spec.FromNodePodCIDR {
		return netip.Prefix{}, err
	}
	cidrs, err := s.podCIDRs(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil || !req.PoolCIDR.Contains(p.Addr()) {
			continue
		}
		if p.Bits() != req.BlockSize || p.Masked() != p {
			return netip.Prefix{}, fmt.Errorf("pool has fromNodePodCIDR and Node.spec.podCIDR %v is no block of its length /%d", p, req.BlockSize)
		}
		return p, nil
	}
	have := strings.Join(cidrs, ", ")
	if have == "" {
		have = "none: start kube-controller-manager with --allocate-node-cidrs, or make a pool without fromNodePodCIDR"
	}
	return netip.Prefix{}, fmt.Errorf("pool has fromNodePodCIDR and no Node.spec.podCIDR of node %s is inside %v (it has %s)", s.opt.Node, req.PoolCIDR, have)
}

// pool returns an IPPool, nil when there is none of that name: the pool of a
// configuration that is in force still.
func (s *Server) pool(ctx context.Context, name string) (*v1alpha1.IPPool, error) {
	if s.opt.Pool != nil {
		return s.opt.Pool(ctx, name)
	}
	p, err := s.opt.Client.Pools.Get(ctx, name, metav1.GetOptions{})
	if absent(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	return p, explain("read IPPool "+name, err)
}

func (s *Server) podCIDRs(ctx context.Context) ([]string, error) {
	if s.opt.PodCIDRs != nil {
		return s.opt.PodCIDRs(ctx)
	}
	n, err := s.opt.Client.CoreV1().Nodes().Get(ctx, s.opt.Node, metav1.GetOptions{})
	if err != nil {
		return nil, explain("read Node "+s.opt.Node, err)
	}
	return n.Spec.PodCIDRs, nil
}
