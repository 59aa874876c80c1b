package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// TestEdits makes random edits of peers, policies and filters of a running
// agent, one through its file and SIGHUP, the next through its API, and so on.
// Every edit is seen by the routers that it is for, a wrong one by nobody, and
// no session is reset but those whose own entry asks for a new one.
func TestEdits(t *testing.T) {
	spec := labtest.Mesh("edits", 4)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	n, other := l.Node("r1n1"), l.Node("r1n2")
	e := newEdits(l, n, other)
	for _, r := range e.routers {
		t.Cleanup(func() {
			if err := r.Kill(); err != nil {
				t.Error(err)
			}
		})
		must(t, r.Start(ctx, r.setup))
	}
	n.Edit = func(c *conf.Config) { *c = *e.config() }
	other.Edit = func(c *conf.Config) { c.BGP = conf.BGP{ASN: lab.NodeASN, Peers: []*conf.Peer{n.Peer()}} }
	for _, node := range []*lab.Node{n, other} {
		must(t, node.Start(ctx))
	}
	for _, node := range []*lab.Node{n, other} {
		must(t, node.WaitReady(ctx))
		must(t, lab.Eventually(ctx, labtest.Patience, node.Name+" has a block", func() error {
			list, err := node.Blocks(ctx)
			if err == nil && len(list) != 1 { // there are no pods, so it is the only one
				err = labtest.ErrNotLearned
			}
			return err
		}))
	}
	e.block, e.otherBlock = labtest.BlockOf(ctx, t, n), labtest.BlockOf(ctx, t, other)
	e.settled(ctx, t)
	before, beforeThere := e.untouched(ctx, t), labtest.Sessions(ctx, t, other)
	if len(before) != 4 || len(beforeThere) != 1 {
		t.Fatalf("sessions up: %v, and of the other node %v; want 4 and 1", before, beforeThere)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	resets := 0
	for i := range edits {
		overAPI := i%2 == 1
		if i%9 == 8 {
			e.wrong(ctx, t, rnd, overAPI)
			continue
		}
		if e.right(ctx, t, rnd, overAPI) {
			resets++
		}
		e.settled(ctx, t)
	}
	for name, was := range before {
		same(t, name, was, e.untouched(ctx, t)[name])
	}
	for name, was := range beforeThere {
		same(t, other.Name+"'s "+name, was, labtest.Sessions(ctx, t, other)[name])
	}
	t.Logf("%d edits, %d of them of what needs a new session; %d other sessions were never reset", edits, resets, len(before))
}

// same wants a session to be the one of before.
func same(t *testing.T, name string, was, is labtest.Session) {
	t.Helper()
	if is.Since.IsZero() || is.Flaps != was.Flaps || is.Since.Sub(was.Since).Abs() > 2*time.Second {
		t.Errorf("session %s was reset: since %s before and %s after, %d flaps", name, was.Since, is.Since, is.Flaps)
	}
}

// editing is the configuration that a node should have, and who sees it.
type editing struct {
	n                 *lab.Node
	routers           []*edited
	other             *lab.Node
	block, otherBlock netip.Prefix
	community         int             // that the filter "mark" adds
	originate         []netip.Prefix  // by the file or the whole text only
	phantoms          map[string]bool // peers that nobody answers for
}

// edited is a router and its entry in the node's file.
type edited struct {
	*interop.Router

	setup     interop.Setup
	announces netip.Prefix
	victim    bool // its session may be reset
	absent    bool // not among the peers
	external  bool

	hold, ttl, med int
	own, accept    bool
	marked         bool // has the filter
	narrow         bool // export.prefixes leaves originated prefixes out
	tags           []string
}

// newEdits has two ToRs and two routers of the nodes' AS beside the other
// node; the last router is the victim.
func newEdits(l *lab.Lab, n, other *lab.Node) *editing {
	e := &editing{n: n, other: other, community: 1, phantoms: map[string]bool{}}
	tors, third, fourth := l.ToRs(), l.Node("r1n3"), l.Node("r1n4")
	for i, r := range []struct {
		kind interop.Kind
		ns   *lab.NS
		addr netip.Addr
		asn  uint32
	}{
		{interop.BIRD, tors[0].NS, tors[0].Addr, tors[0].ASN},
		{interop.FRR, tors[1].NS, tors[1].Addr, tors[1].ASN},
		{interop.BIRD, third.NS, third.Addr, lab.NodeASN},
		{interop.BIRD, fourth.NS, fourth.Addr, 65099},
	} {
		announces := netip.MustParsePrefix(fmt.Sprintf("198.18.%d.0/24", i))
		e.routers = append(e.routers, &edited{
			Router:    interop.New(r.kind, r.ns, l.Dir, fmt.Sprintf("router%d", i)),
			announces: announces, external: r.asn != lab.NodeASN, victim: i == 3, own: true, accept: true, hold: 90,
			setup: interop.Setup{
				ASN: r.asn, RemoteASN: lab.NodeASN, RouterID: r.addr, Local: r.addr, Remote: n.Addr,
				IPv4: true, HopIPv4: r.addr, Announce: []netip.Prefix{announces},
			},
		})
	}
	return e
}

// entry is the router's entry in the file.
func (r *edited) entry() *conf.Peer {
	p := &conf.Peer{
		Name: r.Name, Address: r.setup.Local.String(), ASN: r.setup.ASN, ConnectRetry: "2s",
		HoldTime: fmt.Sprintf("%ds", r.hold), Multihop: r.ttl, Export: conf.Export{Communities: r.tags, MED: r.med},
	}
	if !r.own {
		p.Export.Own = new(false)
	}
	if r.marked {
		p.Export.Filters = []string{"mark"}
	}
	if r.narrow {
		p.Export.Prefixes = conf.Rules("10.244.0.0/16")
	}
	if r.accept {
		p.Import.Accept = conf.Rules(r.announces)
	}
	return p
}

func (e *editing) filter() conf.Filter {
	set := conf.FilterSet{Communities: conf.CommunityChange{Add: []string{fmt.Sprintf("64512:%d", e.community)}}}
	return conf.Filter{Name: "mark", Rules: []conf.FilterRule{{Set: set, Action: "next"}}}
}

func phantom(address string) *conf.Peer {
	return &conf.Peer{Name: "phantom " + address, Address: address, BFD: &conf.BFD{Hops: "single"}}
}

// config is the node's whole file.
func (e *editing) config() *conf.Config {
	c := e.n.Config()
	peers := []*conf.Peer{e.other.Peer()}
	for _, r := range e.routers {
		if !r.absent {
			peers = append(peers, r.entry())
		}
	}
	for _, address := range slices.Sorted(maps.Keys(e.phantoms)) {
		peers = append(peers, phantom(address))
	}
	c.BGP = conf.BGP{ASN: lab.NodeASN, Peers: peers, Filters: []conf.Filter{e.filter()}, Originate: conf.Strings(e.originate...)}
	return c
}

// right makes one good edit. It reports whether the edit is one of what needs
// a new session.
func (e *editing) right(ctx context.Context, t *testing.T, rnd *rand.Rand, overAPI bool) (resets bool) {
	t.Helper()
	r := e.routers[rnd.IntN(len(e.routers))]
	what := rnd.IntN(10)
	if r.victim && rnd.IntN(2) == 0 {
		what = 10 + rnd.IntN(2)
	}
	var edit *onlinkv1.ConfigEdit // nil: the whole text
	switch what {
	case 0: // nobody's session
		address := fmt.Sprintf("10.57.1.%d", 200+rnd.IntN(5))
		edit = putPeer(t, phantom(address))
		if e.phantoms[address] {
			delete(e.phantoms, address)
			edit = removePeer("phantom " + address)
		} else {
			e.phantoms[address] = true
		}
	case 1: // of all peers that have it
		e.community = 1 + rnd.IntN(1000)
		edit = &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_PutFilter{PutFilter: asYAML(t, e.filter())}}
	case 2:
		e.originate = nil
		for i := range rnd.IntN(3) {
			e.originate = append(e.originate, netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", i)))
		}
	case 10: // the victim's alone
		r.absent = !r.absent
		edit, resets = removePeer(r.Name), true
	case 11:
		r.ttl, resets = 2+rnd.IntN(100), true
	default:
		r.shuffle(rnd, what)
	}
	if edit == nil && what > 2 && !r.absent {
		edit = putPeer(t, r.entry())
	}
	if r.victim && what == 10 && !r.absent {
		edit = putPeer(t, r.entry())
	}
	e.send(ctx, t, edit, overAPI)
	return resets
}

// shuffle changes the router's policy or timers, which need no new session.
func (r *edited) shuffle(rnd *rand.Rand, what int) {
	switch what {
	case 3:
		r.tags = nil
		for range rnd.IntN(3) {
			r.tags = append(r.tags, fmt.Sprintf("64512:%d", 2000+rnd.IntN(100)))
		}
		slices.Sort(r.tags)
		r.tags = slices.Compact(r.tags)
	case 4:
		r.own = !r.own || !r.external
	case 5:
		r.accept = !r.accept
	case 6:
		r.hold = 30 + rnd.IntN(60)
	case 7:
		r.marked = !r.marked
	case 8:
		r.narrow = !r.narrow
	case 9:
		r.med = rnd.IntN(100)
	}
}

func putPeer(t *testing.T, entry *conf.Peer) *onlinkv1.ConfigEdit {
	t.Helper()
	return &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_PutPeer{PutPeer: asYAML(t, entry)}}
}

