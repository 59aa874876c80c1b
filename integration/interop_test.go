package integration

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// The whole matrix takes some minutes and needs ExaBGP and gobgpd:
//
//	make test-interop
//
// The other runs take the cells that are named quick.
var (
	interopFull  = flag.Bool("interop.full", false, "run every cell of TestInterop's matrix")
	interopWrite = flag.Bool("interop.write", false, "write the results of a full TestInterop to docs/interop.md")
)

// interopDoc is the page with the matrix.
const interopDoc = "../docs/interop.md"

// feature is one row of the matrix.
type feature struct {
	name  string
	shows string // what a cell asserts, for the page
	run   func(ctx context.Context, r *rig)
	// never says why the row does not apply to an implementation.
	never map[interop.Kind]string
	quick []interop.Kind // cells of every run
}

const (
	noTable = "ExaBGP keeps no table: it loses the routes of a lost session"
	noBFD   = "it has no BFD"
)

// features are the rows of the matrix.
func features() []feature {
	rows := []feature{}
	for _, role := range []role{ibgp, ebgp, client} {
		for _, f := range []families{{v4: true}, {v6: true}, {v4: true, v6: true}} {
			row := feature{
				name: string(role) + ", " + f.String(), shows: role.shows(),
				run: func(ctx context.Context, r *rig) { checkRole(ctx, r, role, f) },
			}
			if role == client && f.v4 && f.v6 {
				row.quick = []interop.Kind{interop.FRR}
			}
			rows = append(rows, row)
		}
	}
	return append(rows,
		feature{name: "TCP MD5", run: checkMD5, shows: "session with the key on both sides; with it on ours alone none, and the kernel counts the rejected segments"},
		feature{name: "GTSM", run: checkGTSM, shows: "session at TTL 255; none with a peer that sends another, and the kernel counts the rejected packets"},
		feature{
			name: "graceful restart, ours", run: checkOurRestart, quick: []interop.Kind{interop.BIRD},
			shows: "SIGKILL and start of onlinkd: the peer never loses our blocks",
			never: map[interop.Kind]string{interop.ExaBGP: noTable},
		},
		feature{name: "graceful restart, the peer's", run: checkPeerRestart, shows: "SIGKILL and start of the peer: `ip monitor route` shows no change here"},
		feature{
			name: "BFD", run: checkBFD, shows: "the peer's programs are frozen, later the node is cut off: routes gone on the other side long before the hold time",
			never: map[interop.Kind]string{interop.ExaBGP: noBFD, interop.GoBGP: noBFD + " (3.10)"},
		},
		feature{name: "GSHUT (RFC 8326)", run: checkGSHUT, shows: "a path with the community is used only where there is no other; `onlinkctl drain` sends it with LOCAL_PREF 0, then withdraws"},
		feature{name: "large communities (RFC 8092)", run: checkLarge, shows: "seen by onlink, and reflected unchanged beside standard ones"},
		feature{
			name: "extended next hop (RFC 8950)", run: checkExtendedHop, quick: []interop.Kind{interop.FRR},
			shows: "an IPv4 prefix with an IPv6 next hop is in the kernel `via inet6`; our IPv4 block goes over the same IPv6 session",
		},
	)
}

// TestInterop holds onlink against other implementations of BGP.
func TestInterop(t *testing.T) {
	rows := features()
	results := map[string]string{}
	for _, kind := range interop.Kinds {
		for _, f := range rows {
			key := cell(f.name, kind)
			if why, never := f.never[kind]; never {
				results[key] = "n/a: " + why
				continue
			}
			if !*interopFull && !slices.Contains(f.quick, kind) {
				continue
			}
			results[key] = "no"
			if t.Run(string(kind)+"/"+f.name, func(t *testing.T) {
				ctx, r := newRig(t, kind)
				f.run(ctx, r)
			}) {
				results[key] = "yes"
			}
		}
	}
	if !*interopWrite || !*interopFull {
		return
	}
	page, err := interopPage(rows, results)
	must(t, err)
	must(t, os.WriteFile(interopDoc, page, 0o644))
}

// cell names one cell of the matrix.
func cell(feature string, kind interop.Kind) string { return feature + " / " + string(kind) }

