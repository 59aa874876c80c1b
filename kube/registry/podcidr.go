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

// podCIDRs are the ranges that kube-controller-manager allocates to nodes.
type podCIDRs struct{ opt *Options }

// block returns the only block that this node may have of a pool with
// fromNodePodCIDR; the zero Prefix for another pool. Of a pool without an object, such as
// one of which the removal is held, it is not known which kind it was: a podCIDR that is
// a block of it is the only one then, because any other may be a future node's podCIDR.
func (p *podCIDRs) block(ctx context.Context, req ipam.ClaimRequest) (netip.Prefix, error) {
	pool, err := p.pool(ctx, req.Pool)
	if err != nil || pool != nil && !pool.Spec.FromNodePodCIDR {
		return netip.Prefix{}, err
	}
	cidrs, err := p.ofNode(ctx)
	if err != nil && (pool != nil || !absent(err)) {
		return netip.Prefix{}, err
	}
	for _, c := range cidrs {
		block, err := netip.ParsePrefix(c)
		if err != nil || !req.PoolCIDR.Contains(block.Addr()) {
			continue
		}
		if block.Bits() == req.BlockSize && block.Masked() == block {
			return block, nil
		}
		if pool != nil {
			return netip.Prefix{}, fmt.Errorf("pool has fromNodePodCIDR and Node.spec.podCIDR %v is no block of its length /%d", block, req.BlockSize)
		}
	}
	if pool == nil {
		return netip.Prefix{}, nil
	}
	have := strings.Join(cidrs, ", ")
	if have == "" {
		have = "none: start kube-controller-manager with --allocate-node-cidrs, or make a pool without fromNodePodCIDR"
	}
	return netip.Prefix{}, fmt.Errorf("pool has fromNodePodCIDR and no Node.spec.podCIDR of node %s is inside %v (it has %s)", p.opt.Node, req.PoolCIDR, have)
}

// pool returns an IPPool, nil when there is none of that name: the pool of a
// configuration that is in force still.
func (p *podCIDRs) pool(ctx context.Context, name string) (*v1alpha1.IPPool, error) {
	if p.opt.Pool != nil {
		return p.opt.Pool(ctx, name)
	}
	found, err := p.opt.Client.Pools.Get(ctx, name, metav1.GetOptions{})
	if absent(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	return found, explain("read IPPool "+name, err)
}

func (p *podCIDRs) ofNode(ctx context.Context) ([]string, error) {
	if p.opt.PodCIDRs != nil {
		return p.opt.PodCIDRs(ctx)
	}
	n, err := p.opt.Client.CoreV1().Nodes().Get(ctx, p.opt.Node, metav1.GetOptions{})
	if err != nil {
		return nil, explain("read Node "+p.opt.Node, err)
	}
	return n.Spec.PodCIDRs, nil
}
