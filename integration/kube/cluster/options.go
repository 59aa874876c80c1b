package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// ErrOptions says that a cluster cannot be started so; the message names the
// field.
var ErrOptions = errors.New("invalid cluster options")

// BinVariable names the environment variable with the folder of Kubernetes'
// programs.
const BinVariable = "ONLINK_KUBE_BIN"

// PolicyVariable names the environment variable with the manifest of the chart that has
// what enforces NetworkPolicies, as make test-policy renders it.
const PolicyVariable = "ONLINK_POLICY_MANIFEST"

// AccessVariable names the environment variable with the file of an API server that runs
// in another kernel; see package api.
const AccessVariable = "ONLINK_API_ACCESS"

// OwnVariable names the environment variable with the folder of the harness's own
// programs, for a machine that has no Go: see [Programs].
const OwnVariable = "ONLINK_KUBE_OWN"

// ProxyMode is how kube-proxy makes services.
type ProxyMode string

// The modes of kube-proxy.
const (
	ProxyNFTables ProxyMode = "nftables" // the default
	ProxyIPTables ProxyMode = "iptables"
	ProxyNone     ProxyMode = "none" // no kube-proxy runs
)

// CNI is the network that the cluster brings itself.
type CNI string

// The networks of a cluster.
const (
	// CNINone is none: nodes stay NotReady until somebody installs one.
	CNINone CNI = "none"
	// CNIPTP is the reference plugins ptp and host-local, and static routes.
	CNIPTP CNI = "ptp"
)

// Options says what to start. The zero value of a field is its default.
type Options struct {
	Name string // prefix of all namespaces; default "kube"; at most 20 of [a-z0-9-]
	// Racks are subnets, with a ToR each; default 1: all nodes on one switch.
	Racks        int
	NodesPerRack int // default 2; node N of rack R is called rRnN
	ToRsPerRack  int // 1 (default) or 2
	DualStack    bool
	Proxy        ProxyMode
	CNI          CNI
	// Pods are the ranges that kube-proxy takes for pods, one of each family;
	// default 10.244.0.0/16, and fd00:10:244::/56 with DualStack.
	Pods []netip.Prefix
	// NodePodCIDRs makes the controller manager give each node a part of Pods
	// (Node.spec.podCIDRs), as `kubeadm init --pod-network-cidr` does.
	NodePodCIDRs bool
	// Taints are what kubelets register their nodes with
	// (--register-with-taints): KEY=VALUE:EFFECT.
	Taints []string
	// Images are archives of images that every node loads, as `ctr images import`
	// takes them: OCI layouts or docker archives.
	Images []string
	// Bin is the folder of Kubernetes' programs; default $ONLINK_KUBE_BIN.
	Bin string
	// Own is the folder of the harness's own programs; default $ONLINK_KUBE_OWN, and
	// without it they are built.
	Own string
	// Progress is called with a line for every step, from several goroutines; nil:
	// none.
	Progress func(format string, args ...any) `json:"-"`
}

// The ranges of services.
var (
	Services  = netip.MustParsePrefix("10.96.0.0/16")
	Services6 = netip.MustParsePrefix("fd00:96::/112")
)

// withDefaults fills the zero fields and checks the rest; lab.Spec checks the
// numbers.
func (o Options) withDefaults() (Options, error) {
	def(&o.Name, "kube")
	def(&o.Racks, 1)
	def(&o.NodesPerRack, 2)
	def(&o.Proxy, ProxyNFTables)
	def(&o.CNI, CNINone)
	def(&o.Bin, os.Getenv(BinVariable))
	def(&o.Own, os.Getenv(OwnVariable))
	if len(o.Pods) == 0 {
		o.Pods = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
		if o.DualStack {
			o.Pods = append(o.Pods, netip.MustParsePrefix("fd00:10:244::/56"))
		}
	}
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	switch {
	case o.Proxy != ProxyNFTables && o.Proxy != ProxyIPTables && o.Proxy != ProxyNone:
		return o, fmt.Errorf("%w: Proxy %q: use nftables, iptables or none", ErrOptions, o.Proxy)
	case o.CNI != CNINone && o.CNI != CNIPTP:
		return o, fmt.Errorf("%w: CNI %q: use none or ptp", ErrOptions, o.CNI)
	case o.Bin == "":
		return o, fmt.Errorf("%w: Bin is empty: set it or $%s; make kube-binaries builds the programs", ErrOptions, BinVariable)
	}
	bin, err := filepath.Abs(o.Bin)
	if err != nil {
		return o, fmt.Errorf("%w: Bin: %w", ErrOptions, err)
	}
	o.Bin = bin
	for _, program := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "loopback", "ptp", "host-local"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return o, fmt.Errorf("%w: Bin: %w; make kube-binaries builds the programs", ErrOptions, err)
		}
	}
	return o, nil
}

// def sets *v to d when it is zero.
func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// families joins the IPv4 and, where the cluster has it, the IPv6 form of a
// flag's value.
func (o Options) families(v4, v6 string) string {
	if o.DualStack {
		return v4 + "," + v6
	}
	return v4
}
