package bgp

import (
	"fmt"
	"net/netip"
	"testing"

	"onlink/bgp/policy"
)

// needGuard skips where the engine does not call the guard.
func needGuard(t *testing.T) {
	t.Helper()
	if !Patched() {
		t.Skip("the engine is unpatched")
	}
}

// thieves starts a reflector and three clients: the first two announce routes, the
// third receives those that the reflector accepts.
func thieves(t *testing.T, net int) (rr, owner, thief, other *node) {
	t.Helper()
	needGuard(t)
	at := func(i int) string { return fmt.Sprintf("127.%d.0.%d", net, i) }
	var configs []Config
	for _, i := range []int{1, 7, 2, 9} { // the thief's router ID is lower than the owner's
		configs = append(configs, withBlocks(testConfig(t, at(i))))
	}
	n := startNodes(t, configs...)
	n[0].setPeers(nil, clientsOf(fmt.Sprintf("127.%d.0.0/24", net)))
	for _, c := range n[1:] {
		c.setPeers([]Peer{preferred(from(to(at(1), IBGP), c.addr.String()), 100)})
		c.waitUp(n[0].addr)
	}
	return n[0], n[1], n[2], n[3]
}

// preferred sets the LOCAL_PREF that a node announces to its reflector.
func preferred(p Peer, pref uint32) Peer {
	p.Export.Filters = []policy.Filter{{Name: "pref", Rules: []policy.Rule{{Set: policy.Set{LocalPref: pref}, Action: policy.Next}}}}
	return p
}

// block is a block and its owner, as in the registry.
func block(p string, owner *node) policy.Block {
	return policy.Block{Prefix: prefix(p), Node: "node-" + owner.addr.String(), Addresses: nodeAddresses(owner)}
}

func (n *node) own(blocks ...policy.Block) {
	n.t.Helper()
	if err := n.SetOwners(n.t.Context(), blocks); err != nil {
		n.t.Fatalf("SetOwners: %v", err)
	}
}

// TestOwners: a reflector that has the owner of a block refuses all others'
// announcements of it, of its parts and of prefixes around it, and reflects none.
// A block that changes hands is accepted from the new owner at once, also while the
// old one still announces it; one without an owner is accepted from any node.
func TestOwners(t *testing.T) {
	rr, a, b, other := thieves(t, 54)
	rr.own(block("10.244.1.0/26", a), policy.Block{Prefix: prefix("10.244.9.0/26"), Node: "without-address"})
	b.originate("10.244.1.0/26", "10.244.1.0/25", "10.244.0.0/17", "10.244.2.0/26", "10.244.9.0/26", "10.0.0.0/9")
	free := []string{"10.244.2.0/26 via 127.54.0.2", "10.244.9.0/26 via 127.54.0.2"}
	rr.waitRoutes(free...)
	a.originate("10.244.1.0/26")
	for _, n := range []*node{rr, other} {
		n.waitRoutes(append(free, "10.244.1.0/26 via 127.54.0.7")...)
	}
	eventually(t, func() string {
		if got := rr.peer(b.addr); got.Received != 6 || got.Accepted != 2 {
			return fmt.Sprintf("the thief's prefixes: received %d, accepted %d; want 6 and 2", got.Received, got.Accepted)
		}
		return ""
	})
	select {
	case <-rr.Suspect():
	default:
		t.Error("nobody is told that what is known of the owners may be old")
	}
	if n := rr.Refused()["owner"]; n != 3 {
		t.Errorf("%d announcements refused because of the owner, want 3", n)
	}
	v, err := rr.TestImport(t.Context(), b.addr.String(), policy.Route{Prefix: prefix("10.244.1.0/26")})
	if want := "block 10.244.1.0/26 belongs to node node-127.54.0.7, which is not at 127.54.0.2"; err != nil || v.Accepted || v.Rule != want {
		t.Errorf("policy test of the thief's route: %q, %v; want %q", v.Rule, err, want)
	}

	rr.own(block("10.244.1.0/26", b))
	for _, n := range []*node{rr, other} {
		n.waitRoutes(append(free, "10.244.1.0/26 via 127.54.0.2", "10.244.0.0/17 via 127.54.0.2", "10.244.1.0/25 via 127.54.0.2")...)
	}
	rr.own() // a block without a known owner stays with the node that has it
	rr.own(block("10.244.1.0/26", a))
	for _, n := range []*node{rr, other} {
		n.waitRoutes(append(free, "10.244.1.0/26 via 127.54.0.7")...)
	}
	if got := other.lost(); len(got) != 2 { // the two around the block
		t.Errorf("lost in between: %v", got)
	}
}

// TestFirstNodeKeepsBlock: of two nodes that announce a block whose owner is
// not known the first one keeps it, on the reflector and behind it, whatever
// LOCAL_PREF or router ID the second has and whatever the first changes.
func TestFirstNodeKeepsBlock(t *testing.T) {
	rr, a, b, other := thieves(t, 55)
	const block, mark = "10.244.1.0/26", "10.244.3.0/26"
	first, second := block+" via 127.55.0.7", block+" via 127.55.0.2"
	marked := mark + " via 127.55.0.2" // when it is there, all before it is
	a.originate(block)
	other.waitRoutes(first)
	b.setPeers([]Peer{preferred(from(to("127.55.0.1", IBGP), "127.55.0.2"), 500)})
	b.originate(block, mark)
	other.waitRoutes(first, marked)
	rr.waitRoutes(first, marked)

	change := func(o Origin) {
		t.Helper()
		if err := a.SetOrigins(t.Context(), []Origin{o, {Prefix: prefix("10.244.4.0/26")}}); err != nil {
			t.Fatal(err)
		}
	}
	change(Origin{Prefix: prefix(block), Communities: []string{"64512:1"}})
	other.waitRoutes(first, marked, "10.244.4.0/26 via 127.55.0.7")
	change(Origin{Prefix: prefix(block), Draining: true})
	eventually(t, func() string {
		if got := other.Paths(t.Context(), prefix(block)); len(got) != 1 || len(got[0].Communities) == 0 || got[0].NextHop != a.addr {
			return fmt.Sprintf("the path behind the reflector: %+v, want the draining one of %s", got, a.addr)
		}
		return ""
	})
	for _, n := range []*node{rr, other} {
		if got := n.lost(); len(got) > 0 {
			t.Errorf("%s lost %v", n.addr, got)
		}
	}
	if got := rr.Paths(t.Context(), prefix(mark)); len(got) != 1 || got[0].LocalPref != 100 {
		t.Errorf("path of a block: %+v, want LOCAL_PREF 100", got)
	}

	eventually(t, func() string {
		if got := fmt.Sprint(rr.Contested()); got != "map[10.244.1.0/26:[127.55.0.7 127.55.0.2]]" {
			return "contested: " + got
		}
		return ""
	})
	a.originate()
	other.waitRoutes(second, marked)
	a.originate(block, "10.244.4.0/26")
	other.waitRoutes(second, marked, "10.244.4.0/26 via 127.55.0.7")
	rr.waitRoutes(second, marked, "10.244.4.0/26 via 127.55.0.7")
}

// nodeAddresses are the next hops of a node under test.
func nodeAddresses(n *node) []netip.Addr { return []netip.Addr{n.addr} }
