package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a session of the selected nodes with a router outside the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.asn`
// +kubebuilder:printcolumn:name="Up",type=integer,JSONPath=`.status.established`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPPeerSpec   `json:"spec"`
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerSpec is the desired session.
//
// +kubebuilder:validation:XValidation:rule="has(self.address) || has(self.interface)",message="set address, or interface for the router at its other end"
// +kubebuilder:validation:XValidation:rule="!(has(self.multihop) && self.multihop > 0 && has(self.ttlSecurity) && self.ttlSecurity > 0)",message="multihop cannot be combined with ttlSecurity (RFC 5082); remove one"
type BGPPeerSpec struct {
	// Nodes that have the session. Default: all.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// Address of the router; fe80::1%eth0 for a link-local one.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Address string `json:"address,omitempty"`
	// Only over this device. Without an address: the router at its other end.
	// +kubebuilder:validation:MaxLength=15
	// +optional
	Interface string `json:"interface,omitempty"`
	// TCP port of the router.
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// AS of the router. Default: ours.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +optional
	ASN int64 `json:"asn,omitempty"`
	// Our AS to this peer, which does not see that of the OnlinkConfig.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +optional
	LocalASN int64 `json:"localASN,omitempty"`
	// true: we reflect to this peer of our AS.
	// +optional
	Client bool `json:"client,omitempty"`
	// Only wait for the peer to connect.
	// +optional
	Passive bool `json:"passive,omitempty"`
	// TCP MD5 key (RFC 2385).
	// +optional
	PasswordSecretRef *SecretKey `json:"passwordSecretRef,omitempty"`
	// +kubebuilder:default="90s"
	// +optional
	HoldTime Duration `json:"holdTime,omitempty"`
	// Default: a third of holdTime.
	// +optional
	Keepalive Duration `json:"keepalive,omitempty"`
	// +optional
	ConnectRetry Duration `json:"connectRetry,omitempty"`
	// +optional
	BFD *BFD `json:"bfd,omitempty"`
	// GTSM (RFC 5082): the peer is at most so many hops away. 0: off.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=254
	// +optional
	TTLSecurity int32 `json:"ttlSecurity,omitempty"`
	// eBGP over several hops. 0: off.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	// +optional
	Multihop int32 `json:"multihop,omitempty"`
	// How often our AS may be in a path, where a fabric reuses it.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	AllowOwnAS int32 `json:"allowOwnAS,omitempty"`
	// Keep this peer's routes as the last resort for this time after its restart
	// time has passed (RFC 9494).
	// +optional
	LongLivedRestart Duration `json:"longLivedRestart,omitempty"`
	// Announce services also from nodes with the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	// +optional
	IncludeExcludedNodes bool `json:"includeExcludedNodes,omitempty"`
	// +optional
	Import *Import `json:"import,omitempty"`
	// +optional
	Export *Export `json:"export,omitempty"`
}

// BGPPeerStatus is the state of the sessions.
type BGPPeerStatus struct {
	Status `json:",inline"`

	// Sessions in state Established.
	// +optional
	Established int32 `json:"established,omitempty"`
	// Selected nodes.
	// +optional
	Nodes int32 `json:"nodes,omitempty"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPPeer `json:"items"`
}

// BGPFilter is a filter for import and export of peers. The first matching rule
// with another action than next decides.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPFilter struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPFilterSpec `json:"spec"`
	Status Status        `json:"status,omitempty"`
}

// BGPFilterSpec is the rules of a filter.
type BGPFilterSpec struct {
	// +kubebuilder:validation:MaxItems=256
	Rules []FilterRule `json:"rules"`
}

// FilterRule is one rule. All keys of match must hold, and one entry of each list.
type FilterRule struct {
	// +optional
	Match *FilterMatch `json:"match,omitempty"`
	// +optional
	Set *FilterSet `json:"set,omitempty"`
	// accept and reject end the evaluation, next goes on with the next rule.
	// +kubebuilder:validation:Enum=accept;reject;next
	Action string `json:"action"`
}

// FilterMatch is the conditions of a rule.
type FilterMatch struct {
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Prefixes []PrefixRule `json:"prefixes,omitempty"`
	// Communities (RFC 1997) of the route: "64512:100", or a regular expression that begins with ^: "^65001:1..$".
	// +optional
	Communities []string `json:"communities,omitempty"`
	// Large communities (RFC 8092) of the route: "64512:1:2", or a regular expression that begins with ^.
	// +optional
	LargeCommunities []string `json:"largeCommunities,omitempty"`
	// Regular expressions over the AS path; _ is a border of a number.
	// +optional
	ASPath []string `json:"asPath,omitempty"`
	// Of exported routes: own, service (one of own), reflected or external.
	// +kubebuilder:validation:Enum=own;service;reflected;external
	// +optional
	Source string `json:"source,omitempty"`
}

// FilterSet is the changes of a rule.
type FilterSet struct {
	// LOCAL_PREF of the route.
	// +optional
	LocalPref *int64 `json:"localPref,omitempty"`
	// MULTI_EXIT_DISC of the route.
	// +optional
	MED *int64 `json:"med,omitempty"`
	// Extra times of our AS; peers of another AS only.
	// +optional
	Prepend int32 `json:"prepend,omitempty"`
	// +optional
	Communities *CommunityChange `json:"communities,omitempty"`
	// +optional
	LargeCommunities *CommunityChange `json:"largeCommunities,omitempty"`
	// self, unchanged, peer-address or an address.
	// +optional
	NextHop string `json:"nextHop,omitempty"`
	// ORIGIN of the route.
	// +kubebuilder:validation:Enum=igp;egp;incomplete
	// +optional
	Origin string `json:"origin,omitempty"`
}

// CommunityChange is a change of communities.
type CommunityChange struct {
	// Added to those of the route.
	// +optional
	Add []string `json:"add,omitempty"`
	// Removed from those of the route; one that begins with ^ is a regular expression.
	// +optional
	Remove []string `json:"remove,omitempty"`
	// In place of all those of the route.
	// +optional
	Replace []string `json:"replace,omitempty"`
}

// BGPFilterList is a list of BGPFilters.
//
// +kubebuilder:object:root=true
type BGPFilterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPFilter `json:"items"`
}
