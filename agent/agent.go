// Package agent is onlink's composition root: it makes the rooms, wires the two
// flows (learn.go, originate.go), serves the operator and the CNI plugin, and
// supervises all parts. It owns the process's life and none of the work: rib
// decides, fib and tunnel write the kernel, ipam assigns addresses, bgp runs the
// sessions.
package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"onlink/agent/admin"
	"onlink/agent/announce"
	"onlink/agent/config"
	"onlink/agent/credentials"
	"onlink/agent/dataplane"
	"onlink/agent/drain"
	"onlink/agent/endpoint"
	"onlink/agent/explain"
	"onlink/agent/hold"
	"onlink/agent/install"
	"onlink/agent/liveness"
	"onlink/agent/logs"
	"onlink/agent/namespaces"
	"onlink/agent/node"
	"onlink/agent/owners"
	"onlink/agent/pods"
	"onlink/agent/registry"
	"onlink/agent/reload"
	"onlink/agent/rooms"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/cni"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/ipam/remote"
)

// agent holds the rooms of one running node. Fields are set before Run and
// not changed after.
type agent struct {
	log     *slog.Logger
	logs    *logs.Log // log is of it
	id      node.Identity
	started time.Time
	store   *ipam.Store

	credentials credentials.Set

	registry  *registry.Opened
	audit     admin.Auditor
	served    *remote.Server // of the registry; nil: this node does not serve it
	alloc     *ipam.Allocator
	speaker   *bgp.Speaker
	stations  *bmp.Stations
	watch     *underlay.Watcher
	around    node.Surroundings
	learn     *learn
	orig      *originate
	owners    *owners.Watch
	live      *liveness.Liveness
	bfd       *bfd.Process
	follow    *node.Follower
	host      *dataplane.Host
	drain     *drain.Drain
	reload    *reload.Reloader // holds the configuration in force
	held      *hold.Changes
	choices   *namespaces.Choices // pools of namespaces
	announced *announce.Announcements
	board     *state.Board
	features  []state.Feature
	problems  []string // found at the start
	cni       *cni.Server
	glass     *endpoint.Movable
	explains  *explain.World // see worldOf
	opt       Options
	garbage   *pods.Collector
	installer *install.Installer // nil: cni.install is off
}

// Options are the settings of the command line; all others are in the
// configuration.
type Options struct {
	// RepairDatabase moves a damaged database aside and rebuilds it from the
	// running pods and the registry. A registry served here then rejects claims
	// until the nodes have asserted their blocks.
	RepairDatabase bool
	// AllowUnpatchedEngine permits BGP sessions with an engine built without
	// onlink's patches.
	AllowUnpatchedEngine bool
	// BFD is the command of the process that watches peers: it must call
	// WatchPeers.
	BFD []string
	// File is read again at each receive from Reload (SIGHUP), which is the author of
	// the signal, and the API edits it. Both nil: the configuration does not change.
	File   *config.File
	Reload <-chan string
}

// current returns the configuration in force. Read every key through it, at every
// use: after a reload a kept value is still that of the start.
func (a *agent) current() *config.Effective { return a.reload.Current() }

// pools returns the pools in force.
func (a *agent) pools() []config.Pool { return a.current().Pools }

func (a *agent) poolPrefixes() []netip.Prefix {
	all, _ := rooms.Ranges(a.pools())
	return all
}

// problem records a fault that an operator can mend; `status` shows it until the
// agent restarts.
func (a *agent) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.problems = append(a.problems, text)
	a.log.Warn("problem found", "problem", text)
}
