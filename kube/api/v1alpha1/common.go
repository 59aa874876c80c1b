package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Duration is a length of time as Go writes it: "300ms", "90s", "1h30m".
//
// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`
type Duration string

// CIDR is a range of addresses: "10.244.0.0/16", "fd00:10:244::/56".
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56"
type CIDR string

// Community is a BGP community: "64512:100" (RFC 1997), "64512:1:2" (RFC 8092),
// or graceful-shutdown, blackhole, no-export, no-advertise, no-export-subconfed.
//
// +kubebuilder:validation:MaxLength=64
type Community string

// PrefixRule matches prefixes: those inside prefix whose length is from ge to le.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ge) || !has(self.le) || self.ge <= self.le",message="ge is greater than le"
type PrefixRule struct {
	Prefix CIDR `json:"prefix"`
	// Shortest length that matches.
	// +kubebuilder:validation:Maximum=128
	// +optional
	GE *int32 `json:"ge,omitempty"`
	// Longest length that matches.
	// +kubebuilder:validation:Maximum=128
	// +optional
	LE *int32 `json:"le,omitempty"`
}

// SecretKey names one key of a Secret in the namespace of onlink.
type SecretKey struct {
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Key in the data of the Secret.
	// +kubebuilder:default=password
	// +optional
	Key string `json:"key,omitempty"`
}

// BFD is the liveness of a peer (RFC 5880): it is down after multiplier times
// interval of silence.
type BFD struct {
	// +kubebuilder:default="300ms"
	// +optional
	Interval Duration `json:"interval,omitempty"`
	// Intervals without a packet after which the peer is down.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	// +optional
	Multiplier int32 `json:"multiplier,omitempty"`
	// single (RFC 5881) or multi (RFC 5883); both ends must use the same.
	// Default: multi for peers of our AS.
	// +kubebuilder:validation:Enum=single;multi
	// +optional
	Hops string `json:"hops,omitempty"`
}

// Import is the policy for routes from a peer.
type Import struct {
	// Accepted prefixes. Without an entry nothing is accepted from a peer of
	// another AS (RFC 8212), and the pools from one of ours.
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	Accept []PrefixRule `json:"accept,omitempty"`
	// The session is closed above this number of prefixes. 0: no limit.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MaxPrefixes int64 `json:"maxPrefixes,omitempty"`
	// LOCAL_PREF of the routes of a peer of another AS. Default: 100.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	LocalPref *int64 `json:"localPref,omitempty"`
	// true: next hops need not be the peer or on a subnet shared with it.
	// +optional
	DisableConnectedCheck bool `json:"disableConnectedCheck,omitempty"`
	// true: a block's next hop need not be its owner in the registry.
	// +optional
	DisableOwnerCheck bool `json:"disableOwnerCheck,omitempty"`
	// Names of BGPFilters, applied in this order before accept.
	// +optional
	Filters []string `json:"filters,omitempty"`
}

// Export is the policy for routes to a peer.
type Export struct {
	// Announce this node's blocks and services. Default: true.
	// +optional
	Own *bool `json:"own,omitempty"`
	// Announce only those inside these. Default: all.
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	Prefixes []PrefixRule `json:"prefixes,omitempty"`
	// +optional
	Communities []Community `json:"communities,omitempty"`
	// MULTI_EXIT_DISC of the announced routes.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	MED *int64 `json:"med,omitempty"`
	// Announced while this node has a prefix inside, which summaryOnly withholds.
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	Aggregates []ExportAggregate `json:"aggregates,omitempty"`
	// Announce our clients' routes to this peer of our AS.
	// +optional
	Reflected bool `json:"reflected,omitempty"`
	// Names of BGPFilters, applied in this order before own and prefixes.
	// +optional
	Filters []string `json:"filters,omitempty"`
}

// ExportAggregate is an aggregate that a peer receives.
type ExportAggregate struct {
	Prefix CIDR `json:"prefix"`
	// true: the prefixes inside are not announced.
	// +optional
	SummaryOnly bool `json:"summaryOnly,omitempty"`
}

// Conditions of the objects.
const (
	// ConditionAccepted is False on an object that is left out, with the reason;
	// what was in force of it stays.
	ConditionAccepted = "Accepted"
	// ConditionReady is True on an OnlinkNode that serves pods.
	ConditionReady = "Ready"
	// ConditionHeld is True while a change waits for a confirmation.
	ConditionHeld = "Held"
)

// Status is the status of a configuration object.
type Status struct {
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Generation of the object that the conditions are about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}
