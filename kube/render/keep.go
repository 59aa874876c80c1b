package render

import (
	"cmp"
	"reflect"
	"slices"

	"onlink/kube/api/v1alpha1"
)

// vanished returns the kinds of which there is no object, and something is in force: of a
// process that starts when the objects are gone nothing else shows that there were some.
func vanished(in *Input, cur *current) (kinds []string) {
	if len(in.Pools) == 0 && len(cur.pools) > 0 {
		kinds = append(kinds, kindPool)
	}
	if len(in.Peers) == 0 && slices.ContainsFunc(keys(cur.peers), func(name string) bool { return !ofReflector(cur.peers[name]) }) {
		kinds = append(kinds, kindPeer)
	}
	if len(in.Advertisements) == 0 && len(in.Announced) > 0 {
		kinds = append(kinds, kindAdvertisement)
	}
	return kinds
}

// ofReflector reports whether an entry of the file looks like the session with a
// reflector. That of a BGPPeer may look so too, when it has an address and no more.
func ofReflector(p peer) bool {
	return reflect.DeepEqual(p, peer{Name: p.Name, Address: p.Address, PasswordFile: p.PasswordFile, HoldTime: p.HoldTime, BFD: p.BFD})
}

// keeping returns the file together with what is in force and has no object any more:
// the sessions, pools and filters that the file lacks and nothing in it contradicts. It
// is what a node can have while the removal of those waits for a confirmation: new
// objects do not wait with it. Nil: the file lacks nothing.
func (f *file) keeping(cur *current) *file {
	if cur.file == nil {
		return nil
	}
	out := *f
	out.BGP.Peers, out.BGP.Filters, out.Pools = slices.Clone(f.BGP.Peers), slices.Clone(f.BGP.Filters), slices.Clone(f.Pools)
	out.keepMesh(cur)
	out.keepPeers(cur)
	for _, name := range keys(cur.pools) {
		if kept := cur.pools[name]; !slices.ContainsFunc(out.Pools, func(p pool) bool { return p.Name == name || overlap(p.CIDR, kept.CIDR) }) {
			out.Pools = append(out.Pools, kept)
		}
	}
	if reflect.DeepEqual(&out, f) {
		return nil
	}
	// As in the file in force: without a new object the text is the same.
	asInForce(out.BGP.Peers, cur, func(p peer) string { return p.Name })
	asInForce(out.BGP.Filters, cur, func(p filter) string { return p.Name })
	asInForce(out.Pools, cur, func(p pool) string { return p.Name })
	return &out
}

// asInForce sorts a list as the file in force has its entries; new ones follow.
func asInForce[T any](list []T, cur *current, name func(T) string) {
	rank := func(v T) int {
		if at := slices.Index(cur.order, name(v)); at >= 0 {
			return at
		}
		return len(cur.order)
	}
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(rank(a), rank(b)) })
}

// keepMesh keeps the nodes of the mesh in force.
func (f *file) keepMesh(cur *current) {
	was := cur.file.BGP.Mesh
	if was == nil {
		return
	}
	m := mesh{link: was.link}
	if f.BGP.Mesh != nil {
		m = *f.BGP.Mesh
	}
	m.Nodes = slices.Clone(m.Nodes)
	for _, n := range was.Nodes {
		if !f.has(n.Name, n.Address) {
			m.Nodes = append(m.Nodes, n)
		}
	}
	slices.SortStableFunc(m.Nodes, func(a, b meshNode) int { return compareNames(a.Name, b.Name) })
	if len(m.Nodes) > 0 {
		f.BGP.Mesh = &m
	}
}

// silent reports whether kept has more than f in nothing but nodes of the mesh, and former
// reflectors, that are deleted and were not heard: their sessions are down, and carry
// nothing.
func silent(f, kept *file, ros *roster, cur *current) bool {
	parts := func(f *file) [4]int {
		nodes := 0
		if f.BGP.Mesh != nil {
			nodes = len(f.BGP.Mesh.Nodes)
		}
		return [4]int{nodes, len(f.BGP.Peers), len(f.BGP.Filters), len(f.Pools)}
	}
	less := parts(kept) // kept has all that f has
	if !ros.crowded {
		less[0] -= len(absent(ros, cur)) - len(heardMembers(ros, cur))
	}
	less[1] -= len(ros.gone(false))
	return parts(f) == less
}

// keepPeers keeps peers, and the filters that they have.
func (f *file) keepPeers(cur *current) {
	for _, name := range keys(cur.peers) {
		p := cur.peers[name]
		if f.has(p.Name, p.Address) {
			continue
		}
		if f.BGP.Reflector == nil {
			p.Client = false
		}
		f.BGP.Peers = append(f.BGP.Peers, p)
		for _, name := range slices.Concat(p.filters(false), p.filters(true)) {
			if kept, ok := cur.filters[name]; ok && !slices.ContainsFunc(f.BGP.Filters, func(o filter) bool { return o.Name == name }) {
				f.BGP.Filters = append(f.BGP.Filters, kept)
			}
		}
	}
}

// has reports whether the file has a session of a name, or with an address.
func (f *file) has(name, address string) bool {
	same := func(n, a string) bool { return n == name || address != "" && a == address }
	if m := f.BGP.Mesh; m != nil && slices.ContainsFunc(m.Nodes, func(n meshNode) bool { return same(n.Name, n.Address) }) {
		return true
	}
	return slices.ContainsFunc(f.BGP.Peers, func(p peer) bool { return same(p.Name, p.Address) })
}

func overlap(a, b v1alpha1.CIDR) bool {
	var c checks
	p, q := c.prefix("", a), c.prefix("", b)
	return !p.IsValid() || !q.IsValid() || p.Overlaps(q)
}