// TestInteropPage: the page has the rows, columns and reasons of the matrix,
// and a result in every cell. The results are those of its last full run.
func TestInteropPage(t *testing.T) {
	have, err := os.ReadFile(interopDoc)
	must(t, err)
	for _, f := range features() {
		row := "| " + f.name + " |"
		_, rest, found := strings.Cut(string(have), row)
		line, _, _ := strings.Cut(rest, "\n")
		cells := strings.Split(strings.Trim(line, " |"), " | ")
		if !found || len(cells) != len(interop.Kinds)+1 {
			t.Errorf("%s has no whole row %q; run make test-interop", interopDoc, f.name)
			continue
		}
		for i, kind := range interop.Kinds {
			why, never := f.never[kind]
			switch got := cells[i]; {
			case never && got != "n/a: "+why, !never && got != "yes":
				t.Errorf("%s: %s with %s is %q; run make test-interop", interopDoc, f.name, kind, got)
			}
		}
		if got := cells[len(cells)-1]; got != f.shows {
			t.Errorf("%s: %s is said to show %q, and shows %q; run make test-interop", interopDoc, f.name, got, f.shows)
		}
	}
	if got, want := strings.Count(string(have), "\n| "), len(features())+1; got != want {
		t.Errorf("%s has %d rows, want %d; run make test-interop", interopDoc, got, want)
	}
}

// interopPage writes the page.
func interopPage(rows []feature, results map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`# Interoperability

onlink beside other implementations of BGP, in Debian's versions. Every
cell is one run of real programs in network namespaces: onlinkd against the
peer, sessions over a wire between them. ` + "`make test-interop`" + ` installs the
peers, runs the matrix and writes this page; some cells are part of
` + "`make test`" + ` too.

`)
	b.WriteString("| with |")
	for _, kind := range interop.Kinds {
		version, err := kind.Version()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, " %s %s |", kind, version)
	}
	b.WriteString(" what is asserted |\n|" + strings.Repeat("---|", len(interop.Kinds)+2) + "\n")
	for _, f := range rows {
		fmt.Fprintf(&b, "| %s |", f.name)
		for _, kind := range interop.Kinds {
			fmt.Fprintf(&b, " %s |", results[cell(f.name, kind)])
		}
		fmt.Fprintf(&b, " %s |\n", f.shows)
	}
	b.WriteString(`
Of the node's two address families the peer offers what the row names; IPv4
alone and both run over an IPv4 session, IPv6 alone over an IPv6 one.
`)
	return b.Bytes(), nil
}

// rig is one node with an agent, and two other hosts on its network.
type rig struct {
	t    *testing.T
	l    *lab.Lab
	n    *lab.Node
	kind interop.Kind
	a, b *neighbour
}

// neighbour is a host that runs another implementation.
type neighbour struct {
	*interop.Router

	addr, addr6 netip.Addr
}

// newRig makes the hosts of one cell; nothing runs on them yet.
func newRig(t *testing.T, kind interop.Kind) (context.Context, *rig) {
	t.Helper()
	spec := labtest.Alone("iop")
	spec.DualStack, spec.ToRsPerRack, spec.Pool.CIDR6 = true, 2, netip.MustParsePrefix("fd44::/48")
	ctx, l := labtest.Build(t, spec)
	r := &rig{t: t, l: l, n: l.Node("r1n1"), kind: kind}
	for i, tor := range l.ToRs() {
		n := &neighbour{interop.New(kind, tor.NS, l.Dir, string("ab"[i])), tor.Addr, tor.Addr6}
		*[]**neighbour{&r.a, &r.b}[i] = n
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s %s:\n%s", kind, n.Name, n.Logs(30))
			}
			if err := n.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	return ctx, r
}

// torASN is the AS of a neighbour of another AS.
const torASN = 65001

// setup is the neighbour's half of a session over IPv4.
func (r *rig) setup(n *neighbour, asn uint32) interop.Setup {
	return interop.Setup{
		ASN: asn, RemoteASN: lab.NodeASN, RouterID: n.addr, Local: n.addr, Remote: r.n.Addr,
		IPv4: true, HopIPv4: n.addr, HopIPv6: n.addr6,
	}
}

