// Package agent is onlink's composition root: it makes the rooms, wires the
// two flows (learn.go, originate.go), serves the operator and the CNI plugin,
// and supervises all of it. It owns the process's life, nothing of the work:
// decisions are in rib, the kernel in fib and tunnel, addresses in ipam, BGP
// in bgp.
package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"onlink/agent/admin"
	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/drain"
	"onlink/agent/install"
	"onlink/agent/liveness"
	"onlink/agent/node"
	"onlink/agent/owners"
	"onlink/agent/pods"
	"onlink/agent/registry"
	"onlink/agent/reload"
	"onlink/agent/rooms"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/cni"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/ipam/remote"
)

// agent holds the rooms of one running node. Fields are set before Run and
// not changed after.
type agent struct {
	log       *slog.Logger
	id        node.Identity
	started   time.Time
	store     *ipam.Store
	registry  *registry.Opened
	audit     admin.Auditor
	served    *remote.Server // of the registry; nil: it is not served here
	alloc     *ipam.Allocator
	speaker   *bgp.Speaker
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
	reload    *reload.Reloader // has the configuration in force
	board     *state.Board
	features  []state.Feature
	problems  []string // found at start
	cni       *cni.Server
	opt       Options
	garbage   *pods.Collector
	installer *install.Installer // nil: cni.install is off
}

// Options are what the command line says besides the configuration.
type Options struct {
	// RepairDatabase moves a damaged database aside and rebuilds it from the
	// running pods and the registry. A registry served here then waits for the
	// nodes to say what they hold.
	RepairDatabase bool
	// AllowUnpatchedEngine permits BGP sessions with an engine built without
	// onlink's patches.
	AllowUnpatchedEngine bool
	// BFD is the command of the process that watches peers: it must call
	// WatchPeers.
	BFD []string
	// File is read again each time Reload is sent to (SIGHUP), and changed by
	// the API. Both nil: the configuration does not change.
	File   *config.File
	Reload <-chan struct{}
}

// current returns the configuration in force. Whoever needs a key asks here,
// every time: a value that was kept would be that of the start after a reload.
func (a *agent) current() *config.Effective { return a.reload.Current() }

// pools are those in force.
func (a *agent) pools() []config.Pool { return a.current().Pools }

func (a *agent) poolPrefixes() []netip.Prefix {
	all, _ := rooms.Ranges(a.pools())
	return all
}

// problem notes something an operator should change; it is shown in `status`
// until the agent restarts.
func (a *agent) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.problems = append(a.problems, text)
	a.log.Warn("problem found", "problem", text)
}
