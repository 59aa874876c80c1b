package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// standing is what this machine may do with the blocks in its database.
type standing int

const (
	// trusted: they are ours until the registry says otherwise, also while it
	// is away.
	trusted standing = iota
	// unproven: the database may be a copy, or the registry refused us in the
	// run before. Only the registry's word makes the blocks ours again.
	unproven
	// refused: the registry takes another machine for this node.
	refused
	// foreign: the database is another node's. The registry is not asked.
	foreign
)

// movingText is what a machine says that may have moved.
const movingText = "blocks with pods that run here stay announced until it is heard of again"

// refusedRetry is how soon a machine that was refused asks again, at most.
const refusedRetry = 5 * time.Second

// footing is the machine's standing and why it is not the best.
type footing struct {
	standing
	why error // nil when trusted
	// moving: we may be the machine of the database at another address than
	// before. Blocks with pods that run here stay announced meanwhile.
	moving bool
	since  time.Time // the registry refused us first; valid when refused
}

// foreignError says that the database is another node's, and the ways out.
func foreignError(owner, node string) error {
	return fmt.Errorf("%w: the database is that of node %q and this is node %q: no address is given out and no block announced. "+
		"If this machine had that name before, run onlinkctl ipam take-over %s; if its name is wrong, set node.name or --node-name; "+
		"if its disk is a copy, stop onlinkd, move onlink.db away and start it", ErrOtherNode, owner, node, owner)
}

// unprovenError says that the registry has to speak first.
func unprovenError(why string) error {
	return fmt.Errorf("%w until the registry has confirmed this machine: %s", ErrUnconfirmed, why)
}

// refusal reports whether an error of an assert is the registry's word against
// this machine.
func refusal(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrInvalidRequest)
}

// setStandingLocked changes what the machine may do with its blocks.
func (a *Allocator) setStandingLocked(to footing) {
	a.stand = to
	a.applyStandingLocked()
	signal(a.changed)
}

// applyStandingLocked tells every held block what the standing allows.
func (a *Allocator) applyStandingLocked() {
	for _, h := range a.order {
		h.withheld = a.stand.standing != trusted
		h.hidden = h.withheld && (!a.stand.moving || !a.livesLocked(h))
	}
}

// livesLocked reports whether a pod that runs on this machine has an address of
// the block: the kernel's word that the block was this machine's.
func (a *Allocator) livesLocked(h *held) bool {
	if a.proven {
		return h.used > 0
	}
	return slices.ContainsFunc(a.cfg.Running, func(pod Handle) bool {
		e := a.byHandle[pod]
		return e != nil && slices.ContainsFunc(e.Addresses, h.CIDR.Contains)
	})
}

// accepted notes that the registry takes this machine for the node.
func (a *Allocator) accepted() error {
	a.mu.Lock()
	if a.stand.standing != trusted {
		a.log.Info("the registry confirmed this machine", "node", a.cfg.Node)
		a.setStandingLocked(footing{})
	}
	a.proven = true
	a.mu.Unlock()
	return a.keepIdentity("")
}

// refuse notes that the registry takes another machine for the node: nothing is
// given out and nothing announced until it says otherwise.
func (a *Allocator) refuse(err error) {
	a.mu.Lock()
	now := time.Now()
	next := footing{standing: refused, why: err, since: a.stand.since}
	if a.stand.standing != refused {
		next.since = now
		a.log.Error("the registry refuses this machine", "err", err)
	}
	// As long as the other machine with our database was not heard of since, it
	// may be this one at its old address.
	var held *HeldError
	next.moving = errors.As(err, &held) && held.Holder.Instance == held.By.Instance &&
		now.Add(-held.Age).Before(next.since.Add(time.Second))
	if next.moving {
		next.why = fmt.Errorf("%w (%s)", err, movingText)
	}
	a.reg.synced = false
	a.reg.syncAt = now.Add(min(refusedRetry, a.cfg.AssertInterval))
	a.setStandingLocked(next)
	a.mu.Unlock()
	if next.moving {
		return
	}
	if kerr := a.keepIdentity(err.Error()); kerr != nil {
		a.log.Warn("refusal not stored", "err", kerr)
	}
}

// copied says why the database may be a copy of one that is in use: its blocks
// are announced by another machine. A registry that lost its own file does not
// know, and would take this machine for the node.
func (a *Allocator) copied(ctx context.Context) string {
	a.mu.Lock()
	suspect := a.stand.standing == unproven && !slices.ContainsFunc(a.order, a.livesLocked)
	blocks := make([]netip.Prefix, len(a.order))
	for i, h := range a.order {
		blocks[i] = h.CIDR
	}
	a.mu.Unlock()
	if !suspect || a.cfg.Announced == nil || len(blocks) == 0 {
		return ""
	}
	return a.cfg.Announced(ctx, blocks)
}

// doubt keeps the registry from being asked for this machine, and says why.
func (a *Allocator) doubt(who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.stand
	next.why = unprovenError("the database may be a copy: " + who)
	if a.stand.why == nil || a.stand.why.Error() != next.why.Error() {
		a.log.Warn("this machine is not announced to the registry yet", "reason", next.why)
		a.setStandingLocked(next)
	}
	a.reg.syncAt = time.Now().Add(min(refusedRetry, a.cfg.AssertInterval))
}

// assertAll tells the registry what this node holds. From a machine that is
// gone it takes the name over.
func (a *Allocator) assertAll(ctx context.Context, held []Block) (lost []Block, err error) {
	by := a.caller()
	lost, err = a.cfg.Registry.Assert(ctx, by, held)
	var other *HeldError
	if !errors.As(err, &other) || !other.Silent {
		return lost, err
	}
	blocks, lerr := a.cfg.Registry.List(ctx, a.cfg.Node)
	if lerr != nil {
		return nil, lerr
	}
	if a.cfg.Announced != nil && len(blocks) > 0 && !a.movedHere(other) {
		if who := a.cfg.Announced(ctx, cidrs(blocks)); who != "" {
			known := *other
			known.Why = who
			return nil, fmt.Errorf("assert blocks: %w", &known)
		}
	}
	if _, err := a.cfg.Registry.TakeOver(ctx, by, a.cfg.Node, false); err != nil {
		return nil, err
	}
	a.log.Warn("took the name over from a machine that is gone", "node", a.cfg.Node, "address", other.Holder.Where(), "silent_for", other.Age)
	return a.cfg.Registry.Assert(ctx, by, held)
}

// movedHere reports whether the silent holder is this machine at its address of
// before: it has the database, and pods of it run here. Its peers may go on with
// its announcements for a while (RFC 4724), which say nothing then.
func (a *Allocator) movedHere(other *HeldError) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return other.Holder.Instance == a.identity.Instance && slices.ContainsFunc(a.order, a.livesLocked)
}

func cidrs(blocks []Block) []netip.Prefix {
	out := make([]netip.Prefix, len(blocks))
	for i, b := range blocks {
		out[i] = b.CIDR
	}
	return out
}

// Standing says why this machine gives out no address and announces no block;
// nil when nothing is in its way.
func (a *Allocator) Standing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stand.why
}
