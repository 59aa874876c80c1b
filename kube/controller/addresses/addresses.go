// Package addresses assigns addresses of pools to Services of type LoadBalancer. It
// is pure: the same Services and pools give the same addresses, and what a Service
// has it keeps.
package addresses

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Pool is a range that Services take addresses from.
type Pool struct {
	Name     string
	CIDR     netip.Prefix
	Reserved []netip.Prefix // assigned to a Service that names the address only
	Disabled bool           // no new addresses
	Manual   bool           // only for Services that name the pool or an address
	Rejected string         // why nodes leave the pool out: no new addresses; empty: they accept it
	// Serves reports whether Services of a namespace use the pool.
	Serves func(namespace string) bool
}

// Port is a port of a Service: two Services on one address have none in common.
type Port struct {
	Protocol string
	Port     int32
}

// Service is what a Service wants and has.
type Service struct {
	Namespace, Name string
	Created         int64 // of two that claim one address the older has it
	// IPv4 and IPv6 are the families it is to have an address of; with All it
	// gets both or none.
	IPv4, IPv6, All bool
	Pools           []string     // names, in order; empty: those that serve its namespace
	Wanted          []netip.Addr // exactly these
	Sharing         string       // key; empty: shares with none
	Ports           []Port
	// Selector is the endpoints of one with externalTrafficPolicy: Local, whose
	// nodes alone receive packets; empty with Cluster.
	Selector string
	Have     []netip.Addr // from its status
}

func (s *Service) key() string { return s.Namespace + "/" + s.Name }

// Result is the addresses of a Service, and why some are missing.
type Result struct {
	Addresses []netip.Addr // IPv4 before IPv6
	Problem   string       // empty: it has all
}

// Use returns the other use of an address, such as that of a node, and the range around
// the address that is used so; empty: none.
type Use func(netip.Addr) (what string, all netip.Prefix)

// Assign returns the addresses of every Service by NAMESPACE/NAME.
func Assign(pools []Pool, services []Service, inUse Use) map[string]Result {
	a := &assignment{
		pools: slices.SortedFunc(slices.Values(pools), func(x, y Pool) int { return strings.Compare(x.Name, y.Name) }),
		inUse: inUse, owners: map[netip.Addr][]*Service{}, next: map[string]netip.Addr{},
	}
	order := make([]*Service, len(services))
	for i := range services {
		order[i] = &services[i]
	}
	slices.SortFunc(order, func(x, y *Service) int {
		return cmp.Or(cmp.Compare(x.Created, y.Created), strings.Compare(x.key(), y.key()))
	})
	kept := make([][]netip.Addr, len(order))
	lost := make([]string, len(order))
	for i, s := range order { // all that have addresses, before any that has none
		kept[i], lost[i] = a.keep(s)
	}
	out := make(map[string]Result, len(order))
	for i, s := range order {
		r := a.complete(s, kept[i])
		if r.Problem == "" && lost[i] != "" {
			r.Problem = lost[i]
		}
		out[s.key()] = r
	}
	return out
}

// assignment is the state of one call of Assign.
type assignment struct {
	pools  []Pool
	inUse  Use
	owners map[netip.Addr][]*Service
	next   map[string]netip.Addr // by pool: all before are taken or not assigned
}

// keep returns the addresses that a Service goes on with. An address whose pool is
// gone stays, and one that a Node or a pool of pods took: neither is a wish to
// withdraw what is in use.
func (a *assignment) keep(s *Service) (kept []netip.Addr, lost string) {
	for _, addr := range s.Have {
		if !s.wants(addr) {
			continue
		}
		if slices.ContainsFunc(kept, func(k netip.Addr) bool { return k.Is4() == addr.Is4() }) && len(s.Wanted) == 0 {
			continue // a second one of a family
		}
		if why := a.contest(s, addr); why != "" {
			lost = fmt.Sprintf("%v is not its address any more: %s", addr, why)
			continue
		}
		if use, _ := a.inUse(addr); use != "" {
			lost = fmt.Sprintf("%v is %s: name another address with onlink.io/load-balancer-ips", addr, use)
		}
		kept = append(kept, addr)
		a.owners[addr] = append(a.owners[addr], s)
	}
	return kept, lost
}

// wants reports whether a Service is to have an address of this family.
func (s *Service) wants(addr netip.Addr) bool { return addr.Is4() && s.IPv4 || addr.Is6() && s.IPv6 }

// conflict returns why an address cannot be that of a Service; empty: it can.
func (a *assignment) conflict(s *Service, addr netip.Addr) string {
	if use, _ := a.inUse(addr); use != "" {
		return "it is " + use
	}
	return a.contest(s, addr)
}

