package bgp

import (
	"fmt"
	"testing"
	"time"

	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// TestPolicyRefusals: routes that must be refused are, in either direction.
// x is an AS 64512 node; tor is its AS 65001 ToR, tor2 a second ToR, peer an
// iBGP neighbour.
func TestPolicyRefusals(t *testing.T) {
	tor, tor2 := testConfig(t, "127.10.0.1"), testConfig(t, "127.10.0.2")
	tor.ASN, tor2.ASN = 65001, 65002
	tor.Pools, tor2.Pools = nil, nil
	n := startNodes(t, testConfig(t, "127.10.0.9"), tor, tor2, testConfig(t, "127.10.0.3"))
	x, t1, t2, p := n[0], n[1], n[2], n[3]

	ebgp := func(to string, asn uint32, local string, imp policy.Import, exp policy.Export) Peer {
		return Peer{Name: "to-" + to, Address: addr(to), Port: testPort, Session: Session{
			Role: EBGP, ASN: asn, Options: session.Options{LocalAddress: addr(local)}, Import: imp, Export: exp,
		}}
	}
	all := policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("0.0.0.0/0"), Ge: 1, Le: 32}, {Prefix: prefix("0.0.0.0/0")}}}
	own := policy.Export{Own: true}
	x.originate("10.244.1.0/26")
	p.originate("10.244.2.0/26", "10.244.1.0/28", "172.20.0.0/24")
	t1.originate("172.16.1.0/24", "192.168.0.0/16", "10.244.7.0/26")
	t2.originate("172.16.2.0/24")
	t1.setPeers([]Peer{ebgp("127.10.0.9", 64512, "127.10.0.1", all, own)})
	t2.setPeers([]Peer{ebgp("127.10.0.9", 64512, "127.10.0.2", all, own)})
	p.setPeers([]Peer{from(to("127.10.0.9", IBGP), "127.10.0.3")})

	ibgp := from(to("127.10.0.3", IBGP), "127.10.0.9")
	peers := func(imp policy.Import, exp policy.Export) []Peer {
		return []Peer{ibgp, ebgp("127.10.0.1", 65001, "127.10.0.9", imp, exp), ebgp("127.10.0.2", 65002, "127.10.0.9", imp, exp)}
	}
	x.setPeers(peers(policy.Import{}, policy.Export{}))
	x.waitUp(t1.addr, t2.addr, p.addr)

	// RFC 8212: nothing in, nothing out. Of the iBGP peer only prefixes inside
	// the pools and not inside our own block.
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3")
	p.waitRoutes("10.244.1.0/26 via 127.10.0.9")
	t1.waitRoutes()

	// With permission: own prefixes out, allowed prefixes in, and no transit:
	// a ToR receives neither the other ToR's routes nor the iBGP peer's, and the
	// iBGP peer no ToR's.
	// The narrower rule, which matches none of it, must not hide the wider one.
	x.setPeers(peers(policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("172.16.0.0/12"), Ge: 24, Le: 24}, {Prefix: prefix("172.16.0.0/16"), Ge: 25}}},
		policy.Export{Own: true, Communities: []string{"64512:100", "64512:7:8"}, MED: 50}))
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3", "172.16.1.0/24 via 127.10.0.1", "172.16.2.0/24 via 127.10.0.2")
	t1.waitRoutes("10.244.1.0/26 via 127.10.0.9")
	t2.waitRoutes("10.244.1.0/26 via 127.10.0.9")
	eventually(t, func() string {
		got := t1.Paths(t.Context(), prefix("10.244.1.0/26"))
		if len(got) != 1 || fmt.Sprint(got[0].Communities) != "[64512:100 64512:7:8]" || got[0].MED != 50 || got[0].ASPath != "64512" || !got[0].EBGP {
			return fmt.Sprintf("path at the ToR: %+v", got)
		}
		return ""
	})
	if got := p.routes(); fmt.Sprint(got) != "[10.244.1.0/26 via 127.10.0.9]" {
		t.Errorf("the iBGP peer got %q, want only our own block", got)
	}
	for _, u := range x.Paths(t.Context(), prefix("172.16.1.0/24")) {
		if u.LocalPref != 100 || !u.EBGP {
			t.Errorf("path from the ToR: %+v, want LOCAL_PREF 100", u)
		}
	}

	// Without the permission the routes go, without a reset.
	since := x.peer(t1.addr).Since
	x.setPeers(peers(policy.Import{}, policy.Export{}))
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3")
	t1.waitRoutes()
	if got := x.peer(t1.addr).Since; !got.Equal(since) {
		t.Errorf("session reset by a policy change")
	}

	// A released block, or a part of it, may have another owner from then on.
	x.originate()
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3", "10.244.1.0/28 via 127.10.0.3")
}

// TestReflectorKeepsTransitOut: a reflector with a ToR does not announce its
// clients' blocks to the ToR, nor the ToR's routes to its clients.
func TestReflectorKeepsTransitOut(t *testing.T) {
	tor := testConfig(t, "127.11.1.1")
	tor.ASN, tor.Pools = 65001, nil
	n := startNodes(t, testConfig(t, "127.11.0.1"), testConfig(t, "127.11.0.2"), testConfig(t, "127.11.0.3"), tor)
	rr, a, b, t1 := n[0], n[1], n[2], n[3]
	rr.originate("10.244.0.0/26")
	a.originate("10.244.1.0/26")
	t1.originate("172.16.0.0/24")
	wide := policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("0.0.0.0/0"), Ge: 8, Le: 32}}}
	up := Peer{Name: "tor", Address: t1.addr, Port: testPort, Session: Session{Role: EBGP, ASN: 65001, Options: session.Options{LocalAddress: rr.addr}, Import: wide, Export: policy.Export{Own: true}}}
	down := Peer{Name: "rr", Address: rr.addr, Port: testPort, Session: Session{Role: EBGP, ASN: 64512, Options: session.Options{LocalAddress: t1.addr}, Import: wide, Export: policy.Export{Own: true}}}
	rr.setPeers([]Peer{up}, clientsOf("127.11.0.0/24"))
	t1.setPeers([]Peer{down})
	for _, c := range []*node{a, b} {
		c.setPeers([]Peer{from(to("127.11.0.1", IBGP), c.addr.String())})
	}
	rr.waitRoutes("10.244.1.0/26 via 127.11.0.2", "172.16.0.0/24 via 127.11.1.1")
	b.waitUp(rr.addr)
	b.waitRoutes("10.244.0.0/26 via 127.11.0.1", "10.244.1.0/26 via 127.11.0.2")
	t1.waitRoutes("10.244.0.0/26 via 127.11.0.1")
}

// TestMaxPrefixes: the session to a peer over its limit is held down, with the
// reason in its status.
func TestMaxPrefixes(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.13.0.1"), testConfig(t, "127.13.0.2"))
	p := from(to("127.13.0.2", IBGP), "127.13.0.1")
	p.Import.MaxPrefixes = 2
	n[1].originate("10.244.1.0/26", "10.244.2.0/26", "10.244.3.0/26")
	n[0].setPeers([]Peer{p})
	n[1].setPeers([]Peer{from(to("127.13.0.1", IBGP), "127.13.0.2")})
	eventually(t, func() string {
		st := n[0].peer(n[1].addr)
		if st.State != "Idle" || st.LastError == "" || st.ErrorAt.After(time.Now()) {
			return fmt.Sprintf("state %s, last error %q", st.State, st.LastError)
		}
		return ""
	})
}
