package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
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
			a := words(line)
			return w.do(a[0], &args{t, a[1:]})
		}
	})
}

// world is the configuration of a scenario.
type world struct {
	t       *testing.T
	node    Node
	own     []OwnPrefix
	facts   Facts
	blocks  []Block
	names   []string // of the peers, then of the ranges
	peers   map[string]*Peer
	ranges  map[string]bool
	filters map[string]*Filter
	last    string // the filter that rules are added to
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, peers: map[string]*Peer{}, ranges: map[string]bool{}, filters: map[string]*Filter{}}
}

// word is a word of a command, or some in quotes.
var word = regexp.MustCompile(`"[^"]*"|\S+`)

func words(line string) []string {
	list := word.FindAllString(line, -1)
	for i := range list {
		list[i] = strings.Trim(list[i], `"`)
	}
	return list
}

// args are the words of a command that are not read yet.
type args struct {
	t    *testing.T
	list []string
}

func (a *args) more() bool { return len(a.list) > 0 }

func (a *args) next() string {
	if len(a.list) == 0 {
		a.t.Fatal("a command ends too early")
	}
	s := a.list[0]
	a.list = a.list[1:]
	return s
}

// is reads the next word if it is s.
func (a *args) is(s string) bool {
	if len(a.list) == 0 || a.list[0] != s {
		return false
	}
	a.list = a.list[1:]
	return true
}

