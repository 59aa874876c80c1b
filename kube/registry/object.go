package registry

import (
	"encoding/hex"
	"hash/fnv"
	"math"
	"net/netip"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

const (
	// assertedAnnotation is on a Block that an assert made, not a claim: of two
	// nodes that both assert it the later claim has it.
	assertedAnnotation = "onlink.io/asserted"
	// DoubtedAnnotation is on a Block that the controller is about to free. An assert
	// of its node removes it: that changes the version of the Block, with which the
	// controller frees it, where an assert of a recorded block changes nothing else.
	DoubtedAnnotation = "onlink.io/doubted"
	// size4Label and size6Label are the length of a Block: blocks of other lengths
	// are found by one selected list.
	size4Label = "onlink.io/size4"
	size6Label = "onlink.io/size6"
)

// LabelValue returns the value of the label onlink.io/node for a node: its name, or
// where that cannot be a label its beginning and a hash.
func LabelValue(node string) string {
	if len(validation.IsValidLabelValue(node)) == 0 {
		return node
	}
	h := fnv.New128a()
	_, _ = h.Write([]byte(node)) // a hash.Hash never returns an error
	return "x" + hex.EncodeToString(h.Sum(nil))
}

// LeaseName returns the name of the Lease that has the holder of a node's name. It
// begins with "onlink-", and no other Lease does.
func LeaseName(node string) string {
	if name := "onlink-" + node; len(validation.IsDNS1123Subdomain(name)) == 0 {
		return name
	}
	return "onlink-" + LabelValue(node)
}

// sizeLabel returns the label for the length of blocks of a family.
func sizeLabel(a netip.Addr) string {
	if a.Is4() {
		return size4Label
	}
	return size6Label
}

// toObject returns the object of a block.
func toObject(b ipam.Block) *v1alpha1.Block {
	o := &v1alpha1.Block{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.BlockName(b.CIDR)}}
	fill(o, b)
	return o
}

// fill makes the object say that b.Node owns b; an empty Node owns none.
func fill(o *v1alpha1.Block, b ipam.Block) {
	o.Spec = v1alpha1.BlockSpec{
		CIDR: v1alpha1.CIDR(b.CIDR.String()), Pool: b.Pool, Node: b.Node,
		Epoch: int64(min(b.Epoch, math.MaxInt64)), //nolint:gosec // bounded
	}
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[sizeLabel(b.CIDR.Addr())] = strconv.Itoa(b.CIDR.Bits())
	delete(o.Annotations, assertedAnnotation)
	delete(o.Annotations, DoubtedAnnotation)
	if b.Node == "" {
		delete(o.Labels, v1alpha1.NodeLabel)
		return
	}
	o.Labels[v1alpha1.NodeLabel] = LabelValue(b.Node)
}

// fromObject returns the block of an object; false when a stranger wrote it.
func fromObject(o *v1alpha1.Block) (ipam.Block, bool) {
	p, err := netip.ParsePrefix(string(o.Spec.CIDR))
	if err != nil || p.Masked() != p || v1alpha1.BlockName(p) != o.Name || o.Spec.Epoch < 1 {
		return ipam.Block{}, false
	}
	return ipam.Block{CIDR: p, Pool: o.Spec.Pool, Node: o.Spec.Node, Epoch: uint64(o.Spec.Epoch)}, true
}

// nextEpoch returns an epoch above that of the block before: not below the wall
// clock, so that the claim of a block that was deleted is later than the former one.
func nextEpoch(last int64) uint64 {
	return uint64(max(last+1, time.Now().UnixMicro(), 1)) //nolint:gosec // positive
}
