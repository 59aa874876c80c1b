package integration

import (
	"strings"

	"onlink/integration/conf"
)

// breakage is one thing out of order on the way from r1n1 to the pod of another
// node. Addresses, devices and MAC addresses are names of [explained]; TABLE is a
// table of nftables that no other breakage uses at the same time.
type breakage struct {
	name       string
	do, undo   string // "WHERE: COMMAND", one a line
	from, to   string // addresses; from "": from any pod of r1n1
	cause      string // as r1n1 explains it, and " at " the node that finds it
	unheard    string // the cause where the registry never answered, which alone knows; "": the same
	then, also string // where the operator asks next, and the cause there
	again      bool   // the agent repairs it within seconds: it is broken again for each try
	lasting    bool   // it stays broken, and nothing else is at its address
	// alone is for what also breaks the way to another address: the others are made
	// at once, one for each address.
	alone   bool
	at      string // node whose configuration is edited, behind do
	edit    func(*conf.Config)
	only    string // the prefix that the filter oops rejects; "": all
	restart bool   // the edit needs a restart of the agent
	after   string // commands behind the edit
}

// rule is a rule in a chain of its own in a namespace.
func rule(where, hook, text string) string {
	return chain(where, "inet", "type filter hook "+hook+" priority 0", text)
}

// chain is a rule in a chain of a family and type.
func chain(where, family, kind, text string) string {
	return strings.NewReplacer("WHERE", where, "FAMILY", family, "KIND", kind, "RULE", text).Replace(
		"WHERE: nft add table FAMILY TABLE\nWHERE: nft add chain FAMILY TABLE c { KIND ; }\nWHERE: nft add rule FAMILY TABLE c RULE")
}

// unchain removes the chain of a family, unrule that of a rule.
func unchain(where, family string) string { return where + ": nft delete table " + family + " TABLE" }

func unrule(where string) string { return unchain(where, "inet") }

// rewired makes the interface of r1n2's pod as ADD made it: with a device that goes
// down, and with its MAC address, its routes and neighbours go.
const rewired = "pod r1n2: ip link set eth0 up\npod r1n2: ip addr replace NEAR6/128 dev eth0 nodad\n" +
	"r1n2: ip neigh replace NEAR lladdr PODMAC2 dev VETH2 nud permanent\nr1n2: ip neigh replace NEAR6 lladdr PODMAC2 dev VETH2 nud permanent\n" +
	"pod r1n2: ip neigh replace 169.254.1.1 lladdr GATEWAY2 dev eth0 nud permanent\npod r1n2: ip neigh replace GATEWAY6 lladdr GATEWAY2 dev eth0 nud permanent\n" +
	"pod r1n2: ip route replace 169.254.1.1 dev eth0\npod r1n2: ip route replace default via 169.254.1.1 dev eth0\npod r1n2: ip -6 route replace default via GATEWAY6 dev eth0"

// rejectAll is a filter of the name oops.
var rejectAll = []string{"oops"}

