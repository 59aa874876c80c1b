package render

import (
	"math"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// advertisement is a ServiceAdvertisement that selects this node.
type advertisement struct {
	name        string
	rank        int // by age, from 0
	services    labels.Selector
	namespaces  labels.Selector
	kinds       []v1alpha1.ServiceAddress
	communities []string
	localPref   *uint32
	med         *uint32
	everyone    bool     // no peers are named
	peers       []string // the named ones, sorted
	aggregate   v1alpha1.ServiceAggregate
	// withoutEndpoints announces addresses of policy Cluster without a ready
	// endpoint.
	withoutEndpoints bool
	// frozen: the object is broken. Addresses in force keep their attributes; no
	// other address is announced.
	frozen bool
}

// maxCommunities is how many the agent takes with one announcement.
const maxCommunities = 64

// chooseAdvertisements returns the advertisements of this node, the oldest first.
func chooseAdvertisements(in *Input, s *self, peers *peerSet, l *ledger) []*advertisement {
	var list []*advertisement
	for _, obj := range byAge(in.Advertisements, advertisementMeta) {
		var c checks
		nodes := selector(&c, "spec.nodeSelector", obj.Spec.NodeSelector)
		if len(c.faults) == 0 && !nodes.Matches(s.labels) {
			continue
		}
		a := readAdvertisement(&c, obj)
		a.checkPeers(&c, peers, l)
		if why := l.broken(kindAdvertisement, obj.Name); why != "" {
			c.faults = []string{why}
		}
		if why := c.reason(); why != "" {
			l.reject(kindAdvertisement, &obj.ObjectMeta, why)
			a.frozen = true
		}
		a.rank = len(list)
		list = append(list, a)
	}
	return list
}

func readAdvertisement(c *checks, obj *v1alpha1.ServiceAdvertisement) *advertisement {
	s := &obj.Spec
	a := &advertisement{name: obj.Name, kinds: s.Addresses, everyone: len(s.Peers) == 0, withoutEndpoints: s.WithoutEndpoints}
	if len(a.kinds) == 0 {
		a.kinds = []v1alpha1.ServiceAddress{v1alpha1.AddressLoadBalancer}
	}
	for _, kind := range a.kinds {
		c.oneOf("spec.addresses", string(kind), string(v1alpha1.AddressLoadBalancer), string(v1alpha1.AddressExternal), string(v1alpha1.AddressCluster))
	}
	a.services = orAll(c, "spec.serviceSelector", s.ServiceSelector)
	a.namespaces = orAll(c, "spec.namespaceSelector", s.NamespaceSelector)
	communities(c, "spec.communities", s.Communities, 0, false)
	if n := len(s.Communities); n > maxCommunities {
		c.failf("spec.communities", "are %d; use at most %d", n, maxCommunities)
	}
	for _, one := range s.Communities {
		a.communities = append(a.communities, string(one))
	}
	a.localPref = readUint32(c, "spec.localPref", s.LocalPref)
	a.med = readUint32(c, "spec.med", s.MED)
	if g := s.Aggregate; g != nil {
		a.aggregate = *g
		c.number("spec.aggregate.ipv4", int64(g.IPv4), 0, 32)
		c.number("spec.aggregate.ipv6", int64(g.IPv6), 0, 128)
		if g.Pool && g.IPv4+g.IPv6 != 0 {
			c.failf("spec.aggregate", "pool contradicts ipv4 and ipv6; write lengths, or pool: true")
		}
	}
	a.peers = slices.Compact(slices.Sorted(slices.Values(s.Peers)))
	return a
}

// orAll is selector for an advertisement: one with a mistake may select every
// Service, so that what is in force stays.
func orAll(c *checks, field string, s *metav1.LabelSelector) labels.Selector {
	n := len(c.faults)
	sel := selector(c, field, s)
	if len(c.faults) > n {
		return labels.Everything()
	}
	return sel
}

func readUint32(c *checks, field string, n *int64) *uint32 {
	if n == nil {
		return nil
	}
	c.number(field, *n, 0, math.MaxUint32)
	return new(uint32(*n)) //nolint:gosec // checked; a broken one is not used
}

// checkPeers finds names without a BGPPeer. While one is right, the others do no
// more harm than a peer that is down.
func (a *advertisement) checkPeers(c *checks, peers *peerSet, l *ledger) {
	var unknown []string
	for _, name := range a.peers {
		if !peers.known[name] {
			unknown = append(unknown, name)
		}
	}
	switch {
	case len(unknown) == 0:
	case len(unknown) == len(a.peers):
		c.failf("spec.peers", "no BGPPeer has the name %s; create it, or correct the name", some(unknown))
	default:
		l.problem("ServiceAdvertisement %s: spec.peers: no BGPPeer has the name %s; create it, or remove the name", a.name, some(unknown))
	}
}
