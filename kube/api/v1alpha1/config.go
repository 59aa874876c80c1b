package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// OnlinkConfig is the base of every node's configuration. Only the one named
// "default" is read.
//
// +kubebuilder:object:root=true
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:scope=Cluster,shortName=onlink
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.asn`
// +kubebuilder:printcolumn:name="Mesh",type=string,JSONPath=`.spec.reflection.mesh`
// +kubebuilder:printcolumn:name="Agree",type=integer,JSONPath=`.status.agree`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="the only OnlinkConfig is named default"
type OnlinkConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   OnlinkConfigSpec   `json:"spec,omitempty"`
	Status OnlinkConfigStatus `json:"status,omitempty"`
}

// OnlinkConfigSpec is the desired base configuration.
type OnlinkConfigSpec struct {
	// AS of the nodes (RFC 6793).
	// +kubebuilder:default=64512
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +optional
	ASN int64 `json:"asn,omitempty"`
	// +optional
	Reflection Reflection `json:"reflection,omitempty"`
	// +optional
	Tunnel Tunnel `json:"tunnel,omitempty"`
	// +optional
	IPAM IPAM `json:"ipam,omitempty"`
	// +optional
	CNI CNI `json:"cni,omitempty"`
	// +optional
	FIB FIB `json:"fib,omitempty"`
	// +optional
	Drain Drain `json:"drain,omitempty"`
	// Lowest level of the agents' log.
	// +kubebuilder:validation:Enum=debug;info;warn;error
	// +kubebuilder:default=info
	// +optional
	LogLevel string `json:"logLevel,omitempty"`
	// TCP port of the API of each agent, at the Node's address: of others by explain, and
	// of operators. Callers need a certificate of the cluster's authority; the controller
	// issues those of the nodes. 0: none.
	// +kubebuilder:default=9181
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	AdminPort *int32 `json:"adminPort,omitempty"`
	// Address and port of /metrics, /healthz and /readyz on each node. It has to serve
	// 127.0.0.1:9179, which kubelet probes: that, or :9179 for every address.
	// +kubebuilder:default="127.0.0.1:9179"
	// +optional
	Metrics string `json:"metrics,omitempty"`
}

// MeshMode selects who has sessions with whom inside the cluster.
type MeshMode string

// The mesh modes.
const (
	// MeshAuto: every node with every other while no Node has the label
	// onlink.io/reflector and there are at most 100 nodes.
	MeshAuto MeshMode = "Auto"
	// MeshOff: sessions with reflectors and BGPPeers only.
	MeshOff MeshMode = "Off"
)

// Reflection is the sessions inside the cluster.
type Reflection struct {
	// +kubebuilder:validation:Enum=Auto;"Off"
	// +kubebuilder:default=Auto
	// +optional
	Mesh MeshMode `json:"mesh,omitempty"`
	// Ranges of the nodes that reflectors accept as clients. Default: networks
	// that cover the addresses of all Nodes (/24, IPv6 /64).
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	Clients []CIDR `json:"clients,omitempty"`
	// TCP MD5 key (RFC 2385) of all sessions inside the cluster.
	// +optional
	PasswordSecretRef *SecretKey `json:"passwordSecretRef,omitempty"`
	// +kubebuilder:default="90s"
	// +optional
	HoldTime Duration `json:"holdTime,omitempty"`
	// +optional
	BFD *BFD `json:"bfd,omitempty"`
}

// Tunnel is the tunnels of all pools.
type Tunnel struct {
	// Bytes; 0: the underlay's less the tunnel's header.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	MTU int32 `json:"mtu,omitempty"`
	// Accept tunnelled packets only from known nodes (needs nftables).
	// +kubebuilder:validation:Enum="off";auto;required
	// +kubebuilder:default=auto
	// +optional
	Guard string `json:"guard,omitempty"`
	// +optional
	VXLAN *VXLAN `json:"vxlan,omitempty"`
}

// VXLAN is the VXLAN of pools with tunnel: vxlan (RFC 7348).
type VXLAN struct {
	// VXLAN network identifier.
	// +kubebuilder:default=4096
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	// +optional
	VNI int32 `json:"vni,omitempty"`
	// UDP port of the tunnel.
	// +kubebuilder:default=4789
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
}

// IPAM is the life of addresses and blocks.
type IPAM struct {
	// A released address is not assigned again for this time.
	// +kubebuilder:default="1m"
	// +optional
	Cooldown Duration `json:"cooldown,omitempty"`
	// The address of a pod of a StatefulSet stays reserved for this time.
	// +kubebuilder:default="24h"
	// +optional
	Sticky Duration `json:"sticky,omitempty"`
	// How often a node renews its claim to its name and blocks (its Lease). A
	// deleted node's blocks are freed after twice this time at the earliest.
	// +kubebuilder:default="1m"
	// +optional
	Assert Duration `json:"assert,omitempty"`
}

// CNI is what the nodes install for the container runtime.
type CNI struct {
	// Folder of the container runtime for plugins.
	// +kubebuilder:default="/opt/cni/bin"
	// +optional
	BinDir string `json:"binDir,omitempty"`
	// Folder of the container runtime for configurations of networks.
	// +kubebuilder:default="/etc/cni/net.d"
	// +optional
	ConfDir string `json:"confDir,omitempty"`
	// Reference plugins behind onlink-cni. Default: portmap and bandwidth where
	// binDir has them.
	// +optional
	Plugins []string `json:"plugins,omitempty"`
	// Sysctls that pods may set; * and ? match. Default: those that are safe.
	// +optional
	Sysctls []string `json:"sysctls,omitempty"`
}

// FIB is how routes are written to the kernel.
type FIB struct {
	// Metric of the routes in the kernel. 0: the kernel's default.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Metric int64 `json:"metric,omitempty"`
	// Full comparison with the kernel.
	// +kubebuilder:default="90s"
	// +optional
	Resync Duration `json:"resync,omitempty"`
}

// Drain is how a node leaves.
type Drain struct {
	// Prefixes stay announced with GRACEFUL_SHUTDOWN (RFC 8326) for this time
	// before they are withdrawn.
	// +kubebuilder:default="30s"
	// +optional
	Wait Duration `json:"wait,omitempty"`
	// Taints that drain a node besides node.kubernetes.io/out-of-service, by key.
	// +optional
	Taints []string `json:"taints,omitempty"`
}

// OnlinkConfigStatus is the state of the configuration in the cluster.
type OnlinkConfigStatus struct {
	Status `json:",inline"`

	// Nodes whose configuration in force is of this generation.
	// +optional
	Agree int32 `json:"agree,omitempty"`
	// Nodes that run onlink.
	// +optional
	Nodes int32 `json:"nodes,omitempty"`
}

// OnlinkConfigList is a list of OnlinkConfigs.
//
// +kubebuilder:object:root=true
type OnlinkConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []OnlinkConfig `json:"items"`
}