// breakages are by the link of the chain that breaks.
var breakages = []breakage{
	// The owner and the announcement.
	{name: "a free address", to: "10.244.255.250", cause: "owner.unclaimed", unheard: "path.absent", alone: true},
	{name: "an address of no pod on the far node", to: "UNUSED", cause: "pod.unassigned at r1n2", then: "r1n2", also: "pod.unassigned", alone: true},
	{name: "the far node is drained", do: "r1n2: onlinkctl drain --wait 1s", undo: "r1n2: onlinkctl undrain", to: "NEAR", cause: "announce.drained at r1n2", then: "r1n2", also: "announce.drained", alone: true},
	{name: "the far node is drained, IPv6", do: "r2n1: onlinkctl drain --wait 1s", undo: "r2n1: onlinkctl undrain", to: "FAR6", cause: "announce.drained at r2n1", alone: true},
	{
		name: "the far agent is dead", do: "r1n2: onlinkctl drain --wait 1s\nr1n2: agent kill", undo: "r1n2: agent start\nr1n2: onlinkctl undrain",
		to: "NEAR", cause: "agent.silent", alone: true,
	},
	{name: "the far node's export rejects its block", at: "r1n2", edit: func(c *conf.Config) { c.BGP.Peer("rr1").Export.Filters = rejectAll }, to: "NEAR", cause: "announce.rejected at r1n2"},
	{name: "the reflector does not take the far node as a client", at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Clients = []string{"10.57.1.11/32", "10.57.2.0/24"} }, to: "NEAR6", cause: "announce.sessions at r1n2"},
	{name: "the reflector's export rejects blocks", at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Export.Filters = rejectAll }, to: "NEAR", cause: "announce.rejected at rr1"},
	{name: "the reflector's import rejects blocks", at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Import.Filters = rejectAll }, to: "FAR", cause: "path.rejected at rr1"},
	{
		// The router would carry the answers.
		name: "the reflector's import rejects this node's block", do: "tor: ip route add blackhole OWN/32", undo: "tor: ip route del blackhole OWN/32",
		at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Import.Filters = rejectAll }, only: "OWNBLOCK", to: "NEAR", cause: "path.rejected at rr1",
	},
	{
		name: "the reflector does not announce this node's block", do: "tor: ip route add blackhole OWN/32", undo: "tor: ip route del blackhole OWN/32",
		at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Export.Filters = rejectAll }, only: "OWNBLOCK", from: "NEAR", to: "OWN", cause: "announce.rejected at rr1",
	},
	{name: "this node's import rejects blocks", at: "r1n1", edit: func(c *conf.Config) { c.BGP.Peer("rr1").Import.Filters = rejectAll }, to: "FAR6", cause: "path.rejected"},

	// Sessions.
	{name: "the far node's session with the reflector is held down", do: "r1n2: onlinkctl peers rr1 disable", undo: "r1n2: onlinkctl peers rr1 enable", to: "NEAR", cause: "announce.sessions at r1n2", alone: true},
	{name: "this node's session with the reflector is held down", do: "r1n1: onlinkctl peers rr1 disable", undo: "r1n1: onlinkctl peers rr1 enable", to: "NEAR6", cause: "session.held", alone: true},
	{
		name: "the far node has another MD5 key", do: "r1n2: onlinkctl peers rr1 disable", after: "r1n2: onlinkctl peers rr1 enable",
		at: "r1n2", edit: func(c *conf.Config) { c.BGP.Peer("rr1").PasswordFile = "/etc/hostname" }, to: "NEAR", cause: "announce.sessions at r1n2",
	},
	{
		name: "this node has another MD5 key", do: "r1n1: onlinkctl peers rr1 disable", after: "r1n1: onlinkctl peers rr1 enable",
		at: "r1n1", edit: func(c *conf.Config) { c.BGP.Peer("rr1").PasswordFile = "/etc/hostname" }, to: "FAR", cause: "session.down",
	},
	{name: "the far node expects another AS", at: "r1n2", edit: func(c *conf.Config) { c.BGP.Peer("rr1").ASN = 64999 }, to: "NEAR6", cause: "announce.sessions at r1n2"},
	{name: "the far node announces more than the reflector takes", at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Import.MaxPrefixes = 1 }, to: "FAR6", cause: "announce.sessions at r2n1"},
	{
		name: "a firewall closes the far node's session", do: "r1n2: onlinkctl peers rr1 disable\n" + rule("r1n2", "output", "tcp dport 179 drop") + "\n" + "r1n2: nft add chain inet TABLE i { type filter hook input priority 0 ; }\nr1n2: nft add rule inet TABLE i tcp dport 179 reject with tcp reset\nr1n2: onlinkctl peers rr1 enable",
		undo: unrule("r1n2"), to: "NEAR", cause: "announce.sessions at r1n2", alone: true,
	},

	// The kernel's routes.
	{name: "a blackhole for one address", do: "r1n1: ip route add blackhole NEAR/32", undo: "r1n1: ip route del blackhole NEAR/32", to: "NEAR", cause: "route.foreign"},
	{name: "an IPv6 prohibit route", do: "r1n1: ip -6 route add prohibit NEAR6/128", undo: "r1n1: ip -6 route del prohibit NEAR6/128", to: "NEAR6", cause: "route.foreign"},
	{name: "an unreachable route over the tunnel's", do: "r1n1: ip route add unreachable FAR/32", undo: "r1n1: ip route del unreachable FAR/32", to: "FAR", cause: "route.foreign"},
	{name: "an IPv6 blackhole over the tunnel's route", do: "r1n1: ip -6 route add blackhole FAR6/128", undo: "r1n1: ip -6 route del blackhole FAR6/128", to: "FAR6", cause: "route.foreign"},
	{name: "a route via a machine that is not there", do: "r1n1: ip route add NEAR/32 via 10.57.1.99 dev eth0", undo: "r1n1: ip route del NEAR/32", to: "NEAR", cause: "route.foreign"},
	{name: "a static route instead of the block's", do: "r1n1: ip route replace blackhole BLOCK proto static", undo: "r1n1: ip route del blackhole BLOCK", to: "NEAR", cause: "route.foreign"},
	{name: "a deleted route", do: "r1n1: ip route del BLOCK", to: "NEAR", cause: "route.missing", again: true},
	{name: "the pod's address is also one of this node's", do: "r1n1: ip addr add FAR/32 dev lo", undo: "r1n1: ip addr del FAR/32 dev lo", to: "FAR", cause: "route.foreign"},
	{
		name: "a policy rule for pods", do: "r1n1: ip route add blackhole default table 100\nr1n1: ip rule add from 10.244.0.0/16 lookup 100 pref 1000",
		undo: "r1n1: ip rule del pref 1000\nr1n1: ip route flush table 100", to: "NEAR", cause: "route.policy", alone: true,
	},
	{
		name: "an IPv6 policy rule for the pod's device", do: "r1n1: ip -6 route add unreachable default table 100\nr1n1: ip -6 rule add iif VETH lookup 100 pref 1000",
		undo: "r1n1: ip -6 rule del pref 1000\nr1n1: ip -6 route flush table 100", to: "FAR6", cause: "route.policy", alone: true,
	},
	{name: "an IPv6 rule that drops", do: "r1n1: ip -6 rule add to NEAR6 prohibit pref 1000", undo: "r1n1: ip -6 rule del pref 1000", to: "NEAR6", cause: "route.policy"},
	{name: "a rule on the far node for the answers", do: "r2n1: ip rule add from FAR blackhole pref 1000", undo: "r2n1: ip rule del pref 1000", to: "FAR", cause: "route.policy at r2n1"},
	{name: "a blackhole on the far node for the answers", do: "r1n2: ip -6 route add blackhole OWN6/128", undo: "r1n2: ip -6 route del blackhole OWN6/128", to: "NEAR6", cause: "route.foreign at r1n2"},
	{name: "this node has no default route", do: "r1n1: ip route del default", undo: "r1n1: ip route add default via TOR dev eth0", to: "FAR", cause: "nexthop.unreachable", alone: true},
	{name: "this node has no IPv6 default route", do: "r1n1: ip -6 route del default", undo: "r1n1: ip -6 route add default via ROUTER6 dev eth0", to: "FAR6", cause: "nexthop.unreachable", alone: true},
	{name: "the far node has no IPv6 default route", do: "r2n1: ip -6 route del default", undo: "r2n1: ip -6 route add default via fd57:2::1 dev eth0", to: "FAR6", cause: "nexthop.unreachable at r2n1", alone: true},

	// Neighbours.
	{
		name: "a permanent neighbour with another MAC address", do: "r1n1: ip neigh replace NODE2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
		undo: "r1n1: ip neigh del NODE2 dev eth0", to: "NEAR", cause: "neighbour.wrong-mac", alone: true,
	},
	{
		name: "an IPv6 neighbour with another MAC address", do: "r1n1: ip -6 neigh replace NODE2_6 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
		undo: "r1n1: ip -6 neigh del NODE2_6 dev eth0", to: "NEAR6", cause: "neighbour.wrong-mac", alone: true,
	},
	{
		name: "the router of the tunnel has another MAC address", do: "r1n1: ip neigh replace TOR lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
		undo: "r1n1: ip neigh del TOR dev eth0", to: "FAR", cause: "neighbour.wrong-mac", alone: true,
	},
	{
		// The switch answers, too, and the entry shows which answer won.
		name: "two machines answer", do: "switch: ip link set BRIDGE address 02:00:00:00:00:98 up\nswitch: ip addr add NODE2/32 dev BRIDGE\nr1n1: ip neigh replace NODE2 lladdr 02:00:00:00:00:98 dev eth0 nud permanent",
		undo: "switch: ip addr del NODE2/32 dev BRIDGE\nr1n1: ip neigh del NODE2 dev eth0", to: "NEAR", cause: "neighbour.conflict", alone: true,
	},
	{name: "one of two gateways of the tunnel is not there", do: "r1n1: ip route replace default nexthop via TOR dev eth0 nexthop via 10.57.1.99 dev eth0", undo: "r1n1: ip route replace default via TOR dev eth0", to: "FAR", cause: "neighbour.silent", alone: true},
	{name: "the far node is cut off", do: "r1n2: ip link set eth0 down", undo: "r1n2: ip link set eth0 up\nr1n2: ip addr replace NODE2_6/64 dev eth0 nodad\nr1n2: ip -6 route replace default via ROUTER6 dev eth0\nr1n2: ip route replace default via TOR dev eth0", to: "NEAR", cause: "neighbour.silent", alone: true},

	// Switches of the kernel.
	{name: "the pod's device does not forward", do: "r1n1: sysctl -qw net.ipv4.conf.VETH.forwarding=0", undo: "r1n1: sysctl -qw net.ipv4.conf.VETH.forwarding=1", from: "OWN", to: "NEAR", cause: "host.forwarding", alone: true},
	{name: "this node does not forward", do: "r1n1: sysctl -qw net.ipv4.ip_forward=0", to: "NEAR", cause: "host.forwarding", again: true, alone: true},
	{name: "the device of the far pod does not forward", do: "r1n2: sysctl -qw net.ipv4.conf.VETH2.forwarding=0", undo: "r1n2: sysctl -qw net.ipv4.conf.VETH2.forwarding=1", to: "NEAR", cause: "pod.wiring at r1n2"},
	{name: "the pod's address is also one of the node", do: "r1n1: ip addr add OWN/32 dev lo", undo: "r1n1: ip addr del OWN/32 dev lo", from: "OWN", to: "NEAR", cause: "host.accept-local", alone: true},
	{name: "loopback without route_localnet", from: "127.0.0.1", to: "OWN", cause: "host.route-localnet", alone: true},
	{name: "IPv6 is off on the device of the far pod", do: "r1n2: sysctl -qw net.ipv6.conf.VETH2.disable_ipv6=1", undo: "r1n2: sysctl -qw net.ipv6.conf.VETH2.disable_ipv6=0", to: "NEAR6", cause: "host.ipv6-off at r1n2", alone: true},

	// Chains.
	{name: "a chain that drops", do: rule("r1n1", "forward", "ip daddr NEAR drop"), undo: unrule("r1n1"), to: "NEAR", cause: "host.chain"},
	{name: "a chain that drops before routing", do: rule("r1n1", "prerouting", "ip6 daddr FAR6 drop"), undo: unrule("r1n1"), to: "FAR6", cause: "host.chain"},
	{name: "a policy of iptables", do: "r1n1: iptables -P FORWARD DROP", undo: "r1n1: iptables -P FORWARD ACCEPT", to: "NEAR", cause: "host.chain", alone: true},
	{name: "a rule of iptables on the far node", do: "r1n2: iptables -I FORWARD -d NEAR -j DROP", undo: "r1n2: iptables -D FORWARD -d NEAR -j DROP", to: "NEAR", cause: "host.chain at r1n2"},
	{name: "a rule of ip6tables on the far node", do: "r2n1: ip6tables -I FORWARD -d FAR6 -j REJECT", undo: "r2n1: ip6tables -D FORWARD -d FAR6 -j REJECT", to: "FAR6", cause: "host.chain at r2n1"},
	{name: "a chain that rewrites the source", do: chain("r1n1", "ip", "type nat hook postrouting priority 50", "ip daddr FAR snat to 192.0.2.1"), undo: unchain("r1n1", "ip"), to: "FAR", cause: "host.rewrite"},
	{name: "a chain that rewrites the IPv6 source", do: chain("r1n1", "ip6", "type nat hook postrouting priority 50", "ip6 daddr FAR6 snat to 2001:db8::1"), undo: unchain("r1n1", "ip6"), to: "FAR6", cause: "host.rewrite"},
	{name: "a chain that drops on the far node", do: rule("r1n2", "forward", "ip daddr NEAR drop"), undo: unrule("r1n2"), to: "NEAR", cause: "host.chain at r1n2", then: "r1n2", also: "host.chain"},
	{name: "a chain that drops behind the tunnel", do: rule("r2n1", "forward", "ip daddr FAR drop"), undo: unrule("r2n1"), to: "FAR", cause: "host.chain at r2n1"},
	{name: "a chain on the far node that drops the answers", do: rule("r1n2", "forward", "ip6 saddr NEAR6 drop"), undo: unrule("r1n2"), to: "NEAR6", cause: "host.chain at r1n2"},
	{name: "the far node's input drops the tunnel", do: rule("r2n1", "input", "ip saddr NODE1 udp dport 4789 drop"), undo: unrule("r2n1"), to: "FAR", cause: "host.chain at r2n1"},
	{name: "this node's output drops the tunnel", do: rule("r1n1", "output", "ip daddr NODE3 udp dport 4789 drop"), undo: unrule("r1n1"), to: "FAR", cause: "host.chain"},
	{name: "the far node's policy of input drops the IPv6 tunnel", do: rule("r2n1", "input", "meta nfproto ipv6 udp dport 4789 drop"), undo: unrule("r2n1"), to: "FAR6", cause: "host.chain at r2n1"},

	// The tunnel.
	{name: "an entry of the tunnel is gone", do: "r1n1: bridge fdb del MAC3 dev onlink-vxlan", undo: "r1n1: bridge fdb append MAC3 dev onlink-vxlan dst NODE3", to: "FAR", cause: "tunnel.entries", again: true},
	{name: "an entry of the tunnel leads to another node", do: "r1n1: bridge fdb replace MAC3_6 dev onlink-vxlan6 dst NODE2_6", undo: "r1n1: bridge fdb replace MAC3_6 dev onlink-vxlan6 dst NODE3_6", to: "FAR6", cause: "tunnel.entries", again: true},
	{name: "the far node has another VNI", at: "r2n1", edit: func(c *conf.Config) { c.Tunnel.VXLAN.VNI = 4097 }, restart: true, to: "FAR", cause: "tunnel.mismatch at r2n1"},
	{name: "the far node has another UDP port", at: "r2n1", edit: func(c *conf.Config) { c.Tunnel.VXLAN.Port = 8472 }, restart: true, to: "FAR6", cause: "tunnel.mismatch at r2n1"},
	{name: "the router drops the tunnel", do: rule("tor", "forward", "ip daddr NODE3 udp dport 4789 drop"), undo: unrule("tor"), to: "FAR", cause: "tunnel.silent"},
	{name: "the router drops the tunnel's answers", do: rule("tor", "forward", "ip6 daddr NODE1_6 udp dport 4789 drop"), undo: unrule("tor"), to: "FAR6", cause: "tunnel.silent"},
	{name: "the far guard drops", do: "r2n1: nft delete element inet onlink nodes4 { NODE1 }", undo: "r2n1: nft add element inet onlink nodes4 { NODE1 }", to: "FAR", cause: "host.guard at r2n1", again: true},
	{name: "the far guard drops IPv6", do: "r2n1: nft delete element inet onlink nodes6 { NODE1_6 }", undo: "r2n1: nft add element inet onlink nodes6 { NODE1_6 }", to: "FAR6", cause: "host.guard at r2n1", again: true},

	// The pod.
	{name: "the device of the far pod is gone", do: "r1n2: ip link del VETH_LOST", to: "LOST", cause: "pod.device at r1n2", lasting: true, alone: true},
	{
		name: "the pod has no default route", do: "pod r1n2: ip route del default", undo: "pod r1n2: ip route add default via 169.254.1.1 dev eth0",
		to: "NEAR", cause: "pod.wiring at r1n2", then: "r1n2", also: "pod.wiring",
	},
	{name: "the pod has no IPv6 default route", do: "pod r2n1: ip -6 route del default", undo: "pod r2n1: ip -6 route add default via GATEWAY6 dev eth0", to: "FAR6", cause: "pod.wiring at r2n1"},
	{name: "the pod's gateway has another MAC address", do: "pod r1n2: ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent", undo: "pod r1n2: ip neigh replace 169.254.1.1 lladdr GATEWAY2 dev eth0 nud permanent", to: "NEAR", cause: "pod.wiring at r1n2"},
	{
		// With its last IPv4 address a device loses its IPv4 routes and neighbours.
		name: "the pod has lost its address", do: "pod r2n1: ip addr del FAR/32 dev eth0",
		undo: "pod r2n1: ip addr add FAR/32 dev eth0\npod r2n1: ip neigh replace 169.254.1.1 lladdr GATEWAY3 dev eth0 nud permanent\npod r2n1: ip route add 169.254.1.1 dev eth0\npod r2n1: ip route add default via 169.254.1.1 dev eth0",
		to:   "FAR", cause: "pod.wiring at r2n1",
	},
	{name: "the asking pod has no default route", do: "pod r1n1: ip route del default", undo: "pod r1n1: ip route add default via 169.254.1.1 dev eth0", from: "OWN", to: "FAR", cause: "pod.wiring", alone: true},
	{name: "the interface of the far pod is down", do: "pod r1n2: ip link set eth0 down", undo: rewired, to: "NEAR6", cause: "pod.device at r1n2", alone: true},
	{name: "the pod has another MAC address", do: "pod r1n2: ip link set eth0 address 02:11:22:33:44:55", undo: "pod r1n2: ip link set eth0 address PODMAC2\n" + rewired, to: "NEAR", cause: "pod.wiring at r1n2", alone: true},
	{name: "the pod's firewall drops", do: rule("pod r1n2", "input", "ip saddr OWN drop"), undo: unrule("pod r1n2"), to: "NEAR", cause: "probe.far"},

	// Silent losses.
	{name: "a silent drop here", do: rule("r1n1", "forward", "ip daddr NEAR meta length > 0 drop"), undo: unrule("r1n1"), to: "NEAR", cause: "probe.here"},
	{name: "a silent drop of answers here", do: rule("r1n1", "forward", "ip saddr FAR meta length > 0 drop"), undo: unrule("r1n1"), to: "FAR", cause: "probe.here"},
	{name: "a chain of a device here drops", do: chain("r1n1", "netdev", "type filter hook ingress device VETH priority 0", "ip6 daddr NEAR6 drop"), undo: unchain("r1n1", "netdev"), to: "NEAR6", cause: "probe.here"},
	{name: "the router drops large packets", do: rule("tor", "forward", "ip daddr NODE3 meta length > 1400 drop"), undo: unrule("tor"), to: "FAR", cause: "probe.mtu"},
	{name: "the router drops large IPv6 packets", do: rule("tor", "forward", "ip6 daddr NODE3_6 meta length > 1400 drop"), undo: unrule("tor"), to: "FAR6", cause: "probe.mtu"},
	{name: "a narrow link between the routers", do: "tor: ip link set core mtu 1400", undo: "tor: ip link set core mtu 1500", to: "FAR", cause: "probe.mtu", alone: true},
	{name: "the switch drops addresses of pods", do: chain("switch", "bridge", "type filter hook forward priority 0", "ip saddr OWN drop"), undo: unchain("switch", "bridge"), to: "NEAR", cause: "probe.wire"},
	{name: "the switch drops the answers", do: chain("switch", "bridge", "type filter hook forward priority 0", "ip6 saddr NEAR6 drop"), undo: unchain("switch", "bridge"), to: "NEAR6", cause: "probe.far"},
}

