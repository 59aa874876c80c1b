package config

import (
	"flag"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/bgp/policy"
	"onlink/bgp/session"
	"onlink/cni"
	"onlink/fib"
	"onlink/internal/identity"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
	"onlink/tunnel"
)

var update = flag.Bool("update", false, "rewrite the expected messages under testdata")

const full = `
node:
  name: r1n1
  address: 10.57.0.0/16
  labels: {rack: r1, row: 7}
bgp:
  routerID: 10.57.0.11
  listen: {address: 10.57.0.11, port: 1790}
  reflector:
    clusterID: 0.0.0.1
    clients: [10.57.0.0/16, "fd00:57::/32"]
    passwordFile: /etc/onlink/clients.key
  peers:
    - {address: 10.57.0.10}
    - name: tor1
      address: fe80::1%eth0
      port: 1179
      asn: 4200000001
      passwordFile: /etc/onlink/tor1.key
      ttlSecurity: 1
      holdTime: 10s
      connectRetry: 2s
      passive: true
      localAddress: fe80::2%eth0
      import: {accept: [10.0.0.0/8, {prefix: 0.0.0.0/0, le: 0}, {prefix: 172.16.0.0/12, ge: 24, le: 28}], maxPrefixes: 1000}
      export: {own: false, communities: ["64512:100", no-export]}
    - {address: 10.199.0.1, asn: 65100, multihop: 4, keepalive: 5s, bfd: {}}
    - {address: 10.57.0.77, client: true, bfd: {interval: 50ms, multiplier: 5, hops: single}}
    - {name: tor1, address: 10.57.9.1, nodeSelector: {rack: r9}}   # not this node's
    - name: tor2
      address: 10.57.0.2
      asn: 65002
      nodeSelector: {rack: "r?"}
      localASN: 65020
      allowOwnAS: 2
      import: {filters: [in], localPref: 300}
      export: {prefixes: [10.96.0.0/12], communities: ["1:2:3"], med: 7, filters: [out]}
  filters:
    - name: in
      rules:
        - {match: {prefixes: [172.16.0.0/12], communities: ["^1:..$", blackhole], largeCommunities: ["1:2:3"], asPath: ["^65002_"]}, action: accept}
    - name: out
      rules:
        - match: {source: own}
          set: {localPref: 5, med: 0, prepend: 2, nextHop: 10.57.0.9, origin: egp, communities: {add: ["01:2"], remove: ["^1:.*9$"]}, largeCommunities: {replace: ["1:2:3"]}}
          action: next
        - {action: reject}
  asn: 65010   # below the peers that take it as their default
  originate: [192.0.2.0/24, 2001:db8::1]
  bmp:
    - {address: 10.99.0.9, port: 11019}
    - {name: six, address: "2001:db8::9", port: 5000, monitor: [accepted, best], statistics: 0s, sourceAddress: "fd00:57::11"}
pools:
  - {name: v4, cidr: 10.96.0.0/12, blockSize: 24, encapsulation: Always, tunnel: vxlan, natOutgoing: false, reserved: [10.96.0.1, 10.97.0.0/24]}
  - {name: v6, cidr: "fd00:244::/64", disabled: true, encapsulation: Never, tunnel: none, manual: true, nodeSelector: {rack: "r*"}, namespaceSelector: [default, "prod-*"]}
ipam:
  registry:
    kind: grpc
    address: registry.example:4790
    tls: {cert: /c, key: /k, ca: /ca}
    assert: 20s
  cooldown: 90s
  sticky: 1h
tunnel: {mtu: 1440, guard: off, vxlan: {vni: 77, port: 8472}}
fib: {table: 100, metric: 50, resync: 2m, source: 10.57.0.11}
api:
  admin: {group: adm, viewers: users, tcp: "[::1]:9180", tls: {cert: /c, key: /k, ca: /ca, roles: [{subject: "CN=alice,O=net", role: operator, name: alice}]}, reflection: true}
  metrics: off
  glass: 10.57.0.11:9181
  glassOpen: true
cni: {sysctls: ["net.core.somaxconn", "net.ipv4.tcp_*"], install: {binDir: /opt/cni/bin, confDir: /etc/cni/net.d, plugin: /usr/lib/onlink-cni, plugins: [portmap, {type: tuning, sysctl: {net.core.somaxconn: "500"}}]}}
log: {level: debug, format: json}
paths: {state: /srv/onlink/, run: /srv/run}
reload: watch
`

