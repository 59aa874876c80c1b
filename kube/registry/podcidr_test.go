package registry

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// TestPodCIDRBlock: a pool of which the object is gone may have been one with
// fromNodePodCIDR.
func TestPodCIDRBlock(t *testing.T) {
	t.Parallel()
	from := &v1alpha1.IPPool{Spec: v1alpha1.IPPoolSpec{FromNodePodCIDR: true}}
	for _, c := range []struct {
		name  string
		pool  *v1alpha1.IPPool
		cidrs []string
		want  string // "": any block; "error"
	}{
		{"from the podCIDR", from, []string{"fd00::/64", "10.244.7.0/24"}, "10.244.7.0/24"},
		{"the podCIDR has another length", from, []string{"10.244.7.0/25"}, "error"},
		{"no podCIDR", from, nil, "error"},
		{"a usual pool", &v1alpha1.IPPool{}, []string{"10.244.7.0/24"}, ""},
		{"no object, and the podCIDR is a block of the pool", nil, []string{"fd00::/64", "10.244.7.0/24"}, "10.244.7.0/24"},
		{"no object, and the podCIDR has another length", nil, []string{"10.244.7.0/25"}, ""},
		{"no object, and the podCIDR is elsewhere", nil, []string{"10.99.7.0/24"}, ""},
		{"no object, and no podCIDR", nil, nil, ""},
		{"no object, and no Node", nil, []string{"absent"}, ""},
		{"from the podCIDR of no Node", from, []string{"absent"}, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &podCIDRs{opt: &Options{
				Node: "n1",
				Pool: func(context.Context, string) (*v1alpha1.IPPool, error) { return c.pool, nil },
				PodCIDRs: func(context.Context) ([]string, error) {
					if slices.Equal(c.cidrs, []string{"absent"}) {
						return nil, explain("read Node n1", apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "n1"))
					}
					return c.cidrs, nil
				},
			}}
			block, err := p.block(t.Context(), ipam.ClaimRequest{Pool: "pods", PoolCIDR: netip.MustParsePrefix("10.244.0.0/16"), BlockSize: 24})
			got := ""
			switch {
			case err != nil:
				got = "error"
			case block.IsValid():
				got = block.String()
			}
			if got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}
