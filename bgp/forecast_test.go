package bgp

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/bgp/policy"
	"onlink/rib"
)

// foretold collects a forecast as lines.
type foretold struct{ routes, paths []string }

func (f *foretold) Route(r RouteForecast) {
	verb := [RouteEffects]string{"announces", "withdraws", "announces anew", "accepts", "drops", "accepts anew"}[r.Effect]
	f.routes = append(f.routes, fmt.Sprintf("%s %s %s", r.Peer, verb, r.Prefix))
}

func (f *foretold) Paths(u rib.Update) {
	hops := []string{}
	for _, p := range u.Paths {
		hops = append(hops, p.NextHop.String())
	}
	f.paths = append(f.paths, fmt.Sprintf("%s via %s", u.Prefix, strings.Join(hops, ",")))
}

// tables returns what a node announces to its sessions and accepts from them, by
// "PEER set PREFIX", with the attributes.
func (n *node) tables() map[string]string {
	out := map[string]string{}
	for _, p := range n.Peers() {
		if p.Gone || p.State != established {
			continue
		}
		for set, name := range map[RouteSet]string{Advertised: "announces", Accepted: "accepts"} {
			err := NewOperator(n.Speaker).Routes(n.t.Context(), p.Address, set, netip.Prefix{}, func(r *PeerRoute) error {
				number := func(n *uint32) int64 {
					if n == nil {
						return -1
					}
					return int64(*n)
				}
				out[fmt.Sprintf("%s %s %s", p.Address, name, r.Route.Prefix)] = fmt.Sprint(
					r.Route.NextHop, r.Route.ASPath, r.Route.Communities, number(r.Route.LocalPref), number(r.Route.MED))
				return nil
			})
			if err != nil {
				n.t.Error(err)
			}
		}
	}
	return out
}