func (a *args) number() int {
	n, err := strconv.Atoi(a.next())
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

func (a *args) prefix() netip.Prefix { return prefix(a.next()) }

func (a *args) addr() netip.Addr { return addr(a.next()) }

// rule reads PREFIX [ge N] [le N].
func (a *args) rule() PrefixRule {
	r := PrefixRule{Prefix: a.prefix()}
	if a.is("ge") {
		r.Ge = a.number()
	}
	if a.is("le") {
		r.Le = a.number()
	}
	return r
}

// do runs one command:
//
//	node AS ADDR...                       this node, the next hops of its prefixes
//	pool PREFIX LENGTH                    a pool with blocks of that length
//	gateway ADDR                          of the pods
//	network DEVICE PREFIX                 a subnet of the node
//	owner BLOCK NODE ADDR...              a block in the registry
//	own PREFIX [aggregate] [service] [PEER]...  originated by this node, for those peers
//	peer NAME ADDR [DEVICE] [as N] [local-as N] [allow-own-as N]
//	client NAME ADDR | range NAME PREFIX  of our AS, reflected to
//	filter NAME                           begins a filter
//	rule ACTION [MATCH VALUE]... [set CHANGE VALUE]...
//	import PEER [accept RULE] [filter NAME] [pref N] [any-next-hop] [any-owner]
//	export PEER [own] [prefix RULE] [community C] [med N] [aggregate P] [summary P] [reflected] [filter NAME]
//	receive PEER ROUTE                    the verdict on a route of the peer
//	announce PEER SOURCE ROUTE            the verdict on a route for the peer
//	faults                                of all that is configured
func (w *world) do(verb string, a *args) []string {
	switch verb {
	case "node":
		w.node.ASN = uint32(a.number())
		for a.more() {
			w.node.Addresses = append(w.node.Addresses, a.addr())
		}
	case "pool":
		w.node.Pools = append(w.node.Pools, Pool{Prefix: a.prefix(), Block: a.number()})
	case "gateway":
		w.node.PodGateways = append(w.node.PodGateways, a.addr())
	case "network":
		w.facts.NetworksKnown = true
		w.facts.Networks = append(w.facts.Networks, Network{Device: a.next(), Prefix: a.prefix()})
	case "owner":
		b := Block{Prefix: a.prefix(), Node: a.next()}
		for a.more() {
			b.Addresses = append(b.Addresses, a.addr())
		}
		w.blocks = append(w.blocks, b)
		w.facts.Owners = NewOwners(w.blocks)
	case "own":
		w.own = append(w.own, OwnPrefix{Prefix: a.prefix(), Aggregate: a.is("aggregate"), Service: a.is("service"), Peers: a.list})
	case "peer", "client", "range":
		w.add(verb, a)
	case "filter":
		w.last = a.next()
		w.filters[w.last] = &Filter{Name: w.last}
	case "rule":
		f := w.filters[w.last]
		f.Rules = append(f.Rules, w.rule(a))
	case "import":
		w.setImport(&w.peer(a.next()).Import, a)
	case "export":
		w.setExport(&w.peer(a.next()).Export, a)
	default:
		return w.ask(verb, a)
	}
	return nil
}

func (w *world) add(kind string, a *args) {
	name := a.next()
	p := &Peer{Name: name, ASN: w.node.ASN, Client: kind != "peer"}
	if kind == "range" {
		p.Neighbor, w.ranges[name] = a.prefix(), true
	} else {
		p.Neighbor = at(a.next())
	}
	for a.more() {
		switch key := a.next(); key {
		case "as":
			p.ASN = uint32(a.number())
		case "local-as":
			p.LocalAS = uint32(a.number())
		case "allow-own-as":
			p.AllowOwnAS = uint8(a.number())
		default:
			p.Device = key
		}
	}
	p.External = p.ASN != w.node.ASN
	w.names, w.peers[name] = append(w.names, name), p
}

func (w *world) peer(name string) *Peer {
	p := w.peers[name]
	if p == nil {
		w.t.Fatalf("no peer %q", name)
	}
	return p
}

func (w *world) filter(name string) Filter {
	f := w.filters[name]
	if f == nil {
		w.t.Fatalf("no filter %q", name)
	}
	return *f
}

func (w *world) rule(a *args) Rule {
	var r Rule
	action := a.next()
	for _, one := range []Action{Accept, Reject, Next} {
		if one.String() == action {
			r.Action = one
		}
	}
	for a.more() && !a.is("set") {
		switch key := a.next(); key {
		case "prefix":
			r.Match.Prefixes = append(r.Match.Prefixes, a.rule())
		case "community":
			r.Match.Communities = append(r.Match.Communities, a.next())
		case "large":
			r.Match.LargeCommunities = append(r.Match.LargeCommunities, a.next())
		case "aspath":
			r.Match.ASPath = append(r.Match.ASPath, a.next())
		case "source":
			r.Match.Source = w.source(a.next())
		default:
			w.t.Fatalf("unknown match %q", key)
		}
	}
	for a.more() {
		w.change(&r.Set, a)
	}
	return r
}

func (w *world) change(s *Set, a *args) {
	switch key := a.next(); key {
	case "pref":
		s.LocalPref = uint32(a.number())
	case "med":
		med := uint32(a.number())
		s.MED = &med
	case "prepend":
		s.Prepend = uint8(a.number())
	case "add":
		s.Communities.Add = append(s.Communities.Add, a.next())
	case "remove":
		s.Communities.Remove = append(s.Communities.Remove, a.next())
	case "replace":
		s.Communities.Replace = append(s.Communities.Replace, a.next())
	case "add-large":
		s.LargeCommunities.Add = append(s.LargeCommunities.Add, a.next())
	case "origin":
		s.Origin = a.next()
	case "hop":
		hop := a.next()
		for _, kind := range []NextHopKind{NextHopSelf, NextHopUnchanged, NextHopPeer} {
			if s.NextHop = (NextHop{Kind: kind}); s.NextHop.String() == hop {
				return
			}
		}
		s.NextHop = NextHop{Kind: NextHopAddress, Addr: addr(hop)}
	default:
		w.t.Fatalf("unknown change %q", key)
	}
}

func (w *world) source(name string) Source {
	for _, s := range []Source{AnySource, Own, Service, Reflected, External} {
		if s.String() == name {
			return s
		}
	}
	w.t.Fatalf("unknown source %q", name)
	return 0
}

func (w *world) setImport(i *Import, a *args) {
	for a.more() {
		switch key := a.next(); key {
		case "accept":
			i.Accept = append(i.Accept, a.rule())
		case "filter":
			i.Filters = append(i.Filters, w.filter(a.next()))
		case "pref":
			i.LocalPref = uint32(a.number())
		case "any-next-hop":
			i.DisableConnectedCheck = true
		case "any-owner":
			i.DisableOwnerCheck = true
		default:
			w.t.Fatalf("unknown import %q", key)
		}
	}
}

func (w *world) setExport(e *Export, a *args) {
	for a.more() {
		switch key := a.next(); key {
		case "own":
			e.Own = true
		case "prefix":
			e.Prefixes = append(e.Prefixes, a.rule())
		case "community":
			e.Communities = append(e.Communities, a.next())
		case "med":
			e.MED = uint32(a.number())
		case "aggregate":
			e.Aggregates = append(e.Aggregates, Aggregate{Prefix: a.prefix()})
		case "summary":
			e.Aggregates = append(e.Aggregates, Aggregate{Prefix: a.prefix(), SummaryOnly: true})
		case "reflected":
			e.Reflected = true
		case "filter":
			e.Filters = append(e.Filters, w.filter(a.next()))
		default:
			w.t.Fatalf("unknown export %q", key)
		}
	}
}

// route reads PREFIX [via ADDR] [path AS_PATH] [pref N] [med N] [community C]... [large C]... [origin O].
func (w *world) route(a *args) Route {
	r := Route{Prefix: a.prefix(), Origin: "igp"}
	for a.more() {
		switch key := a.next(); key {
		case "via":
			r.NextHop = a.addr()
		case "path":
			r.ASPath = a.next()
		case "pref":
			n := uint32(a.number())
			r.LocalPref = &n
		case "med":
			n := uint32(a.number())
			r.MED = &n
		case "community":
			r.Communities = append(r.Communities, a.next())
		case "large":
			r.LargeCommunities = append(r.LargeCommunities, a.next())
		case "origin":
			r.Origin = a.next()
		default:
			w.t.Fatalf("unknown word %q of a route", key)
		}
	}
	return r
}

// ask runs a command with output.
func (w *world) ask(verb string, a *args) []string {
	if verb == "faults" {
		return w.faults()
	}
	if verb != "receive" && verb != "announce" {
		w.t.Fatalf("unknown command %q", verb)
	}
	var peers, ranges []Peer
	for _, name := range w.names {
		if p := w.peers[name]; w.ranges[name] {
			ranges = append(ranges, *p)
		} else {
			peers = append(peers, *p)
		}
	}
	plan := NewPlan(&w.node, peers, ranges, w.own)
	p := w.peer(a.next())
	ends := Ends{Peer: p.Neighbor.Addr(), Local: w.end(p)}
	if verb == "announce" {
		source := w.source(a.next())
		r := w.route(a)
		r.Source = source
		return spell(plan.Export(p, ends, r))
	}
	v := plan.Import(p, ends, p.Received(w.route(a), ends.Peer))
	if v.Accepted {
		v = NewGuard(&w.node, peers, ranges, w.facts).Review(v, ends.Peer)
	}
	return spell(v)
}

// end is our address of the peer's family.
func (w *world) end(p *Peer) netip.Addr {
	i := slices.IndexFunc(w.node.Addresses, func(a netip.Addr) bool { return a.BitLen() == p.Neighbor.Addr().BitLen() })
	if i < 0 {
		return netip.Addr{}
	}
	return w.node.Addresses[i]
}

func (w *world) faults() (out []string) {
	for _, p := range w.node.Pools {
		for _, f := range p.Validate("pools") {
			out = append(out, f.String())
		}
	}
	for _, name := range w.names {
		p := w.peers[name]
		for _, f := range append(p.Import.Validate(name+".import", p.External, w.node.Addresses...), p.Export.Validate(name+".export", p.External)...) {
			out = append(out, f.String())
		}
	}
	return out
}

// spell writes a verdict in the form of the scenarios: the deciding rule and the
// route, then the steps before the last.
func spell(v Verdict) []string {
	action := "reject"
	if v.Accepted {
		action = "accept"
	}
	out := []string{action + ": " + v.Rule}
	if v.Accepted {
		out[0] += " | " + line(v.After)
	}
	for _, s := range v.Steps[:len(v.Steps)-1] {
		out = append(out, "after "+s.Rule+": "+s.Effect)
	}
	return out
}

func line(r Route) string {
	s := fmt.Sprintf("%v via %v", r.Prefix, r.NextHop)
	if r.ASPath != "" {
		s += " path " + r.ASPath
	}
	if r.LocalPref != nil {
		s += fmt.Sprintf(" pref %d", *r.LocalPref)
	}
	if r.MED != nil {
		s += fmt.Sprintf(" med %d", *r.MED)
	}
	s = strings.Join(slices.Concat([]string{s}, r.Communities, r.LargeCommunities), " ")
	if r.Origin != "igp" {
		s += " origin " + r.Origin
	}
	return s
}