// breakagesOfIPIP are those that need the kernel's ipip, VRF or netem.
var breakagesOfIPIP = []*breakage{
	{name: "the router drops IPv4 in IPv4", do: "tor: ip rule add ipproto 4 blackhole pref 100", undo: "tor: ip rule del pref 100", to: "FAR", cause: "tunnel.silent"},
	{name: "the router drops IPv6 in IPv6", do: "tor: ip -6 rule add ipproto 41 blackhole pref 100", undo: "tor: ip -6 rule del pref 100", to: "FAR6", cause: "tunnel.silent"},
	{name: "a route beside the tunnel", do: "r1n1: ip route add FAR/32 via 10.57.1.99 dev eth0", undo: "r1n1: ip route del FAR/32", to: "FAR", cause: "route.foreign"},
	{name: "the far node has another kind of tunnel", at: "r2n1", edit: func(c *conf.Config) { c.Pools[0].Tunnel = "vxlan" }, restart: true, to: "FAR", cause: "tunnel.mismatch at r2n1"},
	{name: "the router loses all", do: "tor: tc qdisc add dev core root netem loss 100%", undo: "tor: tc qdisc del dev core root", to: "FAR", cause: "probe.wire"},
	{
		// A device goes down and up with its VRF, and its neighbours go.
		name: "the pod's device belongs to a VRF", do: "r1n1: ip link add red type vrf table 77\nr1n1: ip route add unreachable default table 77\nr1n1: ip link set red up\nr1n1: ip link set VETH master red",
		undo: "r1n1: ip link set VETH nomaster\nr1n1: ip link del red\nr1n1: ip route flush table 77\nr1n1: ip neigh replace OWN lladdr PODMAC1 dev VETH nud permanent", from: "OWN", to: "FAR", cause: "route.vrf",
	},
}

