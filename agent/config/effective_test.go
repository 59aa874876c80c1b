package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/internal/strictyaml"
)

const resolved = `
bgp:
  peers: [{name: tor, address: 10.57.1.1, asn: 65001}, {name: leaf, interface: eth1, asn: 65001}]
  mesh: {nodes: [{name: a, address: 10.57.1.11}, {name: b, address: 10.57.1.12}, {name: c, address: 10.57.1.10}]}
  originate: [198.51.100.0/24]
`

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sessions lists the peers by name, address and the end that dials.
func sessions(c *Effective) []string {
	var out []string
	for _, p := range c.BGP.Peers {
		text := p.Name + " " + p.Address.String()
		if p.Yield {
			text += " yields"
		}
		out = append(out, text)
	}
	return out
}

// TestResolve: the meaning of one file on nodes with different facts.
func TestResolve(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	own := func(list ...string) []netip.Addr {
		var out []netip.Addr
		for _, s := range list {
			out = append(out, addr(s))
		}
		return out
	}
	for _, c := range []struct {
		name string
		node Facts
		want []string
		err  string
	}{
		{
			"the router is not found yet",
			Facts{Addresses: own("10.57.1.11", "fd57::11")},
			[]string{"tor 10.57.1.1", "leaf invalid IP", "b 10.57.1.12", "c 10.57.1.10 yields"},
			"",
		},
		{
			"found",
			Facts{Addresses: own("10.57.1.10"), Routers: map[string]netip.Addr{"eth1": addr("fe80::1%eth1"), "eth9": addr("fe80::9%eth9")}},
			[]string{"tor 10.57.1.1", "leaf fe80::1%eth1", "a 10.57.1.11", "b 10.57.1.12"},
			"",
		},
		{"of no mesh", Facts{Addresses: []netip.Addr{{}, addr("fd57::99")}}, nil, "bgp.mesh: this node's address fd57::99 is not among its nodes"},
		{
			"over a network of the node",
			Facts{Addresses: own("10.57.1.11"), Claims: []Claim{{Prefix: netip.MustParsePrefix("10.244.7.0/24"), What: "the network of docker0"}}},
			nil, "pools[0].cidr: 10.244.0.0/16 overlaps 10.244.7.0/24, the network of docker0",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := mustParse(t, resolved)
			got, err := Resolve(file, c.node)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if err == nil {
				if d := cmp.Diff(c.want, sessions(got)); d != "" {
					t.Errorf("sessions (-want +got):\n%s", d)
				}
			}
			if d := cmp.Diff(mustParse(t, resolved), file, compare); d != "" {
				t.Errorf("the file's configuration was written to (-before +after):\n%s", d)
			}
		})
	}
}

// TestWithRouters: an address that is found makes a new value; the old one,
// which readers may hold, stays.
func TestWithRouters(t *testing.T) {
	t.Parallel()
	file := mustParse(t, resolved)
	before, err := Resolve(file, Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.57.1.11")}})
	if err != nil {
		t.Fatal(err)
	}
	old := sessions(before)
	at := map[string]netip.Addr{"eth1": netip.MustParseAddr("fe80::1%eth1")}
	after := before.WithRouters(at)
	if d := cmp.Diff(at, after.Routers(), compare); d != "" || after.BGP.Peers[1].Address != at["eth1"] {
		t.Errorf("routers (-want +got):\n%s", d)
	}
	if !slices.Equal(sessions(before), old) || file.BGP.Peers[1].Address.IsValid() {
		t.Errorf("before: %v, was %v", sessions(before), old)
	}
	if after.WithRouters(at) != after {
		t.Error("the same addresses make another value")
	}
	if !after.From(mustParse(t, resolved)) || after.From(mustParse(t, "log: {level: debug}")) {
		t.Error("it does not know the file it is from")
	}
	if lost := after.WithRouters(nil); len(lost.Routers()) > 0 {
		t.Errorf("routers %v after they were lost", lost.Routers())
	}
}

// TestKeys: the types and the schema name the same keys, so that no key of the
// file is missing in a comparison of two configurations.
func TestKeys(t *testing.T) {
	t.Parallel()
	schema := schemaKeys()
	keys := Keys()
	if len(keys) < 40 || !slices.Contains(keys, "bgp.reflector.clusterID") || !slices.Contains(keys, "ipam.registry.address") {
		t.Errorf("only %d keys: %v", len(keys), keys)
	}
	for _, key := range keys {
		if !slices.ContainsFunc(schema, func(s string) bool { return strictyaml.Within(s, key) }) {
			t.Errorf("%s is in the types and not in the file", key)
		}
	}
	for _, s := range schema {
		named := slices.ContainsFunc(keys, func(key string) bool { return strictyaml.Within(s, key) || strictyaml.Within(key, s) })
		if !named && !strictyaml.Within(s, "bgp.groups") { // groups are expanded into the peers
			t.Errorf("%s is in the file and not in the types", s)
		}
	}
}

// TestDiff: the keys that differ, as in the file.
func TestDiff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, a, b string
		want       []string
	}{
		{"nothing", resolved, resolved + "\n# a comment\n", nil},
		{"a default written out", "", "fib: {table: 254}", nil},
		{"scalars", "", "bgp: {routerID: 10.0.0.1}\nlog: {level: warn}\nnode: {address: eth7}", []string{"node.address", "bgp.routerID", "log.level"}},
		{"lists", "", "bgp: {originate: [10.9.0.0/24]}\npools: []\nnode: {labels: {a: b}}", []string{"node.labels", "bgp.originate", "pools"}},
		{"inside a list", "pools: [{name: a, cidr: 10.1.0.0/16}]", "pools: [{name: a, cidr: 10.1.0.0/16, disabled: true}]", []string{"pools"}},
		{"an optional section", "", "bgp: {reflector: {}}", []string{"bgp.reflector", "bgp.reflector.export"}},
		{"inside it", "bgp: {reflector: {}}", "bgp: {reflector: {clusterID: 0.0.0.7, import: {maxPrefixes: 3}}}", []string{"bgp.reflector.clusterID", "bgp.reflector.import"}},
		{"a mesh", "", "bgp: {mesh: {nodes: [10.0.0.1]}}", []string{"bgp.mesh"}},
		{"a deep one", "", "tunnel: {vxlan: {vni: 7}}\nipam: {registry: {kind: etcd, address: '10.0.0.1:2379', insecure: true}}", []string{"ipam.registry.kind", "ipam.registry.address", "ipam.registry.insecure", "tunnel.vxlan.vni"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, Diff(mustParse(t, c.a), mustParse(t, c.b))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestResolveErrorIsAMistake: a pool over a network of the node is a mistake in
// the file, with its line.
func TestResolveErrorIsAMistake(t *testing.T) {
	t.Parallel()
	_, err := Resolve(mustParse(t, "\npools:\n  - {name: a, cidr: 10.1.0.0/16}\n"), Facts{Claims: []Claim{{Prefix: netip.MustParsePrefix("10.1.2.0/24"), What: "x"}}})
	list, ok := errors.AsType[Errors](err)
	if !ok || len(list) != 1 || list[0].Line != 3 || list[0].File != "f" || list[0].Field != "pools[0].cidr" {
		t.Errorf("got %v", err)
	}
}
