package render

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// member is a Node as an end of sessions.
type member struct {
	name    string
	v4, v6  netip.Addr // the first InternalIP of each family; invalid: none
	first   netip.Addr // the first InternalIP
	created time.Time
}

// self is this node.
type self struct {
	member

	labels    labels.Set
	podCIDRs  []netip.Prefix
	reflector bool
}

// has reports whether the node has addresses of the family of a.
func (m *member) has(a netip.Addr) bool {
	if a.Is4() {
		return m.v4.IsValid()
	}
	return m.v6.IsValid()
}

// addrs returns the addresses of a member.
func (m *member) addrs() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{m.v4, m.v6}, func(a netip.Addr) bool { return !a.IsValid() })
}

func readSelf(in *Input) (*self, error) {
	switch {
	case in.Config == nil:
		return nil, errors.New("no OnlinkConfig named default: create it; until then the configuration in force stays")
	case in.Node == nil || !plainName(in.Node.Name):
		return nil, errors.New("no Node of this machine: start the kubelet with the name in NODE_NAME")
	}
	s := &self{member: readMember(in.Node), labels: in.Node.Labels, reflector: IsReflector(in.Node)}
	if !s.first.IsValid() {
		return nil, fmt.Errorf("node %s has no InternalIP: set the kubelet's --node-ip, or let the cloud provider set the addresses", s.name)
	}
	cidrs := in.Node.Spec.PodCIDRs
	if len(cidrs) == 0 {
		cidrs = []string{in.Node.Spec.PodCIDR}
	}
	for _, text := range cidrs {
		if p, err := netip.ParsePrefix(text); err == nil {
			s.podCIDRs = append(s.podCIDRs, p.Masked())
		}
	}
	return s, nil
}

// IsReflector reports whether a Node is labelled as a route reflector.
func IsReflector(n *corev1.Node) bool {
	v, ok := n.Labels[v1alpha1.ReflectorLabel]
	return ok && v != "false"
}

func readMember(n *corev1.Node) member {
	m := member{name: n.Name, created: n.CreationTimestamp.Time}
	for _, a := range n.Status.Addresses {
		addr, err := netip.ParseAddr(a.Address)
		if a.Type != corev1.NodeInternalIP || err != nil {
			continue
		}
		if addr = addr.Unmap(); !reachable(addr) {
			continue
		}
		if !m.first.IsValid() {
			m.first = addr
		}
		switch {
		case addr.Is4() && !m.v4.IsValid():
			m.v4 = addr
		case addr.Is6() && !m.v6.IsValid():
			m.v6 = addr
		}
	}
	return m
}

// reachable reports whether an address can be that of one machine for all others.
func reachable(a netip.Addr) bool {
	return a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// roster is the Nodes that this one may have sessions with, this one among them.
type roster struct {
	self       *self
	nodes      []member // by name; those of Input.Nodes and of Input.Reflectors
	reflectors []member // by name
	owners     map[netip.Addr]string
	crowded    bool // nodes are not all Nodes: see Input.Crowded
	heard      map[netip.Addr]bool
	former     []member // by name: reflectors that are none any more, while others are
}

// readRoster reads the other Nodes. Without an address, or with that of an older
// one (a cloned machine), a Node is left out with a problem: it would make the
// file a contradiction, and with it stop everything.
func readRoster(in *Input, s *self, l *ledger) *roster {
	r := &roster{self: s, owners: map[netip.Addr]string{}, crowded: in.Crowded, heard: in.Heard}
	r.add(s.member)
	if s.reflector {
		r.reflectors = append(r.reflectors, s.member)
	}
	seen := map[string]bool{s.name: true}
	var without []string
	list := byAge(slices.Concat(in.Nodes, in.Reflectors), nodeMeta)
	reflects := map[string]bool{}
	for _, n := range in.Reflectors {
		reflects[n.Name] = IsReflector(n)
	}
	for _, n := range list {
		if seen[n.Name] || !plainName(n.Name) {
			continue
		}
		seen[n.Name] = true
		m := readMember(n)
		if !m.first.IsValid() {
			without = append(without, m.name)
			continue
		}
		if at := slices.IndexFunc(m.addrs(), func(a netip.Addr) bool { return r.owners[a] != "" }); at >= 0 {
			a := m.addrs()[at]
			l.problem("node %s has the address %s of node %s: give one of them another, until then node %s has no sessions", m.name, a, r.owners[a], m.name)
			continue
		}
		r.add(m)
		if reflects[m.name] {
			r.reflectors = append(r.reflectors, m)
		}
	}
	if len(without) > 0 {
		l.problem("no sessions with nodes that have no InternalIP: %s; set their kubelet's --node-ip", some(without))
	}
	return r
}

func (r *roster) add(m member) {
	r.nodes = append(r.nodes, m)
	for _, a := range m.addrs() {
		r.owners[a] = m.name
	}
	slices.SortFunc(r.nodes, byName)
}