// whole are paths without a breakage.
var whole = []struct{ name, node, from, to string }{
	{"near", "r1n1", "", "NEAR"},
	{"near, IPv6", "r1n1", "", "NEAR6"},
	{"through the tunnel", "r1n1", "", "FAR"},
	{"through the tunnel, IPv6", "r1n1", "", "FAR6"},
	{"own", "r1n1", "", "OWN"},
	{"own, IPv6", "r1n1", "", "OWN6"},
	{"there and back", "r1n1", "OWN", "NEAR"},
	{"there and back, IPv6", "r1n1", "OWN6", "NEAR6"},
	{"there and back through the tunnel", "r1n1", "OWN", "FAR"},
	{"there and back through the tunnel, IPv6", "r1n1", "OWN6", "FAR6"},
	{"to a pod here", "r1n2", "OWN", "NEAR"},
	{"to a pod here, IPv6", "r1n2", "OWN6", "NEAR6"},
	{"to a pod here through the tunnel", "r2n1", "OWN", "FAR"},
	{"between pods of one node", "r1n2", "BESIDE", "NEAR"},
	{"from the node", "r1n1", "NODE1", "FAR"},
	{"from the node, IPv6", "r1n1", "NODE1_6", "NEAR6"},
	{"from another node to a pod here", "r1n1", "NODE2", "OWN"},
	{"a router", "r1n1", "", "TOR"},
	{"a router, IPv6", "r1n1", "", "ROUTER6"},
	{"a node", "r1n1", "", "NODE2"},
	{"a node in another rack, IPv6", "r1n1", "", "NODE3_6"},
	{"this node", "r1n1", "", "NODE1"},
	{"a prefix of a router", "r1n1", "", "192.168.1.1"},
	{"the gateway of pods", "r1n1", "", "169.254.1.1"},
	{"from a node without pods", "rr1", "", "NEAR"},
	{"from a node without pods, IPv6", "rr1", "", "FAR6"},
	{"between pods of other nodes", "rr1", "OWN", "FAR"},
}

