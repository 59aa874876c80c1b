package glass

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/agent/state"
	"onlink/bgp"
	"onlink/rib"
)

// landscape keeps what next hops are used for, for all pages: to read it visits every
// route.
type landscape struct {
	read func(ctx context.Context, shown int) ([]rib.Use, error)

	mu    sync.Mutex
	known []rib.Use     // guarded by mu
	at    time.Time     // guarded by mu; of known, the zero Time: none
	took  time.Duration // guarded by mu; to read known
}

// The share of the time in which uses are read, and how old they may be at least.
const (
	readShare = 50
	readEvery = 500 * time.Millisecond
)

// uses returns the uses of a moment before now.
func (l *landscape) uses(ctx context.Context, now time.Time) ([]rib.Use, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && now.Sub(l.at) < max(readEvery, readShare*l.took) {
		return l.known, nil
	}
	began := time.Now()
	list, err := l.read(ctx, maxBlocks)
	if err != nil {
		return nil, err
	}
	l.known, l.at, l.took = list, now, time.Since(began)
	return list, nil
}

// topologyView is the network as this node has it.
type topologyView struct {
	Self    selfView     `json:"self"`
	Routers []routerView `json:"routers"`
	// MoreRouters is how many are left out, as MoreRacks and a rack's More.
	MoreRouters int        `json:"moreRouters"`
	Racks       []rackView `json:"racks"`
	MoreRacks   int        `json:"moreRacks"`
	Nodes       int        `json:"nodes"` // other nodes
}

// selfView is this node.
type selfView struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	Rack      string `json:"rack"`
	Reflector bool   `json:"reflector"`
	Blocks    int    `json:"blocks"`
}

// routerView is a peer that is drawn beside the nodes: a ToR, a reflector, or a peer of
// our AS that announced nothing yet.
type routerView struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	ASN     uint32 `json:"asn"`
	Kind    string `json:"kind"` // tor, reflector or peer
	State   string `json:"state"`
	Up      bool   `json:"up"`
	Rack    string `json:"rack"`
}

// rackView is the nodes of one network.
type rackView struct {
	ID string `json:"id"` // the network
	// Assumed: no route says how long the network's prefix is.
	Assumed bool `json:"assumed"`
	Here    bool `json:"here"` // this node is in it
	Nodes   int  `json:"nodes"`
	// Ways counts the nodes by their way.
	Ways    map[string]int `json:"ways"`
	Stale   int            `json:"stale"`
	Down    int            `json:"down"` // nodes whose session with this node is down
	Members []nodeView     `json:"members"`
	More    int            `json:"more"`
}

// nodeView is another node.
type nodeView struct {
	Address string   `json:"address"`
	Name    string   `json:"name,omitempty"`
	Way     string   `json:"way"`
	Devices []string `json:"devices"`
	Routes  int      `json:"routes"`
	Blocks  []string `json:"blocks"` // the first ones
	Stale   bool     `json:"stale"`  // its routes are kept, without a session that brings them
	Session string   `json:"session,omitempty"`
	Down    bool     `json:"down"`
}

// The ways to a node, by its routes in the kernel.
const (
	wayDirect = "direct" // on the wire of this node
	wayRouted = "routed" // through the gateways of the underlay
	wayTunnel = "tunnel"
	wayMixed  = "mixed"
	wayNone   = "none"   // it has routes, and none is in the kernel
	wayIdle   = "idle"   // it announces nothing
	wayFailed = "failed" // the kernel refuses a route
)

// atlas makes the view of one snapshot.
type atlas struct {
	peers  map[netip.Addr]*state.Peer
	relays map[netip.Addr]bool // peers of our AS that announce routes of others
	names  map[netip.Addr]string
	racks  map[string]*rackView
	out    *topologyView
}

// topology returns the network; rack is the chosen one, "" for none.
func (g *glass) topology(s *state.Snapshot, uses []rib.Use, rack string) *topologyView {
	a := &atlas{
		peers: map[netip.Addr]*state.Peer{}, relays: map[netip.Addr]bool{}, names: map[netip.Addr]string{}, racks: map[string]*rackView{},
		out: &topologyView{Routers: []routerView{}, Racks: []rackView{}},
	}
	a.meet(s)
	if known, ok := g.Known(); ok {
		for _, n := range known.Nodes {
			for _, addr := range n.Addresses {
				a.names[addr] = n.Name
			}
		}
	}
	reached := map[netip.Addr]rib.Reach{}
	for i := range uses {
		reached[uses[i].Addr] = uses[i].Reach
		for _, p := range uses[i].Peers {
			if peer := a.peers[p]; peer != nil && peer.Role != bgp.EBGP && p != uses[i].Addr {
				a.relays[p] = true
			}
		}
	}
	a.self(s, uses)
	uses = slices.Clone(uses) // several pages share it
	for addr, p := range a.peers {
		if _, followed := reached[addr]; p.Role == bgp.Client && !followed {
			uses = append(uses, rib.Use{Addr: addr}) // it announces nothing, or is gone
		}
	}
	slices.SortFunc(uses, func(x, y rib.Use) int { return x.Addr.Compare(y.Addr) })
	for i := range uses {
		a.node(&uses[i])
	}
	a.routers(reached)
	a.finish(rack)
	return a.out
}

// meet takes the peers that are expected, or were up.
func (a *atlas) meet(s *state.Snapshot) {
	for i := range s.Sessions.Peers {
		if p := &s.Sessions.Peers[i]; !p.Stranger && (!p.Gone || p.Seen) {
			a.peers[p.Address] = p
		}
	}
}

