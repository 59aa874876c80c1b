package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"onlink/integration/conf"
	"onlink/integration/lab"
)

// plan is a configuration that the agent should have.
type plan struct {
	phantoms  map[int]string // peers that never answer, by host: one of their forms
	originate map[int]bool   // 198.51.100.N/32, N from 2 on
	pools     map[int]bool   // 10.245.N.0/24
	tags      []string       // communities for the ToR
	mark      int            // the community that the filter adds; 0: the ToR has no filter
	hold, med int            // of the session with the ToR
	peerHold  int            // of the session with the other node
	accept    bool           // of what the ToR announces
	aggregate bool           // the pool for the ToR, beside the block
	ttl       int            // of the victim: a new session
	absent    bool           // the victim is no peer
	watch     bool
	debug     bool
	quiet     bool // no sysctl for pods
}

func newPlan() plan {
	return plan{phantoms: map[int]string{}, originate: map[int]bool{}, pools: map[int]bool{}, hold: 90, peerHold: 90, accept: true}
}

func (p plan) clone() plan {
	p.phantoms, p.originate, p.pools, p.tags = maps.Clone(p.phantoms), maps.Clone(p.originate), maps.Clone(p.pools), slices.Clone(p.tags)
	return p
}

// toggle adds n to a set, or removes it.
func toggle(set map[int]bool, n int) {
	if set[n] {
		delete(set, n)
	} else {
		set[n] = true
	}
}

// mutate makes one change that the agent takes without a confirmation: no more than one
// peer, pool or announcement goes.
func (p *plan) mutate(rnd *rand.Rand) {
	switch rnd.IntN(16) {
	case 0, 1:
		host := 200 + rnd.IntN(4)
		if p.phantoms[host] == "" {
			p.phantoms[host] = []string{"plain", "bfd", "external", "passive"}[rnd.IntN(4)]
		} else {
			delete(p.phantoms, host)
		}
	case 2, 3:
		toggle(p.originate, 2+rnd.IntN(4))
	case 4:
		p.tags = nil
		for range rnd.IntN(3) {
			p.tags = append(p.tags, fmt.Sprintf("64512:%d", 2000+rnd.IntN(100)))
		}
		slices.Sort(p.tags)
		p.tags = slices.Compact(p.tags)
	case 5, 6:
		p.mark = rnd.IntN(1000)
	case 7:
		p.hold = 30 + rnd.IntN(90)
	case 8:
		p.med = rnd.IntN(100)
	case 9:
		p.peerHold = 30 + rnd.IntN(90)
	case 10:
		p.accept = !p.accept
	case 11:
		p.aggregate = !p.aggregate
	case 12:
		toggle(p.pools, rnd.IntN(3))
	case 13:
		p.watch = !p.watch
	case 14:
		p.ttl = 2 + rnd.IntN(100)
	case 15:
		switch rnd.IntN(3) {
		case 0:
			p.absent = !p.absent
		case 1:
			p.debug = !p.debug
		default:
			p.quiet = !p.quiet
		}
	}
}

// nearer returns a plan that is a part nearer to another one; last: p is that one.
func (p plan) nearer(to plan) (next plan, last bool) {
	next = p.clone()
	for host := range next.phantoms {
		delete(next.phantoms, host)
		return next, false
	}
	for n := range next.pools {
		delete(next.pools, n)
		return next, false
	}
	for n := range next.originate {
		delete(next.originate, n)
		return next, false
	}
	to.phantoms, to.pools, to.originate = next.phantoms, next.pools, next.originate
	return to, fmt.Sprint(p) == fmt.Sprint(to)
}

// originated are the prefixes that the plan announces beside the block.
func (p plan) originated() []string {
	out := []string{"198.51.100.0/32", "198.51.100.1/32"}
	for _, n := range slices.Sorted(maps.Keys(p.originate)) {
		out = append(out, fmt.Sprintf("198.51.100.%d/32", n))
	}
	return out
}

// peers are the names of the plan's peers.
func (p plan) peers(a *applies) []string {
	out := []string{a.other.Name, a.tor.Name}
	if !p.absent {
		out = append(out, a.victim.Name)
	}
	for host := range p.phantoms {
		out = append(out, fmt.Sprint("phantom", host))
	}
	slices.Sort(out)
	return out
}

// phantom returns a peer that never answers.
func (p plan) phantom(host int) *conf.Peer {
	peer := &conf.Peer{Name: fmt.Sprint("phantom", host), Address: fmt.Sprintf("10.57.1.%d", host)}
	switch p.phantoms[host] {
	case "bfd":
		peer.BFD = &conf.BFD{Hops: "single"}
	case "external":
		peer.ASN, peer.Import = 65111, conf.Import{Accept: conf.Rules("192.0.2.0/24"), MaxPrefixes: 10}
	case "passive":
		peer.Passive, peer.HoldTime = true, "30s"
	}
	return peer
}

// config is the plan as a file.
func (p plan) config(a *applies) *conf.Config {
	c := a.n.Config()
	peer := a.other.Peer()
	peer.HoldTime = fmt.Sprintf("%ds", p.peerHold)
	tor := &conf.Peer{
		Name: a.tor.Name, Address: a.torSetup.Local.String(), ASN: a.torSetup.ASN, ConnectRetry: "2s", HoldTime: fmt.Sprintf("%ds", p.hold),
		Export: conf.Export{Communities: p.tags, MED: p.med},
	}
	if p.mark > 0 {
		tor.Export.Filters = []string{"mark"}
	}
	if p.accept {
		tor.Import.Accept = conf.Rules(a.torSetup.Announce...)
	}
	if p.aggregate {
		tor.Export.Aggregates = []conf.Aggregate{{Prefix: "10.244.0.0/16"}}
	}
	c.BGP = conf.BGP{ASN: lab.NodeASN, Peers: []*conf.Peer{peer, tor}, Originate: p.originated()}
	if !p.absent {
		c.BGP.Peers = append(c.BGP.Peers, &conf.Peer{
			Name: a.victim.Name, Address: a.victimIs.Local.String(), ASN: a.victimIs.ASN, ConnectRetry: "2s", Multihop: p.ttl,
		})
	}
	for _, host := range slices.Sorted(maps.Keys(p.phantoms)) {
		c.BGP.Peers = append(c.BGP.Peers, p.phantom(host))
	}
	set := conf.FilterSet{Communities: conf.CommunityChange{Add: []string{fmt.Sprintf("64512:%d", p.mark)}}}
	c.BGP.Filters = []conf.Filter{{Name: "mark", Rules: []conf.FilterRule{{Set: set, Action: "next"}}}}
	for _, n := range slices.Sorted(maps.Keys(p.pools)) {
		c.Pools = append(c.Pools, conf.Pool{Name: fmt.Sprint("extra", n), CIDR: fmt.Sprintf("10.245.%d.0/24", n), Encapsulation: "CrossSubnet", Tunnel: "none", NATOutgoing: new(n == 1)})
	}
	if p.watch {
		c.Reload = "watch"
	}
	if p.debug {
		c.Log.Level = "debug"
	}
	if p.quiet {
		c.CNI.Sysctls = conf.List[string]{}
	}
	return c
}
