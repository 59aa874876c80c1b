package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/announce"
	"onlink/agent/config"
	"onlink/agent/drain"
	"onlink/agent/explain"
	"onlink/agent/forecast"
	"onlink/agent/hold"
	"onlink/agent/logs"
	"onlink/agent/namespaces"
	"onlink/agent/reload"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/policy"
	"onlink/cni"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/rib"
)

// bed is an agent as the API sees it: each part answers what the test has put
// there, and notes what it was asked to do.
type bed struct {
	snapshot   *state.Snapshot
	peers      []bgp.PeerStatus
	sessions   map[netip.Addr]bfd.Status
	routes     []rib.Route
	failed     map[netip.Prefix]string
	paths      map[netip.Prefix][]bgp.PathInfo
	pools      []config.Pool
	blocks     []ipam.BlockUsage
	pods       []ipam.Assignment
	stats      ipam.Stats
	standing   error
	registered []ipam.Block
	audit      []ipam.AuditEntry
	problems   []string
	swept      []cni.Attachment
	backup     int   // bytes
	err        error // of the part that a test is about
	noteErr    error // of the audit
	did        []string
	verdict    policy.Verdict
	peerRoutes []bgp.PeerRoute
	candidates []bgp.Candidate
	text       string // of the configuration file
	logs       *logs.Log
	config     *config.Config // in force
}

// server returns the API of the bed.
func (b *bed) server(t *testing.T) *Server {
	t.Helper()
	d, err := drain.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	held := hold.New(log)
	if b.logs == nil {
		b.logs = logs.New(io.Discard, slog.LevelInfo, false)
	}
	return New(Config{
		Node: "n1", Log: log, Logs: b.logs, Board: b, World: nowhere{}.world(), File: file{b}, Drainer: d, Held: held, Namespaces: choices(t), Announcements: announcements(t, t.TempDir(), "", held), Speaker: speaker{b}, Sessions: sessions{b}, Alloc: alloc{b},
		Store: store{b}, Pods: pods{b}, Audit: NewAuditor(store{b}, log),
		Diags: Sources{
			Log: b.logs.Lines(), Metrics: scraped, Version: "v1", Engine: "gobgp", Current: func() *config.Effective {
				return &config.Effective{Config: *b.config}
			},
		},
		Registry:   registry{b: b},
		Registered: func(context.Context) ([]ipam.Block, error) { return b.registered, b.err },
		Routes: func(_ context.Context, each func(rib.Route, string)) error {
			for _, r := range b.routes {
				each(r, b.failed[r.Prefix])
			}
			return b.err
		},
		Pools: func() []config.Pool { return b.pools },
		TCP:   func() netip.AddrPort { return netip.AddrPort{} },
		Check: func(context.Context) ([]string, error) { return b.problems, b.err },
		BFD: func(p netip.Addr) (bfd.Status, bool) {
			s, ok := b.sessions[p]
			return s, ok
		},
	})
}

// announcements are those of a node with the pool 10.244.0.0/16 and the peer tor1,
// whose speaker takes them at once. They are kept in state, and boot is the machine's boot ID.
func announcements(t *testing.T, state, boot string, held *hold.Changes) *announce.Announcements {
	t.Helper()
	facts := announce.Facts{
		Pools: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Peers: map[string]bool{"tor1": true},
		Reaches: func(netip.Prefix) bool { return true },
	}
	a, err := announce.Open(announce.Config{
		State: state, Boot: boot, Held: held, Facts: func() announce.Facts { return facts }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			select {
			case <-a.Changed():
				_, version := a.Judge(facts)
				a.Sent(version)
			case <-t.Context().Done():
				return
			}
		}
	}()
	return a
}

func (b *bed) do(what string) error {
	b.did = append(b.did, what)
	return b.err
}

// Since implements Board.
func (b *bed) Since(context.Context, time.Time) (*state.Snapshot, error) { return b.snapshot, b.err }

