package render

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// rangePool is an accepted IPPool.
type rangePool struct {
	name       string
	cidr       netip.Prefix
	pods       bool // has addresses for pods
	services   bool // has addresses for services
	namespaces labels.Selector
	entry      pool // of the agent's file; only of a pool for pods
	manual     bool // by its object; entry.Manual is also true of one with a namespaceSelector
	usable     bool // the node has an address of the pool's family
}

// poolSet is the accepted pools, by name.
type poolSet struct {
	list []rangePool
	// unsure are ranges of which it is not known whether they are for services: those of
	// rejected pools, and everything where there is no pool at all. What is in force
	// there stays.
	unsure []netip.Prefix
}

// forPods returns the name of the pool for pods that an address is in.
func (s *poolSet) forPods(a netip.Addr) (string, bool) {
	for i := range s.list {
		if p := &s.list[i]; p.pods && p.cidr.Contains(a) {
			return p.name, true
		}
	}
	return "", false
}

// forServices returns the range for services that an address is in.
func (s *poolSet) forServices(a netip.Addr) (netip.Prefix, bool) {
	for i := range s.list {
		if p := &s.list[i]; p.services && !p.pods && p.cidr.Contains(a) {
			return p.cidr, true
		}
	}
	return netip.Prefix{}, false
}

