package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPPool is a range of addresses for pods or services.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="Uses",type=string,JSONPath=`.spec.uses`
// +kubebuilder:printcolumn:name="Blocks",type=integer,JSONPath=`.status.blocks`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Total",type=string,JSONPath=`.status.total`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   IPPoolSpec   `json:"spec"`
	Status IPPoolStatus `json:"status,omitempty"`
}

// PoolUse is a use of a pool.
//
// +kubebuilder:validation:Enum=Pod;LoadBalancer
type PoolUse string

// The uses of a pool.
const (
	UsePod          PoolUse = "Pod"
	UseLoadBalancer PoolUse = "LoadBalancer"
)

// IPPoolSpec is the desired pool.
//
// +kubebuilder:validation:XValidation:rule="self.cidr == oldSelf.cidr",message="the range of a pool cannot be changed: addresses are in use; make another pool"
// +kubebuilder:validation:XValidation:rule="!has(self.fromNodePodCIDR) || !self.fromNodePodCIDR || !has(self.blockSize)",message="blockSize is the length of Node.spec.podCIDR with fromNodePodCIDR; remove it"
type IPPoolSpec struct {
	CIDR CIDR `json:"cidr"`
	// Prefix length of the blocks that nodes claim. Default: 26, IPv6 122.
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=128
	// +optional
	BlockSize int32 `json:"blockSize,omitempty"`
	// A node's block is its Node.spec.podCIDR inside the pool, as
	// kube-controller-manager allocates it.
	// +optional
	FromNodePodCIDR bool `json:"fromNodePodCIDR,omitempty"`
	// +kubebuilder:default={Pod}
	// +kubebuilder:validation:MinItems=1
	// +listType=set
	// +optional
	Uses []PoolUse `json:"uses,omitempty"`
	// Never | CrossSubnet (tunnel only what is not on-link) | Always
	// +kubebuilder:validation:Enum=Never;CrossSubnet;Always
	// +kubebuilder:default=CrossSubnet
	// +optional
	Encapsulation string `json:"encapsulation,omitempty"`
	// Kind of the tunnel; none is for encapsulation Never.
	// +kubebuilder:validation:Enum=ipip;vxlan;none
	// +kubebuilder:default=ipip
	// +optional
	Tunnel string `json:"tunnel,omitempty"`
	// Masquerade packets that leave all pools. Default: true, IPv6 false.
	// +optional
	NATOutgoing *bool `json:"natOutgoing,omitempty"`
	// No new addresses; addresses in use stay.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
	// Only for pods, namespaces and services that name this pool or an address of it.
	// +optional
	Manual bool `json:"manual,omitempty"`
	// Addresses and ranges that are not assigned.
	// +optional
	Reserved []string `json:"reserved,omitempty"`
	// Nodes that take addresses from the pool. Default: all.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// Namespaces of the pods and services that use the pool. Default: all.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// IPPoolStatus is the use of a pool.
type IPPoolStatus struct {
	Status `json:",inline"`

	// Blocks that nodes own.
	// +optional
	Blocks int32 `json:"blocks,omitempty"`
	// Addresses in use.
	// +optional
	Used int64 `json:"used,omitempty"`
	// Addresses of the pool, as a number or "2^64".
	// +optional
	Total string `json:"total,omitempty"`
}

// IPPoolList is a list of IPPools.
//
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPPool `json:"items"`
}

// Block is a part of a pool that a node owns: the claim of one node, made by its
// creation, so that of two nodes the first has it.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:selectablefield:JSONPath=`.spec.node`
type Block struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BlockSpec `json:"spec"`
}

// BlockSpec is a claim.
//
// +kubebuilder:validation:XValidation:rule="self.cidr == oldSelf.cidr",message="the range of a block cannot be changed"
// +kubebuilder:validation:XValidation:rule="self.epoch >= oldSelf.epoch",message="the epoch of a block only grows"
// +kubebuilder:validation:XValidation:rule="self.node == oldSelf.node || self.epoch > oldSelf.epoch",message="another owner needs a greater epoch"
type BlockSpec struct {
	CIDR CIDR `json:"cidr"`
	// Name of the IPPool that the block is a part of.
	Pool string `json:"pool"`
	// The owner's name; empty: freed, and kept for its epoch.
	Node string `json:"node"`
	// Grows with every change of the owner; the highest wins.
	// +kubebuilder:validation:Minimum=1
	Epoch int64 `json:"epoch"`
}

// BlockList is a list of Blocks.
//
// +kubebuilder:object:root=true
type BlockList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Block `json:"items"`
}
