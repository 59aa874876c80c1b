package render

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/kube/api/v1alpha1"
)

// peerContext is what peers are checked against.
type peerContext struct {
	in      *Input
	self    *self
	base    *base
	cluster *cluster
	filters *filterSet
	pools   *poolSet
	roster  *roster
}

// peerSet is the accepted BGPPeers of this node, by name.
type peerSet struct {
	list     []peer
	excluded map[string]bool // includeExcludedNodes
	known    map[string]bool // all BGPPeers, of other nodes too
	filters  map[string]filter
}

// choosePeers accepts the BGPPeers that select this node, the oldest first.
func choosePeers(x *peerContext, cur *current, l *ledger) *peerSet {
	set := &peerSet{excluded: map[string]bool{}, known: map[string]bool{}, filters: map[string]filter{}}
	for _, obj := range byAge(x.in.Peers, peerMeta) {
		set.known[obj.Name] = true
		var c checks
		nodes := selector(&c, "spec.nodeSelector", obj.Spec.NodeSelector)
		broken := len(c.faults) > 0 // it may select this node: what is in force stays
		if !broken && !nodes.Matches(x.self.labels) {
			continue
		}
		p := peerOf(obj)
		key := readKey(x.in, &c, "spec.passwordSecretRef", obj.Spec.PasswordSecretRef)
		p.PasswordFile = key.path()
		x.check(&c, &p, set, nil)
		if why := l.broken(kindPeer, obj.Name); why != "" {
			c.faults = []string{why}
		}
		if why := c.reason(); why != "" {
			l.reject(kindPeer, &obj.ObjectMeta, why)
			kept, ok := cur.peers[obj.Name]
			if !ok || !x.mend(&kept, set, cur.filters) {
				continue
			}
			if p = kept; p.PasswordFile == key.path() {
				l.keep(key)
			}
		} else {
			l.keep(key)
		}
		set.list = append(set.list, p)
		set.excluded[p.Name] = obj.Spec.IncludeExcludedNodes
	}
	slices.SortFunc(set.list, func(a, b peer) int { return compareNames(a.Name, b.Name) })
	x.collectFilters(set, cur)
	return set
}

// mend makes the entry in force of a broken object fit what is there now, and
// reports whether it does: an aggregate of a deleted pool goes, the session stays.
func (x *peerContext) mend(p *peer, set *peerSet, former map[string]filter) bool {
	if x.cluster.reflector == nil {
		p.Client = false
	}
	if e := p.Export; e != nil && len(e.Aggregates) > 0 {
		changed := *e
		changed.Aggregates = slices.DeleteFunc(slices.Clone(e.Aggregates), func(a v1alpha1.ExportAggregate) bool {
			var c checks
			x.checkAggregate(&c, "", a)
			return len(c.faults) > 0
		})
		p.Export = &changed
	}
	var c checks
	x.check(&c, p, set, former)
	return len(c.faults) == 0
}

// collectFilters takes the filters of the file: all accepted ones, and those that
// only an entry in force uses any more.
func (x *peerContext) collectFilters(set *peerSet, cur *current) {
	maps.Copy(set.filters, x.filters.chosen)
	for i := range set.list {
		for _, name := range append(set.list[i].filters(false), set.list[i].filters(true)...) {
			if _, ok := set.filters[name]; !ok {
				set.filters[name] = cur.filters[name]
			}
		}
	}
}

// check checks an entry. former are filters that it may have besides the accepted
// ones.
func (x *peerContext) check(c *checks, p *peer, set *peerSet, former map[string]filter) {
	x.checkAddress(c, p, set)
	external := p.external(x.base.asn)
	c.number("spec.port", int64(p.Port), 0, math.MaxUint16)
	c.asn("spec.asn", p.ASN)
	c.asn("spec.localASN", p.LocalASN)
	checkTimers(c, p)
	c.bfd("spec.bfd", p.BFD)
	c.number("spec.ttlSecurity", int64(p.TTLSecurity), 0, 254)
	c.number("spec.multihop", int64(p.Multihop), 0, 255)
	c.number("spec.allowOwnAS", int64(p.AllowOwnAS), 0, 10)
	x.checkAS(c, p, external)
	x.checkImport(c, p.Import, external)
	x.checkExport(c, p.Export, external)
	for _, export := range []bool{false, true} {
		for i, name := range p.filters(export) {
			x.checkFilter(c, fmt.Sprintf("spec.%s.filters[%d]", direction(export), i), name, former, export, external)
		}
	}
}

