package node

import (
	"context"
	"time"

	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

// holding is a change that the agent holds. Whether it needs no person is decided when
// it begins, by what happened since the rendering before was in force: what is deleted
// later is no reason for it.
type holding struct {
	digest string // the agent's, of what would go
	shown  bool   // a status showed it
	// cause is the deletion that it follows from: it is confirmed when that was a
	// person's. nil: there is not one such.
	cause *deletion
	// added: a reflector was added. Sessions of a mesh end then, which is no state that
	// vanished.
	added      bool
	reflectors int // of its rendering
}

// began judges a change before the agent does. fresh: what it replaces is in force, and
// this is the first rendering since.
func (d *desire) began(what string, at time.Time, reflectors int, fresh, alarm bool) holding {
	now, last, known := holding{reflectors: reflectors}, d.holds[what], d.reflectors
	switch {
	case alarm || !fresh && !last.added:
		return now
	case fresh:
		now.cause = d.gone.cause(what, at)
	default: // a further reflector, before the agent confirms the first
		known = &last.reflectors
	}
	now.added = known != nil && reflectors > *known && d.gone.none(what)
	return now
}

// answered notes the agent's answer to a change. The same removal again stays the same
// held change; another one is judged anew.
func (d *desire) answered(what string, answer *onlinkv1.HeldChange, now holding) {
	last, was := d.holds[what]
	switch {
	case answer == nil:
		delete(d.holds, what)
		return
	case was && last.digest == answer.GetDigest():
		now = last
		now.shown = false
	default:
		now.digest = answer.GetDigest()
	}
	d.holds[what] = now
}

// stillHeld reports whether the change that was held still is. The status of the agent
// that a turn sees may be older than the answer that it is held: it says that it is not
// only after one that showed it.
func (d *desire) stillHeld(what string) bool {
	h := d.holds[what]
	for _, s := range d.heldChanges() {
		if s.GetWhat() == what {
			h.shown = true
			d.holds[what] = h
			return true
		}
	}
	return !h.shown
}

// confirmCaused confirms a held change that a person's deletion of one object causes, or
// a new reflector, or that ends sessions of deleted Nodes alone, once the agent's status
// has it.
func (d *desire) confirmCaused(ctx context.Context, what string, out *render.Output, wait *time.Duration) error {
	h := d.holds[what]
	why := "a reflector was added"
	switch {
	case d.gone.alarming(what, out.Vanished):
		return nil
	case h.added:
	case what == changeConfig && out.Silent:
		why = "the Nodes are deleted or no reflectors, and their sessions are down"
	case h.cause == nil:
		return nil
	default:
		ok, rest := d.gone.byPerson(h.cause, time.Now())
		if !ok {
			if rest == 0 {
				h.cause = nil
				d.holds[what] = h
			}
			*wait = shorter(*wait, rest)
			return nil
		}
		why = "one object was deleted: " + h.cause.kind + " " + h.cause.names[0]
	}
	for _, s := range d.heldChanges() {
		if s.GetWhat() == what && s.GetDigest() == h.digest {
			return d.confirm(ctx, s, why)
		}
	}
	return nil
}
