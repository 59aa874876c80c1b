package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"onlink/agent/announce"
	"onlink/agent/config"
	"onlink/agent/drain"
	"onlink/agent/explain"
	"onlink/agent/hold"
	"onlink/agent/namespaces"
	"onlink/agent/reload"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/policy"
	"onlink/cni"
	"onlink/ipam"
	"onlink/rib"
)

// Config names the parts of the agent that the API reads and steers.
type Config struct {
	Node    string // this node's name
	Log     *slog.Logger
	Logs    Logs
	Board   Board
	World   explain.World
	File    File
	Drainer *drain.Drain
	Held    *hold.Changes
	// Namespaces are the pools that namespaces have their addresses from.
	Namespaces *namespaces.Choices
	// Announcements are the prefixes that this node announces for others.
	Announcements Announcements
	Speaker       Speaker
	Sessions      Sessions
	Alloc         Allocator
	Store         Store
	Pods          Pods
	Audit         Auditor
	Diags         Sources
	Registry      ipam.Registry

	// TCP returns api.admin.tcp in force.
	TCP func() netip.AddrPort
	// Registered returns all nodes' blocks, or soon why the registry does not
	// answer.
	Registered func(ctx context.Context) ([]ipam.Block, error)
	// Routes calls each with every decided route, and why the kernel does not
	// hold it; "": it does.
	Routes func(ctx context.Context, each func(r rib.Route, failed string)) error
	// Pools returns the pools in force.
	Pools func() []config.Pool
	// Check compares database, memory and kernel: one line a problem.
	Check func(ctx context.Context) ([]string, error)
	// BFD returns a peer's BFD session; false: BFD does not watch it.
	BFD func(peer netip.Addr) (bfd.Status, bool)
}

// Sources are what a bundle for the person on call has besides the answers of the API.
type Sources struct {
	Log     io.WriterTo  // the latest lines
	Metrics http.Handler // of GET /metrics
	Current func() *config.Effective
	Version string
	Engine  string
}

// Announcements are the announced prefixes of owners: an [announce.Announcements].
type Announcements interface {
	Replace(ctx context.Context, r announce.Request, confirm bool) (announce.Outcome, error)
	ReplaceKeeping(ctx context.Context, r announce.Request) (announce.Outcome, error)
	Await(ctx context.Context, version uint64) error
	Sets() []announce.Set
}

// Board is where snapshots come from: a [state.Board].
type Board interface {
	Since(ctx context.Context, t time.Time) (*state.Snapshot, error)
}

// File is the configuration file: a [reload.Reloader].
type File interface {
	Text() (path string, text []byte, digest string, err error)
	Trouble() error
	Change(ctx context.Context, e reload.Edit) (reload.Outcome, error)
	Reread(ctx context.Context, by string, confirmed bool) error
}

// Speaker is the operator's view and control of BGP: a [bgp.Speaker].
type Speaker interface {
	Peers() []bgp.PeerStatus
	Paths(ctx context.Context, prefix netip.Prefix) []bgp.PathInfo
	Hold(ctx context.Context, peer netip.Addr, holder, why string) error
	Release(ctx context.Context, peer netip.Addr, holder string) error
	Reset(ctx context.Context, peer netip.Addr, why string) error
	TestImport(ctx context.Context, peer string, r policy.Route) (policy.Verdict, error)
	TestExport(ctx context.Context, peer string, r policy.Route) (policy.Verdict, error)
}

// Sessions is the operator's view into single sessions and their routes: a
// [bgp.Operator].
type Sessions interface {
	Detail(ctx context.Context, peer netip.Addr) (bgp.PeerDetail, error)
	Routes(ctx context.Context, peer netip.Addr, set bgp.RouteSet, within netip.Prefix, fn func(*bgp.PeerRoute) error) error
	Prefixes(ctx context.Context, within netip.Prefix) ([]netip.Prefix, error)
	Candidates(ctx context.Context, prefix netip.Prefix) ([]bgp.Candidate, error)
	RefreshIn(ctx context.Context, peer netip.Addr) ([]bgp.Family, error)
	RefreshOut(ctx context.Context, peer netip.Addr) error
	Forget(ctx context.Context, peer netip.Addr) error
}

// Allocator is the operator's view and control of addresses: an
// [ipam.Allocator].
type Allocator interface {
	Blocks() []ipam.BlockUsage
	Assignments() []ipam.Assignment
	ByAddress(addr netip.Addr) (ipam.Assignment, bool)
	Lookup(h ipam.Handle) (ipam.Assignment, bool)
	Stats() ipam.Stats
	Standing() error
	TakeOver(ctx context.Context, node string, force bool) ([]ipam.Block, error)
}

// Store is the database: an [ipam.Store].
type Store interface {
	Audit() ([]ipam.AuditEntry, error)
	Backup(w io.Writer) error
}

// Pods frees the addresses of pods: a [cni.Server].
type Pods interface {
	Sweep(ctx context.Context) ([]cni.Attachment, error)
	Evict(ctx context.Context, a cni.Attachment) error
}
