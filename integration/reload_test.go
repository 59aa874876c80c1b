package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// edits is how many random changes TestReload makes.
const edits = 100

// TestReload edits peers, policies and originated prefixes of a running agent
// at random, wrongly too: no session that the edit does not name is reset, and
// a wrong file changes nothing.
func TestReload(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Mesh("reload", 2))
	labtest.StartWithPods(ctx, t, l)
	n := l.Node("r1n1")
	before := labtest.Sessions(ctx, t, n)
	if len(before) != 2 {
		t.Fatalf("%d sessions up, want the other node and the ToR", len(before))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	e := &editor{n: n, rnd: rand.New(rand.NewPCG(seed, 0))}
	for i := range edits {
		if i%7 == 6 {
			e.wrong(ctx, t)
		} else {
			e.right(ctx, t)
		}
	}
	e.settle(ctx, t)
	must(t, l.WaitConverged(ctx))
	for name, since := range before {
		after, up := labtest.Sessions(ctx, t, n)[name]
		if !up || after.Flaps != since.Flaps || after.Since.Sub(since.Since).Abs() > 2*time.Second {
			t.Errorf("session to %s was reset: up %t, since %s before and %s after, %d flaps", name, up, since.Since, after.Since, after.Flaps)
		}
	}
}

// editor makes random edits of a node's file.
type editor struct {
	n   *lab.Node
	rnd *rand.Rand
	// phantoms are peers nobody answers for, by host number.
	phantoms  map[int]*conf.Peer
	originate []string
}

// right makes one good edit.
func (e *editor) right(ctx context.Context, t *testing.T) {
	t.Helper()
	if e.phantoms == nil {
		e.phantoms = map[int]*conf.Peer{}
	}
	host := 200 + e.rnd.IntN(5)
	peer := &conf.Peer{Name: fmt.Sprintf("phantom%d", host), Address: fmt.Sprintf("10.57.1.%d", host)}
	switch e.rnd.IntN(6) {
	case 0:
		delete(e.phantoms, host)
	case 1:
		e.phantoms[host] = peer
	case 2:
		peer.BFD = &conf.BFD{Interval: fmt.Sprintf("%dms", 50+e.rnd.IntN(500)), Hops: "single"}
		e.phantoms[host] = peer
	case 3:
		peer.ASN = 65100 + e.rnd.Uint32N(3)
		peer.Import = conf.Import{Accept: conf.Rules("192.0.2.0/24"), MaxPrefixes: 1 + e.rnd.IntN(100)}
		e.phantoms[host] = peer
	case 4:
		peer.HoldTime, peer.Passive = fmt.Sprintf("%ds", 9+e.rnd.IntN(80)), e.rnd.IntN(2) == 0
		e.phantoms[host] = peer
	case 5:
		e.originate = nil
		for i := range e.rnd.IntN(4) {
			e.originate = append(e.originate, fmt.Sprintf("198.51.100.%d/32", i))
		}
	}
	labtest.Reload(ctx, t, e.n, e.config())
}

// config is the node's file with all edits so far.
func (e *editor) config() *conf.Config {
	c := e.n.Config()
	for _, host := range slices.Sorted(maps.Keys(e.phantoms)) {
		c.BGP.Peers = append(c.BGP.Peers, e.phantoms[host])
	}
	c.BGP.Originate = e.originate
	return c
}

// wrong sends a file that must not be taken: nothing of it, though its other
// parts are fine.
func (e *editor) wrong(ctx context.Context, t *testing.T) {
	t.Helper()
	c := e.config()
	var more string
	switch e.rnd.IntN(4) {
	case 0:
		c.BGP = conf.BGP{}
		more = fmt.Sprintf("bgp: {asn: %d, peers: none}\n", lab.NodeASN)
	case 1:
		c.BGP.Peers = []*conf.Peer{{Address: "10.57.1.12", HoldTime: "1s"}}
	case 2: // what only a restart can change
		c.BGP.Peers, c.BGP.ASN = nil, 65000
	case 3: // found when the file is already read
		c.BGP.Peers = append(c.BGP.Peers, &conf.Peer{Address: "10.57.1.12", PasswordFile: "/nonexistent/key"})
	}
	labtest.RefuseReload(ctx, t, e.n, c, more)
	st, err := e.n.Status(ctx)
	must(t, err)
	if !slices.ContainsFunc(st.GetProblems(), func(p string) bool { return strings.Contains(p, "not in force") }) {
		t.Errorf("a refused file is not among the problems: %q", st.GetProblems())
	}
}

// settle takes the file as the lab writes it: all edits gone, no problem left.
func (e *editor) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	e.phantoms, e.originate = nil, nil
	labtest.Reload(ctx, t, e.n, e.config())
	st, err := e.n.Status(ctx)
	must(t, err)
	if st.GetPeersTotal() != 2 || slices.ContainsFunc(st.GetProblems(), func(p string) bool { return strings.Contains(p, "not in force") }) {
		t.Errorf("%d peers, problems %q", st.GetPeersTotal(), st.GetProblems())
	}
}