func newPoolSet(in *Input) *poolSet {
	set := &poolSet{}
	if len(in.Pools) == 0 {
		set.unsure = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	return set
}

// doubt notes the range of a rejected pool.
func (s *poolSet) doubt(p *rangePool) {
	if p.services && p.cidr.IsValid() {
		s.unsure = append(s.unsure, p.cidr)
	}
}

// unsureOf reports whether an address is in a range that may be for services.
func (s *poolSet) unsureOf(a netip.Addr) bool {
	return slices.ContainsFunc(s.unsure, func(p netip.Prefix) bool { return p.Contains(a) })
}

// overlapping returns the first accepted pool for pods that overlaps a prefix.
func (s *poolSet) overlapping(p netip.Prefix) (*rangePool, bool) {
	for i := range s.list {
		if q := &s.list[i]; q.pods && q.cidr.Overlaps(p) {
			return q, true
		}
	}
	return nil, false
}

// entries returns the pools of the agent's file.
func (s *poolSet) entries() []rangePool {
	return slices.DeleteFunc(slices.Clone(s.list), func(p rangePool) bool { return !p.pods || !p.usable })
}

// claim is an address that is not for pods.
type claim struct {
	addr    netip.Addr
	what    string
	created time.Time
}

// choosePools accepts the pools, the oldest first.
func choosePools(in *Input, s *self, ros *roster, cur *current, l *ledger) *poolSet {
	claims := addressClaims(in, s, ros)
	set := newPoolSet(in)
	podPools := 0
	for _, obj := range byAge(in.Pools, poolMeta) {
		var c checks
		p := readPool(&c, obj, s, l)
		if why := l.broken(kindPool, obj.Name); why != "" {
			c.faults = []string{why}
		}
		why := c.reason()
		if why == "" {
			why = set.against(&p, obj, claims)
		}
		if why != "" {
			l.reject(kindPool, &obj.ObjectMeta, why)
			set.doubt(&p)
			kept, ok := cur.pools[obj.Name]
			if !ok {
				continue
			}
			if p = readKept(kept, obj, s); !p.cidr.IsValid() || set.against(&p, obj, claims) != "" {
				continue
			}
		}
		if p.pods {
			podPools++
		}
		set.list = append(set.list, p)
	}
	slices.SortFunc(set.list, func(a, b rangePool) int { return compareNames(a.name, b.name) })
	if podPools > 0 && len(set.entries()) == 0 {
		l.problem("no IPPool is of a family of this node's InternalIPs (%s): add a pool of that family, or an address to the Node", s.first)
	}
	return set
}

// addressClaims returns the addresses that a pool must not hold: those of Nodes
// and of peers.
func addressClaims(in *Input, s *self, ros *roster) []claim {
	var out []claim
	for _, m := range ros.nodes {
		for _, a := range m.addrs() {
			created := m.created
			if m.name == s.name {
				created = time.Time{} // this node cannot do without its address
			}
			out = append(out, claim{a, "node " + m.name, created})
		}
	}
	for _, p := range byAge(in.Peers, peerMeta) {
		if a, err := netip.ParseAddr(p.Spec.Address); err == nil && selects(p.Spec.NodeSelector, s.labels) {
			out = append(out, claim{a.Unmap().WithZone(""), "BGPPeer " + p.Name, p.CreationTimestamp.Time})
		}
	}
	return out
}

// against returns why a pool contradicts the accepted ones, or an older claim; "":
// it does not.
func (s *poolSet) against(p *rangePool, obj *v1alpha1.IPPool, claims []claim) string {
	for i := range s.list {
		if o := &s.list[i]; o.cidr.Overlaps(p.cidr) {
			return fmt.Sprintf("spec.cidr: %s overlaps %s of the older IPPool %s; delete this pool, and make one of a range of its own", p.cidr, o.cidr, o.name)
		}
	}
	if !p.pods {
		return ""
	}
	for _, c := range claims {
		if p.cidr.Contains(c.addr) && !c.created.After(obj.CreationTimestamp.Time) {
			return fmt.Sprintf("spec.cidr: %s has the address %s of %s; delete this pool, and make one of a range of its own", p.cidr, c.addr, c.what)
		}
	}
	return ""
}

// readPool reads an object.
func readPool(c *checks, obj *v1alpha1.IPPool, s *self, l *ledger) rangePool {
	spec := &obj.Spec
	p := rangePool{name: obj.Name, entry: pool{
		Name: obj.Name, CIDR: spec.CIDR, BlockSize: spec.BlockSize, Encapsulation: spec.Encapsulation, Tunnel: spec.Tunnel,
		NATOutgoing: spec.NATOutgoing, Disabled: spec.Disabled, Manual: spec.Manual, Reserved: spec.Reserved,
	}}
	p.readUses(spec)
	nodes := selector(c, "spec.nodeSelector", spec.NodeSelector)
	p.namespaces = selector(c, "spec.namespaceSelector", spec.NamespaceSelector)
	for _, use := range spec.Uses {
		c.oneOf("spec.uses", string(use), string(v1alpha1.UsePod), string(v1alpha1.UseLoadBalancer))
	}
	p.check(c, "spec.cidr")
	if len(c.faults) > 0 || !p.pods {
		return p
	}
	p.usable = s.has(p.cidr.Addr())
	if spec.FromNodePodCIDR && p.usable {
		p.fromNode(c, s, l)
	}
	// The routes of the pool's other nodes are accepted here all the same.
	p.entry.Disabled = p.entry.Disabled || !nodes.Matches(s.labels)
	// A namespace is matched by its labels, which the agent does not know: it gets
	// the pools of namespaces by name.
	p.entry.Manual = p.entry.Manual || !p.namespaces.Empty()
	return p
}

func (p *rangePool) readUses(spec *v1alpha1.IPPoolSpec) {
	p.pods = len(spec.Uses) == 0 || slices.Contains(spec.Uses, v1alpha1.UsePod)
	p.services = slices.Contains(spec.Uses, v1alpha1.UseLoadBalancer)
	p.manual = spec.Manual
}

// readKept reads the entry in force of an object that is broken; its cidr is
// invalid when that is of no use either.
func readKept(entry pool, obj *v1alpha1.IPPool, s *self) rangePool {
	var c checks
	p := rangePool{name: obj.Name, pods: true, entry: entry, manual: obj.Spec.Manual, namespaces: labels.Everything()}
	if p.check(&c, "cidr"); len(c.faults) > 0 {
		p.cidr = netip.Prefix{}
		return p
	}
	p.usable = s.has(p.cidr.Addr())
	if sel := selector(&c, "", obj.Spec.NamespaceSelector); len(c.faults) == 0 {
		p.namespaces = sel
	}
	return p
}

// check checks the entry of the file, and fills in the range.
func (p *rangePool) check(c *checks, field string) {
	if !plainName(p.name) {
		c.failf("metadata.name", "is empty; name the pool")
	}
	cidr := c.prefix(field, p.entry.CIDR)
	if !cidr.IsValid() {
		return
	}
	p.cidr = cidr
	if i := slices.IndexFunc(special, cidr.Overlaps); i >= 0 {
		c.failf(field, "%s overlaps %s, whose addresses no pod and no service can have; use a private range such as 10.244.0.0/16", cidr, special[i])
	}
	if !p.pods {
		return
	}
	e := &p.entry
	low, usual, high := blockSizes(cidr)
	size := int(e.BlockSize)
	if size == 0 {
		size = usual
	}
	if size < max(low, cidr.Bits()) || size > high {
		c.failf("spec.blockSize", "a block of /%d does not fit into %s; use %d to %d", size, cidr, max(low, cidr.Bits()), high)
	}
	c.oneOf("spec.encapsulation", e.Encapsulation, "Never", "CrossSubnet", "Always")
	c.oneOf("spec.tunnel", e.Tunnel, "ipip", "vxlan", "none")
	if e.Encapsulation == "Always" && e.Tunnel == "none" {
		c.failf("spec.tunnel", "none contradicts encapsulation: Always; use ipip or vxlan, or encapsulation: Never")
	}
	for i, text := range e.Reserved {
		checkReserved(c, fmt.Sprintf("spec.reserved[%d]", i), text, cidr)
	}
}

func checkReserved(c *checks, field, text string, cidr netip.Prefix) {
	var r netip.Prefix
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		r = host(a.Unmap())
	} else if r = c.prefix(field, v1alpha1.CIDR(text)); !r.IsValid() {
		return
	}
	if r.Addr().BitLen() != cidr.Addr().BitLen() || !contains(cidr, r) {
		c.failf(field, "%s is not inside %s; remove it", text, cidr)
	}
}

