// Package state is the running agent at one moment, as plain values: a
// [Snapshot] holds the content of status, readiness and metrics. A [Board] carries
// the latest one from the flows, which publish it, to any number of readers. A
// snapshot is never changed after it was published, and it holds no handle of
// another room: readers need no lock and cost the flows nothing.
package state

import (
	"net/netip"
	"slices"
	"time"

	"onlink/agent/announce"
	"onlink/agent/drain"
	"onlink/agent/hold"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/cni"
	"onlink/fib"
	"onlink/internal/histogram"
	"onlink/ipam"
	"onlink/rib"
)

// Snapshot is the agent at one moment. Readers must not change it.
type Snapshot struct {
	Taken    time.Time // when gathering began: nothing in it is older
	Node     Node
	Features []Feature
	Notes    []string      // settings and their consequences, one line each
	Found    []string      // problems that parts of the agent reported themselves
	Drain    drain.Phase   // as announced to the peers
	DrainOf  drain.Cause   // who took the node out
	Config   string        // digest of the configuration's text; "": it is from no file
	Held     []hold.Change // changes that wait for a confirmation
	HeldEver uint64        // changes that were held since the agent started
	// Announcements are the announcements of every owner.
	Announcements Announcements
	Routes        Routes
	Sessions      Sessions
	Stations      []bmp.Status // monitoring stations, in the order of the configuration
	IPAM          IPAM
	CNI           cni.Stats
	Certificates  []Certificate // of the TLS endpoints of this agent
	Reloads       Reloads
}

// Reloads are the readings and changes of the configuration file.
type Reloads struct {
	InForce           bool      // the newest file is in force
	At                time.Time // since when the configuration is in force
	Applied, Rejected uint64    // since the agent started
}

// Drops are the packets that this node dropped since the agent began to count them.
type Drops struct {
	Rules   map[string]uint64 // by cause: guard, address, mac, registry
	Tunnels []Loss
}

// Loss is what a tunnel device has lost since it was made.
type Loss struct {
	Device, Direction string // Direction: sent, received
	Dropped, Errors   uint64 // packets
}

// Node has the values that do not change while the agent runs.
type Node struct {
	Name      string
	Version   string
	Engine    string // the BGP engine and its version
	Started   time.Time
	Address   netip.Addr // next hop of the node's blocks, IPv4 if it has one
	Address6  netip.Addr // next hop of IPv6 blocks; the zero Addr: none
	ASN       uint32
	RouterID  netip.Addr
	Reflector bool
	Registry  string // kind of the block registry
}

// Feature is a part of the system that onlink uses where it is present.
type Feature struct {
	Name      string
	Available bool
	Without   string // the effect of its absence
}

// Routes has the results of the learn flow.
type Routes struct {
	InSync bool // the routes of a previous run were swept
	Counts rib.Counts
	FIB    fib.Stats
	// Converged is how long changes of best paths took from the BGP engine to the
	// kernel, once for each route written. Of the changes of one turn of the learn loop
	// it is the time of the oldest.
	Converged histogram.Histogram
	Failed    map[netip.Prefix]string       // decided and not in the kernel, and why
	Shared    map[netip.Prefix][]netip.Addr // prefixes in pools with next hops of several nodes
	Nodes     int                           // other nodes: next hops of routes into a pool
	PodMTU    int                           // bytes; 0: not known yet
	Problems  []string                      // of tunnels, nodes, nftables and the kernel's tables
}

// Sessions is the state of the peers in the speaker and BFD.
type Sessions struct {
	Peers      []Peer
	Faults     bgp.Faults        // of all peers
	Refused    map[string]uint64 // announcements rejected before any policy, by reason
	Rivals     []bgp.Rival
	Intrusions []bgp.Intrusion
	Contested  map[netip.Prefix][]netip.Addr // blocks of unknown owners and their next hops
	Found      []string                      // faults of sessions that no peer has, one line each
}

// Peer is one BGP session and the BFD session beside it.
type Peer struct {
	bgp.PeerStatus

	BFD *bfd.Status // nil: BFD does not watch the peer
}

// Announcements are the prefixes that the node announces for others, by owner.
type Announcements []announce.Set

// Count returns how many are in force.
func (a Announcements) Count() int {
	n := 0
	for i := range a {
		n += len(a[i].Announcements)
	}
	return n
}

// Rejected returns how many are left out.
func (a Announcements) Rejected() int {
	n := 0
	for i := range a {
		n += len(a[i].Rejected)
	}
	return n
}

// Withheld returns how many wait until their owner sends them again.
func (a Announcements) Withheld() int {
	n := 0
	for i := range a {
		n += len(a[i].Withheld)
	}
	return n
}

// Established is RFC 4271's name of the state of a session that is up.
const Established = "Established"

// Up reports whether the session is established.
func (p *Peer) Up() bool { return p.State == Established }

// Gone returns how many peers were up once and are listed without being expected.
func (s *Sessions) Gone() int {
	n := 0
	for i := range s.Peers {
		if s.Peers[i].Gone && s.Peers[i].Seen {
			n++
		}
	}
	return n
}

// Count returns how many peers there are, refused and lost ones left out, and
// how many sessions are established.
func (s *Sessions) Count() (total, established int) {
	for i := range s.Peers {
		if !s.Peers[i].Gone {
			total++
		}
		if s.Peers[i].Up() {
			established++
		}
	}
	return total, established
}

// IPAM is this node's share of the pools.
type IPAM struct {
	Stats       ipam.Stats
	Blocks      []ipam.BlockUsage
	Pools       []ipam.PoolUsage
	Quarantined []ipam.Quarantine
	Homeless    []ipam.Assignment
	Standing    error  // why this machine assigns no address; nil: it does
	HalfFailed  error  // of a registry in two halves: why one does not answer
	Database    string // path
	Swept       uint64 // attachments that ended without a DEL and were freed
	// Registered are all nodes' blocks as of the registry's last answer. It is
	// nil where that is not known, or the registry is not of agents.
	Registered []ipam.Block
}

// Confirmed returns the blocks that are this node's to announce, sorted.
func (s *IPAM) Confirmed() []netip.Prefix { return Confirmed(s.Blocks) }

// Confirmed returns the blocks among the given ones that are this node's to
// announce, sorted.
func Confirmed(blocks []ipam.BlockUsage) []netip.Prefix {
	var out []netip.Prefix
	for _, b := range blocks {
		if b.Confirmed {
			out = append(out, b.Block.CIDR)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// Addresses returns how many addresses are assigned and how many the node's
// blocks have.
func (s *IPAM) Addresses() (used, total int) {
	for _, b := range s.Blocks {
		used += b.Used
		total += b.Size
	}
	return used, total
}
