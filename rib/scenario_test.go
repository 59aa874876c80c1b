package rib

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"onlink/internal/scenario"
)

// TestScenarios runs testdata/*.txtar; see [scenario.Run], and world.do for the
// commands.
func TestScenarios(t *testing.T) {
	scenario.Run(t, func(t *testing.T) func(string) []string {
		w := newWorld(t)
		return func(line string) []string {
			words := strings.Fields(line)
			return w.do(words[0], words[1:])
		}
	})
}

// world is a table with the underlay and pools of a scenario.
type world struct {
	t     *testing.T
	table *Table
	reach underlay
	pools []Pool
}

// underlay is the kernel's FIB of a scenario.
type underlay map[netip.Addr]Reach

// Reach implements Resolver.
func (u underlay) Reach(a netip.Addr) Reach { return u[a] }

func newWorld(t *testing.T) *world {
	t.Helper()
	u := underlay{}
	return &world{t: t, table: NewTable(u), reach: u}
}

// do runs one command:
//
//	pool PREFIX ENCAPSULATION TUNNEL TUNNEL6   add a pool; "-" for no tunnel
//	nopools                                    remove all pools
//	own PREFIX...                              the blocks of this node
//	aggregates PREFIX...                       the aggregates that it announces
//	pod PREFIX DEV | unpod PREFIX              a pod's address
//	permit [default] [allow PREFIX]... [subnet PREFIX]... [peer ADDR]... [poolpeer ADDR]...
//	reach ADDR KIND [via GW] [dev DEV] [onlink] [match PREFIX]...
//	path PREFIX [NEXTHOP | from PEER | ebgp]...   from and ebgp hold for all
//	withdraw PREFIX
//	changed all | changed ADDR...              the underlay's event
//	drain | routes | lookup ADDR | paths PREFIX | watched | counts | uses FAILING...
func (w *world) do(verb string, args []string) []string {
	t := w.table
	switch verb {
	case "pool":
		p := Pool{Prefix: pfx(args[0]), Encap: w.encap(args[1]), Tunnel: dash(args[2]), Tunnel6: dash(args[3])}
		w.pools = append(w.pools, p)
		t.SetPools(w.pools)
	case "nopools":
		w.pools = nil
		t.SetPools(nil)
	case "own":
		t.SetOwn(prefixes(args))
	case "aggregates":
		t.SetAggregates(prefixes(args))
	case "pod":
		t.SetPod(pfx(args[0]), args[1])
	case "unpod":
		t.DeletePod(pfx(args[0]))
	case "permit":
		t.SetPermitted(w.permit(args))
	case "reach":
		w.setReach(args)
	case "path":
		t.Update(w.update(args))
	case "withdraw":
		t.Update(Update{Prefix: pfx(args[0])})
	case "changed":
		if args[0] == "all" {
			t.AllNextHopsChanged()
			return nil
		}
		var addrs []netip.Addr
		for _, a := range args {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		t.NextHopsChanged(addrs)
	default:
		return w.ask(verb, args)
	}
	return nil
}

// ask runs a command with output.
func (w *world) ask(verb string, args []string) (out []string) {
	t := w.table
	switch verb {
	case "drain":
		changes := t.Drain()
		slices.SortFunc(changes, func(a, b Change) int { return comparePrefix(a.Route.Prefix, b.Route.Prefix) })
		for _, c := range changes {
			sign := "+ "
			if c.Deleted {
				sign = "- "
			}
			out = append(out, sign+spell(c.Route))
		}
	case "routes":
		for r := range t.Routes() {
			out = append(out, spell(r))
		}
	case "lookup":
		for _, find := range []func(netip.Addr) (Route, bool){t.Lookup, t.LookupInstallable} {
			r, ok := find(netip.MustParseAddr(args[0]))
			if !ok {
				out = append(out, "nothing")
				continue
			}
			out = append(out, spell(r))
		}
	case "paths":
		for _, p := range t.Paths(pfx(args[0])) {
			out = append(out, fmt.Sprintf("%v via %v from %v ebgp %v", pfx(args[0]), p.NextHop, p.Peer, p.EBGP))
		}
	case "shared":
		shared := t.Shared()
		for _, p := range slices.SortedFunc(maps.Keys(shared), comparePrefix) {
			out = append(out, fmt.Sprintf("%v %v", p, shared[p]))
		}
	case "watched":
		for a := range t.NextHops() {
			out = append(out, a.String())
		}
	case "nodes":
		for _, a := range w.table.Nodes() {
			out = append(out, a.String())
		}
	case "devices":
		out = append(out, w.table.Devices()...)
	case "uses":
		out = uses(t, prefixes(args))
	case "counts":
		out = append(out, fmt.Sprintf("%+v", t.Counts()))
	default:
		w.t.Fatalf("unknown command %q", verb)
	}
	return out
}

// uses writes the uses of next hops, with two prefixes each; failing are not in the
// kernel.
func uses(t *Table, failing []netip.Prefix) (out []string) {
	for _, u := range t.Uses(2, func(p netip.Prefix) bool { return slices.Contains(failing, p) }) {
		out = append(out, fmt.Sprintf("%v %v node %v from %v: %d routes, %d direct, %d tunnelled, %d unresolved, %d failing, over %v, %v",
			u.Addr, u.Reach.Kind, u.Node, u.Peers, u.Routes, u.Direct, u.Tunnelled, u.Unresolved, u.Failing, u.Devices, u.Prefixes))
	}
	return out
}

func (w *world) encap(name string) Encap {
	for _, e := range []Encap{CrossSubnet, Never, Always} {
		if e.String() == name {
			return e
		}
	}
	w.t.Fatalf("unknown encapsulation %q", name)
	return 0
}

func (w *world) permit(args []string) Permit {
	var p Permit
	for i := 0; i < len(args); i++ {
		switch word := args[i]; word {
		case "default":
			p.Default = true
		case "allow":
			i++
			p.Prefixes = append(p.Prefixes, pfx(args[i]))
		case "subnet":
			i++
			p.NodeSubnets = append(p.NodeSubnets, pfx(args[i]))
		case "peer":
			i++
			p.Peers = append(p.Peers, netip.MustParseAddr(args[i]))
		case "poolpeer":
			i++
			p.PoolPeers = append(p.PoolPeers, netip.MustParseAddr(args[i]))
		default:
			w.t.Fatalf("permit: unknown word %q", word)
		}
	}
	return p
}

func (w *world) setReach(args []string) {
	var r Reach
	for _, k := range []ReachKind{Unreachable, OnLink, Gateway, Blackholed, Self, Dead} {
		if k.String() == args[1] {
			r.Kind = k
		}
	}
	var hops []Hop
	var via netip.Addr
	for i := 2; i < len(args); i++ {
		switch args[i] {
		case "via":
			i++
			via = netip.MustParseAddr(args[i])
		case "dev":
			i++
			hops = append(hops, Hop{Via: via, Dev: args[i]})
		case "onlink":
			hops[len(hops)-1].Onlink = true
		case "match":
			i++
			r.Match = pfx(args[i])
		}
	}
	r.Hops = MakeHops(hops...)
	w.reach[netip.MustParseAddr(args[0])] = r
}

func (w *world) update(args []string) Update {
	u := Update{Prefix: pfx(args[0])}
	var all Path
	for i := 1; i < len(args); i++ {
		switch args[i] {
		case "from":
			i++
			all.Peer = netip.MustParseAddr(args[i])
		case "ebgp":
			all.EBGP = true
		default:
			u.Paths = append(u.Paths, Path{NextHop: netip.MustParseAddr(args[i])})
		}
	}
	for i := range u.Paths {
		u.Paths[i].Peer, u.Paths[i].EBGP = all.Peer, all.EBGP
	}
	return u
}

// spell writes a route in the form of the scenarios.
func spell(r Route) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%v %v %v", r.Prefix, r.Kind, r.Reason)
	for h := range r.Hops.All() {
		s.WriteString(" |")
		if h.Via.IsValid() {
			s.WriteString(" via " + h.Via.String())
		}
		s.WriteString(" dev " + h.Dev)
		if h.Onlink {
			s.WriteString(" onlink")
		}
		if h.Tunnel {
			s.WriteString(" tunnel")
		}
		s.WriteString(" (" + h.Reason.String() + ")")
	}
	return s.String()
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(args []string) (out []netip.Prefix) {
	for _, a := range args {
		out = append(out, pfx(a))
	}
	return out
}