func removePeer(name string) *onlinkv1.ConfigEdit {
	return &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_RemovePeer{RemovePeer: name}}
}

func asYAML(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	must(t, err)
	return string(text)
}

// send brings the agent to the wanted configuration, through the file or
// through the API: by an edit, or by the whole text where there is none.
func (e *editing) send(ctx context.Context, t *testing.T, edit *onlinkv1.ConfigEdit, overAPI bool) {
	t.Helper()
	if !overAPI {
		labtest.Reload(ctx, t, e.n, e.config())
		return
	}
	admin, err := e.n.Admin()
	must(t, err)
	have, err := admin.GetConfig(ctx, &onlinkv1.GetConfigRequest{})
	must(t, err)
	req := &onlinkv1.ChangeConfigRequest{IfDigest: have.GetDigest(), Confirm: true}
	if edit != nil {
		req.Edits = []*onlinkv1.ConfigEdit{edit}
	} else {
		req.Text = asYAML(t, e.config())
	}
	_, err = admin.ChangeConfig(ctx, req)
	must(t, err)
}

// wrong makes an edit that must be refused, and leave file and agent as they
// are.
func (e *editing) wrong(ctx context.Context, t *testing.T, rnd *rand.Rand, overAPI bool) {
	t.Helper()
	bad := []*conf.Peer{
		{Name: "bad", Address: "10.57.1.99", HoldTime: "1s"},
		{Name: "bad", Address: "10.57.1.99", PasswordFile: "/nonexistent/key"}, // found late
		{Name: "bad", Address: "10.57.1.99", Export: conf.Export{Filters: []string{"none"}}},
		{Name: "bad", Address: e.routers[0].setup.Local.String()},
	}[rnd.IntN(4)]
	if !overAPI {
		c := e.config()
		c.BGP.Peers = append(c.BGP.Peers, bad)
		labtest.RefuseReload(ctx, t, e.n, c)
		_, err := e.n.WriteConfig("onlinkd.yaml", e.config()) // the next edit finds a good one
		must(t, err)
		return
	}
	before, err := os.ReadFile(e.n.ConfigFile())
	must(t, err)
	admin, err := e.n.Admin()
	must(t, err)
	reply, err := admin.ChangeConfig(ctx, &onlinkv1.ChangeConfigRequest{Edits: []*onlinkv1.ConfigEdit{putPeer(t, bad)}})
	if err == nil {
		t.Errorf("%v was taken: %v", bad, reply)
	}
	after, err := os.ReadFile(e.n.ConfigFile())
	must(t, err)
	if string(before) != string(after) {
		t.Errorf("a refused edit changed the file:\n%s", after)
	}
}

