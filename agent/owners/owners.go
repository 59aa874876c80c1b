// Package owners provides the speaker with the facts for its check of
// announcements: the owners of blocks in the registry, the length of blocks, and
// the subnets of this node.
package owners

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"onlink/bgp/policy"
	"onlink/fib/underlay"
	"onlink/ipam"
)

const (
	// Intervals of calls to the registry: by a node that has it in its own
	// process, by a reflector, which rejects for others too, and by other nodes.
	everyLocal     = 5 * time.Second
	everyReflector = 15 * time.Second
	everyNode      = time.Minute
	// soonest bounds how often a suspect announcement leads to a question.
	soonest = time.Second
	// patience bounds a question.
	patience = 5 * time.Second
	// kept is how long an answer counts while the registry is away. A block may
	// change hands without us where others do reach it.
	kept = 2 * ipam.DefaultAssertInterval
)

// Speaker receives the facts for its import policy. [onlink/bgp.Speaker] is one.
type Speaker interface {
	SetOwners(ctx context.Context, blocks []policy.Block) error
	SetPools(ctx context.Context, pools []policy.Pool) error
	SetNetworks(ctx context.Context, networks []policy.Network) error
	// Suspect gets a value when a node announces a block that is another node's
	// as far as is known: it may have changed hands.
	Suspect() <-chan struct{}
}

// Config describes a [Watch].
type Config struct {
	Registry ipam.Registry
	Speaker  Speaker
	Networks func() []underlay.Network // the subnets of this node
	Pools    func() []policy.Pool      // of the configuration in force
	Every    time.Duration             // between two questions, see [Interval]
	Moved    <-chan struct{}           // gets a value when addresses of this node changed
	Log      *slog.Logger
}

// Watch reads the owners of blocks from the registry.
type Watch struct {
	cfg Config

	mu    sync.Mutex
	known []ipam.Block // as of the last answer; guarded by mu
	last  Answer       // also after known has expired; guarded by mu

	answered time.Time // Run's; of the last answer, zero: none that is in force
	unlisted bool      // Run's; the registry lists no other node's blocks
}

// New returns a watch; it works in [Watch.Run].
func New(cfg Config) *Watch { return &Watch{cfg: cfg} }

// Interval returns the time between two questions to a registry.
func Interval(reg ipam.Registry, reflector bool) time.Duration {
	if _, local := reg.(*ipam.BoltRegistry); local {
		return everyLocal
	}
	if reflector {
		return everyReflector
	}
	return everyNode
}

// Open gives a fresh speaker the facts that are known before the first peer: the
// subnets, and the lengths of the blocks in this node's own database.
func (w *Watch) Open(ctx context.Context, own []ipam.Block) error {
	if err := w.cfg.Speaker.SetPools(ctx, Lengths(w.cfg.Pools(), own)); err != nil {
		return err
	}
	return w.cfg.Speaker.SetNetworks(ctx, w.networks())
}

// Run calls the registry at intervals, and at once after a suspect announcement,
// until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	var last time.Time
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.cfg.Moved:
			w.setNetworks(ctx)
			continue
		case <-w.cfg.Speaker.Suspect():
			if w.unlisted {
				continue // it would not answer this either
			}
			next.Reset(max(0, soonest-time.Since(last)))
			continue
		case <-next.C:
		}
		last = time.Now()
		w.ask(ctx)
		next.Reset(jitter(w.cfg.Every))
	}
}

// jitter spreads the questions of many nodes: d plus or minus a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spread, not secrecy
}

// ask applies the registry's answer. Without one the last answer counts for
// [kept], then no block has a known owner.
func (w *Watch) ask(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	blocks, nodes, err := w.list(bound)
	w.unlisted = errors.Is(err, ipam.ErrUnlisted)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil, w.unlisted: // unlisted: no owner is known, so each block is accepted from its first announcer
		w.answered = time.Now()
		w.mu.Lock()
		w.last = Answer{Blocks: blocks, Nodes: nodes, At: w.answered}
		w.mu.Unlock()
	case w.answered.IsZero() || time.Since(w.answered) < kept:
		return
	default:
		w.answered, blocks, nodes = time.Time{}, nil, nil
		w.cfg.Log.Warn("the registry does not list the owners of blocks: each block is accepted from its first announcer", "err", err)
	}
	w.mu.Lock()
	w.known = blocks
	w.mu.Unlock()
	if err := w.cfg.Speaker.SetOwners(ctx, join(blocks, nodes)); err != nil {
		w.cfg.Log.Warn("failed to apply the owners of blocks", "err", err)
	}
	if err := w.cfg.Speaker.SetPools(ctx, Lengths(w.cfg.Pools(), blocks)); err != nil {
		w.cfg.Log.Warn("failed to apply the lengths of blocks", "err", err)
	}
}

func (w *Watch) list(ctx context.Context) ([]ipam.Block, []ipam.Node, error) {
	lister, ok := w.cfg.Registry.(ipam.NodeLister)
	if !ok {
		return nil, nil, nil
	}
	nodes, err := lister.Nodes(ctx)
	if err != nil {
		return nil, nil, err
	}
	// Second: a block that changes its owner in between has a known one.
	blocks, err := w.cfg.Registry.List(ctx, "")
	return blocks, nodes, err
}

// Blocks returns all nodes' blocks as of the last answer; a nil watch has none.
func (w *Watch) Blocks() []ipam.Block {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known
}

// Answer is an answer of the registry.
type Answer struct {
	Blocks []ipam.Block
	Nodes  []ipam.Node
	At     time.Time // the zero Time: there was none
}

// Last returns the registry's last answer, however old it is; a nil watch has none.
func (w *Watch) Last() Answer {
	if w == nil {
		return Answer{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// setNetworks takes in the subnets of this node.
func (w *Watch) setNetworks(ctx context.Context) {
	if err := w.cfg.Speaker.SetNetworks(ctx, w.networks()); err != nil && ctx.Err() == nil {
		w.cfg.Log.Warn("failed to apply the subnets of this node", "err", err)
	}
}

func (w *Watch) networks() []policy.Network {
	var out []policy.Network
	for _, n := range w.cfg.Networks() {
		if !n.Via {
			out = append(out, policy.Network{Device: n.Dev, Prefix: n.Prefix})
		}
	}
	slices.SortFunc(out, func(a, b policy.Network) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// join returns the blocks with the addresses of their nodes; a block of a node
// without known address is left out.
func join(blocks []ipam.Block, nodes []ipam.Node) []policy.Block {
	at := make(map[string][]netip.Addr, len(nodes))
	for _, n := range nodes {
		at[n.Name] = n.Addresses
	}
	out := make([]policy.Block, 0, len(blocks))
	for _, b := range blocks {
		if a := at[b.Node]; len(a) > 0 {
			out = append(out, policy.Block{Prefix: b.CIDR, Node: b.Node, Addresses: a})
		}
	}
	return out
}

// Lengths returns pools with the length of a block raised to that of the
// longest known one: a pool whose blocks were smaller once has some of them
// still.
func Lengths(pools []policy.Pool, known []ipam.Block) []policy.Pool {
	out := slices.Clone(pools)
	for i := range out {
		for _, b := range known {
			if out[i].Prefix.Overlaps(b.CIDR) {
				out[i].Block = max(out[i].Block, b.CIDR.Bits())
			}
		}
	}
	return out
}
