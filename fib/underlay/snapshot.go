package underlay

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/rib"
)

// snapshot is a finished view of the kernel: it is never changed, so readers
// need no lock.
type snapshot struct {
	local, main table
	devices     map[string]link // not ours
	byIndex     map[int32]string
	addrs       []nodeAddr // not on our devices, not link-local; sorted
	problem     string
}

// table is a routing table with each prefix already answered.
type table struct {
	answers map[netip.Prefix]answer
	lengths [2][]int // prefix lengths in use, longest first: IPv4, IPv6
}

// answer is the outcome of a matching prefix. It is comparable. A route without a
// usable hop has none, so that a shorter prefix is tried.
type answer struct {
	reach  rib.Reach
	throw  bool // RTN_THROW: the look-up leaves this table
	usable bool
}

// reach looks an address up, in table local first, as rules 0 and 32766 do.
func (s *snapshot) reach(a netip.Addr) rib.Reach {
	if a.Zone() != "" {
		return s.onLink(a)
	}
	if r, ok := s.local.lookup(a); ok {
		return r
	}
	r, _ := s.main.lookup(a)
	return r
}

// onLink resolves a link-local address: it is on the link of its zone.
func (s *snapshot) onLink(a netip.Addr) rib.Reach {
	if !a.IsLinkLocalUnicast() || !s.devices[a.Zone()].usable() {
		return rib.Reach{}
	}
	return rib.Reach{Kind: rib.OnLink, Hops: rib.MakeHops(rib.Hop{Dev: a.Zone()})}
}

// lookup returns the longest usable match.
func (t *table) lookup(a netip.Addr) (rib.Reach, bool) {
	if !a.IsValid() || a.Zone() != "" {
		return rib.Reach{}, false
	}
	for _, bits := range t.lengths[familyIndex(a)] {
		ans, ok := t.answers[netip.PrefixFrom(a, bits).Masked()]
		if ok {
			return ans.reach, ans.usable
		}
	}
	return rib.Reach{}, false
}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// nodeAddr is an address and its state; comparable.
type nodeAddr struct {
	ifaddr
	addrState
}

// state is the kernel's state as its messages gave it.
type state struct {
	links   map[int32]link
	addrs   map[ifaddr]addrState
	routes  []route
	objects map[uint32]object
	rules   []rule
	told    int // addresses that notifications brought
}

// firstTold is the order of the first address that a notification brings: after
// all that a list can hold.
const firstTold = 1 << 32

// view resolves the state into a snapshot. ours reports whether a device is
// onlink's own.
func (st *state) view(ours func(Device) bool) *snapshot {
	s := &snapshot{devices: map[string]link{}, byIndex: map[int32]string{}}
	for _, l := range st.links {
		if !ours(l.device()) {
			s.devices[l.name] = l
			s.byIndex[l.index] = l.name
		}
	}
	for a, is := range st.addrs {
		if _, ok := s.byIndex[a.device]; ok && !a.local.IsLinkLocalUnicast() {
			s.addrs = append(s.addrs, nodeAddr{a, is})
		}
	}
	slices.SortFunc(s.addrs, func(a, b nodeAddr) int {
		return cmp.Or(a.local.Compare(b.local), cmp.Compare(a.device, b.device), cmp.Compare(a.subnet.Bits(), b.subnet.Bits()))
	})
	for _, r := range st.rules {
		if !r.ordinary() {
			s.problem = r.problem()
			break
		}
	}
	j := judge{state: st, snapshot: s}
	s.local, s.main = j.tables()
	return s
}

// judge turns routes into answers.
type judge struct {
	state    *state
	snapshot *snapshot
}

// tables returns the answers of every prefix. Of several routes to one prefix the
// lowest metric whose hops are usable wins; of equal ones the kernel's first.
func (j *judge) tables() (local, main table) {
	local.answers, main.answers = map[netip.Prefix]answer{}, map[netip.Prefix]answer{}
	routes := slices.Clone(j.state.routes)
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	for i := range routes {
		t := &main
		if routes[i].local {
			t = &local
		}
		if _, known := t.answers[routes[i].prefix]; known {
			continue
		}
		if a := j.answer(&routes[i]); a.usable || a.throw {
			t.answers[routes[i].prefix] = a
		}
	}
	local.count()
	main.count()
	return local, main
}

// count fills in lengths.
func (t *table) count() {
	var seen [2][129]bool
	for p := range t.answers {
		f := familyIndex(p.Addr())
		if !seen[f][p.Bits()] {
			seen[f][p.Bits()] = true
			t.lengths[f] = append(t.lengths[f], p.Bits())
		}
	}
	for f := range t.lengths {
		slices.SortFunc(t.lengths[f], func(a, b int) int { return b - a })
	}
}

// answer returns the outcome of one route.
func (j *judge) answer(r *route) answer {
	reach := rib.Reach{Match: r.prefix}
	switch r.kind {
	case unix.RTN_LOCAL:
		reach.Kind = rib.Self
	case unix.RTN_BLACKHOLE:
		reach.Kind = rib.Blackholed
	case unix.RTN_THROW:
		return answer{throw: true}
	case unix.RTN_UNICAST:
		hops, blackhole := j.hops(r)
		if blackhole {
			reach.Kind = rib.Blackholed
			break
		}
		if len(hops) == 0 {
			return answer{}
		}
		reach.Kind = rib.OnLink
		if slices.ContainsFunc(hops, func(h rib.Hop) bool { return h.Via.IsValid() }) {
			reach.Kind = rib.Gateway
		}
		reach.Hops = rib.MakeHops(hops...)
	default: // unreachable, prohibit, broadcast, anycast: no host to forward to
		reach.Kind = rib.Unreachable
	}
	return answer{reach: reach, usable: true}
}

// hops returns the usable hops of a route: those over a device that is not ours,
// is up and has carrier.
func (j *judge) hops(r *route) (hops []rib.Hop, blackhole bool) {
	ways := r.hops
	if o, ok := j.state.objects[r.object]; ok && r.object != 0 {
		ways, blackhole = j.expand(o)
	}
	for _, w := range ways {
		name, ok := j.snapshot.byIndex[w.device]
		if !ok || !j.snapshot.devices[name].usable() {
			continue
		}
		hops = append(hops, rib.Hop{Via: w.gateway, Dev: name, Onlink: w.onlink && w.gateway.IsValid()})
	}
	return hops, blackhole
}

// expand returns the hops of a nexthop object. With
// net.ipv4.nexthop_compat_mode=0 the kernel names only the object in a route. A
// group never holds a group (linux/nexthop.h).
func (j *judge) expand(o object) (hops []hop, blackhole bool) {
	if o.blackhole {
		return nil, true
	}
	if len(o.group) == 0 {
		return []hop{o.hop}, false
	}
	for _, id := range o.group {
		member, ok := j.state.objects[id]
		if !ok {
			continue
		}
		if member.blackhole {
			return nil, true
		}
		hops = append(hops, member.hop)
	}
	return hops, false
}
