package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// OnlinkNode is onlink on one Node. Its status is written by that node alone, on
// change and at most every 30 s.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Sessions",type=string,JSONPath=`.status.sessions.summary`
// +kubebuilder:printcolumn:name="Blocks",type=integer,JSONPath=`.status.blocks.count`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Drain",type=string,JSONPath=`.status.drain`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type OnlinkNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   OnlinkNodeSpec   `json:"spec,omitempty"`
	Status OnlinkNodeStatus `json:"status,omitempty"`
}

// OnlinkNodeSpec is what the controller asks of a node.
type OnlinkNodeSpec struct {
	// Blocks of deleted nodes: the node answers in status.answers whether it
	// still receives an announcement of them.
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Questions []CIDR `json:"questions,omitempty"`
}

// OnlinkNodeStatus is the state of a node.
type OnlinkNodeStatus struct {
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Next hops of the node's announcements.
	// +optional
	Addresses []string `json:"addresses,omitempty"`
	// AS of the node.
	// +optional
	ASN int64 `json:"asn,omitempty"`
	// The node is a route reflector.
	// +optional
	Reflector bool `json:"reflector,omitempty"`
	// Version of the agent.
	// +optional
	Version string `json:"version,omitempty"`
	// serving | leaving | drained
	// +optional
	Drain string `json:"drain,omitempty"`
	// +optional
	Sessions NodeSessions `json:"sessions,omitempty"`
	// +optional
	Blocks NodeBlocks `json:"blocks,omitempty"`
	// Addresses of Services, in order; the first 200.
	// +optional
	Services []NodeService `json:"services,omitempty"`
	// Addresses of Services that are not in the list above.
	// +optional
	MoreServices int32 `json:"moreServices,omitempty"`
	// One line each: the fault and the remedy, as onlinkctl status shows it.
	// +optional
	Problems []string `json:"problems,omitempty"`
	// Objects that are left out of this node's configuration, and why.
	// +optional
	Rejected []RejectedObject `json:"rejected,omitempty"`
	// A change that waits for a confirmation; absent: none.
	// +optional
	Held *HeldChange `json:"held,omitempty"`
	// Generation of the OnlinkConfig in force.
	// +optional
	ConfigGeneration int64 `json:"configGeneration,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Answers []Answer `json:"answers,omitempty"`
}

// NodeSessions are the BGP sessions of a node.
type NodeSessions struct {
	// "3/4": established and all.
	// +optional
	Summary string `json:"summary,omitempty"`
	// Sessions in state Established.
	// +optional
	Established int32 `json:"established,omitempty"`
	// Configured sessions.
	// +optional
	Total int32 `json:"total,omitempty"`
	// Sessions with BGPPeers, and those that are down; the first 50.
	// +optional
	Peers []NodeSession `json:"peers,omitempty"`
}

// NodeSession is one BGP session.
type NodeSession struct {
	// Name of the BGPPeer or Node.
	Name string `json:"name"`
	// Address of the peer.
	Address string `json:"address"`
	// State of the session (RFC 4271, section 8.2.2).
	State string `json:"state"`
	// Why the session ended last.
	// +optional
	LastError string `json:"lastError,omitempty"`
}

// NodeBlocks are the blocks of a node.
type NodeBlocks struct {
	// Blocks that the node owns.
	// +optional
	Count int32 `json:"count,omitempty"`
	// Addresses in use, and all.
	// +optional
	Used int64 `json:"used,omitempty"`
	// Addresses of all blocks.
	// +optional
	Total int64 `json:"total,omitempty"`
	// The first 50.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	CIDRs []CIDR `json:"cidrs,omitempty"`
}

// NodeService is the decision of a node about an address.
type NodeService struct {
	// Address of the Service.
	Address string `json:"address"`
	// NAMESPACE/NAME; of a shared address the first.
	Service string `json:"service"`
	// announced | graceful-shutdown | aggregated | not-announced | conflict
	State string `json:"state"`
	// Why, in words.
	Why string `json:"why"`
}

// RejectedObject is an object that is left out.
type RejectedObject struct {
	// Kind of the object.
	Kind string `json:"kind"`
	// Name of the object.
	Name string `json:"name"`
	// Generation that was judged.
	Generation int64 `json:"generation"`
	// Why it is left out, and the remedy.
	Reason string `json:"reason"`
}

// HeldChange is a change that waits for a confirmation.
type HeldChange struct {
	// What the change would remove.
	Reason string `json:"reason"`
	// Value for the annotation onlink.io/confirm.
	Digest string `json:"digest"`
	// Time since when the change waits.
	Since metav1.Time `json:"since"`
}

// Answer is the answer to one question.
type Answer struct {
	CIDR CIDR `json:"cidr"`
	// An announcement of the block is received.
	Heard bool `json:"received"`
	// Time of the answer.
	At metav1.Time `json:"at"`
}

// OnlinkNodeList is a list of OnlinkNodes.
//
// +kubebuilder:object:root=true
type OnlinkNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []OnlinkNode `json:"items"`
}
