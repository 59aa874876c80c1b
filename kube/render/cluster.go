package render

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/kube/api/v1alpha1"
)

// MaxMesh is the largest full mesh: above it every node's sessions and the watches
// of all Nodes cost more than reflectors do.
const MaxMesh = 100

// cluster is the sessions inside the cluster.
type cluster struct {
	reflector *reflector
	mesh      *mesh
	peers     []peer // reflectors, by name
}

// taken returns the node that has a session under a name or with an address.
func (c *cluster) taken(name string, addr netip.Addr) (string, bool) {
	text := addr.String()
	for _, p := range c.peers {
		if p.Name == name || p.Address == text {
			return p.Name, true
		}
	}
	if c.mesh != nil {
		for _, n := range c.mesh.Nodes {
			if n.Name == name || n.Address == text {
				return n.Name, true
			}
		}
	}
	return "", false
}

// readCluster returns the sessions inside the cluster: with the reflectors, or
// without one in a mesh.
func readCluster(s *self, ros *roster, b *base, pools *poolSet, cur *current, l *ledger) *cluster {
	c := &cluster{}
	reflection := len(ros.reflectors) > 0
	meshed := !reflection && b.mode != v1alpha1.MeshOff
	l.out.Crowded = meshed && (ros.crowded || len(ros.nodes) > MaxMesh)
	l.out.NeedsAllNodes = meshed && !ros.crowded || s.reflector && len(b.clients) == 0
	l.out.NeedsHeard = l.out.NeedsAllNodes || len(ros.former) > 0
	if s.reflector && slices.ContainsFunc(ros.former, func(m member) bool { return ros.heard[m.first] }) {
		l.out.NeedsAllNodes = true
	}
	if b.sealed {
		l.problem("no sessions inside the cluster, because their key is missing: create the Secret of OnlinkConfig spec.reflection.passwordSecretRef")
		return c
	}
	switch {
	case reflection:
		c.reflect(s, ros, b, l)
		c.linger(ros, b, pools, l)
		if s.reflector {
			c.reflector = &reflector{PasswordFile: b.link.PasswordFile, Clients: clientRanges(ros, b, pools, cur, l)}
		}
	case meshed:
		c.mesh = readMesh(s, ros, b, cur, l)
	}
	return c
}

// isolated reports whether the node has no session inside the cluster though it should
// have one; peers are its BGPPeers, which connect nodes where there is neither a mesh
// nor a reflector.
func (c *cluster) isolated(ros *roster, b *base, peers int) bool {
	switch {
	case len(ros.reflectors) > 0:
		// The only reflector waits for its clients.
		return len(c.peers) == 0 && (c.reflector == nil || len(ros.reflectors) > 1)
	case b.mode != v1alpha1.MeshOff:
		return (c.mesh == nil || len(c.mesh.Nodes) < 2) && (ros.crowded || len(ros.nodes) > 1)
	}
	return peers == 0
}

// reflect adds a session with every reflector. Both ends of a session between
// reflectors choose the same family: IPv4 where both have it.
func (c *cluster) reflect(s *self, ros *roster, b *base, l *ledger) {
	for _, m := range ros.reflectors {
		if m.name == s.name {
			continue
		}
		addr := common(&s.member, &m)
		if !addr.IsValid() {
			l.problem("no session with reflector %s, which has no InternalIP of a family of this node's: give it one, or label another node %s", m.name, v1alpha1.ReflectorLabel)
			continue
		}
		c.peers = append(c.peers, peer{Name: m.name, Address: addr.String(), PasswordFile: b.link.PasswordFile, HoldTime: b.link.HoldTime, BFD: b.link.BFD})
	}
}

// common returns the address of m that s has a session with; invalid: they have no
// family in common.
func common(s, m *member) netip.Addr {
	if s.v4.IsValid() && m.v4.IsValid() {
		return m.v4
	}
	if s.v6.IsValid() {
		return m.v6
	}
	return netip.Addr{}
}

// clientRanges returns the ranges that a reflector accepts clients from: the
// configured ones, or the /24 and /64 networks around all Nodes, so that a node more
// or less changes nothing. A network that overlaps a pool is cut down until it does
// not: pods must not be clients.
func clientRanges(ros *roster, b *base, pools *poolSet, cur *current, l *ledger) []v1alpha1.CIDR {
	var list []netip.Prefix
	for _, p := range b.clients {
		if q, ok := pools.overlapping(p); ok {
			l.problem("OnlinkConfig spec.reflection.clients: %s overlaps %s of IPPool %s, and pods must not be clients: remove it, or write a part without the pool", p, q.cidr, q.name)
			continue
		}
		list = append(list, p)
	}
	if len(b.clients) == 0 {
		for _, m := range ros.nodes {
			for _, a := range m.addrs() {
				list = append(list, network(a, pools))
			}
		}
		for _, a := range heardClients(ros, cur) {
			list = append(list, network(a, pools))
			l.out.Lingers = true
		}
	}
	var out []v1alpha1.CIDR
	for _, p := range merge(list) {
		out = append(out, v1alpha1.CIDR(p.String()))
	}
	return out
}

