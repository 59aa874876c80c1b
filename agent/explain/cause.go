package explain

// Cause is the stable code of what breaks a path. docs/troubleshooting.md has a
// section for each.
type Cause string

// The causes, in the order of a packet's way.
const (
	OwnerUnclaimed Cause = "owner.unclaimed" // a free address of a pool
	PodUnassigned  Cause = "pod.unassigned"  // in a block of this node, and of no pod
	PodUnwired     Cause = "pod.unwired"     // assigned, and ADD did not connect the pod
	PodDevice      Cause = "pod.device"      // the host end of the pod's veth is gone or down
	PodWiring      Cause = "pod.wiring"      // the pod's interface is not as ADD made it

	AnnounceDrained  Cause = "announce.drained"  // this node withdraws its prefixes
	AnnounceWithheld Cause = "announce.withheld" // its owner has not confirmed it since the start
	AnnounceBlock    Cause = "announce.block"    // the block is not confirmed to be this node's
	AnnounceRejected Cause = "announce.rejected" // export rejects the block towards every peer
	AnnounceSessions Cause = "announce.sessions" // no session is up that would carry the block

	AgentSilent Cause = "agent.silent" // the agent of the address's node does not answer

	SessionDown  Cause = "session.down"  // the session that would bring the path
	SessionHeld  Cause = "session.held"  // an operator, or BFD, keeps it down
	PathRejected Cause = "path.rejected" // import rejects the announcement
	PathAbsent   Cause = "path.absent"   // no peer announces it, and the sessions are up

	NextHopUnreachable Cause = "nexthop.unreachable" // the underlay has no route to it
	NextHopUnusable    Cause = "nexthop.unusable"    // no packet may be sent to it
	RouteNotPermitted  Cause = "route.not-permitted" // no rule permits the route

	RouteForeign Cause = "route.foreign" // another program's route takes the packets
	RoutePolicy  Cause = "route.policy"  // a policy rule diverts them
	RouteVRF     Cause = "route.vrf"     // they are looked up in the table of a VRF
	RouteMissing Cause = "route.missing" // the kernel has lost a route of onlink's
	RouteRefused Cause = "route.refused" // the kernel refuses a route of onlink's
	RouteNone    Cause = "route.none"    // outside the pools: the node has no route

	NeighbourSilent   Cause = "neighbour.silent"    // the next hop does not answer ARP or ND
	NeighbourMAC      Cause = "neighbour.wrong-mac" // an entry has another MAC address than answers
	NeighbourConflict Cause = "neighbour.conflict"  // two machines answer for one address

	TunnelDevice   Cause = "tunnel.device"   // the device is not as it should be
	TunnelEntries  Cause = "tunnel.entries"  // FDB or neighbour entry of the far node
	TunnelMismatch Cause = "tunnel.mismatch" // the two ends have another kind, VNI or port
	TunnelSilent   Cause = "tunnel.silent"   // the far node answers beside the tunnel, not through it

	HostForwarding  Cause = "host.forwarding"     // forwarding is off
	HostReversePath Cause = "host.reverse-path"   // rp_filter drops
	HostAcceptLocal Cause = "host.accept-local"   // the source is an address of this node itself, and accept_local is 0
	HostLocalnet    Cause = "host.route-localnet" // the source is loopback, and route_localnet is 0
	HostIPv6Off     Cause = "host.ipv6-off"       // disable_ipv6 on a device of the path
	HostMTU         Cause = "host.mtu"            // a device of the path is narrower than pods' packets
	HostChain       Cause = "host.chain"          // a chain drops
	HostRewrite     Cause = "host.rewrite"        // a chain rewrites the source of pods
	HostGuard       Cause = "host.guard"          // the far node is not in the guard's set
	HostSpoof       Cause = "host.spoof"          // the pod's entry of the anti-spoofing table
	HostConntrack   Cause = "host.conntrack"      // the table of connections is full

	ProbeUnsent   Cause = "probe.unsent"   // this kernel does not send the packet
	ProbeHere     Cause = "probe.here"     // lost inside this node
	ProbeRejected Cause = "probe.rejected" // a machine on the way answers with an ICMP error
	ProbeMTU      Cause = "probe.mtu"      // small packets pass, large ones do not
	ProbeWire     Cause = "probe.wire"     // lost between this node and the far one
	ProbeFar      Cause = "probe.far"      // lost on the far node
	ProbeLost     Cause = "probe.lost"     // lost, it is not known where
)

// Causes returns all causes.
func Causes() []Cause {
	return []Cause{
		OwnerUnclaimed, PodUnassigned, PodUnwired, PodDevice, PodWiring,
		AnnounceDrained, AnnounceWithheld, AnnounceBlock, AnnounceRejected, AnnounceSessions,
		AgentSilent,
		SessionDown, SessionHeld, PathRejected, PathAbsent,
		NextHopUnreachable, NextHopUnusable, RouteNotPermitted,
		RouteForeign, RoutePolicy, RouteVRF, RouteMissing, RouteRefused, RouteNone,
		NeighbourSilent, NeighbourMAC, NeighbourConflict,
		TunnelDevice, TunnelEntries, TunnelMismatch, TunnelSilent,
		HostForwarding, HostReversePath, HostAcceptLocal, HostLocalnet, HostIPv6Off, HostMTU, HostChain, HostRewrite, HostGuard, HostSpoof, HostConntrack,
		ProbeUnsent, ProbeHere, ProbeRejected, ProbeMTU, ProbeWire, ProbeFar, ProbeLost,
	}
}

// symptom reports whether a cause only says where packets are lost, and not why.
func (c Cause) symptom() bool {
	switch c {
	case ProbeUnsent, ProbeHere, ProbeRejected, ProbeMTU, ProbeWire, ProbeFar, ProbeLost, TunnelSilent:
		return true
	default:
		return false
	}
}
