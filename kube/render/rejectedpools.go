package render

import "onlink/kube/api/v1alpha1"

// RejectedPools returns which of the cluster's IPPools every node rejects, by name, and
// why. What depends on a node, such as its address, is left out.
func RejectedPools(pools []*v1alpha1.IPPool) map[string]string {
	in := &Input{Pools: pools}
	l := newLedger(in)
	choosePools(in, &self{}, &roster{}, &current{}, l)
	out := map[string]string{}
	for _, r := range l.out.Rejected {
		out[r.Name] = r.Reason
	}
	return out
}