// heardClients returns the addresses of clients without a Node that are heard: a range
// in force stays for them. See Input.Heard. A peer that is configured, such as the ToR
// in the nodes' network, is no client.
func heardClients(ros *roster, cur *current) (list []netip.Addr) {
	if cur.file == nil || cur.file.BGP.Reflector == nil {
		return nil
	}
	peers := map[string]bool{}
	for _, p := range cur.peers {
		peers[p.Address] = true
	}
	for a := range ros.heard {
		if ros.owners[a] == "" && !peers[a.String()] && slices.ContainsFunc(cur.file.BGP.Reflector.Clients, func(c v1alpha1.CIDR) bool {
			p, err := netip.ParsePrefix(string(c))
			return err == nil && p.Contains(a)
		}) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// network returns the largest network around an address that is apart from all
// pools.
func network(a netip.Addr, pools *poolSet) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p := netip.PrefixFrom(a, bits).Masked()
	for bits < a.BitLen() {
		if _, ok := pools.overlapping(p); !ok {
			break
		}
		bits++
		p = netip.PrefixFrom(a, bits).Masked()
	}
	return p
}

// readMesh returns the mesh: the same list on every node. It is of one family, IPv4
// where a node has it: each of two ends finds the other by the address in the list.
func readMesh(s *self, ros *roster, b *base, cur *current, l *ledger) *mesh {
	nodes := ros.nodes
	if l.out.Crowded {
		nodes = meshInForce(ros, cur)
		l.problem("more than %d nodes are too many for a mesh, which stays as it is: label two or three nodes %s, which makes them route reflectors", MaxMesh, v1alpha1.ReflectorLabel)
	}
	if !slices.ContainsFunc(nodes, func(m member) bool { return m.name == s.name }) {
		return nil
	}
	m := &mesh{link: b.link}
	v4 := slices.ContainsFunc(nodes, func(m member) bool { return m.v4.IsValid() })
	var other []string
	for _, n := range nodes {
		addr := n.v6
		if v4 {
			addr = n.v4
		}
		if !addr.IsValid() {
			other = append(other, n.name)
			continue
		}
		m.Nodes = append(m.Nodes, meshNode{Name: n.name, Address: addr.String()})
	}
	if !l.out.Crowded {
		if kept := heardMembers(ros, cur); len(kept) > 0 {
			m.Nodes = append(m.Nodes, kept...)
			slices.SortStableFunc(m.Nodes, func(a, b meshNode) int { return compareNames(a.Name, b.Name) })
			l.out.Lingers = true
		}
	}
	if len(other) > 0 {
		l.problem("nodes without an IPv4 InternalIP have no sessions in the mesh, where others have one: %s; give them one, or label a dual-stack node %s", some(other), v1alpha1.ReflectorLabel)
	}
	if slices.Contains(other, s.name) {
		return nil
	}
	return m
}

// heardMembers returns the members of the mesh in force without a Node that are heard.
// See Input.Heard.
func heardMembers(ros *roster, cur *current) (list []meshNode) {
	for _, n := range absent(ros, cur) {
		if a, err := netip.ParseAddr(n.Address); err == nil && ros.heard[a] {
			list = append(list, n)
		}
	}
	return list
}

// absent returns the members of the mesh in force without a Node.
func absent(ros *roster, cur *current) (list []meshNode) {
	if cur.file == nil || cur.file.BGP.Mesh == nil {
		return nil
	}
	for _, n := range cur.file.BGP.Mesh.Nodes {
		a, err := netip.ParseAddr(n.Address)
		if err == nil && ros.owners[a] == "" && !slices.ContainsFunc(ros.nodes, func(m member) bool { return m.name == n.Name }) {
			list = append(list, n)
		}
	}
	return list
}

// meshInForce returns the nodes of the mesh in force that are still there. Which ones
// are is not known in a cluster where no node watches all Nodes: then all of them.
func meshInForce(ros *roster, cur *current) []member {
	if cur.file == nil || cur.file.BGP.Mesh == nil {
		return nil
	}
	var out []member
	for _, n := range cur.file.BGP.Mesh.Nodes {
		at := slices.IndexFunc(ros.nodes, func(m member) bool { return m.name == n.Name })
		addr, err := netip.ParseAddr(n.Address)
		switch {
		case at >= 0:
			out = append(out, ros.nodes[at])
		case ros.crowded && err == nil && addr.Is4():
			out = append(out, member{name: n.Name, v4: addr, first: addr})
		case ros.crowded && err == nil:
			out = append(out, member{name: n.Name, v6: addr, first: addr})
		}
	}
	return out
}

// sourcesOf records the fields of the sessions inside the cluster.
func (c *cluster) sourcesOf(l *ledger) {
	config := Object{kindConfig, v1alpha1.ConfigName}
	for _, field := range []string{"bgp", "ipam", "tunnel", "fib", "api", "cni", "log", "bgp.mesh", "bgp.reflector"} {
		l.out.Sources[field] = config
	}
	for i := range c.peers {
		l.out.Sources[fmt.Sprintf("bgp.peers[%d]", i)] = config
	}
}
