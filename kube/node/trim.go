package node

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// Of Kubernetes' objects only what is read stays in memory: a Node is 15 kB, of
// which the images are 10.

// trimMeta leaves onlink's own annotations; kubectl keeps a copy of the whole
// object in one of its own.
func trimMeta(o metav1.Object) {
	var kept map[string]string
	for k, v := range o.GetAnnotations() {
		if strings.HasPrefix(k, group) {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[k] = v
		}
	}
	o.SetAnnotations(kept)
	o.SetFinalizers(nil)
}

// group is the prefix of onlink's annotations.
const group = "onlink.io/"

// trimOwnNode keeps labels, spec, addresses and conditions.
func trimOwnNode(n *corev1.Node) {
	trimMeta(n)
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: n.Status.Conditions}
	for i := range n.Status.Conditions {
		// kubelet's report that it lives: otherwise every report is a change.
		n.Status.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
}

// trimNode keeps what sessions with another Node need.
func trimNode(n *corev1.Node) {
	trimMeta(n)
	n.OwnerReferences = nil
	n.Spec = corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses}
}

func trimService(s *corev1.Service) {
	trimMeta(s)
	s.OwnerReferences = nil
	s.Spec.Selector = nil
	s.Spec.SessionAffinityConfig = nil
	s.Status.Conditions = nil
}

// trimSlice keeps where endpoints are and whether they serve, and one address of
// each: of a Service with several slices, such as one of both families, an endpoint
// that is in two of them counts once.
func trimSlice(s *discoveryv1.EndpointSlice) {
	trimMeta(s)
	s.OwnerReferences = nil
	s.Ports = nil
	for i, e := range s.Endpoints {
		s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses[:min(1, len(e.Addresses))], Conditions: e.Conditions, NodeName: e.NodeName}
	}
}

func trimNamespace(n *metav1.PartialObjectMetadata) {
	trimMeta(n)
	n.OwnerReferences = nil
}

// Of the configuration objects the status is the controller's: each of its writes, such as
// that of a count, would wake every node to render.

func trimConfig(o *v1alpha1.OnlinkConfig) {
	trimMeta(o)
	o.Status = v1alpha1.OnlinkConfigStatus{}
}

func trimPeer(o *v1alpha1.BGPPeer) {
	trimMeta(o)
	o.Status = v1alpha1.BGPPeerStatus{}
}

func trimFilter(o *v1alpha1.BGPFilter) {
	trimMeta(o)
	o.Status = v1alpha1.Status{}
}

func trimPool(o *v1alpha1.IPPool) {
	trimMeta(o)
	o.Status = v1alpha1.IPPoolStatus{}
}

func trimAdvertisement(o *v1alpha1.ServiceAdvertisement) {
	trimMeta(o)
	o.Status = v1alpha1.ServiceAdvertisementStatus{}
}

// lastSlice reports whether a slice is the only one of its Service: the deletion
// of another takes effect at once, because the endpoints have moved.
func lastSlice(gone *discoveryv1.EndpointSlice, all map[string]*discoveryv1.EndpointSlice) bool {
	for _, s := range all {
		if s != gone && s.Namespace == gone.Namespace && s.Labels[discoveryv1.LabelServiceName] == gone.Labels[discoveryv1.LabelServiceName] {
			return false
		}
	}
	return true
}
