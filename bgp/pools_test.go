package bgp

import (
	"fmt"
	"testing"

	"onlink/bgp/policy"
)

// withBlocks gives a node's pools blocks of 64 addresses.
func withBlocks(c Config) Config {
	c.Pools = []policy.Pool{{Prefix: prefix("10.244.0.0/16"), Block: 26}, {Prefix: prefix("fd00:244::/32"), Block: 122}}
	return c
}

// withoutPools removes the pools, so that several nodes may announce any prefix.
func withoutPools(c Config) Config {
	c.Pools = nil
	return c
}

// anything accepts all prefixes of dynamic peers but a default route.
func anything(d Dynamic) Dynamic {
	d.Import = accepting("0.0.0.0/0 ge 1 le 32", "::/0 ge 1 le 128")
	return d
}

// accepting is an import with these entries of Accept.
func accepting(rules ...string) policy.Import {
	var i policy.Import
	for _, r := range rules {
		var one policy.PrefixRule
		var p string
		if n, _ := fmt.Sscanf(r, "%s ge %d le %d", &p, &one.Ge, &one.Le); n == 0 {
			panic(r)
		}
		one.Prefix = prefix(p)
		i.Accept = append(i.Accept, one)
	}
	return i
}

// TestImportIntoPools: the prefixes that a peer may announce inside a pool. An
// entry of Accept that is wider than the pool does not accept them.
func TestImportIntoPools(t *testing.T) {
	n := startNodes(t, withBlocks(testConfig(t, "127.0.3.1")))[0]
	peer := func(i int, role Role, accept ...string) Peer {
		p := to(fmt.Sprintf("127.0.3.%d", 10+i), role)
		if p.Import = accepting(accept...); role == EBGP {
			p.ASN = 65001
		}
		return p
	}
	n.setPeers([]Peer{
		peer(0, IBGP, "10.0.0.0/8"),
		peer(1, Client, "10.0.0.0/8", "10.244.255.0/24 ge 32 le 32", "10.244.254.7/32"),
		peer(2, EBGP, "10.0.0.0/8", "fd00::/8"),
		peer(3, EBGP, "10.244.0.0/16", "192.0.2.0/24", "fd00:244::/32"),
		peer(4, EBGP, "10.244.128.0/17", "10.0.0.0/8"),
		peer(5, EBGP, "0.0.0.0/0 ge 1 le 32"),
	})
	const (
		pools, accept = "pools", "import.accept"
		long, unnamed = "longer than a block of the pool", "inside a pool that import.accept does not name"
		strange       = "not in import.accept (RFC 8212)"
	)
	for _, tt := range []struct{ prefix, ibgp, client, wide, named, part, all string }{
		{"10.244.1.0/26", pools, pools, unnamed, accept, unnamed, unnamed},
		{"10.244.1.0/27", long, long, unnamed, long, unnamed, unnamed},
		{"10.244.1.7/32", long, long, unnamed, long, unnamed, unnamed},
		{"10.244.255.7/32", long, accept, unnamed, long, long, unnamed},
		{"10.244.255.0/27", long, long, unnamed, long, long, unnamed},
		{"10.244.254.7/32", long, accept, unnamed, long, long, unnamed},
		{"10.244.200.64/26", pools, pools, unnamed, accept, accept, unnamed},
		{"10.244.128.0/18", pools, pools, unnamed, accept, accept, unnamed}, // an aggregate of blocks
		{"10.244.0.0/16", pools, pools, unnamed, accept, unnamed, unnamed},
		{"10.240.0.0/12", accept, accept, accept, strange, accept, accept}, // around the pool
		{"10.245.1.1/32", accept, accept, accept, strange, accept, accept},
		{"fd00:244::40/122", pools, pools, unnamed, accept, unnamed, unnamed},
		{"fd00:244::40/123", long, long, unnamed, long, unnamed, unnamed},
		{"192.0.2.0/25", "", "", strange, accept, strange, accept},
	} {
		for i, want := range []string{tt.ibgp, tt.client, tt.wide, tt.named, tt.part, tt.all} {
			v, err := n.TestImport(t.Context(), fmt.Sprintf("127.0.3.%d", 10+i), policy.Route{Prefix: prefix(tt.prefix), NextHop: addr("127.0.3.9")})
			if want == "" {
				want = "not in the pools or import.accept"
			}
			if err != nil || v.Rule != want || v.Accepted != (want == pools || want == accept) {
				t.Errorf("%s from peer %d: %q (accepted %t), %v; want %q", tt.prefix, i, v.Rule, v.Accepted, err, want)
			}
		}
	}
}

// TestPartsOfBlocks: the engine decides as the test of the policy does, also after
// a change of the pools.
func TestPartsOfBlocks(t *testing.T) {
	nodes := startNodes(t, withBlocks(testConfig(t, "127.0.3.2")), testConfig(t, "127.0.3.3"))
	n, other := nodes[0], nodes[1]
	other.originate("10.244.1.0/26", "10.244.1.0/27", "10.244.1.32/32", "10.244.0.0/17")
	n.setPeers([]Peer{from(to("127.0.3.3", IBGP), "127.0.3.2")})
	other.setPeers([]Peer{from(to("127.0.3.2", IBGP), "127.0.3.3")})
	n.waitUp(other.addr)
	n.waitRoutes("10.244.0.0/17 via 127.0.3.3", "10.244.1.0/26 via 127.0.3.3")
	if err := n.SetPools(t.Context(), []policy.Pool{{Prefix: prefix("10.244.0.0/16"), Block: 27}}); err != nil {
		t.Fatal(err)
	}
	n.waitRoutes("10.244.0.0/17 via 127.0.3.3", "10.244.1.0/26 via 127.0.3.3", "10.244.1.0/27 via 127.0.3.3")
}