// blockSizes returns the lengths of blocks: of the largest, the usual and the
// smallest one that the agent can have.
func blockSizes(cidr netip.Prefix) (low, usual, high int) {
	if cidr.Addr().Is4() {
		return 20, 26, 32
	}
	return 116, 122, 128
}

// fromNode makes the pool's blocks those of Node.spec.podCIDRs. A range that is
// larger than the largest block stands for its first block of that size.
func (p *rangePool) fromNode(c *checks, s *self, l *ledger) {
	low, _, _ := blockSizes(p.cidr)
	at := slices.IndexFunc(s.podCIDRs, func(q netip.Prefix) bool {
		return q.Addr().BitLen() == p.cidr.Addr().BitLen() && contains(p.cidr, q)
	})
	size := 24 // kube-controller-manager's --node-cidr-mask-size
	if p.cidr.Addr().Is6() {
		size = 64
	}
	if at >= 0 {
		size = s.podCIDRs[at].Bits()
	} else {
		// The routes of the other nodes' blocks are accepted meanwhile.
		p.entry.Disabled = true
		l.problem("IPPool %s: this Node has no podCIDR inside %s, so it takes no address from the pool: start kube-controller-manager with "+
			"--allocate-node-cidrs and --cluster-cidr=%s, or make a pool without fromNodePodCIDR", p.name, p.cidr, p.cidr)
	}
	p.entry.BlockSize = int32(max(size, low, p.cidr.Bits())) //nolint:gosec // at most 128
	if p.entry.BlockSize > int32(p.cidr.Addr().BitLen()) {   //nolint:gosec // at most 128
		c.failf("spec.fromNodePodCIDR", "no block fits into %s", p.cidr)
	}
}

// avoid leaves those nodes out of the roster that have an address of an accepted pool, which
// is older than they are: it belongs to pods.
func (s *poolSet) avoid(r *roster, l *ledger) {
	inside := func(m member) bool {
		if m.name == r.self.name {
			return false
		}
		for _, a := range m.addrs() {
			if p, ok := s.forPods(a); ok {
				l.problem("node %s has the address %s of IPPool %s: give it an address outside the pools, until then it has no sessions", m.name, a, p)
				return true
			}
		}
		return false
	}
	r.nodes = slices.DeleteFunc(r.nodes, inside)
	r.reflectors = slices.DeleteFunc(r.reflectors, inside)
	slices.SortFunc(r.reflectors, byName)
}
