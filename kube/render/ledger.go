package render

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// ledger collects what becomes of the objects.
type ledger struct {
	in  *Input
	out *Output
}

func newLedger(in *Input) *ledger {
	return &ledger{in: in, out: &Output{
		Keys: map[string][]byte{}, Namespaces: map[string][]string{}, Sources: map[string]Object{}, Reasons: map[netip.Addr]Reason{},
	}}
}

// broken returns why the agent rejected an object; "": it did not.
func (l *ledger) broken(kind, name string) string { return l.in.Broken[Object{kind, name}] }

// reject records an object that is left out.
func (l *ledger) reject(kind string, meta *metav1.ObjectMeta, reason string) {
	l.out.Rejected = append(l.out.Rejected, v1alpha1.RejectedObject{Kind: kind, Name: meta.Name, Generation: meta.Generation, Reason: reason})
}

// problem records a fault of no single object.
func (l *ledger) problem(format string, args ...any) {
	l.out.Problems = append(l.out.Problems, fmt.Sprintf(format, args...))
}

// finish puts the records in order.
func (l *ledger) finish() {
	slices.SortFunc(l.out.Rejected, func(a, b v1alpha1.RejectedObject) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason))
	})
	slices.Sort(l.out.Problems)
	l.out.Problems = slices.Compact(l.out.Problems)
}

// older orders objects by age, then by namespace and name.
func older(a, b *metav1.ObjectMeta) int {
	return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func nodeMeta(o *corev1.Node) *metav1.ObjectMeta          { return &o.ObjectMeta }
func serviceMeta(o *corev1.Service) *metav1.ObjectMeta    { return &o.ObjectMeta }
func peerMeta(o *v1alpha1.BGPPeer) *metav1.ObjectMeta     { return &o.ObjectMeta }
func filterMeta(o *v1alpha1.BGPFilter) *metav1.ObjectMeta { return &o.ObjectMeta }
func poolMeta(o *v1alpha1.IPPool) *metav1.ObjectMeta      { return &o.ObjectMeta }

func advertisementMeta(o *v1alpha1.ServiceAdvertisement) *metav1.ObjectMeta { return &o.ObjectMeta }

// byAge returns a copy of a list of objects, the oldest first.
func byAge[T any](list []T, meta func(T) *metav1.ObjectMeta) []T {
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return older(meta(a), meta(b)) })
}

// some joins names for a message: all of a few, or the first and the number of the
// others.
func some(names []string) string {
	const most = 5
	names = slices.Sorted(slices.Values(names))
	text := ""
	for i, n := range names {
		if i == most {
			return fmt.Sprintf("%s and %d more", text, len(names)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += n
	}
	return text
}

// keys returns the keys of a map in order.
func keys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