func TestFullFile(t *testing.T) {
	t.Parallel()
	addr, pfx := netip.MustParseAddr, netip.MustParsePrefix
	peer := func(change func(*Peer)) Peer {
		p := newPeer()
		p.Keepalive = 30 * time.Second
		p.ASN = 65010
		change(&p)
		return p
	}
	zero := uint32(0)
	in := policy.Filter{Name: "in", Rules: []policy.Rule{{
		Match: policy.Match{
			Prefixes: []policy.PrefixRule{{Prefix: pfx("172.16.0.0/12"), Ge: 12, Le: 32}}, Communities: []string{"^1:..$", "65535:666"},
			LargeCommunities: []string{"1:2:3"}, ASPath: []string{"^65002_"},
		},
		Action: policy.Accept,
	}}}
	out := policy.Filter{Name: "out", Rules: []policy.Rule{
		{
			Match: policy.Match{Source: policy.Own},
			Set: policy.Set{
				LocalPref: 5, MED: &zero, Prepend: 2, NextHop: policy.NextHop{Kind: policy.NextHopAddress, Addr: addr("10.57.0.9")}, Origin: "egp",
				Communities:      policy.CommunityChange{Add: []string{"1:2"}, Remove: []string{"^1:.*9$"}},
				LargeCommunities: policy.CommunityChange{Replace: []string{"1:2:3"}},
			},
			Action: policy.Next,
		},
		{Action: policy.Reject},
	}}
	files := tlsfiles.Files{Cert: "/c", Key: "/k", CA: "/ca"}
	want := &Config{
		Node: Node{Name: "r1n1", Address: NodeAddress{Prefix: pfx("10.57.0.0/16")}, Labels: map[string]string{"rack": "r1", "row": "7"}},
		BGP: BGP{
			ASN: 65010, RouterID: addr("10.57.0.11"),
			Listen: Listen{Address: addr("10.57.0.11"), Port: 1790},
			Reflector: &Reflector{
				ClusterID: addr("0.0.0.1"), PasswordFile: "/etc/onlink/clients.key", Export: policy.Export{Own: true},
				Clients: []netip.Prefix{pfx("10.57.0.0/16"), pfx("fd00:57::/32")},
			},
			Peers: []Peer{
				peer(func(p *Peer) { p.Name, p.Address = "10.57.0.10", addr("10.57.0.10") }),
				{
					Name: "tor1", Address: addr("fe80::1%eth0"), Port: 1179, ASN: 4200000001,
					PasswordFile: "/etc/onlink/tor1.key", Passive: true,
					Options: session.Options{
						TTLSecurity: 1, HoldTime: 10 * time.Second, Keepalive: 3 * time.Second, ConnectRetry: 2 * time.Second,
						LocalAddress: addr("fe80::2%eth0"),
					},
					Import: policy.Import{MaxPrefixes: 1000, Accept: []policy.PrefixRule{
						{Prefix: pfx("10.0.0.0/8"), Ge: 8, Le: 32},
						{Prefix: pfx("0.0.0.0/0"), Ge: 0, Le: 0},
						{Prefix: pfx("172.16.0.0/12"), Ge: 24, Le: 28},
					}},
					Export: policy.Export{Communities: []string{"64512:100", "65535:65281"}},
				},
				peer(func(p *Peer) {
					p.Name, p.Address, p.ASN, p.Multihop, p.Keepalive = "10.199.0.1", addr("10.199.0.1"), 65100, 4, 5*time.Second
					p.BFD = &bfd.Settings{Interval: 300 * time.Millisecond, Multiplier: 3, Hops: bfd.HopsMulti}
				}),
				peer(func(p *Peer) {
					p.Name, p.Address, p.Client = "10.57.0.77", addr("10.57.0.77"), true
					p.BFD = &bfd.Settings{Interval: 50 * time.Millisecond, Multiplier: 5, Hops: bfd.HopsSingle}
				}),
				peer(func(p *Peer) {
					p.Name, p.Address, p.ASN, p.LocalAS, p.AllowOwnAS = "tor2", addr("10.57.0.2"), 65002, 65020, 2
					p.NodeSelector = map[string]string{"rack": "r?"}
					p.Import = policy.Import{Filters: []policy.Filter{in}, LocalPref: 300}
					p.Export = policy.Export{
						Filters: []policy.Filter{out}, Own: true, MED: 7, Communities: []string{"1:2:3"},
						Prefixes: []policy.PrefixRule{{Prefix: pfx("10.96.0.0/12"), Ge: 12, Le: 32}},
					}
				}),
			},
			Originate: []netip.Prefix{pfx("192.0.2.0/24"), pfx("2001:db8::1/128")},
			Filters:   []policy.Filter{in, out},
			BMP: []bmp.Settings{
				{Name: "10.99.0.9:11019", Address: addr("10.99.0.9"), Port: 11019, Monitor: []bmp.View{bmp.Received}, Statistics: time.Minute},
				{Name: "six", Address: addr("2001:db8::9"), Port: 5000, Monitor: []bmp.View{bmp.Accepted, bmp.Best}, SourceAddress: addr("fd00:57::11")},
			},
		},
		Pools: []Pool{
			{
				Name: "v4", CIDR: pfx("10.96.0.0/12"), BlockSize: 24, Encapsulation: EncapAlways, Tunnel: TunnelVXLAN,
				Reserved: []netip.Prefix{pfx("10.96.0.1/32"), pfx("10.97.0.0/24")},
			},
			{
				Name: "v6", CIDR: pfx("fd00:244::/64"), BlockSize: 122, Encapsulation: EncapNever, Tunnel: TunnelNone, Disabled: true,
				Manual: true, NodeSelector: map[string]string{"rack": "r*"}, NamespaceSelector: []string{"default", "prod-*"},
			},
		},
		IPAM: ipam.Settings{
			Registry: ipam.RegistrySettings{Kind: ipam.RegistryGRPC, Addresses: []string{"registry.example:4790"}, TLS: files, Prefix: "/onlink/", Assert: 20 * time.Second},
			Cooldown: 90 * time.Second, Sticky: time.Hour,
		},
		Tunnel: tunnel.Settings{MTU: 1440, Guard: tunnel.GuardOff, VXLAN: tunnel.VXLANSettings{VNI: 77, Port: 8472}},
		FIB:    fib.Settings{Table: 100, Metric: 50, Resync: 2 * time.Minute, Source: addr("10.57.0.11")},
		API: API{Admin: Admin{
			Socket: "/srv/run/admin.sock", Group: "adm", Viewers: "users", Reflection: true,
			TCP: netip.MustParseAddrPort("[::1]:9180"), TLS: tlsfiles.Files{Cert: "/c", Key: "/k", CA: "/ca", Roles: identity.Map{
				{Subject: "CN=alice,O=net", Identity: identity.Identity{Role: identity.Operator, Name: "alice"}},
			}},
		}, Glass: netip.MustParseAddrPort("10.57.0.11:9181"), GlassOpen: true},
		CNI:   cni.Settings{Socket: "/srv/run/cni.sock", Sysctls: []string{"net.core.somaxconn", "net.ipv4.tcp_*"}, Install: cni.InstallSettings{BinDir: "/opt/cni/bin", ConfDir: "/etc/cni/net.d", Plugin: "/usr/lib/onlink-cni", Plugins: []map[string]any{{"type": "portmap"}, {"type": "tuning", "sysctl": map[string]any{"net.core.somaxconn": "500"}}}}},
		Log:   Log{Level: slog.LevelDebug, Format: LogJSON},
		Paths: Paths{State: "/srv/onlink", Run: "/srv/run"}, Reload: ReloadWatch,
	}
	got, err := Parse("onlinkd.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSmallForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		ok         func(*Config) bool
	}{
		{"no pools", "pools: []", func(c *Config) bool { return len(c.Pools) == 0 }},
		{"IPv4 pool masquerades", "pools: [{name: a, cidr: 10.1.0.0/16}]", func(c *Config) bool { return c.Pools[0].NATOutgoing && c.Pools[0].BlockSize == 26 }},
		{"IPv6 pool does not", "pools: [{name: a, cidr: 'fd00::/64'}]", func(c *Config) bool { return !c.Pools[0].NATOutgoing && c.Pools[0].BlockSize == 122 }},
		{"node by address", "node: {address: 10.1.2.3}", func(c *Config) bool { return c.Node.Address.String() == "10.1.2.3" && !c.Node.Address.Auto() }},
		{"node by interface", "node: {address: bond0.7}", func(c *Config) bool { return c.Node.Address.Interface == "bond0.7" }},
		{"node auto", "node: {address: auto}", func(c *Config) bool { return c.Node.Address.Auto() && c.Node.Address.String() == "auto" }},
		{"empty reflector", "bgp: {reflector: {}}", func(c *Config) bool { return c.BGP.Reflector != nil }},
		{"do not listen", "bgp: {listen: {port: 0}}", func(c *Config) bool { return c.BGP.Listen.Port == 0 }},
		{"metrics anywhere", "api: {metrics: ':9179'}", func(c *Config) bool { return c.API.Metrics == netip.MustParseAddrPort("[::]:9179") }},
		{"the looking glass on loopback", "api: {glass: '[::1]:9181'}", func(c *Config) bool { return c.API.Glass.Port() == 9181 && !c.API.GlassOpen }},
		{"no looking glass", "api: {}", func(c *Config) bool { return !c.API.Glass.IsValid() }},
		{"alias", "bgp: {originate: &o [10.1.0.0/16]}\npools: [{name: a, cidr: 10.1.0.0/16, reserved: *o}]", func(c *Config) bool { return len(c.Pools[0].Reserved) == 1 }},
		{"one socket moved", "cni: {socket: /x/c.sock}\npaths: {run: /y}", func(c *Config) bool {
			return c.CNI.Socket == "/x/c.sock" && c.API.Admin.Socket == "/y/admin.sock"
		}},
		{"community names", "bgp: {peers: [{address: 10.0.0.1, export: {communities: [graceful-shutdown, '1:2']}}]}", func(c *Config) bool {
			l := c.BGP.Peers[0].Export.Communities
			return slices.Equal(l, []string{"65535:0", "1:2"})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse("f", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.ok(c) {
				t.Errorf("%s gives %+v", tt.text, c)
			}
		})
	}
}
