// Package ours is onlink's identity in the kernel: the numbers and names by
// which an agent recognises its own routes, objects, devices and tables, also
// those of a former run or another version (DESIGN.md, "Identity in the
// kernel"). Each is defined here and nowhere else. After a changed value a new
// version takes the old one's objects for foreign ones, so a change needs code
// that recognises both.
//
// The numbers come from 0x4f4c, "OL" in ASCII.
//
// The package uses the standard library only, and every room may import it.
package ours

// Protocol is the route protocol (rtm_protocol of rtnetlink(7), `proto 179` of
// ip-route(8)) of every route, nexthop object and policy rule that onlink
// installs, and of nothing else.
const Protocol = 179

// FirstNexthopID is the lowest ID of onlink's nexthop objects (ip-nexthop(8));
// the range has no end. An object in it is ours if it has [Protocol] too.
const FirstNexthopID = 0x4f4c0000

// Netlink port IDs (nl_pid, netlink(7)): package fib writes from Ports of them,
// FirstPort the first. A notification carries the port of the socket that made
// the change: one about a route of ours from any other port is a foreign
// change. Ports is a power of two and divides FirstPort, so that a mask selects
// the range.
const (
	FirstPort = 0x4f4c0000
	Ports     = 256
)

// GatewayTable is the routing table of IPv6 gateways behind tunnels, and
// GatewayPriority the priority of the rules that lead to it (ip-rule(8)).
const (
	GatewayTable    = 20300
	GatewayPriority = 20300
)

// SpreadMark is the packet mark (SO_MARK, `meta mark`) of packets into a VXLAN
// device while the underlay has several ways. The lower 16 bits, which most
// programs' masks cover, are zero.
const SpreadMark = 0x4f4c0000