// differences returns what became of the tables, as a forecast says it.
func differences(was, is map[string]string) []string {
	var out []string
	for key, text := range was {
		after, stays := is[key]
		switch {
		case !stays:
			out = append(out, strings.NewReplacer("announces", "withdraws", "accepts", "drops").Replace(key))
		case text != after:
			out = append(out, strings.NewReplacer("announces", "announces anew", "accepts", "accepts anew").Replace(key))
		}
	}
	for key := range is {
		if _, had := was[key]; !had {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// foreseenLab is a reflector n[0] with two clients and a ToR.
func foreseenLab(t *testing.T) (n []*node, present Desire) {
	t.Helper()
	tor := testConfig(t, "127.103.0.4")
	tor.ASN = 65001
	n = startNodes(t, testConfig(t, "127.103.0.1"), testConfig(t, "127.103.0.2"), testConfig(t, "127.103.0.3"), tor)
	up := from(to("127.103.0.4", EBGP), "127.103.0.1")
	up.ASN, up.Import = 65001, accepting("172.16.0.0/12 ge 12 le 24")
	up.Export.Own, up.Export.Aggregates = true, []policy.Aggregate{{Prefix: prefix("192.0.0.0/16"), SummaryOnly: true}}
	present = Desire{
		Peers: []Peer{up}, Dynamics: []Dynamic{clientsOf("127.103.0.2/31")}, Pools: n[0].cfg.Pools,
		Origins: []Origin{{Prefix: prefix("10.244.0.0/26")}, {Prefix: prefix("192.0.2.0/24")}, {Prefix: prefix("203.0.113.128/25"), Peers: []string{up.Name}}},
	}
	n[0].adopt(present)
	for i, x := range n[1:3] {
		x.originate(fmt.Sprintf("10.244.%d.0/26", i+2))
		x.setPeers([]Peer{from(to("127.103.0.1", IBGP), x.addr.String())})
	}
	down := from(to("127.103.0.1", EBGP), "127.103.0.4")
	down.ASN, down.Export.Own, down.Import = 64512, true, accepting("0.0.0.0/0 ge 1 le 32")
	n[3].originate("172.16.1.0/24", "172.31.0.0/16", "198.51.100.0/24")
	n[3].setPeers([]Peer{down})
	n[0].waitUp(n[1].addr, n[2].addr, n[3].addr)
	n[0].waitRoutes("10.244.2.0/26 via 127.103.0.2", "10.244.3.0/26 via 127.103.0.3", "172.16.1.0/24 via 127.103.0.4", "172.31.0.0/16 via 127.103.0.4")
	return n, present
}

// adopt makes a desire the present configuration.
func (n *node) adopt(d Desire) {
	n.t.Helper()
	if err := n.SetPools(n.t.Context(), d.Pools); err != nil {
		n.t.Fatal(err)
	}
	n.setPeers(d.Peers, d.Dynamics...)
	if err := n.SetOrigins(n.t.Context(), d.Origins); err != nil {
		n.t.Fatal(err)
	}
}

// TestForecast: what the speaker would do with a desire is what it does with it, in its
// tables and its best paths; the forecast itself changes nothing.
func TestForecast(t *testing.T) {
	needsPatches(t)
	n, present := foreseenLab(t)
	refuse := func(prefixes ...string) policy.Filter {
		f := policy.Filter{Name: "refuse", Rules: []policy.Rule{{Action: policy.Reject}}}
		for _, p := range prefixes {
			x := prefix(p)
			f.Rules[0].Match.Prefixes = append(f.Rules[0].Match.Prefixes, policy.PrefixRule{Prefix: x, Ge: x.Bits(), Le: 32})
		}
		return f
	}
	at := func(i int) string { return n[i].addr.String() }
	for _, c := range []struct {
		name   string
		change func(*Desire)
		want   []string // the least that must be foretold
		fates  map[string]Fate
	}{
		{"nothing", func(*Desire) {}, nil, map[string]Fate{at(1): FateKept, at(3): FateKept}},
		{
			"nothing goes to the ToR", func(d *Desire) { d.Peers[0].Export.Filters = []policy.Filter{refuse()} },
			[]string{at(3) + " withdraws 10.244.0.0/26", at(3) + " withdraws 192.0.2.0/24"},
			map[string]Fate{at(1): FateKept, at(3): FateChanged},
		},
		{
			"less goes to the ToR", func(d *Desire) {
				d.Peers[0].Export.Prefixes = []policy.PrefixRule{{Prefix: prefix("10.244.0.0/16"), Ge: 16, Le: 32}}
			},
			[]string{at(3) + " withdraws 192.0.2.0/24"},
			nil,
		},
		{
			"a MED", func(d *Desire) { d.Peers[0].Export.MED = 7 },
			[]string{at(3) + " announces anew 10.244.0.0/26", at(3) + " announces anew 192.0.2.0/24"},
			nil,
		},
		{
			"more and other routes of the ToR", func(d *Desire) { d.Peers[0].Import = accepting("172.16.0.0/15 ge 15 le 24", "198.51.100.0/24") },
			[]string{at(3) + " accepts 198.51.100.0/24", at(3) + " drops 172.31.0.0/16"},
			nil,
		},
		{
			"a LOCAL_PREF", func(d *Desire) { d.Peers[0].Import.LocalPref = 200 },
			[]string{at(3) + " accepts anew 172.16.1.0/24", at(3) + " accepts anew 172.31.0.0/16"},
			nil,
		},
		{
			"a client's block is refused", func(d *Desire) { d.Dynamics[0].Import.Filters = []policy.Filter{refuse("10.244.2.0/24")} },
			[]string{at(1) + " drops 10.244.2.0/26", at(2) + " withdraws 10.244.2.0/26"},
			nil,
		},
		{
			"another own prefix", func(d *Desire) {
				d.Origins = []Origin{{Prefix: prefix("10.244.0.0/26")}, {Prefix: prefix("203.0.113.0/24"), Communities: []string{"1:2"}}}
			},
			[]string{at(1) + " announces 203.0.113.0/24", at(1) + " withdraws 192.0.2.0/24", at(3) + " announces 203.0.113.0/24", at(3) + " withdraws 192.0.2.0/24"},
			nil,
		},
		{
			"an own prefix that a client has", func(d *Desire) { d.Origins = append(d.Origins, Origin{Prefix: prefix("10.244.2.0/24")}) },
			[]string{at(3) + " announces 10.244.2.0/24", at(1) + " drops 10.244.2.0/26", at(2) + " withdraws 10.244.2.0/26"},
			nil,
		},
		{
			"an aggregate for the ToR alone", func(d *Desire) {
				d.Peers[0].Export.Aggregates = []policy.Aggregate{{Prefix: prefix("10.244.0.0/16"), SummaryOnly: true}}
				d.Origins = append(d.Origins, Origin{Prefix: prefix("10.244.0.0/16"), Aggregate: true})
			},
			[]string{at(3) + " announces 10.244.0.0/16", at(3) + " withdraws 10.244.0.0/26"},
			map[string]Fate{at(1): FateKept, at(3): FateChanged},
		},
		{
			"an aggregate that the ToR is to have already", func(d *Desire) {
				d.Origins = append(d.Origins, Origin{Prefix: prefix("192.0.0.0/16"), Aggregate: true})
			},
			[]string{at(3) + " announces 192.0.0.0/16", at(3) + " withdraws 192.0.2.0/24"},
			map[string]Fate{at(1): FateKept, at(3): FateKept},
		},
		{
			"another name of the ToR", func(d *Desire) { d.Peers[0].Name = "leaf" },
			[]string{at(3) + " withdraws 203.0.113.128/25"},
			map[string]Fate{at(3): FateChanged},
		},
		{
			"no own prefix", func(d *Desire) { d.Origins = nil },
			[]string{at(1) + " withdraws 10.244.0.0/26", at(3) + " withdraws 192.0.2.0/24"},
			nil,
		},
		{
			"no pool of the clients", func(d *Desire) { d.Pools = []policy.Pool{{Prefix: prefix("10.99.0.0/16")}} },
			[]string{at(1) + " drops 10.244.2.0/26", at(2) + " drops 10.244.3.0/26", at(1) + " withdraws 10.244.3.0/26"},
			nil,
		},
		{
			"timers", func(d *Desire) { d.Peers[0].HoldTime = 30 * time.Second }, nil, map[string]Fate{at(3): FateChanged, at(2): FateKept},
		},
		{
			"no ToR", func(d *Desire) { d.Peers = nil },
			[]string{at(3) + " drops 172.16.1.0/24", at(3) + " withdraws 10.244.0.0/26"},
			map[string]Fate{at(3): FateRemoved, at(1): FateKept},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := Desire{Peers: slices.Clone(present.Peers), Dynamics: slices.Clone(present.Dynamics), Pools: present.Pools, Origins: slices.Clone(present.Origins)}
			c.change(&next)
			x := &node{Speaker: n[0].Speaker, t: t, addr: n[0].addr}
			was := x.tables()
			var told foretold
			sessions, err := NewOperator(x.Speaker).Forecast(t.Context(), next, &told)
			if err != nil {
				t.Fatal(err)
			}
			if now := x.tables(); !maps.Equal(was, now) {
				t.Errorf("the forecast itself changed something: %v", differences(was, now))
			}
			slices.Sort(told.routes)
			for _, line := range c.want {
				if !slices.Contains(told.routes, line) {
					t.Errorf("%q is not foretold: %q", line, told.routes)
				}
			}
			for _, s := range sessions {
				if want, named := c.fates[s.Address.String()]; named && s.Fate != want {
					t.Errorf("%s is %s (%s), want %s", s.Address, s.Fate, s.Why, want)
				}
			}
			before := n[0].routes()
			x.adopt(next)
			eventually(t, func() string { return cmp.Diff(told.routes, differences(was, x.tables())) })
			eventually(t, func() string { return cmp.Diff(told.paths, others(before, n[0].routes())) })
			x.adopt(present)
			for _, peer := range n[1:] {
				x.waitUp(peer.addr)
			}
			eventually(t, func() string { return cmp.Diff(was, x.tables()) })
			eventually(t, func() string { return cmp.Diff(before, n[0].routes()) })
		})
	}
}

// others returns the lines of the second list that the first has not, and those that
// went without their next hops.
func others(was, is []string) (out []string) {
	for _, line := range was {
		p, _, _ := strings.Cut(line, " ")
		if !slices.ContainsFunc(is, func(o string) bool { return strings.HasPrefix(o, p+" ") }) {
			out = append(out, p+" via ")
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			out = append(out, line)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return prefix(strings.Fields(a)[0]).Compare(prefix(strings.Fields(b)[0]))
	})
	return out
}

// TestForecastSessions: which settings need a new session, and what an unknown one is.
func TestForecastSessions(t *testing.T) {
	needsPatches(t)
	n, present := foreseenLab(t)
	tor, client := n[3].addr, n[1].addr
	for _, c := range []struct {
		name   string
		change func(*Desire)
		of     netip.Addr
		fate   Fate
		why    string
	}{
		{"password", func(d *Desire) { d.Peers[0].Password = "secret" }, tor, FateReset, "password"},
		{"two settings", func(d *Desire) { d.Peers[0].TTLSecurity, d.Peers[0].AllowOwnAS = 1, 1 }, tor, FateReset, "ttlSecurity, allowOwnAS"},
		{"port and direction", func(d *Desire) { d.Peers[0].Port, d.Peers[0].Passive = 1791, true }, tor, FateReset, "port, passive"},
		{"the clients' password", func(d *Desire) { d.Dynamics[0].Password = "secret" }, client, FateReset, "password"},
		{"the clients' limit", func(d *Desire) { d.Dynamics[0].Import.MaxPrefixes = 9 }, client, FateReset, "timers or limits"},
		{"the clients' policy", func(d *Desire) { d.Dynamics[0].Import = accepting("192.168.0.0/16") }, client, FateChanged, ""},
		{"no clients", func(d *Desire) { d.Dynamics = nil }, client, FateRemoved, ""},
		{"another range", func(d *Desire) { d.Dynamics[0].Prefix = prefix("127.103.0.0/24") }, client, FateReset, "its range of clients"},
		{"a client of its own", func(d *Desire) {
			d.Peers = append(d.Peers, Peer{Name: "c", Address: client, Session: Session{Role: Client}})
		}, client, FateReset, "its entry in bgp.peers"},
		{"one more", func(d *Desire) { d.Peers = append(d.Peers, to("127.103.0.9", IBGP)) }, addr("127.103.0.9"), FateAdded, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := Desire{Peers: slices.Clone(present.Peers), Dynamics: slices.Clone(present.Dynamics), Pools: present.Pools, Origins: present.Origins}
			c.change(&next)
			var told foretold
			sessions, err := NewOperator(n[0].Speaker).Forecast(t.Context(), next, &told)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(sessions, func(s SessionForecast) bool { return s.Address == c.of })
			if i < 0 || sessions[i].Fate != c.fate || sessions[i].Why != c.why {
				t.Errorf("of %+v, want %s %s (%s)", sessions, c.of, c.fate, c.why)
			}
		})
	}
	if _, err := NewOperator(n[0].Speaker).Forecast(t.Context(), Desire{Peers: []Peer{{Name: "x"}}}, &foretold{}); err == nil {
		t.Error("a desire that the speaker would reject has a forecast")
	}
}

// TestForecastManyRoutes: a forecast over 100,000 routes holds a page of them, and
// the list of their prefixes.
func TestForecastManyRoutes(t *testing.T) {
	needsPatches(t)
	c := testConfig(t, "127.104.0.1")
	c.Pools = []policy.Pool{{Prefix: prefix("11.0.0.0/8"), Block: 32}}
	x := startNodes(t, c)[0]
	present := Desire{Dynamics: []Dynamic{clientsOf("127.104.0.0/24")}, Pools: c.Pools}
	x.adopt(present)
	p := dialRaw(t, "127.104.0.2", "127.104.0.1")
	go drainConn(p.conn)
	const routes = 100_000
	if err := p.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.conn.Write(blockUpdates(net.IPv4(127, 104, 0, 2), routes)); err != nil {
		t.Fatal(err)
	}
	at := addr("127.104.0.2")
	eventually(t, func() string {
		if n := x.peer(at).Accepted; n != routes {
			return fmt.Sprintf("%d of %d routes accepted", n, routes)
		}
		return ""
	})
	next := present
	next.Dynamics = []Dynamic{clientsOf("127.104.0.0/24")}
	next.Dynamics[0].Import.Filters = []policy.Filter{{Name: "none", Rules: []policy.Rule{{Action: policy.Reject}}}}
	counts := &counted{}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	if _, err := NewOperator(x.Speaker).Forecast(t.Context(), next, counts); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d routes in %s", counts.drops, time.Since(began).Round(time.Millisecond))
	if counts.drops != routes || counts.paths != routes {
		t.Errorf("%d routes would be dropped, %d prefixes would have other paths; want %d", counts.drops, counts.paths, routes)
	}
	const bound = 16 << 20
	if counts.most > before.HeapAlloc+bound {
		t.Errorf("the forecast holds %d kB, want at most %d", (counts.most-before.HeapAlloc)>>10, bound>>10)
	}
}

// counted counts a forecast, and the memory meanwhile.
type counted struct {
	drops, paths int
	most         uint64
}

func (c *counted) Route(r RouteForecast) {
	if r.Effect != Drops {
		return
	}
	if c.drops++; c.drops%20_000 == 1 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		c.most = max(c.most, m.HeapAlloc)
	}
}

func (c *counted) Paths(rib.Update) { c.paths++ }