func (x *peerContext) checkAddress(c *checks, p *peer, set *peerSet) {
	if !plainName(p.Name) {
		c.failf("metadata.name", "is empty; name the peer")
	}
	if len(p.Interface) > 15 || strings.ContainsAny(p.Interface, ":/% \t\n") {
		c.failf("spec.interface", "%q is not the name of an interface; use one such as eth1", p.Interface)
	}
	if p.Address == "" {
		switch {
		case p.Interface == "":
			c.failf("spec.address", "is missing; write the peer's IP address, or interface: eth1 for the router at the other end of a cable")
		case p.BFD != nil:
			c.failf("spec.bfd", "needs the peer's address; add it, or remove bfd")
		}
		if node, ok := x.cluster.taken(p.Name, netip.Addr{}); ok {
			c.failf("metadata.name", "is also the name of the session with node %s; use another", node)
		}
		return
	}
	a, err := netip.ParseAddr(p.Address)
	a = a.Unmap()
	switch {
	case err != nil:
		c.failf("spec.address", "%q is not an IP address; use one such as 10.57.0.1, fd00::1 or fe80::1%%eth0", p.Address)
		return
	case a.IsUnspecified() || a.IsMulticast():
		c.failf("spec.address", "%s is not one machine's address; write the peer's own", a)
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		c.failf("spec.address", "%s is link-local and has no interface; write %s%%eth0 with the interface's name", a, a)
	}
	p.Address = a.String()
	if slices.Contains(x.self.addrs(), a) {
		c.failf("spec.address", "%s is the address of this node; write the peer's, or exclude the node by nodeSelector", a)
	} else if node, ok := x.cluster.taken(p.Name, a); ok {
		c.failf("spec.address", "%s (%s) has a session already, that with node %s; use another name and address, or delete this peer", a, p.Name, node)
	}
	if name, ok := x.pools.forPods(a); ok {
		c.failf("spec.address", "%s is inside IPPool %s, which belongs to pods; write the peer's address, or use another pool", a, name)
	}
	for i := range set.list {
		if o := &set.list[i]; o.Address == p.Address {
			c.failf("spec.address", "%s is also the address of the older BGPPeer %s on this node; delete one, or set nodeSelector: a router has one session with a node", a, o.Name)
		}
	}
}

func checkTimers(c *checks, p *peer) {
	n := len(c.faults)
	hold := c.seconds("spec.holdTime", p.HoldTime, minHoldTime, maxHoldTime)
	if p.HoldTime == "" {
		hold = usualHoldTime
	}
	keep := c.seconds("spec.keepalive", p.Keepalive, time.Second, maxHoldTime/3)
	if len(c.faults) == n && keep*3 > hold {
		c.failf("spec.keepalive", "%s is more than a third of the hold time %s; use at most %s (RFC 4271 section 10)", keep, hold, (hold / 3).Truncate(time.Second))
	}
	c.seconds("spec.connectRetry", p.ConnectRetry, minConnectRetry, maxConnectRetry)
	c.seconds("spec.longLivedRestart", p.LongLivedRestart, 0, maxLongLived)
}

// checkAS checks what only peers of another AS, or only peers of ours, can have.
func (x *peerContext) checkAS(c *checks, p *peer, external bool) {
	own := x.base.asn
	inside := func(set bool, field, fix string) {
		if set && !external {
			c.failf(field, "is for peers of another AS, and this one is of ours (%d); %s", own, fix)
		}
	}
	inside(p.Multihop > 0, "spec.multihop", "remove it")
	inside(p.LocalASN != 0, "spec.localASN", "remove it")
	if d, err := time.ParseDuration(string(p.LongLivedRestart)); err == nil {
		inside(d != 0, "spec.longLivedRestart", "remove it: the blocks of a dead node must go")
	}
	switch {
	case p.Multihop > 0 && p.TTLSecurity > 0:
		c.failf("spec.multihop", "cannot be combined with ttlSecurity, which sends with TTL 255 (RFC 5082); remove one")
	case p.LocalASN != 0 && p.LocalASN == p.ASN:
		c.failf("spec.localASN", "%d is the peer's own AS; use another", p.ASN)
	case p.Client && external:
		c.failf("spec.client", "is for peers of our AS (%d), and this one is of %d; remove it", own, p.ASN)
	case p.Client && x.cluster.reflector == nil:
		c.failf("spec.client", "needs a reflector, and this node is none: label the node %s, select reflectors by nodeSelector, or remove client", v1alpha1.ReflectorLabel)
	}
}

