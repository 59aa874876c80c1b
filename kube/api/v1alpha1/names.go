package v1alpha1

import (
	"net/netip"
	"strconv"
	"strings"
)

// ConfigName is the name of the only [OnlinkConfig] that is read.
const ConfigName = "default"

// Labels, annotations and taints of other objects that onlink reads or writes.
const (
	// ReflectorLabel on a Node, with any value but "false", makes it a route
	// reflector and a peer of every other node.
	ReflectorLabel = "onlink.io/reflector"
	// NodeLabel on a Block is the name of its node: a node finds its own blocks
	// by one selected list.
	NodeLabel = "onlink.io/node"
	// DrainAnnotation on a Node, with any value but "false", drains it: services
	// first, then the node's blocks once it has no pod of its own.
	DrainAnnotation = "onlink.io/drain"
	// DrainedAnnotation on a Node has the phase of the drain: onlink writes it.
	DrainedAnnotation = "onlink.io/drain-phase"
	// ConfirmAnnotation on an OnlinkNode or on the OnlinkConfig has the digest of
	// a held change that is to be applied, as the status shows it.
	ConfirmAnnotation = "onlink.io/confirm"
	// ConfirmedAnnotation on an OnlinkNode has the digest of the OnlinkConfig's
	// ConfirmAnnotation that the node has used: each is used once.
	ConfirmedAnnotation = "onlink.io/confirmed"
	// NotReadyTaint is on a Node until onlink can serve pods there.
	NotReadyTaint = "onlink.io/agent-not-ready"
	// PoolsAnnotation on a Namespace or a Service is a comma-separated list of
	// pools, in the order in which addresses are taken from them.
	PoolsAnnotation = "onlink.io/pools"
	// AddressesAnnotation on a Service is a comma-separated list of the addresses
	// that it is to have.
	AddressesAnnotation = "onlink.io/load-balancer-ips"
	// SharingAnnotation on a Service is a key: Services of one namespace with one
	// key and no port in common may have one address.
	SharingAnnotation = "onlink.io/allow-shared-ip"
	// LoadBalancerClass is the class of Services that is onlink's.
	LoadBalancerClass = "onlink.io/bgp"
)

// BlockName returns the name of the [Block] of a prefix: "10-244-3-64-26". IPv6
// addresses are written in full, so that no name has two spellings.
func BlockName(p netip.Prefix) string {
	addr := p.Addr().Unmap()
	text := addr.String()
	if addr.Is6() {
		text = addr.StringExpanded()
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(text) + "-" + strconv.Itoa(p.Bits())
}