// settled waits until every router has what the configuration says, and the
// node what it accepts of them.
func (e *editing) settled(ctx context.Context, t *testing.T) {
	t.Helper()
	must(t, lab.Eventually(ctx, labtest.Patience, "the routers to see the edit", func() error {
		for _, r := range e.routers {
			if err := e.sees(ctx, r); err != nil {
				return err
			}
		}
		return labtest.ThroughHops(e.n, e.otherBlock, e.other.Addr)
	}))
}

// sees compares what one router learned with what it should have, and the
// node's route to its prefix.
func (e *editing) sees(ctx context.Context, r *edited) error {
	var hops []netip.Addr
	if r.accept && !r.absent {
		hops = append(hops, r.setup.Local)
	}
	if err := labtest.ThroughHops(e.n, r.announces, hops...); err != nil {
		return err
	}
	list, err := r.Learned(ctx)
	if err != nil {
		return err
	}
	var have []string
	for _, route := range list {
		have = append(have, fmt.Sprint(route.Prefix, slices.Sorted(slices.Values(route.Communities))))
	}
	slices.Sort(have)
	if want := e.told(r); !slices.Equal(have, want) {
		return fmt.Errorf("%s has %s, want %s", r.Name, strings.Join(have, ", "), strings.Join(want, ", "))
	}
	return nil
}

// told is what a router should have learned.
func (e *editing) told(r *edited) []string {
	var out []string
	if r.absent || !r.own {
		return out
	}
	for _, p := range append([]netip.Prefix{e.block}, e.originate...) {
		if r.narrow && p != e.block {
			continue
		}
		tags := slices.Clone(r.tags)
		if r.marked {
			tags = append(tags, fmt.Sprintf("64512:%d", e.community))
		}
		slices.Sort(tags)
		out = append(out, fmt.Sprint(p, tags))
	}
	slices.Sort(out)
	return out
}

// untouched returns the sessions that no edit resets.
func (e *editing) untouched(ctx context.Context, t *testing.T) map[string]labtest.Session {
	t.Helper()
	list := labtest.Sessions(ctx, t, e.n)
	for _, r := range e.routers {
		if r.victim {
			delete(list, r.Name)
		}
	}
	return list
}