// self places this node: in the network of a next hop or peer on its wire.
func (a *atlas) self(s *state.Snapshot, uses []rib.Use) {
	me := s.Node.Address
	a.out.Self = selfView{Name: s.Node.Name, Address: me.String(), Reflector: s.Node.Reflector, Blocks: len(s.IPAM.Blocks)}
	reach := rib.Reach{}
	for i := range uses {
		if r := uses[i].Reach; r.Kind == rib.OnLink && r.Match.Contains(me) {
			reach = r
		}
	}
	r := a.rack(me, reach)
	r.Here, a.out.Self.Rack = true, r.ID
}

// assumedBits is the length of a rack's prefix where no route says it, by family.
func assumedBits(a netip.Addr) int {
	if a.Is4() {
		return 24
	}
	return 64
}

// rack returns the rack of an address: the network of the route that reaches it, or one
// of the usual length where that is a default route or covers many racks.
func (a *atlas) rack(addr netip.Addr, reach rib.Reach) *rackView {
	bits := assumedBits(addr)
	net := reach.Match
	assumed := !net.IsValid() || !net.Contains(addr) || net.IsSingleIP() || net.Bits() < bits-8
	if assumed {
		net = netip.PrefixFrom(addr.WithZone(""), bits).Masked()
	}
	id := net.String()
	r := a.racks[id]
	if r == nil {
		r = &rackView{ID: id, Assumed: assumed, Ways: map[string]int{}, Members: []nodeView{}}
		a.racks[id] = r
	}
	return r
}

// isNode reports whether an address is another node's: its routes or its session say so.
func (a *atlas) isNode(u *rib.Use) bool {
	p := a.peers[u.Addr]
	return u.Node || p != nil && p.Role == bgp.Client
}

// node adds the node of a next hop.
func (a *atlas) node(u *rib.Use) {
	if !a.isNode(u) || a.relays[u.Addr] && !u.Node {
		return
	}
	n := nodeView{Address: u.Addr.String(), Name: short(a.names[u.Addr]), Way: wayOf(u), Devices: slices.Concat([]string{}, u.Devices), Routes: u.Routes, Blocks: []string{}}
	for _, p := range u.Prefixes {
		n.Blocks = append(n.Blocks, p.String())
	}
	if p := a.peers[u.Addr]; p != nil {
		n.Session, n.Down = p.State, !p.Up()
		if n.Name == "" && !p.Dynamic {
			n.Name = short(p.Name)
		}
	}
	n.Stale = len(u.Peers) > 0 && !slices.ContainsFunc(u.Peers, func(p netip.Addr) bool { return a.peers[p] == nil || a.peers[p].Up() })
	r := a.rack(u.Addr, u.Reach)
	r.Nodes++
	r.Ways[n.Way]++
	if n.Stale {
		r.Stale++
	}
	if n.Down {
		r.Down++
	}
	r.Members = append(r.Members, n)
	a.out.Nodes++
}

// wayOf returns how packets get to a node.
func wayOf(u *rib.Use) string {
	switch {
	case u.Routes == 0:
		return wayIdle
	case u.Failing > 0:
		return wayFailed
	case u.Direct > 0 && u.Tunnelled > 0:
		return wayMixed
	case u.Tunnelled > 0:
		return wayTunnel
	case u.Direct > 0 && u.Reach.Kind == rib.OnLink:
		return wayDirect
	case u.Direct > 0:
		return wayRouted
	}
	return wayNone
}

// routers adds the peers that are no nodes.
func (a *atlas) routers(reached map[netip.Addr]rib.Reach) {
	drawn := map[string]bool{}
	for _, r := range a.racks {
		for i := range r.Members {
			drawn[r.Members[i].Address] = true
		}
	}
	for addr, p := range a.peers {
		kind := "peer"
		switch {
		case p.Role == bgp.EBGP:
			kind = "tor"
		case a.relays[addr]:
			kind = "reflector"
		case drawn[addr.String()] || p.Role == bgp.Client:
			continue
		}
		a.out.Routers = append(a.out.Routers, routerView{
			Name: short(p.Name), Address: addr.String(), ASN: p.ASN, Kind: kind, State: p.State, Up: p.Up(), Rack: a.rack(addr, reached[addr]).ID,
		})
	}
	slices.SortFunc(a.out.Routers, func(x, y routerView) int {
		return cmp.Or(strings.Compare(y.Kind, x.Kind), cmp.Compare(order(x.Up), order(y.Up)), strings.Compare(x.Name, y.Name), strings.Compare(x.Address, y.Address))
	})
	shown := min(len(a.out.Routers), maxRouters)
	a.out.MoreRouters, a.out.Routers = len(a.out.Routers)-shown, a.out.Routers[:shown]
}

// order puts what is down first.
func order(up bool) int {
	if up {
		return 1
	}
	return 0
}

// finish orders the racks, this node's first, and leaves out what is too much: of a
// large network every node but those of the chosen rack.
func (a *atlas) finish(chosen string) {
	var list []*rackView
	for _, r := range a.racks {
		if r.Nodes > 0 || r.Here { // else it is that of a router alone
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(x, y *rackView) int {
		px, py := netip.MustParsePrefix(x.ID), netip.MustParsePrefix(y.ID)
		return cmp.Or(cmp.Compare(order(!x.Here), order(!y.Here)), cmp.Compare(order(x.ID != chosen), order(y.ID != chosen)), px.Compare(py))
	})
	for i, r := range list {
		if i >= maxRacks {
			a.out.MoreRacks++
			continue
		}
		keep := 0
		switch {
		case r.ID == chosen:
			keep = min(len(r.Members), maxMembers)
		case a.out.Nodes <= maxDrawn:
			keep = len(r.Members)
		}
		r.More, r.Members = len(r.Members)-keep, r.Members[:keep]
		a.out.Racks = append(a.out.Racks, *r)
	}
}
