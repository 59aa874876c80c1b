// Package agent is onlink's composition root: it makes the rooms, wires the
// two flows (learn.go, originate.go), serves the operator and the CNI plugin,
// and supervises all of it. It owns the process's life, nothing of the work:
// decisions are in rib, the kernel in fib and tunnel, addresses in ipam, BGP
// in bgp.
package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/agent/admin"
	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/drain"
	"onlink/agent/endpoint"
	"onlink/agent/install"
	"onlink/agent/liveness"
	"onlink/agent/node"
	"onlink/agent/owners"
	"onlink/agent/pods"
	"onlink/agent/reload"
	"onlink/agent/rooms"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/cni"
	"onlink/cni/pod"
	"onlink/fib"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/ipam/remote"
	"onlink/rib"
	"onlink/tunnel"
)

// agent holds the rooms of one running node. Fields are set before Run and
// not changed after.
type agent struct {
	log           *slog.Logger
	id            node.Identity
	started       time.Time
	store         *ipam.Store
	registry      ipam.Registry
	audit         admin.Auditor
	served        *remote.Server // of the registry; nil: it is not served here
	alloc         *ipam.Allocator
	speaker       *bgp.Speaker
	watch         *underlay.Watcher
	learn         *learn
	orig          *originate
	owners        *owners.Watch
	live          *liveness.Liveness
	bfd           *bfd.Process
	follow        *node.Follower
	host          *dataplane.Host
	drain         *drain.Drain
	reload        *reload.Reloader // has the configuration in force
	board         *state.Board
	features      []state.Feature
	problems      []string // found at start
	cni           *cni.Server
	opt           Options
	closeRegistry func() error
	garbage       *pods.Collector
	installer     *install.Installer // nil: cni.install is off
}

// ErrRestart is returned by [Run] when the agent has to begin anew, because
// its address is another one now. Routes and pods stay, the sessions restart
// gracefully (RFC 4724): the caller calls the program again.
var ErrRestart = node.ErrMoved

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

// Run runs one agent until ctx ends or a part of it fails. Routes, tunnels and
// pods stay as they are: the next run adopts them. The error of a failed start
// is one line that names what to change; [ErrRestart] asks for another run.
func Run(ctx context.Context, cfg *config.Config, opt Options) error {
	log := newLogger(cfg.Log)
	a := &agent{log: log, started: time.Now(), opt: opt, board: state.NewBoard()}
	log.Info("starting", "version", version(), "engine", bgp.Engine(), "node", cfg.Node.Name)
	if err := os.MkdirAll(cfg.Paths.Run, 0o755); err != nil {
		return fmt.Errorf("paths.run: %w", err)
	}
	if err := os.MkdirAll(cfg.Paths.State, 0o700); err != nil {
		return fmt.Errorf("paths.state: %w", err)
	}
	defer a.close()
	if err := a.open(ctx, cfg); err != nil {
		return err
	}
	socks, err := a.listen()
	if err != nil {
		return err
	}
	defer socks.Close()
	return a.serve(ctx, socks)
}

// open makes every room, in the order in which they need each other, and ends
// with the first round of both flows: own blocks are announced and known
// routes kept before a peer can connect.
func (a *agent) open(ctx context.Context, file *config.Config) error {
	if err := node.CheckCapabilities(); err != nil {
		return err
	}
	a.watch = underlay.New(a.log.With("part", "underlay"), ownDevice)
	if err := a.watch.Load(); err != nil {
		return fmt.Errorf("read the kernel's routes: %w", err)
	}
	var err error
	if a.id, err = node.IdentifySoon(ctx, file, a.watch); err != nil {
		return err
	}
	if err := a.openConfig(file); err != nil {
		return err
	}
	v4, v6 := dataplane.Families(a.poolPrefixes())
	if err := dataplane.Forward(v4, v6, a.uplinks()); err != nil {
		return err
	}
	if err := a.openIPAM(ctx); err != nil {
		return err
	}
	if err := a.openLearn(ctx); err != nil {
		return err
	}
	if err := a.openFilter(); err != nil {
		return err
	}
	return a.openBGP(ctx)
}

