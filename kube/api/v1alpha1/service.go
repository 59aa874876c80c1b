package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceAdvertisement announces addresses of Services from the selected nodes.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster,shortName=svcadv
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Prefixes",type=integer,JSONPath=`.status.prefixes`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ServiceAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ServiceAdvertisementSpec   `json:"spec"`
	Status ServiceAdvertisementStatus `json:"status,omitempty"`
}

// ServiceAddress is a kind of address of a Service.
//
// +kubebuilder:validation:Enum=LoadBalancer;External;Cluster
type ServiceAddress string

// The kinds of address.
const (
	AddressLoadBalancer ServiceAddress = "LoadBalancer" // status.loadBalancer.ingress
	AddressExternal     ServiceAddress = "External"     // spec.externalIPs
	AddressCluster      ServiceAddress = "Cluster"      // spec.clusterIPs
)

// ServiceAdvertisementSpec is the desired announcements.
type ServiceAdvertisementSpec struct {
	// Default: all Services.
	// +optional
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`
	// Namespaces of the Services. Default: all.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Nodes that announce. Default: all.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// Names of the BGPPeers to which the addresses are announced. Default: all,
	// and the sessions inside the cluster.
	// +optional
	Peers []string `json:"peers,omitempty"`
	// LoadBalancer: status.loadBalancer.ingress. External: spec.externalIPs, inside an
	// IPPool with uses: [LoadBalancer] alone. Cluster: spec.clusterIPs.
	// +kubebuilder:default={LoadBalancer}
	// +kubebuilder:validation:MinItems=1
	// +listType=set
	// +optional
	Addresses []ServiceAddress `json:"addresses,omitempty"`
	// Announce one prefix in place of addresses with externalTrafficPolicy:
	// Cluster. Those with Local are announced one by one.
	// +optional
	Aggregate *ServiceAggregate `json:"aggregate,omitempty"`
	// +optional
	Communities []Community `json:"communities,omitempty"`
	// Seen by peers of our AS.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	LocalPref *int64 `json:"localPref,omitempty"`
	// MULTI_EXIT_DISC of the announcements.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	MED *int64 `json:"med,omitempty"`
	// Announce addresses of externalTrafficPolicy: Cluster also without a ready
	// endpoint in the cluster.
	// +optional
	WithoutEndpoints bool `json:"withoutEndpoints,omitempty"`
}

// ServiceAggregate is the prefix in place of addresses: one of these lengths, or
// the pool's range.
type ServiceAggregate struct {
	// Length of the prefix that is announced for IPv4 addresses. 0: none.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	IPv4 int32 `json:"ipv4,omitempty"`
	// Length of the prefix that is announced for IPv6 addresses. 0: none.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	// +optional
	IPv6 int32 `json:"ipv6,omitempty"`
	// The range of the IPPool of the address.
	// +optional
	Pool bool `json:"pool,omitempty"`
}

// ServiceAdvertisementStatus is what nodes announce.
type ServiceAdvertisementStatus struct {
	Status `json:",inline"`

	// Selected Services.
	// +optional
	Services int32 `json:"services,omitempty"`
	// Prefixes that at least one node announces.
	// +optional
	Prefixes int32 `json:"prefixes,omitempty"`
}

// ServiceAdvertisementList is a list of ServiceAdvertisements.
//
// +kubebuilder:object:root=true
type ServiceAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ServiceAdvertisement `json:"items"`
}