// contest returns why the owners of an address do not share it with a Service;
// empty: they do.
func (a *assignment) contest(s *Service, addr netip.Addr) string {
	for _, o := range a.owners[addr] {
		if why := s.apart(o); why != "" {
			return why
		}
	}
	return ""
}

// apart returns why two Services cannot share an address; empty: they can.
func (s *Service) apart(o *Service) string {
	switch {
	case s.Sharing == "" || s.Sharing != o.Sharing || s.Namespace != o.Namespace:
		return fmt.Sprintf("Service %s has it; both need the annotation onlink.io/allow-shared-ip with one value, in one namespace", o.key())
	case s.Selector != o.Selector:
		return fmt.Sprintf("Service %s has it, and with externalTrafficPolicy: Local both need it and one selector", o.key())
	}
	for _, p := range s.Ports {
		if slices.Contains(o.Ports, p) {
			return fmt.Sprintf("Service %s has its port %d/%s", o.key(), p.Port, p.Protocol)
		}
	}
	return ""
}

// complete gives a Service what it lacks.
func (a *assignment) complete(s *Service, kept []netip.Addr) Result {
	if len(s.Wanted) > 0 {
		return a.grant(s, kept)
	}
	var problems []string
	var fresh []netip.Addr
	for _, is4 := range []bool{true, false} {
		if is4 && !s.IPv4 || !is4 && !s.IPv6 || slices.ContainsFunc(kept, func(k netip.Addr) bool { return k.Is4() == is4 }) {
			continue
		}
		addr, why := a.pick(s, is4)
		if why != "" {
			problems = append(problems, why)
			continue
		}
		fresh = append(fresh, addr)
	}
	all := append(slices.Clone(kept), fresh...)
	switch {
	case len(problems) == 0:
	case s.All: // what it has it keeps; a half of it is not given
		fresh, all = nil, slices.Clone(kept)
	case len(all) > 0:
		problems = nil // PreferDualStack: one family will do
	}
	return a.result(s, all, fresh, problems)
}

// grant gives a Service the addresses that it names, and takes the others from it.
// While one of them cannot be given it keeps what it has: a slip of the pen in an
// annotation ends no service.
func (a *assignment) grant(s *Service, kept []netip.Addr) Result {
	var problems []string
	var fresh, all []netip.Addr
	for _, addr := range s.Wanted {
		if slices.Contains(all, addr) {
			continue
		}
		if !slices.Contains(kept, addr) {
			if why := a.refuse(s, addr); why != "" {
				problems = append(problems, fmt.Sprintf("%v: %s", addr, why))
				continue
			}
			fresh = append(fresh, addr)
		}
		all = append(all, addr)
	}
	switch {
	case len(problems) == 0:
		for _, addr := range kept {
			if !slices.Contains(all, addr) {
				a.owners[addr] = slices.DeleteFunc(a.owners[addr], func(o *Service) bool { return o == s })
			}
		}
	case len(kept) > 0 || s.All:
		fresh, all = nil, slices.Clone(kept)
	}
	return a.result(s, all, fresh, problems)
}

// result records the new addresses of a Service.
func (a *assignment) result(s *Service, all, fresh []netip.Addr, problems []string) Result {
	for _, addr := range fresh {
		a.owners[addr] = append(a.owners[addr], s)
	}
	slices.SortFunc(all, func(x, y netip.Addr) int { return x.Compare(y) }) // IPv4 sorts first
	return Result{Addresses: all, Problem: strings.Join(problems, "; ")}
}

// refuse returns why a Service cannot have the address that it names.
func (a *assignment) refuse(s *Service, addr netip.Addr) string {
	i := slices.IndexFunc(a.pools, func(p Pool) bool { return p.CIDR.Contains(addr) && p.Rejected == "" })
	if i < 0 { // to name the reason
		i = slices.IndexFunc(a.pools, func(p Pool) bool { return p.CIDR.Contains(addr) })
	}
	switch {
	case !s.wants(addr):
		return "the Service has no such family in ipFamilies"
	case i < 0:
		return "it is in no IPPool with uses: [LoadBalancer]"
	case a.pools[i].Rejected != "":
		return a.pools[i].rejection()
	case a.pools[i].Disabled:
		return fmt.Sprintf("IPPool %s is disabled", a.pools[i].Name)
	case len(s.Pools) > 0 && !slices.Contains(s.Pools, a.pools[i].Name):
		return fmt.Sprintf("it is in IPPool %s, which onlink.io/pools does not name", a.pools[i].Name)
	case !a.pools[i].Serves(s.Namespace):
		return fmt.Sprintf("the namespaceSelector of IPPool %s does not match namespace %s", a.pools[i].Name, s.Namespace)
	case edge(a.pools[i].CIDR, addr):
		return "it is the first or last address of IPPool " + a.pools[i].Name
	}
	return a.conflict(s, addr)
}

