package preflight

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// fixed is a base that does not depend on this machine's name.
const fixed = "node: {name: r1n1, address: 10.57.0.11}\n"

// parsed reads a file that config alone accepts: the mistakes of this package are
// those that come after.
func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	if !strings.Contains(text, "node:") {
		text = fixed + text
	}
	c, err := config.Parse("onlinkd.yaml", []byte(text))
	if err != nil {
		t.Fatalf("not even a valid file: %v", err)
	}
	return c
}

// TestFile: files that are valid key by key, and could not work on any machine.
func TestFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{
			"node name with an underscore", "node: {name: r1_n1}",
			`onlinkd.yaml:1: node.name: "r1_n1" is no DNS name (RFC 1123), as certificates and registries need it; use letters, digits and -, such as r1n1, with at most 63 of them between dots`,
		}, {
			"node name that ends with a hyphen", "node: {name: rack-}",
			`onlinkd.yaml:1: node.name: "rack-" is no DNS name (RFC 1123), as certificates and registries need it; use letters, digits and -, such as r1n1, with at most 63 of them between dots`,
		}, {
			"node name with an empty label", "node: {name: a..b}",
			`onlinkd.yaml:1: node.name: "a..b" is no DNS name (RFC 1123), as certificates and registries need it; use letters, digits and -, such as r1n1, with at most 63 of them between dots`,
		}, {
			"link-local node address", "node: {name: a, address: 'fe80::1'}",
			"onlinkd.yaml:1: node.address: fe80::1 is link-local, which other networks cannot use as next hop; write a global address of this node",
		}, {
			"own AS, last of 16 bits", "bgp: {asn: 65535}",
			"onlinkd.yaml:2: bgp.asn: 65535 is reserved (RFC 7300), and routers reject it; use your own AS, or a private one from 64512 to 65534 or from 4200000000 to 4294967294",
		}, {
			"own AS, last of 32 bits, and a peer that has it by default", "bgp: {asn: 4294967295, peers: [{address: 10.57.0.1}]}",
			"onlinkd.yaml:2: bgp.asn: 4294967295 is reserved (RFC 7300), and routers reject it; use your own AS, or a private one from 64512 to 65534 or from 4200000000 to 4294967294",
		}, {
			"peer's AS, behind a peer of another node", "bgp:\n  peers:\n    - {address: 10.57.0.1, nodeSelector: {rack: r9}}\n    - {address: 10.57.0.1, asn: 65535}",
			"onlinkd.yaml:5: bgp.peers[1].asn: 65535 is reserved (RFC 7300), and routers reject it; use your own AS, or a private one from 64512 to 65534 or from 4200000000 to 4294967294",
		}, {
			"local AS", "bgp: {peers: [{address: 10.57.0.1, asn: 65001, localASN: 65535}]}",
			"onlinkd.yaml:2: bgp.peers[0].localASN: 65535 is reserved (RFC 7300), and routers reject it; use your own AS, or a private one from 64512 to 65534 or from 4200000000 to 4294967294",
		}, {
			"table local", "fib: {table: 255}",
			"onlinkd.yaml:2: fib.table: 255 is the table local, which belongs to the kernel; use 254 (main)",
		}, {
			"table default", "fib: {table: 253}",
			"onlinkd.yaml:2: fib.table: 253 is the table default, which the kernel reads after main: a default route there hides all routes; use 254 (main), or a table with a rule of its own",
		}, {
			"onlink's own table", "fib: {table: 20300}",
			"onlinkd.yaml:2: fib.table: 20300 is the table of onlink's gateways over IPv6 tunnels; use another, such as 254 (main)",
		}, {
			"router ID of a reflector", "bgp: {routerID: 10.57.0.10, peers: [{name: rr1, address: 10.57.0.10}]}",
			"onlinkd.yaml:2: bgp.routerID: 10.57.0.10 is the address of rr1 (bgp.peers[0]), a router of the same AS, whose router ID it is by default: two with one ID have no session (RFC 6286); use auto or an ID of this node's own",
		}, {
			"loopback as peer", "bgp: {peers: [{address: 127.0.0.1, asn: 65001}]}",
			"onlinkd.yaml:2: bgp.peers[0].address: 127.0.0.1 is this machine, and port 179 is where this agent listens: it would be its own peer; write the other router's address, or give this node a file without the peer (nodeSelector)",
		}, {
			"own address as peer", "bgp: {peers: [{address: 10.57.0.11}]}",
			"onlinkd.yaml:2: bgp.peers[0].address: 10.57.0.11 is this node's own address: it would be its own peer; write the other router's address, or give this node a file without the peer (nodeSelector)",
		}, {
			"broadcast as peer", "bgp: {peers: [{address: 255.255.255.255}]}",
			"onlinkd.yaml:2: bgp.peers[0].address: 255.255.255.255 is no machine's address; write the peer's own",
		}, {
			"local address on loopback", "bgp: {peers: [{address: 10.57.0.1, localAddress: 127.0.0.1}]}",
			"onlinkd.yaml:2: bgp.peers[0].localAddress: 127.0.0.1 never leaves this machine, and the peer 10.57.0.1 is another; write an address that the peer reaches, or remove it",
		}, {
			"local address of no machine", "bgp: {peers: [{address: 10.57.0.1, localAddress: 0.0.0.0}]}",
			"onlinkd.yaml:2: bgp.peers[0].localAddress: 0.0.0.0 is no machine's address; write one of this node's, or remove it",
		}, {
			"peer over a tunnel of onlink", "bgp: {peers: [{interface: onlink-vxlan, asn: 65001}]}",
			"onlinkd.yaml:2: bgp.peers[0].interface: onlink-vxlan is a tunnel of onlink, whose routes come of the sessions; write the device of a cable",
		}, {
			"the other end of lo", "bgp: {peers: [{interface: lo, asn: 65001}]}",
			"onlinkd.yaml:2: bgp.peers[0].interface: lo has no other end; write the device of the cable to the router",
		}, {
			"two links", "bgp: {peers: [{address: fe80::1%eth0, interface: eth1, asn: 65001}]}",
			"onlinkd.yaml:2: bgp.peers[0].interface: eth1 is not the link of the address fe80::1%eth0; write the same in both, or remove interface",
		}, {
			"two peers of one link", "bgp: {peers: [{interface: eth1, name: a, asn: 65001}, {interface: eth1, name: b, asn: 65002}]}",
			"onlinkd.yaml:2: bgp.peers[1].interface: eth1 is also the link of bgp.peers[0]: both are the router at its other end; remove one",
		}, {
			"one link-local address on two links", "bgp: {peers: [{address: fe80::1%eth0, asn: 65001}, {address: fe80::1%eth1, asn: 65001}]}",
			"onlinkd.yaml:2: bgp.peers[1].address: fe80::1%eth1 is also the address of bgp.peers[0] on another link, and routes could not tell the two apart; give the routers different link-local addresses",
		}, {
			"passive, and nobody can connect", "bgp: {listen: {port: 0}, peers: [{address: 10.57.0.1, passive: true}]}",
			"onlinkd.yaml:2: bgp.peers[0].passive: waits for the peer to connect, and bgp.listen.port is 0: it cannot; remove passive, or set the port",
		}, {
			"a mesh on loopback", "bgp: {mesh: {nodes: [10.57.0.11, 127.0.0.1]}}",
			"onlinkd.yaml:2: bgp.mesh.nodes[1]: 127.0.0.1 is not reached from the other nodes; write the node's address",
		}, {
			"a mesh without this node", "bgp: {mesh: {nodes: [10.57.0.12, 10.57.0.13]}}",
			"onlinkd.yaml:2: bgp.mesh: this node's address 10.57.0.11 is not among its nodes; add it, or set node.address to the one that is",
		}, {
			"the port of a mesh", "bgp: {mesh: {nodes: [10.57.0.11, 10.57.0.12], port: 1790}}",
			"onlinkd.yaml:2: bgp.listen.port: 179 is not the port 1790 on which the nodes of the mesh call each other; use the same in bgp.mesh.port and bgp.listen.port",
		}, {
			"a mesh that calls another address", "bgp: {listen: {address: 192.0.2.11}, mesh: {nodes: [10.57.0.11, 10.57.0.12]}}",
			"onlinkd.yaml:2: bgp.listen.address: 192.0.2.11 is not among the nodes of the mesh, which call this node at its address there; use auto or that address",
		}, {
			"a reflector that does not listen", "bgp: {listen: {port: 0}, reflector: {clients: [10.57.0.0/16]}}",
			"onlinkd.yaml:2: bgp.listen.port: 0 means that this agent does not listen, and the clients of the reflector connect to this node; set a port, or remove bgp.reflector.clients",
		}, {
			"a reflector on loopback", "bgp: {listen: {address: 127.0.0.1}, reflector: {clients: [10.57.0.0/16]}}",
			"onlinkd.yaml:2: bgp.listen.address: 127.0.0.1 is reached from this machine alone, and the clients of the reflector are others; use auto or an address that they reach",
		}, {
			"metrics on the port of BGP", "api: {metrics: 127.0.0.1:179}",
			"onlinkd.yaml:2: api.metrics: port 179 is also that of bgp.listen, and the second of the two could not listen; use another port",
		}, {
			"the looking glass on the port of the metrics", "api: {metrics: 0.0.0.0:9181, glass: 127.0.0.1:9181}",
			"onlinkd.yaml:2: api.glass: port 9181 is also that of api.metrics, and the second of the two could not listen; use another port",
		}, {
			"metrics everywhere, and the registry", "ipam: {registry: {listen: 10.57.0.11:9179, insecure: true}}\napi: {metrics: ':9179'}",
			"onlinkd.yaml:3: api.metrics: port 9179 is also that of ipam.registry.listen, and the second of the two could not listen; use another port",
		}, {
			"the API and the registry", "ipam: {registry: {listen: 10.57.0.11:9180, insecure: true}}\napi: {admin: {tcp: 10.57.0.11:9180, tls: {cert: /c, key: /k, ca: /a}}}",
			"onlinkd.yaml:3: api.admin.tcp: port 9180 is also that of ipam.registry.listen, and the second of the two could not listen; use another port",
		}, {
			"VXLAN on BFD's port", "pools: [{name: a, cidr: 10.244.0.0/16, tunnel: vxlan}]\ntunnel: {vxlan: {port: 4784}}\nbgp: {peers: [{address: 10.57.0.10, bfd: {}}]}",
			"onlinkd.yaml:3: tunnel.vxlan.port: 4784 is the UDP port of BFD, which peers have configured; use another on all nodes, such as 4789",
		}, {
			"the registry is this node", "ipam: {registry: {kind: grpc, address: 10.57.0.11:4790, insecure: true}}",
			"onlinkd.yaml:2: ipam.registry.address: 10.57.0.11:4790 is this node's own address, and an agent of kind grpc serves no registry: it would call itself; write kind: bolt with listen here, or the address of the agent that has it",
		}, {
			"half of the registry is this node", "ipam: {registry: {kind: grpc, address: [10.57.0.10:4790, 10.57.0.11:4790], insecure: true}}",
			"onlinkd.yaml:2: ipam.registry.address[1]: 10.57.0.11:4790 is this node's own address, and an agent of kind grpc serves no registry: it would call itself; write kind: bolt with listen here, or the address of the agent that has it",
		}, {
			"the registry is everywhere", "ipam: {registry: {kind: grpc, address: 0.0.0.0:4790, insecure: true}}",
			"onlinkd.yaml:2: ipam.registry.address: 0.0.0.0:4790 is no machine's address; write that of the registry",
		}, {
			"the registry is the metrics", "ipam: {registry: {kind: grpc, address: 127.0.0.1:9179, insecure: true}}",
			"onlinkd.yaml:2: ipam.registry.address: 127.0.0.1:9179 is this agent's own api.metrics, which serves no registry; write the address of the registry",
		}, {
			"the registry is the own API", "ipam: {registry: {kind: grpc, address: 'unix:///run/onlink/admin.sock'}}",
			"onlinkd.yaml:2: ipam.registry.address: unix:///run/onlink/admin.sock is this agent's own api.admin.socket, which serves no registry; write the socket of the registry",
		}, {
			"the registry is the own CNI service", "ipam: {registry: {kind: grpc, address: 'unix:///run/onlink/cni.sock'}}",
			"onlinkd.yaml:2: ipam.registry.address: unix:///run/onlink/cni.sock is this agent's own cni.socket, which serves no registry; write the socket of the registry",
		}, {
			"one registry twice", "ipam: {registry: {kind: grpc, address: [10.57.0.10:4790, 10.57.0.10:4790], insecure: true}}",
			"onlinkd.yaml:2: ipam.registry.address[1]: 10.57.0.10:4790 is in the list twice; remove one",
		}, {
			"originated loopback", "bgp: {originate: [127.0.0.1]}",
			"onlinkd.yaml:2: bgp.originate[0]: 127.0.0.1/32 is inside 127.0.0.0/8, which no router accepts from another; remove it",
		}, {
			"originated multicast", "bgp: {originate: [239.1.0.0/16]}",
			"onlinkd.yaml:2: bgp.originate[0]: 239.1.0.0/16 is inside 224.0.0.0/4, which no router accepts from another; remove it",
		}, {
			"a pool that is reserved", "pools: [{name: a, cidr: 10.244.0.0/16, reserved: [10.244.0.0/16]}]",
			"onlinkd.yaml:2: pools[0].reserved: has all of 10.244.0.0/16, so that no pod gets an address; reserve a part, or set disabled: true",
		}, {
			"an MTU that IPv6 cannot have", "pools: [{name: six, cidr: 'fd00:244::/64'}]\ntunnel: {mtu: 1200}",
			"onlinkd.yaml:3: tunnel.mtu: 1200 is too small for IPv6, which pool six has: the kernel takes IPv6 off such a device (RFC 8200); use auto or at least 1280",
		}, {
			"source on loopback", "fib: {source: 127.0.0.1}",
			"onlinkd.yaml:2: fib.source: 127.0.0.1 is no address that others answer to; use auto or an address of this node",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, File(parsed(t, c.text)).Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFileAccepts: what looks like one of the mistakes and works.
func TestFileAccepts(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"the default":                        "",
		"a full name":                        "node: {name: Node-01.example.com}",
		"a name of digits":                   "node: {name: '4711'}",
		"documentation AS":                   "bgp: {asn: 64496, peers: [{address: 10.57.0.1, asn: 65551}]}",
		"a table of an operator":             "fib: {table: 100}",
		"another speaker of this machine":    "bgp: {peers: [{address: 127.0.0.1, port: 1790, asn: 65001, multihop: 2}, {address: 10.57.0.11, port: 1791, asn: 65001}]}",
		"another speaker has port 179":       "bgp: {listen: {port: 1790}, peers: [{address: 127.0.0.1, asn: 65001}]}",
		"router ID of the node":              "bgp: {routerID: 10.57.0.11, peers: [{address: 10.57.0.10}]}",
		"router ID of another AS":            "bgp: {routerID: 10.57.0.1, peers: [{address: 10.57.0.1, asn: 65001}]}",
		"passive, listening":                 "bgp: {peers: [{address: 10.57.0.1, passive: true}]}",
		"a mesh":                             "bgp: {mesh: {nodes: [10.57.0.11, 10.57.0.12]}, listen: {address: 10.57.0.11}}",
		"a mesh on another port":             "bgp: {listen: {port: 1790}, mesh: {nodes: [10.57.0.11, 10.57.0.12], port: 1790}}",
		"a mesh of the other family":         "bgp: {mesh: {nodes: ['fd57::11', 'fd57::12']}}",
		"a reflector without ranges":         "bgp: {listen: {port: 0}, reflector: {}, peers: [{address: 10.57.0.12, client: true}]}",
		"ports apart by address":             "ipam: {registry: {listen: 10.57.0.11:9179, insecure: true}}",
		"IPv4 everywhere beside IPv6":        "ipam: {registry: {listen: '[fd57::11]:9179', insecure: true}}\napi: {metrics: 0.0.0.0:9179}",
		"BGP does not listen":                "bgp: {listen: {port: 0}}\napi: {metrics: 127.0.0.1:179}",
		"BFD's port without BFD":             "pools: [{name: a, cidr: 10.244.0.0/16, tunnel: vxlan}]\ntunnel: {vxlan: {port: 4784}}",
		"BFD's other port":                   "pools: [{name: a, cidr: 10.244.0.0/16, tunnel: vxlan}]\ntunnel: {vxlan: {port: 3784}}\nbgp: {peers: [{address: 10.57.0.10, bfd: {}}]}",
		"half of the registry here":          "ipam: {registry: {listen: 10.57.0.11:4790, address: [10.57.0.10:4790, 10.57.0.11:4790], insecure: true}}",
		"etcd beside the agent":              "ipam: {registry: {kind: etcd, address: [10.57.0.11:2379, 127.0.0.1:2379], insecure: true}}",
		"a registry of this machine":         "ipam: {registry: {kind: grpc, address: 'unix:///run/onlink-kube/registry.sock'}}",
		"a proxy to the registry":            "ipam: {registry: {kind: grpc, address: 127.0.0.1:4790, insecure: true}}",
		"an anycast address of IPv4's links": "bgp: {originate: [169.254.20.10]}",
		"a part of a pool":                   "pools: [{name: a, cidr: 10.244.0.0/16, reserved: [10.244.0.0/17]}]",
		"a small MTU of IPv4":                "tunnel: {mtu: 1200}",
		"two routers with their own links":   "bgp: {peers: [{interface: eth1, asn: 65001}, {interface: eth2, asn: 65001}]}",
		"one link, by address and by link":   "bgp: {peers: [{address: fe80::1%eth1, interface: eth1, asn: 65001}]}",
		"a peer of another node that is us":  "bgp: {peers: [{address: 10.57.0.11, nodeSelector: {rack: r9}}]}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if errs := File(parsed(t, text)); len(errs) > 0 {
				t.Error(errs)
			}
		})
	}
}

// TestRunning: a running agent reports a session with any of its addresses.
func TestRunning(t *testing.T) {
	t.Parallel()
	c := parsed(t, "bgp: {peers: [{name: self, address: 192.0.2.7}, {address: 192.0.2.8}]}")
	got := Running(c, []underlay.Address{{Addr: netip.MustParseAddr("192.0.2.7")}}).Error()
	if want := "onlinkd.yaml:2: bgp.peers[0].address: 192.0.2.7 is this node's own address"; !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}
