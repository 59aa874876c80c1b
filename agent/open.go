package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onlink/agent/admin"
	"onlink/agent/announce"
	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/drain"
	"onlink/agent/forecast"
	"onlink/agent/liveness"
	"onlink/agent/namespaces"
	"onlink/agent/node"
	"onlink/agent/pods"
	"onlink/agent/registry"
	"onlink/agent/reload"
	"onlink/agent/rooms"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/cni/pod"
	"onlink/fib"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/rib"
	"onlink/tunnel"
)

// open makes every room, in the order of their needs, and ends with the first
// round of both flows: own blocks are announced and the kernel's routes adopted
// before a peer can connect.
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
	a.around = node.Surroundings{Host: a.watch, ID: a.id}
	if err := a.openConfig(file); err != nil {
		return err
	}
	v4, v6 := dataplane.Families(a.poolPrefixes())
	if err := dataplane.Forward(v4, v6, a.around.Uplinks()); err != nil {
		return err
	}
	if a.choices, err = namespaces.Open(a.current().Paths.State, a.choosable); err != nil {
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

// openConfig puts the file's configuration in force, resolved for this node.
func (a *agent) openConfig(file *config.Config) error {
	facts := a.around.Facts()
	facts.Routers = node.RoutersNow(file.BGP.Peers)
	start, err := config.Resolve(file, facts)
	if err != nil {
		return err
	}
	a.reload = reload.New(reload.Setup{
		Log: a.log.With("part", "reload"), File: a.opt.File, Asked: a.opt.Reload, Parts: a.parts(), Facts: a.around.Facts,
		Held: a.held, InUse: a.poolInUse, Startable: a.around.Startable,
		Forecast: func(ctx context.Context, next *config.Effective, items int) (*forecast.Result, error) {
			return forecastOf(ctx, a, next, items)
		},
	}, start)
	return nil
}

// choosable returns the pools that a namespace may choose.
func (a *agent) choosable() []namespaces.Pool {
	cfg := a.current()
	out := make([]namespaces.Pool, len(cfg.Pools))
	for i, p := range cfg.Pools {
		out[i] = namespaces.Pool{Name: p.Name, Open: !p.Disabled && p.SelectsNode(cfg.Node.Labels)}
	}
	return out
}

// poolInUse reports whether addresses of a range are assigned on this node.
func (a *agent) poolInUse(pool netip.Prefix) bool {
	return slices.ContainsFunc(a.alloc.Assignments(), func(as ipam.Assignment) bool {
		return slices.ContainsFunc(as.Addresses, pool.Contains)
	})
}

// openIPAM opens the database and the registry behind it.
func (a *agent) openIPAM(context.Context) error {
	cfg := a.current()
	wired, err := pod.ListWired()
	if err != nil {
		return err
	}
	opt := rooms.Store(&cfg.Config, a.opt.RepairDatabase, len(wired) > 0)
	opt.Log = a.log.With("part", "ipam")
	if a.store, err = ipam.OpenStore(databasePath(&cfg.Config), opt); err != nil {
		return err
	}
	switch {
	case a.store.Older() && !a.store.Created():
		a.problem("database: it is an older copy, whose registry lacks the latest blocks; claims of blocks are rejected for %v, until every node has asserted its blocks", cfg.IPAM.Registry.Settle())
	case a.store.Created() && (opt.Lost || a.store.Older()):
		a.problem("database: it was lost; claims of blocks are rejected for %v, until every node has asserted its blocks", cfg.IPAM.Registry.Settle())
	}
	a.audit = admin.NewAuditor(a.store, a.log.With("part", "audit"))
	pools := rooms.IPAM(cfg.Pools, cfg.Node.Labels)
	if a.registry, err = registry.Open(registry.Config{
		RegistrySettings: cfg.IPAM.Registry, Store: a.store, Pools: pools, From: a.id.Address, From6: a.id.Address6,
	}); err != nil {
		return err
	}
	a.credentials.Registry = a.registry.Certificates
	a.alloc, err = ipam.New(ipam.Config{
		Node: a.id.Name, Address: a.id.Address, Address6: a.id.Address6, Running: pods.Here(wired), Announced: a.announcedElsewhere,
		Pools: pools, Registry: a.registry.Registry, Store: a.store,
		Cooldown: orNone(cfg.IPAM.Cooldown), Sticky: orNone(cfg.IPAM.Sticky), BootID: pods.BootID(), Log: opt.Log,
		AssertInterval: cfg.IPAM.Registry.Assert,
	})
	if err != nil {
		return err
	}
	refused, err := pods.Recover(a.alloc, wired, cfg.FIB.Table, a.log.With("part", "pods"))
	for _, why := range refused {
		a.problem("%v", why)
	}
	return err
}

// orNone returns d for ipam, whose 0 is the default and whose negative values
// mean none.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

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
	l.reaches = rib.NewLiveness(a.watch)
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

// openFilter prepares the nftables tables that the configuration needs.
func (a *agent) openFilter() error {
	// The rules match pods by their group, which the host ends of an earlier agent
	// lack.
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
	pods.DoubtBlocks(a.alloc, kept, a.log.With("part", "pods"))
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
	if a.announced, err = announce.Open(announce.Config{
		State: cfg.Paths.State, Boot: pods.BootID(), Held: a.held, Facts: a.announceFacts, Log: a.log.With("part", "announce"),
	}); err != nil {
		return err
	}
	a.orig = &originate{
		log: a.log.With("part", "originate"), alloc: a.alloc, learn: a.learn, speaker: a.speaker, extra: cfg.BGP.Originate, sums: cfg.BGP.Aggregates(),
		drain: a.drain, edited: make(chan struct{}, 1), node: a.id, announced: a.announced, facts: a.announceFacts,
	}
	for _, p := range cfg.Pools {
		if !a.id.Reaches(p.CIDR) {
			a.problem("pool %s: this node has no address of the family of %s, so its blocks are not announced and its pods are unreachable; give the node one, or disable the pool here", p.Name, p.CIDR)
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
	a.stations = bmp.New(rooms.Stations(cfg, a.id, bgp.NewMonitored(a.speaker), a.log.With("part", "bmp")))
	return a.openBFD(ctx)
}

// openBFD begins to watch the peers that have BFD configured.
func (a *agent) openBFD(ctx context.Context) error {
	a.bfd = bfd.NewProcess(a.log.With("part", "bfd"), a.opt.BFD...)
	a.live = &liveness.Liveness{Log: a.log.With("part", "bfd"), Monitor: a.bfd, Speaker: a.speaker, Routes: a.learn}
	if err := a.live.Begin(ctx, rooms.BFD(a.current().BGP.Peers)); err != nil {
		return fmt.Errorf("bgp.peers bfd: %w", err)
	}
	a.follow = node.NewFollower(node.FollowerConfig{Log: a.log.With("part", "address"), ID: a.id, Started: a.started, Watch: a.watch, Config: a.current, Renewed: a.reload.Renewed})
	a.host = dataplane.NewHost(dataplane.HostConfig{
		Log: a.log.With("part", "host"), Pools: a.poolPrefixes, Loose: a.learn.plane.Loose(),
		Uplinks: func() []string { return a.around.Uplinks(a.learn.plane.Devices()...) }, Renewed: a.watch.Renewed,
	})
	return nil
}

// ownDevice reports whether a device is one of onlink's, by its mark: never
// part of the underlay.
func ownDevice(d underlay.Device) bool {
	return tunnel.IsOurs(d.Kind, d.Alias) || pod.IsHostEnd(d.Group, d.Kind, d.Name, d.Alias)
}