// harmless stop no packet.
var harmless = []struct{ name, do, undo, to string }{
	{"a pod without echoes", "pod r1n2: sysctl -qw net.ipv4.icmp_echo_ignore_all=1", "pod r1n2: sysctl -qw net.ipv4.icmp_echo_ignore_all=0", "NEAR"},
	{"a chain that lets pods through", rule("r1n1", "forward", "ip saddr 10.244.0.0/16 accept") + "\nr1n1: nft add rule inet TABLE c ip daddr != 10.244.0.0/16 drop", unrule("r1n1"), "NEAR"},
	{"a chain of other ports", rule("r1n1", "output", "udp dport 4790 drop"), unrule("r1n1"), "FAR"},
	{"a masquerade that leaves pods alone", chain("r1n1", "ip", "type nat hook postrouting priority 50", "ip saddr 172.17.0.0/16 masquerade"), unchain("r1n1", "ip"), "FAR"},
	{"a rule for marked packets", "r1n1: ip route add blackhole default table 100\nr1n1: ip rule add fwmark 7 lookup 100 pref 1000", "r1n1: ip rule del pref 1000\nr1n1: ip route flush table 100", "NEAR"},
	{"a permanent neighbour that is right", "r1n1: ip neigh replace NODE2 lladdr NODEMAC2 dev eth0 nud permanent", "r1n1: ip neigh del NODE2 dev eth0", "NEAR"},
	{"a strict reverse path", "r1n1: sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1", "r1n1: sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0", "FAR"},
	{"a wider route of another program", "r1n1: ip route add blackhole 10.244.0.0/16", "r1n1: ip route del blackhole 10.244.0.0/16", "FAR"},
	{"an announced service", "r1n1: onlinkctl announce operator --prefix 203.0.113.7/32", "r1n1: onlinkctl announce operator --none --confirm", "203.0.113.7"},
	{"a dead reflector", "rr1: agent kill", "rr1: agent start", "NEAR6"},
}