// openConfig puts the file's configuration in force, as it is on this node.
func (a *agent) openConfig(file *config.Config) error {
	facts := a.facts()
	facts.Routers = node.RoutersNow(file.BGP.Peers)
	start, err := config.Resolve(file, facts)
	if err != nil {
		return err
	}
	a.reload = reload.New(reload.Setup{
		Log: a.log.With("part", "reload"), File: a.opt.File, Asked: a.opt.Reload, Parts: a.parts(), Facts: a.facts,
	}, start)
	return nil
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

// openIPAM opens the database and the registry behind it.
func (a *agent) openIPAM(context.Context) error {
	cfg := a.current()
	wired, err := pod.ListWired()
	if err != nil {
		return err
	}
	opt := storeOptions(&cfg.Config, a.opt, wired)
	opt.Log = a.log.With("part", "ipam")
	if a.store, err = ipam.OpenStore(databasePath(&cfg.Config), opt); err != nil {
		return err
	}
	switch {
	case a.store.Older() && !a.store.Created():
		a.problem("database: it is an older copy, whose registry has forgotten blocks that it gave since; claims of blocks are refused for %v, until every node has said what it holds", cfg.IPAM.Registry.Settle())
	case a.store.Created() && (opt.Lost || a.store.Older()):
		a.problem("database: it was lost; claims of blocks are refused for %v, until every node has said what it holds", cfg.IPAM.Registry.Settle())
	}
	a.audit = admin.Auditor{Store: a.store, Log: a.log.With("part", "audit")}
	pools := rooms.IPAM(cfg.Pools, cfg.Node.Labels)
	if a.registry, a.closeRegistry, err = openRegistry(cfg.IPAM.Registry, a.store, pools, a.id); err != nil {
		return err
	}
	a.alloc, err = ipam.New(ipam.Config{
		Node: a.id.Name, Address: a.id.Address, Address6: a.id.Address6, Running: pods.Here(wired), Announced: a.announcedElsewhere,
		Pools: pools, Registry: a.registry, Store: a.store,
		Cooldown: orNone(cfg.IPAM.Cooldown), Sticky: orNone(cfg.IPAM.Sticky), BootID: pods.BootID(), Log: opt.Log,
		AssertInterval: cfg.IPAM.Registry.Assert,
	})
	if err != nil {
		return err
	}
	refused, err := pods.Recover(a.alloc, wired, cfg.FIB.Table, a.log)
	for _, why := range refused {
		a.problem("%v", why)
	}
	return err
}

// orNone is a duration for ipam, where 0 is the default and less is none.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// InstallCNI installs the plugin from outside, see [install.Once].
func InstallCNI(ctx context.Context, cfg *config.Config) (cni.Installation, error) {
	return install.Once(ctx, cfg.CNI)
}

// UninstallCNI takes back what [InstallCNI] or the agent installed.
func UninstallCNI(cfg *config.Config) error { return install.Undo(cfg.CNI) }

// WatchPeers is what the command of [Options].BFD must run: it watches peers
// for the agent at the other end of in and out, until in ends.
func WatchPeers(in io.Reader, out io.Writer) error {
	return bfd.Serve(in, out, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// Fsck checks the database of an agent that does not run, see [pods.Fsck].
func Fsck(cfg *config.Config, repair bool) (problems, repaired []string, err error) {
	return pods.Fsck(databasePath(cfg), cfg.FIB.Table, repair)
}

// databasePath is where the node's database is.
func databasePath(cfg *config.Config) string { return filepath.Join(cfg.Paths.State, "onlink.db") }

// openLearn opens the kernel's side: underlay, decision, routes, tunnels.
func (a *agent) openLearn(ctx context.Context) error {
	cfg := a.current()
	l := &learn{
		log: a.log.With("part", "learn"), watch: a.watch, pods: pods.NewRoutes(), resync: cfg.FIB.Resync,
		asks: make(chan func()), board: a.board, moved: make(chan struct{}, 1),
		sync:      syncGate{started: time.Now(), expects: len(cfg.BGP.Peers) > 0},
		linksNews: func() { a.cni.Look() },
		peers:     cfg.BGP.Peers,
	}
	l.plane = dataplane.New(dataplane.Config{
		Log: l.log, Links: a.watch, Tunnels: tunnel.New(a.log.With("part", "tunnel")),
		Wanted: rooms.Tunnels(&cfg.Config, a.id), Locals: []netip.Addr{a.id.Address, a.id.Address6},
	})
	l.reaches = &reaches{Resolver: a.watch, dead: map[netip.Addr]bool{}}
	l.table = rib.NewTable(l.reaches)
	l.fib = fib.New(cfg.FIB.Config(a.log.With("part", "fib")))
	if err := l.fib.Open(); err != nil {
		return fmt.Errorf("open the kernel's route table: %w", err)
	}
	a.learn = l
	l.ensureTunnels(ctx)
	a.features = append(a.features, state.Feature{Name: "nexthop-objects", Available: l.fib.UsesNexthopObjects(), Without: "plain gateways are used"})
	a.features = append(a.features, l.plane.Features()...)
	l.table.SetPools(rooms.RIB(cfg.Pools, l.plane.Wanted()))
	l.plane.Filter.SetPools(rooms.Ranges(cfg.Pools))
	l.table.SetPermitted(l.permit())
	for _, as := range a.alloc.Assignments() {
		for _, addr := range as.Addresses {
			l.table.SetPod(netip.PrefixFrom(addr, addr.BitLen()), as.HostDevice)
		}
	}
	for _, q := range a.alloc.Quarantined() {
		if _, owned := a.alloc.ByAddress(q.Address); !owned {
			l.table.SetPod(netip.PrefixFrom(q.Address, q.Address.BitLen()), q.HostDevice)
		}
	}
	return nil
}

// openFilter prepares the nftables tables that the configuration asks for.
func (a *agent) openFilter() error {
	// The rules know pods by their group, which those of an earlier agent lack.
	if err := pod.Adopt(pods.Addresses{Alloc: a.alloc}.Attachments()); err != nil {
		return fmt.Errorf("mark the devices of running pods: %w", err)
	}
	cfg, plane := a.current(), a.learn.plane
	found, err := plane.Filter.Open(a.log.With("part", "nft"), rooms.Filter(&cfg.Config, plane.Wanted()), cfg.Tunnel.Guard == tunnel.GuardRequired)
	a.features = append(a.features, found...)
	return err
}

// openBGP starts the speaker with this node's blocks before the first peer.
func (a *agent) openBGP(ctx context.Context) error {
	cfg := a.current()
	kept, err := a.learn.fib.Dump(ctx)
	if err != nil {
		return fmt.Errorf("read the routes of a previous run: %w", err)
	}
	if a.drain, err = drain.Open(cfg.Paths.State); err != nil {
		return err
	}
	pods.DoubtBlocks(a.alloc, kept, a.log)
	a.learn.plane.Filter.Keep(kept, rooms.Routers(cfg))
	a.learn.sync.kept = len(kept) > 0
	a.learn.sync.expects = a.learn.sync.expects || len(kept) > 0
	peers, dynamic, err := rooms.Peers(cfg)
	if err != nil {
		return err
	}
	speaking := rooms.BGP(cfg, a.id, len(kept) > 0, a.log.With("part", "bgp"))
	speaking.AllowUnpatched = a.opt.AllowUnpatchedEngine
	if a.speaker, err = bgp.New(speaking); err != nil {
		return err
	}
	a.learn.speaker = a.speaker
	if err := a.openOwners(ctx); err != nil {
		return err
	}
	a.orig = &originate{
		log: a.log.With("part", "originate"), alloc: a.alloc, learn: a.learn, speaker: a.speaker, extra: cfg.BGP.Originate, sums: cfg.BGP.Aggregates(),
		drain: a.drain, edited: make(chan struct{}, 1), node: a.id,
	}
	for _, p := range cfg.Pools {
		if !a.id.Reaches(p.CIDR) {
			a.problem("pool %s: this node has no address of the family of %s, so its blocks are not announced and its pods are reached by nobody; give the node one, or disable the pool here", p.Name, p.CIDR)
		}
	}
	direct := func(ctx context.Context, blocks, aggregates []netip.Prefix) error { // the learn loop does not run yet
		a.learn.table.SetOwn(blocks)
		a.learn.table.SetAggregates(aggregates)
		a.learn.install(ctx, false)
		return nil
	}
	if err := a.orig.round(ctx, direct); err != nil {
		return err
	}
	for i := range dynamic {
		dynamic[i].Known = dataplane.Gateways(kept)
	}
	if err := a.speaker.SetPeers(ctx, peers, dynamic); err != nil {
		return err
	}
	if err := a.speaker.Start(ctx); err != nil {
		return err
	}
	return a.openBFD(ctx)
}

// openBFD begins to watch the peers that ask for it.
func (a *agent) openBFD(ctx context.Context) error {
	a.bfd = bfd.NewProcess(a.log.With("part", "bfd"), a.opt.BFD...)
	a.live = &liveness.Liveness{Log: a.log.With("part", "bfd"), Monitor: a.bfd, Speaker: a.speaker, Routes: a.learn}
	if err := a.live.Begin(ctx, rooms.BFD(a.current().BGP.Peers)); err != nil {
		return fmt.Errorf("bgp.peers bfd: %w", err)
	}
	a.follow = a.newFollower()
	a.host = dataplane.NewHost(dataplane.HostConfig{
		Log: a.log.With("part", "host"), Pools: a.poolPrefixes, Uplinks: a.uplinks, Loose: a.learn.plane.Loose(),
	})
	return nil
}

// serve runs every long-lived part; the first that fails ends the others.
func (a *agent) serve(ctx context.Context, socks *endpoint.Set) error {
	for _, note := range a.current().IPAM.Registry.Notes() {
		a.log.Warn("this was chosen, and means", "note", note)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.watch.Run(ctx) })
	g.Go(func() error { return a.alloc.Run(ctx) })
	g.Go(func() error { return a.speaker.Run(ctx) })
	g.Go(func() error { return a.learn.Run(ctx) })
	g.Go(func() error { return a.survey(ctx) })
	g.Go(func() error { return a.owners.Run(ctx) })
	g.Go(func() error { return a.orig.Run(ctx) })
	mtu := &pods.MTU{Log: a.log, Now: a.learn.plane.PodMTU, Moved: a.learn.plane.MTUMoved(), Store: a.store, Assignments: a.alloc.Assignments}
	g.Go(func() error { return mtu.Run(ctx) })
	g.Go(func() error { return a.bfd.Run(ctx) })
	g.Go(func() error { return a.live.Run(ctx) })
	g.Go(func() error { return a.reload.Run(ctx) })
	near := &node.Unnumbered{Log: a.log.With("part", "unnumbered"), Config: a.reload, IsUp: a.speaker.IsUp}
	g.Go(func() error { return near.Run(ctx) })
	g.Go(func() error { return a.follow.Run(ctx) })
	g.Go(func() error { return a.host.Run(ctx) })
	g.Go(func() error { return a.garbage.Run(ctx) })
	cfg := a.current()
	if a.installer != nil {
		g.Go(func() error { return a.installer.Run(ctx) })
	}
	socks.Serve(ctx, g)
	a.log.Info("ready", "address", a.id.Primary(), "asn", cfg.BGP.ASN, "cni_socket", cfg.CNI.Socket, "admin_socket", cfg.API.Admin.Socket)
	err := g.Wait()
	a.log.Info("stopped, routes and pods stay as they are")
	return err
}

// close gives back what open took; rooms that were not reached are nil.
func (a *agent) close() {
	if a.learn != nil {
		if err := a.learn.fib.Close(); err != nil {
			a.log.Warn("close route sockets", "err", err)
		}
	}
	if a.closeRegistry != nil {
		if err := a.closeRegistry(); err != nil {
			a.log.Warn("close connections to the block registry", "err", err)
		}
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Warn("close database", "err", err)
		}
	}
}

// ownDevice reports whether a device is one of onlink's, by its mark: never
// part of the underlay.
func ownDevice(d underlay.Device) bool {
	return tunnel.IsOurs(d.Kind, d.Alias) || pod.IsHostEnd(d.Group, d.Kind, d.Name, d.Alias)
}

func newLogger(cfg config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
