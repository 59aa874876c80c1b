package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"onlink/agent/config"
	"onlink/bgp"
	"onlink/fib/underlay"
	"onlink/ipam"
)

// ownership tells the speaker who owns which block, and which subnets the node
// is in: what its peers may announce depends on both.
type ownership struct {
	log      *slog.Logger
	registry ipam.Registry
	speaker  *bgp.Speaker
	watch    *underlay.Watcher
	pools    func() []config.Pool
	every    time.Duration // between two questions to the registry
	moved    chan struct{} // cap 1; the learn loop sends when addresses changed, nobody closes

	mu    sync.Mutex
	known []ipam.Block // as of the last answer; guarded by mu

	answered time.Time // Run's; of the last answer, zero: none that is in force
}

const (
	// The registry is asked so often, by a node that has it in its own process,
	// by a reflector, which refuses for others too, and by other nodes.
	ownersLocal     = 5 * time.Second
	ownersReflector = 15 * time.Second
	ownersNode      = time.Minute
	// ownersSoonest bounds how often a suspect announcement leads to a question.
	ownersSoonest = time.Second
	// ownersKept is how long an answer counts while the registry is away. A
	// block may change hands without us where others do reach it.
	ownersKept = 2 * ipam.DefaultAssertInterval
)

// ownersEvery returns how often a node asks who owns which block.
func ownersEvery(c *config.Config, reg ipam.Registry) time.Duration {
	if _, local := reg.(*ipam.BoltRegistry); local {
		return ownersLocal
	}
	if c.BGP.Reflector != nil {
		return ownersReflector
	}
	return ownersNode
}

// Run asks the registry again and again, and at once when somebody announces a
// block that is another node's as far as is known: it may have changed hands.
func (o *ownership) Run(ctx context.Context) error {
	var last time.Time
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.moved:
			o.tellNetworks(ctx)
			continue
		case <-o.speaker.Suspect():
			next.Reset(max(0, ownersSoonest-time.Since(last)))
			continue
		case <-next.C:
		}
		last = time.Now()
		o.ask(ctx)
		next.Reset(jitter(o.every))
	}
}

// ask takes in the registry's answer. Without one the last answer counts for a
// while, then nobody is known to own anything.
func (o *ownership) ask(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, ownersPatience)
	defer cancel()
	blocks, nodes, err := o.list(bound)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		o.answered = time.Now()
	case o.answered.IsZero() || time.Since(o.answered) < ownersKept:
		return
	default:
		o.answered, blocks, nodes = time.Time{}, nil, nil
		o.log.Warn("the registry does not say who owns which block: announcements of blocks are taken from the node that came first", "err", err)
	}
	o.mu.Lock()
	o.known = blocks
	o.mu.Unlock()
	if err := o.speaker.SetOwners(ctx, bgpBlocks(blocks, nodes)); err != nil {
		o.log.Warn("owners of blocks not taken in", "err", err)
	}
	if err := o.speaker.SetPools(ctx, bgpPools(o.pools(), blocks)); err != nil {
		o.log.Warn("lengths of blocks not taken in", "err", err)
	}
}

// ownersPatience bounds a question.
const ownersPatience = 5 * time.Second

func (o *ownership) list(ctx context.Context) ([]ipam.Block, []ipam.Node, error) {
	lister, ok := o.registry.(ipam.NodeLister)
	if !ok {
		return nil, nil, nil
	}
	nodes, err := lister.Nodes(ctx)
	if err != nil {
		return nil, nil, err
	}
	// Second: a block that changes hands in between has an owner who is known.
	blocks, err := o.registry.List(ctx, "")
	return blocks, nodes, err
}

// blocks returns what is known of all nodes' blocks.
func (o *ownership) blocks() []ipam.Block {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known
}

// tellNetworks takes in the subnets of this node.
func (o *ownership) tellNetworks(ctx context.Context) {
	if err := o.speaker.SetNetworks(ctx, o.networks()); err != nil && ctx.Err() == nil {
		o.log.Warn("subnets of this node not taken in", "err", err)
	}
}

func (o *ownership) networks() []bgp.Network {
	var out []bgp.Network
	for _, n := range o.watch.Networks() {
		if !n.Via {
			out = append(out, bgp.Network{Device: n.Dev, Prefix: n.Prefix})
		}
	}
	slices.SortFunc(out, func(a, b bgp.Network) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// bgpBlocks joins blocks with the addresses of their nodes.
func bgpBlocks(blocks []ipam.Block, nodes []ipam.Node) []bgp.Block {
	at := make(map[string][]netip.Addr, len(nodes))
	for _, n := range nodes {
		at[n.Name] = n.Addresses
	}
	out := make([]bgp.Block, 0, len(blocks))
	for _, b := range blocks {
		if a := at[b.Node]; len(a) > 0 {
			out = append(out, bgp.Block{Prefix: b.CIDR, Node: b.Node, Addresses: a})
		}
	}
	return out
}

// bgpPools returns the speaker's form of the pools. A pool whose blocks were
// smaller once has some of them still, as far as is known.
func bgpPools(pools []config.Pool, known []ipam.Block) []bgp.Pool {
	out := make([]bgp.Pool, len(pools))
	for i, p := range pools {
		out[i] = bgp.Pool{Prefix: p.CIDR, Block: p.BlockSize}
		for _, b := range known {
			if p.CIDR.Overlaps(b.CIDR) {
				out[i].Block = max(out[i].Block, b.CIDR.Bits())
			}
		}
	}
	return out
}

// ownBlocks are the blocks in a node's own database.
func ownBlocks(alloc *ipam.Allocator) []ipam.Block {
	var out []ipam.Block
	for _, b := range alloc.Blocks() {
		out = append(out, ipam.Block{CIDR: b.CIDR})
	}
	return out
}

// openOwners tells the fresh speaker what is known before the first peer: the
// subnets, and the length of the blocks of this node.
func (a *agent) openOwners(ctx context.Context) error {
	a.owners = &ownership{
		log: a.log.With("part", "owners"), registry: a.registry, speaker: a.speaker, watch: a.watch, pools: a.pools,
		every: ownersEvery(&a.current().Config, a.registry), moved: a.learn.moved,
	}
	if err := a.speaker.SetPools(ctx, bgpPools(a.current().Pools, ownBlocks(a.alloc))); err != nil {
		return err
	}
	return a.speaker.SetNetworks(ctx, a.owners.networks())
}