// peer is our half of the session.
func (r *rig) peer(n *neighbour, s interop.Setup) *conf.Peer {
	p := &conf.Peer{Name: n.Name, Address: s.Local.String(), ASN: s.ASN, ConnectRetry: "2s"}
	if s.ASN != lab.NodeASN {
		p.Import.Accept = conf.Rules(foreign4, foreign6)
	}
	return p
}

// start starts the agent with these sessions.
func (r *rig) start(ctx context.Context, peers ...*conf.Peer) {
	r.t.Helper()
	r.n.Edit = func(c *conf.Config) {
		c.BGP.Peers = peers
		if slices.ContainsFunc(peers, func(p *conf.Peer) bool { return p.Client }) {
			c.BGP.Reflector = &conf.Reflector{}
		}
	}
	must(r.t, r.n.Start(ctx))
}

// Prefixes that neighbours announce: inside the pools, and outside.
var (
	pooled4  = netip.MustParsePrefix("10.244.200.0/26")
	pooled6  = netip.MustParsePrefix("fd44:0:0:200::/64")
	foreign4 = netip.MustParsePrefix("198.18.7.0/24")
	foreign6 = netip.MustParsePrefix("2001:db8:7::/48")
	unlisted = netip.MustParsePrefix("203.0.113.0/24") // that no import accepts
)

// blocks waits until the agent has a block of both families.
func (r *rig) blocks(ctx context.Context) (v4, v6 netip.Prefix) {
	r.t.Helper()
	must(r.t, lab.Eventually(ctx, labtest.Patience, "blocks of both families", func() error {
		list, err := r.n.Blocks(ctx)
		if err != nil {
			return err
		}
		for _, b := range list {
			p, err := netip.ParsePrefix(b.GetCidr())
			switch {
			case err != nil:
				return err
			case p.Addr().Is4():
				v4 = p
			default:
				v6 = p
			}
		}
		if !v4.IsValid() || !v6.IsValid() {
			return fmt.Errorf("have %v", list)
		}
		return nil
	}))
	return v4, v6
}

// learned returns the one path a neighbour has for a prefix.
func (n *neighbour) learned(ctx context.Context, p netip.Prefix) (interop.Route, error) {
	list, err := n.Learned(ctx)
	if err != nil {
		return interop.Route{}, err
	}
	for _, route := range list {
		if route.Prefix == p {
			return route, nil
		}
	}
	return interop.Route{}, fmt.Errorf("%s by %s, which has %v: %w", p, n.Name, list, labtest.ErrNotLearned)
}

// learns waits until a neighbour has a path that check finds right.
func (r *rig) learns(ctx context.Context, n *neighbour, p netip.Prefix, check func(interop.Route) error) {
	r.t.Helper()
	must(r.t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("%s learns %s", n.Name, p), func() error {
		route, err := n.learned(ctx, p)
		if err == nil {
			err = check(route)
		}
		return err
	}))
}

// loses waits until a neighbour has no path.
func (r *rig) loses(ctx context.Context, n *neighbour, p netip.Prefix) {
	r.t.Helper()
	must(r.t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("%s loses %s", n.Name, p), func() error {
		route, err := n.learned(ctx, p)
		if err == nil {
			return fmt.Errorf("still %+v", route)
		}
		if errors.Is(err, labtest.ErrNotLearned) {
			return nil
		}
		return err
	}))
}

// wantRoute is what a neighbour shall have of us.
func wantRoute(hop netip.Addr, path string, localPref uint32) func(interop.Route) error {
	return func(got interop.Route) error {
		if got.NextHop != hop || got.ASPath != path || localPref != 0 && got.LocalPref != localPref {
			return fmt.Errorf("got %+v, want next hop %s, AS path %q, local-pref %d", got, hop, path, localPref)
		}
		return nil
	}
}

// installs waits until the node's kernel has a route of ours through exactly
// these next hops.
func (r *rig) installs(ctx context.Context, p netip.Prefix, hops ...netip.Addr) {
	r.t.Helper()
	must(r.t, lab.Eventually(ctx, labtest.Patience, "route to "+p.String(), func() error { return labtest.ThroughHops(r.n, p, hops...) }))
}
