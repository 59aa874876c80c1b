package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// standing is this machine's right to the blocks in its database.
type standing int

const (
	// trusted: they are ours until the registry denies it, also while it does not
	// answer.
	trusted standing = iota
	// unproven: the database may be a copy, or the registry rejected us in the
	// run before. Only the registry can make the blocks ours again.
	unproven
	// refused: the registry takes another machine for this node.
	refused
	// foreign: the database is another node's. The registry is not called.
	foreign
)

// movingText is the note of a machine that may have moved.
const movingText = "blocks with pods that run here stay announced until it answers again"

// refusedRetry is the interval at which a rejected machine calls again, at most.
const refusedRetry = 5 * time.Second

// footing is the machine's standing and why it is not the best.
type footing struct {
	standing
	why error // nil when trusted
	// doubt is the suspicion about the database at the start; nil without one.
	doubt error
	// moving: we may be the machine of the database at another address than
	// before. Blocks with pods that run here stay announced meanwhile.
	moving bool
	since  time.Time // the registry refused us first; valid when refused
}

// foreignError returns that the database is another node's, and the remedies.
func foreignError(owner, node string) error {
	return fmt.Errorf("%w: the database is that of node %q and this is node %q: no address is assigned and no block announced. "+
		"If this machine had that name before, run onlinkctl ipam take-over %s; if its name is wrong, set node.name or --node-name; "+
		"if its disk is a copy, stop onlinkd, move onlink.db away and start it", ErrOtherNode, owner, node, owner)
}

// unprovenError returns that the registry has to confirm this machine first.
func unprovenError(why string) error {
	return fmt.Errorf("%w until the registry has confirmed this machine: %s", ErrUnconfirmed, why)
}

// suspect is the footing of a machine whose database may not be its own.
func suspect(why string) footing {
	err := unprovenError(why)
	return footing{standing: unproven, why: err, doubt: err}
}

// refusal reports whether an error of an assert is the registry's rejection of
// this machine.
func refusal(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrInvalidRequest)
}

// tenure is this machine's right to the blocks in its database. The memory's
// mutex guards it.
type tenure struct {
	footing

	identity identity
	proven   bool     // the registry took this machine for the node in this run
	running  []Handle // attachments whose interfaces were on this machine at the start
}

// newTenure makes or checks the identity in the file: whether this is the
// database of the node and machine that runs.
func newTenure(cfg Config, c *contents) (tenure, error) {
	t := tenure{identity: c.identity, running: cfg.Running}
	id := &t.identity
	if id.Instance == "" { // a new file, or one of the version before
		*id = identity{Instance: newInstance(), Node: cfg.Node, Address: cfg.Address, Address6: cfg.Address6}
		for _, h := range c.order {
			if h.Node != cfg.Node {
				id.Node, id.Address, id.Address6 = h.Node, netip.Addr{}, netip.Addr{}
				break
			}
		}
	}
	was := Caller{Instance: id.Instance, Address: id.Address, Address6: id.Address6}
	now := Caller{Instance: id.Instance, Address: cfg.Address, Address6: cfg.Address6}
	switch {
	case id.Node != cfg.Node:
		t.footing = footing{standing: foreign, why: foreignError(id.Node, cfg.Node)}
	case id.Refused != "":
		t.footing = suspect("the registry rejected it before: " + id.Refused)
	case !was.same(now):
		t.footing = suspect("the database is that of a machine at " + was.Where() +
			" and this one is at " + now.Where() + ": it may be a copy (blocks with pods that run here are announced)")
		t.moving = true
	}
	if *id == c.identity {
		return t, nil
	}
	return t, cfg.Store.commit([]change{saveIdentity(*id)})
}

// apply puts the standing on every held block.
func (t *tenure) apply(x *index) {
	for _, h := range x.order {
		h.withheld = t.standing != trusted
		h.hidden = h.withheld && (!t.moving || !t.lives(x, h))
	}
}

// lives reports whether a pod that runs on this machine has an address of the
// block: the kernel's proof that the block was this machine's.
func (t *tenure) lives(x *index, h *held) bool {
	if t.proven {
		return h.used > 0
	}
	return slices.ContainsFunc(t.running, func(pod Handle) bool {
		e := x.byHandle[pod]
		return e != nil && slices.ContainsFunc(e.Addresses, h.CIDR.Contains)
	})
}

// moved reports whether the silent holder of the name is this machine at its
// former address: it has the database, and pods of it run here. Its peers may
// keep its announcements for a while (RFC 4724), which prove nothing then.
func (t *tenure) moved(x *index, holder Holder) bool {
	return holder.Instance == t.identity.Instance && t.livesAny(x)
}

// livesAny reports whether a pod that runs on this machine has an address of
// any block.
func (t *tenure) livesAny(x *index) bool {
	return slices.ContainsFunc(x.order, func(h *held) bool { return t.lives(x, h) })
}

// Standing returns why this machine assigns no address and announces no block;
// nil when it does.
func (a *Allocator) Standing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tenure.why
}
