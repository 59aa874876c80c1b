package agent

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/node"
	"onlink/agent/reload"
)

// TestEveryKeyHasOnePart: every key belongs to a part, which applies a change of
// it or requires a restart, and no two parts claim one.
func TestEveryKeyHasOnePart(t *testing.T) {
	parts := new(agent).parts()
	keys := config.Keys()
	for _, key := range keys {
		if owners := parts.Owners(key); len(owners) != 1 {
			t.Errorf("%s belongs to the parts %q in parts.go, want one; name it in the part that applies it, or in restart", key, owners)
		}
	}
	names := map[string]bool{}
	for _, p := range parts {
		if names[p.Name] {
			t.Errorf("two parts are called %s", p.Name)
		}
		names[p.Name] = true
		for _, key := range p.Keys {
			known := func(k string) bool { return k == key || strings.HasPrefix(k, key+".") }
			if !slices.ContainsFunc(keys, known) && key != "bgp.groups" { // expanded into the peers
				t.Errorf("part %s has the key %s, which is none", p.Name, key)
			}
		}
	}
}

// TestTable: the changes of a file that a running agent accepts, and those that
// it refuses before any change.
func TestTable(t *testing.T) {
	const peer = "{name: tor, address: 10.0.0.1, asn: 65001}"
	for _, c := range []struct {
		name, start, next string
		want              string // how the error begins; "": it is accepted
	}{
		{"a peer", "", "bgp: {peers: [" + peer + "]}", ""},
		{"a group", "", "bgp: {groups: {tors: {asn: 65001}}, peers: [{address: 10.0.0.1, group: tors}]}", ""},
		{"a filter", "", "bgp: {filters: [{name: f, rules: [{action: reject}]}]}", ""},
		{"clients of a reflector", "bgp: {reflector: {}}", "bgp: {reflector: {clients: [10.0.0.0/24]}}", ""},
		{"originated", "", "bgp: {originate: [192.0.2.0/24]}", ""},
		{"a monitoring station", "", "bgp: {bmp: [{address: 10.99.0.9, port: 11019}]}", ""},
		{"sysctls of pods", "", "cni: {sysctls: [net.core.somaxconn]}", ""},
		{"the level of the log", "", "log: {level: debug}", ""},
		{"the looking glass", "", "api: {glass: 127.0.0.1:9181}", ""},
		{"how changes are noticed", "", "reload: watch", ""},
		{"labels", "", "node: {labels: {rack: r1}}", ""},
		{"a pool", "", "pools: [{name: default, cidr: 10.244.0.0/16}, {name: more, cidr: 10.245.0.0/16}]", ""},
		{"a pool without masquerading", "", "pools: [{name: default, cidr: 10.244.0.0/16, natOutgoing: false}]", ""},
		{
			"a pool of another tunnel", "", "pools: [{name: default, cidr: 10.244.0.0/16}, {name: more, cidr: 10.245.0.0/16, tunnel: vxlan}]",
			"pools: a pool with another kind of tunnel needs a restart",
		},
		{"the last pool of a tunnel", "", "pools: [{name: default, cidr: 10.244.0.0/16, tunnel: none}]", "pools: a pool with another kind of tunnel needs a restart"},
		{"a reflector", "", "bgp: {reflector: {}}", "bgp.reflector: needs a restart"},
		{"the AS", "", "bgp: {asn: 65000}", "bgp.asn: needs a restart"},
		{"the node", "", "node: {name: other}", "node.name: needs a restart"},
		{"the metrics", "", "api: {metrics: off}", "api.metrics: needs a restart"},
		{"the registry", "", "ipam: {registry: {assert: 2m}}", "ipam.registry.assert: needs a restart"},
		{"the guard", "", "tunnel: {guard: off}", "tunnel.guard: needs a restart"},
		{"several", "", "fib: {table: 7}\nlog: {format: json}\nbgp: {peers: [" + peer + "]}", "fib.table, log.format: needs a restart"},
		{"where the plugin is installed", "", "cni: {install: {binDir: /b, confDir: /c}}", "cni.install.binDir, cni.install.confDir: needs a restart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := change(t, c.start, c.next)
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if errors.Is(err, reload.ErrRestart) != (c.want != "") {
				t.Errorf("%v is no wish for a restart", err)
			}
			if taken := len(config.Diff(&a.current().Config, parse(t, c.next))) == 0; taken != (err == nil) {
				t.Errorf("in force %v, with the error %v", taken, err)
			}
		})
	}
}

// TestReadersFollowReload: every value that the running agent reads from the
// configuration is that of the file in force.
func TestReadersFollowReload(t *testing.T) {
	const (
		pools4 = "pools: [{name: a, cidr: 10.1.0.0/16}]"
		both   = "pools: [{name: a, cidr: 10.1.0.0/16}, {name: b, cidr: 'fd00:1::/64'}]"
		meshA  = "bgp: {mesh: {nodes: [10.0.0.11, 10.0.0.12]}}"
		meshB  = "bgp: {mesh: {nodes: [10.0.0.11, 10.0.0.12, 10.0.0.13]}}"
	)
	moved := node.Identity{Address: netip.MustParseAddr("10.0.0.13")}
	for _, c := range []struct {
		name, start, next string
		ask               func(*agent) any
		want              any
	}{
		{"the first IPv6 pool", pools4, both, func(a *agent) any { return a.poolsGiveIPv6() }, true},
		{"the last IPv6 pool", both, pools4, func(a *agent) any { return a.poolsGiveIPv6() }, false},
		{"a node that joins the mesh", meshA, meshB, func(a *agent) any { return moved.Accepts(a.current()) == nil }, true},
		{"a node that leaves it", meshB, meshA, func(a *agent) any { return moved.Accepts(a.current()) == nil }, false},
		{"whom the address is for", meshA, meshB, func(a *agent) any { return len(node.Targets(&a.current().Config)) }, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.ask(reloaded(t, c.start, c.next)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestOneTruth: no part of the agent keeps a value of the configuration, which
// would be that of another file after a reload. The learn loop may: its part
// changes the copy in the loop, with the routes that depend on it.
func TestOneTruth(t *testing.T) {
	allowed := []string{"Options.File", "learn.peers"}
	var found []string
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	root, files := reflect.TypeFor[agent]().PkgPath(), reflect.TypeFor[config.Config]().PkgPath()
	walk = func(s reflect.Type) {
		ours := s.PkgPath() == root || strings.HasPrefix(s.PkgPath(), root+"/") && s.PkgPath() != files
		if s.Kind() != reflect.Struct || !ours || s == reflect.TypeFor[reload.Reloader]() || seen[s] {
			return
		}
		seen[s] = true
		for f := range s.Fields() {
			kept := f.Type
			for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Chan}, kept.Kind()) {
				kept = kept.Elem()
			}
			if kept.PkgPath() == files {
				found = append(found, s.Name()+"."+f.Name)
			}
			walk(kept)
		}
	}
	walk(reflect.TypeFor[agent]())
	slices.Sort(found)
	if !slices.Equal(found, allowed) {
		t.Errorf("fields with values of the configuration: %v, want only %v; ask current() instead", found, allowed)
	}
	if !seen[reflect.TypeFor[learn]()] || !seen[reflect.TypeFor[node.Follower]()] || !seen[reflect.TypeFor[dataplane.Plane]()] {
		t.Error("the walk does not reach the parts of the agent")
	}
}