func (x *peerContext) checkImport(c *checks, in *v1alpha1.Import, external bool) {
	if in == nil {
		return
	}
	c.rules("spec.import.accept", in.Accept)
	c.number("spec.import.maxPrefixes", in.MaxPrefixes, 0, math.MaxUint32)
	c.optional("spec.import.localPref", in.LocalPref, 1)
	switch {
	case !external && in.LocalPref != nil:
		c.failf("spec.import.localPref", "is for peers of another AS, and this one is of ours (%d); use a BGPFilter with set: {localPref: %d}", x.base.asn, *in.LocalPref)
	case !external && in.DisableConnectedCheck:
		c.failf("spec.import.disableConnectedCheck", "is for peers of another AS, and this one is of ours (%d), which may have next hops anywhere; remove it", x.base.asn)
	case external && in.DisableOwnerCheck:
		c.failf("spec.import.disableOwnerCheck", "is for peers of our AS (%d): the owner of a block behind another AS is not checked; remove it", x.base.asn)
	}
}

func (x *peerContext) checkExport(c *checks, out *v1alpha1.Export, external bool) {
	if out == nil {
		return
	}
	c.rules("spec.export.prefixes", out.Prefixes)
	communities(c, "spec.export.communities", out.Communities, 0, false)
	c.optional("spec.export.med", out.MED, 0)
	hides := out.Own != nil && !*out.Own
	switch {
	case hides && !external:
		c.failf("spec.export.own", "false is for peers of another AS, and this one is of ours (%d), which needs this node's blocks; "+
			"to hide some of them, use a BGPFilter that rejects {source: own, prefixes: [...]}", x.base.asn)
	case out.Reflected && external:
		c.failf("spec.export.reflected", "is for peers of our AS (%d); remove it: a node provides no transit", x.base.asn)
	case len(out.Aggregates) > 0 && !external:
		c.failf("spec.export.aggregates", "is for peers of another AS, and this one is of ours (%d), which needs the blocks; remove it", x.base.asn)
	case len(out.Aggregates) > 0 && hides:
		c.failf("spec.export.aggregates", "has no use with own: false; remove one")
	}
	for i, a := range out.Aggregates {
		x.checkAggregate(c, fmt.Sprintf("spec.export.aggregates[%d]", i), a)
	}
}

// checkAggregate keeps aggregates inside the pools: a node attracts the packets for
// all of an aggregate and needs a route for each of them.
func (x *peerContext) checkAggregate(c *checks, at string, a v1alpha1.ExportAggregate) {
	p := c.prefix(at+".prefix", a.Prefix)
	if !p.IsValid() {
		return
	}
	for _, pool := range x.pools.entries() {
		if !contains(pool.cidr, p) {
			continue
		}
		_, size, _ := blockSizes(pool.cidr)
		if pool.entry.BlockSize != 0 {
			size = int(pool.entry.BlockSize)
		}
		if p.Bits() >= size {
			c.failf(at, "%s is not larger than a block of IPPool %s (/%d); use a shorter prefix", p, pool.name, size)
		}
		if a.SummaryOnly && pool.entry.Encapsulation == "Never" {
			c.failf(at, "summaryOnly hides the blocks from the router, and IPPool %s has encapsulation: Never, so a packet to a node behind the router "+
				"would return; use CrossSubnet or Always, or remove summaryOnly", pool.name)
		}
		return
	}
	c.failf(at, "%s is inside no IPPool of this node, which would attract packets for addresses of others; use a pool's cidr or a part of it", p)
}

func (x *peerContext) checkFilter(c *checks, at, name string, former map[string]filter, export, external bool) {
	f, ok := x.filters.chosen[name]
	if !ok && former != nil {
		f, ok = former[name]
		ok = ok && f.valid()
	}
	switch {
	case !ok && x.filters.broken[name]:
		c.failf(at, "BGPFilter %s is rejected, see its status; correct it", name)
	case !ok:
		c.failf(at, "BGPFilter %s does not exist; create it, or correct the name", name)
	default:
		if text := f.misuse(export, external); text != "" {
			c.failf(at, "%s", text)
		}
	}
}