// choices are pools of namespaces on a node without pools.
func choices(t *testing.T) *namespaces.Choices {
	t.Helper()
	c, err := namespaces.Open(t.TempDir(), func() []namespaces.Pool { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type sessions struct{ b *bed }

func (s sessions) Detail(_ context.Context, p netip.Addr) (bgp.PeerDetail, error) {
	i := slices.IndexFunc(s.b.peers, func(st bgp.PeerStatus) bool { return st.Address == p })
	d := bgp.PeerDetail{
		PeerStatus: s.b.peers[i], Local: ip("10.57.0.11"), RouterID: ip("10.57.0.1"), Hold: 90 * time.Second, NegotiatedHold: 30 * time.Second,
		Theirs: []bgp.Capability{{Code: 2, Name: "route refresh"}}, Heard: bgp.Messages{Update: 4, Total: 9},
		PerFamily: []bgp.FamilyRoutes{{Family: bgp.IPv6, Received: 2, Accepted: 1}}, Yield: true,
	}
	g := bgp.UpdateGroup{Family: bgp.IPv4, Prefixes: 7, Behind: 2}
	for a := ip("10.57.1.0"); len(g.Members) < 40; a = a.Next() {
		g.Members = append(g.Members, a)
	}
	d.Groups = []bgp.UpdateGroup{g}
	return d, s.b.err
}

func (s sessions) Routes(_ context.Context, p netip.Addr, set bgp.RouteSet, within netip.Prefix, fn func(*bgp.PeerRoute) error) error {
	s.b.did = append(s.b.did, fmt.Sprintf("routes %s %d %v", p, set, within))
	for i := range s.b.peerRoutes {
		if err := fn(&s.b.peerRoutes[i]); err != nil {
			return err
		}
	}
	return s.b.err
}

func (s sessions) Prefixes(_ context.Context, within netip.Prefix) (list []netip.Prefix, err error) {
	for _, c := range s.b.candidates {
		if c.Prefix.Overlaps(within) {
			list = append(list, c.Prefix)
		}
	}
	return list, s.b.err
}

func (s sessions) Candidates(_ context.Context, p netip.Prefix) (list []bgp.Candidate, err error) {
	for _, c := range s.b.candidates {
		if c.Prefix == p {
			list = append(list, c)
		}
	}
	return list, s.b.err
}

func (s sessions) RefreshIn(_ context.Context, p netip.Addr) ([]bgp.Family, error) {
	return []bgp.Family{bgp.IPv6, bgp.IPv4}, s.b.do("refresh in " + p.String())
}

func (s sessions) RefreshOut(_ context.Context, p netip.Addr) error {
	return s.b.do("refresh out " + p.String())
}

func (s sessions) Forget(_ context.Context, p netip.Addr) error {
	return s.b.do("forget " + p.String())
}

type speaker struct{ b *bed }

func (s speaker) Peers() []bgp.PeerStatus { return s.b.peers }
func (s speaker) Paths(_ context.Context, p netip.Prefix) []bgp.PathInfo {
	return s.b.paths[p]
}

func (s speaker) Hold(_ context.Context, p netip.Addr, holder, why string) error {
	return s.b.do("hold " + p.String() + " " + holder + ": " + why)
}

func (s speaker) Release(_ context.Context, p netip.Addr, holder string) error {
	return s.b.do("release " + p.String() + " " + holder)
}

func (s speaker) Reset(_ context.Context, p netip.Addr, why string) error {
	return s.b.do("reset " + p.String() + ": " + why)
}

func (s speaker) TestImport(_ context.Context, peer string, _ policy.Route) (policy.Verdict, error) {
	return s.b.verdict, s.b.do("import from " + peer)
}

func (s speaker) TestExport(_ context.Context, peer string, _ policy.Route) (policy.Verdict, error) {
	return s.b.verdict, s.b.do("export to " + peer)
}

type alloc struct{ b *bed }

func (a alloc) Blocks() []ipam.BlockUsage      { return a.b.blocks }
func (a alloc) Assignments() []ipam.Assignment { return a.b.pods }
func (a alloc) Stats() ipam.Stats              { return a.b.stats }
func (a alloc) Standing() error                { return a.b.standing }
func (a alloc) ByAddress(addr netip.Addr) (ipam.Assignment, bool) {
	for _, as := range a.b.pods {
		if slices.Contains(as.Addresses, addr) {
			return as, true
		}
	}
	return ipam.Assignment{}, false
}

func (a alloc) Lookup(h ipam.Handle) (ipam.Assignment, bool) {
	for _, as := range a.b.pods {
		if as.Handle == h {
			return as, true
		}
	}
	return ipam.Assignment{}, false
}

func (a alloc) TakeOver(_ context.Context, node string, _ bool) ([]ipam.Block, error) {
	return a.b.registered, a.b.do("take over " + node)
}

type store struct{ b *bed }

func (s store) Audit() ([]ipam.AuditEntry, error) { return s.b.audit, s.b.err }
func (s store) BeginAudit(e ipam.AuditEntry) (uint64, error) {
	if s.b.noteErr == nil {
		s.b.audit = append(s.b.audit, e)
	}
	return uint64(len(s.b.audit)), s.b.noteErr
}

func (s store) EndAudit(n uint64, taken []ipam.Block, err error) error {
	e := &s.b.audit[n-1]
	e.Done = true
	if err != nil {
		e.Failed = err.Error()
	}
	for _, b := range taken {
		e.Blocks = append(e.Blocks, b.CIDR)
	}
	return nil
}

func (s store) Backup(w io.Writer) error {
	if _, err := w.Write(make([]byte, s.b.backup)); err != nil {
		return err
	}
	return s.b.err
}

type pods struct{ b *bed }

func (p pods) Sweep(context.Context) ([]cni.Attachment, error) {
	for _, at := range p.b.swept {
		p.b.free(ipam.Handle{ContainerID: at.ContainerID, IfName: at.IfName})
	}
	return p.b.swept, p.b.do("sweep")
}

func (p pods) Evict(_ context.Context, at cni.Attachment) error {
	p.b.free(ipam.Handle{ContainerID: at.ContainerID, IfName: at.IfName})
	return p.b.do("evict " + at.Pod)
}

// free removes a pod's assignment.
func (b *bed) free(h ipam.Handle) {
	var left []ipam.Assignment
	for _, as := range b.pods {
		if as.Handle != h {
			left = append(left, as)
		}
	}
	b.pods = left
}

// registry is the block registry; only what is forced goes through it here.
type registry struct {
	ipam.Registry

	b *bed
}

func (r registry) ForceRelease(_ context.Context, node string, force bool) ([]ipam.Block, error) {
	what := "release "
	if force {
		what = "force "
	}
	return r.b.registered, r.b.do(what + node)
}

type file struct{ b *bed }

func (f file) Text() (path string, text []byte, digest string, err error) {
	return "/etc/onlink/onlinkd.yaml", []byte(f.b.text), "d-" + f.b.text, f.b.err
}

func (f file) Trouble() error { return f.b.noteErr }
func (f file) Change(_ context.Context, e reload.Edit) (reload.Outcome, error) {
	if f.b.err != nil {
		return reload.Outcome{}, f.b.err
	}
	text, err := e.Make([]byte(f.b.text))
	if err != nil {
		return reload.Outcome{}, err
	}
	changed := string(text) != f.b.text
	if !e.DryRun {
		f.b.text = string(text)
	}
	out := reload.Outcome{Digest: "d-" + string(text), Changed: changed}
	if e.Forecast > 0 {
		out.Forecast = &forecast.Result{
			Mistakes: []string{fmt.Sprintf("%d items", e.Forecast)},
			Sessions: []forecast.Session{{SessionForecast: bgp.SessionForecast{Name: "tor", Address: ip("10.57.0.1"), Up: true, Fate: bgp.FateReset, Why: "password", Advertised: 3}}},
			Removes:  forecast.List{Count: 7, First: []forecast.Item{{Prefix: netip.MustParsePrefix("10.9.0.0/16"), Text: "via 10.57.0.1 dev eth0"}}},
		}
		out.Forecast.Sessions[0].Effects[bgp.Withdraws] = forecast.List{Count: 2}
	}
	return out, nil
}

func (f file) Reread(_ context.Context, by string, _ bool) error { return f.b.do("reread by " + by) }

// nowhere is a node that knows nothing: every address is foreign to it.
type nowhere struct {
	explain.Registry
	explain.Sessions
	explain.Kernel
	explain.Pods
	explain.Probes
	explain.Neighbourhood
	explain.Host
	explain.Tunnels
}

func (nowhere) Problems(context.Context) ([]string, error) { return nil, nil }

// world returns the chain's view of it.
func (n nowhere) world() explain.World {
	return explain.World{
		Node: "n1", Registry: n, Sessions: n, Decider: n, Kernel: n, Link: n, Host: n, Tunnels: n, Pods: n, Probes: n, Status: n,
	}
}

func (nowhere) InPool(netip.Addr) bool                      { return false }
func (nowhere) Nodes(context.Context) ([]ipam.Node, error)  { return nil, nil }
func (nowhere) Known() (explain.Known, bool)                { return explain.Known{}, false }
func (nowhere) Peers() []bgp.PeerStatus                     { return nil }
func (nowhere) OwnBlock(netip.Addr) (ipam.BlockUsage, bool) { return ipam.BlockUsage{}, false }
func (nowhere) Pod(netip.Addr) (ipam.Assignment, bool)      { return ipam.Assignment{}, false }
func (nowhere) Samples(bool, netip.Addr) []ipam.Assignment  { return nil }
func (nowhere) Announcement(netip.Addr) (explain.Announcement, bool) {
	return explain.Announcement{}, false
}
func (nowhere) Announced(context.Context, netip.Addr) []bgp.Announced { return nil }
func (nowhere) Source(netip.Addr) (underlay.KernelRoute, error) {
	return underlay.KernelRoute{}, errors.New("no route")
}

func (nowhere) Trace(underlay.Packet) (underlay.Trace, error) { return underlay.Trace{}, nil }

func (nowhere) Decision(context.Context, netip.Addr) (explain.Decision, error) {
	return explain.Decision{Failed: func(netip.Prefix) string { return "" }}, nil
}

// wantCode fails unless an error is a gRPC status of that code.
func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("code %s, want %s: %v", got, want, err)
	}
}

func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