// pick returns an address of a family: one that is shared with the Service's key, or
// else the lowest free one of its pools, in their order.
func (a *assignment) pick(s *Service, is4 bool) (netip.Addr, string) {
	pools, why := a.poolsOf(s, is4)
	if why != "" {
		return netip.Addr{}, why
	}
	if s.Sharing != "" {
		if addr, ok := a.shared(s, pools); ok {
			return addr, ""
		}
	}
	for _, p := range pools {
		if addr, ok := a.lowest(p); ok {
			return addr, ""
		}
	}
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	return netip.Addr{}, "no free address in IPPool " + strings.Join(names, ", ")
}

// poolsOf returns the pools that a Service takes new addresses of a family from.
func (a *assignment) poolsOf(s *Service, is4 bool) ([]*Pool, string) {
	family := "IPv6"
	if is4 {
		family = "IPv4"
	}
	var out []*Pool
	rejected := ""
	add := func(p *Pool) {
		switch {
		case p.CIDR.Addr().Is4() != is4 || p.Disabled || !p.Serves(s.Namespace):
		case p.Rejected != "":
			rejected += "; " + p.rejection()
		default:
			out = append(out, p)
		}
	}
	if len(s.Pools) == 0 {
		for i := range a.pools {
			if p := &a.pools[i]; !p.Manual {
				add(p)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Sprintf("no IPPool with uses: [LoadBalancer] and %s addresses serves namespace %s%s", family, s.Namespace, rejected)
		}
		return out, ""
	}
	for _, name := range s.Pools {
		i := slices.IndexFunc(a.pools, func(p Pool) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Sprintf("IPPool %q, which onlink.io/pools names, does not exist or has no use LoadBalancer", name)
		}
		add(&a.pools[i])
	}
	if len(out) == 0 {
		return nil, fmt.Sprintf("no pool in onlink.io/pools has %s addresses for namespace %s and is enabled%s", family, s.Namespace, rejected)
	}
	return out, ""
}

// rejection says that nodes leave a pool out.
func (p *Pool) rejection() string {
	return fmt.Sprintf("IPPool %s is rejected: %s", p.Name, p.Rejected)
}

// shared returns the lowest address that Services with the key of s share and s can
// have too.
func (a *assignment) shared(s *Service, pools []*Pool) (best netip.Addr, ok bool) {
	for addr, owners := range a.owners {
		if len(owners) == 0 || owners[0].Sharing != s.Sharing || ok && best.Less(addr) {
			continue
		}
		if slices.ContainsFunc(pools, func(p *Pool) bool { return p.CIDR.Contains(addr) }) && a.conflict(s, addr) == "" {
			best, ok = addr, true
		}
	}
	return best, ok
}

// lowest returns the lowest free address of a pool. It steps over ranges that are
// reserved or in use, never through them: one of IPv6 would take years. What it steps
// over singly belongs to a Service.
func (a *assignment) lowest(p *Pool) (netip.Addr, bool) {
	addr, begun := a.next[p.Name]
	if !begun {
		addr = p.CIDR.Addr()
	}
	for addr.IsValid() && p.CIDR.Contains(addr) {
		if i := slices.IndexFunc(p.Reserved, func(r netip.Prefix) bool { return r.Contains(addr) }); i >= 0 {
			addr = last(p.Reserved[i]).Next()
			continue
		}
		if use, all := a.inUse(addr); use != "" {
			addr = last(all).Next()
			continue
		}
		if len(a.owners[addr]) == 0 && !edge(p.CIDR, addr) {
			a.next[p.Name] = addr // not the next one: with All the Service may not take it
			return addr, true
		}
		addr = addr.Next()
	}
	a.next[p.Name] = netip.Addr{}
	return netip.Addr{}, false
}

// edge reports whether an address is the network's or the broadcast address of a
// pool, or of IPv6 the anycast address of routers (RFC 4291): hosts do not use them.
func edge(pool netip.Prefix, addr netip.Addr) bool {
	if pool.Addr().BitLen()-pool.Bits() < 2 {
		return false
	}
	return addr == pool.Addr() || addr.Is4() && addr == last(pool)
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
