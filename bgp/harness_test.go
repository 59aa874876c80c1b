package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"onlink/bgp/policy"
	"onlink/rib"
)

// testPort is the BGP port of every speaker under test; they differ in
// their loopback address.
const testPort = 1790

// patience bounds every wait: a first dial takes up to 2 s, a peer that lost
// its session refuses connections for 5 s, and the test beds are slow.
const patience = 45 * time.Second

// node is a started speaker with the routes a consumer has folded so far.
type node struct {
	*Speaker
	t      *testing.T
	addr   netip.Addr
	cancel context.CancelFunc
	ended  chan error

	mu        sync.Mutex
	table     map[netip.Prefix][]rib.Path
	withdrawn []netip.Prefix // every prefix ever seen empty
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// testConfig is a node's configuration at a loopback address.
func testConfig(t *testing.T, at string) Config {
	t.Helper()
	return Config{
		ASN: 64512, RouterID: addr(at), NodeAddress: addr(at),
		ListenAddresses: []netip.Addr{addr(at)}, ListenPort: testPort,
		Pools:          []policy.Pool{{Prefix: prefix("10.244.0.0/16")}, {Prefix: prefix("fd00:244::/32")}},
		AllowUnpatched: true, // tests that only a patched engine survives skip themselves
		Log:            slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

// testWriter sends log lines to the test, as long as it runs.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// startNodes starts one speaker per configuration. All are started before
// any is given peers: the engine keeps a few settings in package variables
// that every start writes.
func startNodes(t *testing.T, configs ...Config) []*node {
	t.Helper()
	nodes := make([]*node, 0, len(configs))
	for _, c := range configs {
		s, err := New(c)
		if err != nil {
			t.Fatalf("New(%s): %v", c.RouterID, err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("Start(%s): %v", c.RouterID, err)
		}
		n := &node{Speaker: s, t: t, addr: c.RouterID, ended: make(chan error, 1), table: map[netip.Prefix][]rib.Path{}}
		ctx, cancel := context.WithCancel(context.Background())
		n.cancel = cancel
		go func() { n.ended <- s.Run(ctx) }()
		go n.consume(ctx)
		t.Cleanup(n.stop)
		nodes = append(nodes, n)
	}
	return nodes
}

// stop ends the node, and its engine, which in the agent the end of the
// process does.
func (n *node) stop() {
	n.cancel()
	if n.ended == nil {
		return
	}
	if err := <-n.ended; err != nil {
		n.t.Errorf("speaker ended: %v", err)
	}
	n.ended = nil
	if err := n.engine.Stop(); err != nil {
		n.t.Errorf("stop engine: %v", err)
	}
}

// consume folds Drain as the learn loop does.
func (n *node) consume(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.Changed():
		}
		n.mu.Lock()
		n.Drain(func(u rib.Update) {
			if len(u.Paths) > 0 {
				n.table[u.Prefix] = u.Paths
			} else if _, had := n.table[u.Prefix]; had {
				delete(n.table, u.Prefix)
				n.withdrawn = append(n.withdrawn, u.Prefix)
			}
		})
		n.mu.Unlock()
	}
}

// routes writes the folded table as "prefix via hop[,hop]" lines.
func (n *node) routes() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := make([]string, 0, len(n.table))
	for p, paths := range n.table {
		hops := make([]string, 0, len(paths))
		for _, path := range paths {
			hops = append(hops, path.NextHop.String())
		}
		lines = append(lines, fmt.Sprintf("%s via %s", p, strings.Join(hops, ",")))
	}
	slices.Sort(lines)
	return lines
}

// lost returns the prefixes that were withdrawn at any time.
func (n *node) lost() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]netip.Prefix(nil), n.withdrawn...)
}

func (n *node) setPeers(peers []Peer, dynamics ...Dynamic) {
	n.t.Helper()
	if err := n.SetPeers(n.t.Context(), peers, dynamics); err != nil {
		n.t.Fatalf("SetPeers(%s): %v", n.addr, err)
	}
}

func (n *node) originate(prefixes ...string) {
	n.t.Helper()
	list := make([]Origin, 0, len(prefixes))
	for _, p := range prefixes {
		list = append(list, Origin{Prefix: prefix(p)})
	}
	if err := n.SetOrigins(n.t.Context(), list); err != nil {
		n.t.Fatalf("SetOrigins(%s): %v", n.addr, err)
	}
}

// sessions returns how many peers the speaker has, not counting Gone ones.
func (n *node) sessions() int {
	return len(slices.DeleteFunc(n.Peers(), func(p PeerStatus) bool { return p.Gone }))
}

// peer returns the status of the session to another node.
func (n *node) peer(a netip.Addr) PeerStatus {
	for _, p := range n.Peers() {
		if p.Address == a {
			return p
		}
	}
	return PeerStatus{}
}

func (n *node) waitUp(others ...netip.Addr) {
	n.t.Helper()
	for _, a := range others {
		eventually(n.t, func() string {
			if p := n.peer(a); p.State != established || !p.EndOfRIB {
				return fmt.Sprintf("%s: peer %s is %s, End-of-RIB %t, last error %q", n.addr, a, p.State, p.EndOfRIB, p.LastError)
			}
			return ""
		})
	}
}

func (n *node) waitRoutes(want ...string) {
	n.t.Helper()
	slices.Sort(want)
	eventually(n.t, func() string {
		if got := n.routes(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Sprintf("%s: routes %q, want %q", n.addr, got, want)
		}
		return ""
	})
}

// eventually polls until check returns ""; any other result is a text of the fault.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		missing := check()
		if missing == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s: %s", patience, missing)
		}
	}
}

// to is a dialling iBGP peer at a.
func to(a string, role Role) Peer {
	return Peer{Name: "to-" + a, Address: addr(a), Port: testPort, Session: Session{Role: role}}
}

// from returns p dialled from a loopback address: without it the kernel
// would choose 127.0.0.1.
func from(p Peer, local string) Peer {
	p.LocalAddress = addr(local)
	return p
}

// clientsOf is the dynamic peer of a reflector.
func clientsOf(p string) Dynamic {
	return Dynamic{Name: "clients-" + p, Prefix: prefix(p), Session: Session{Role: Client}}
}
