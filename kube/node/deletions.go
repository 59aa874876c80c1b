package node

import (
	"slices"
	"sync"
	"time"
)

// alone is how long no other object of a kind may be deleted, before and after,
// for a deletion to be a person's: programs that fail delete many.
const alone = 10 * time.Second

// deletions are the removals of objects that the agent has not accepted yet, and
// those of the last moments. They decide whether a change that the agent holds
// needs a person: the deletion of one object, seen and alone, is the person's own
// confirmation.
type deletions struct {
	mu      sync.Mutex // guards all below
	pending map[string][]deletion
	recent  []deletion // younger than alone
}

func newDeletions() *deletions { return &deletions{pending: map[string][]deletion{}} }

// add notes a deletion; what is the changes that it is part of.
func (d *deletions) add(gone deletion, what ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range what {
		d.pending[w] = append(d.pending[w], gone)
	}
	d.recent = slices.DeleteFunc(d.recent, func(r deletion) bool { return gone.at.Sub(r.at) > alone })
	d.recent = append(d.recent, gone)
}

// accepted forgets the deletions up to t, because a rendering of then was accepted.
func (d *deletions) accepted(what string, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending[what] = slices.DeleteFunc(d.pending[what], func(p deletion) bool { return !p.at.After(t) })
}

// confirmed reports whether a held change may be made without a person: it
// removes one object that was seen to be deleted, alone. Otherwise wait is when to
// look again; 0: when something changes.
func (d *deletions) confirmed(what string, now time.Time) (ok bool, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.pending[what]
	if len(list) != 1 || !list[0].seen || len(list[0].names) != 1 || list[0].kind == "OnlinkConfig" {
		return false, 0
	}
	one := list[0]
	for _, r := range d.recent {
		other := r.kind == one.kind && (!r.at.Equal(one.at) || !slices.Equal(r.names, one.names))
		if other && one.at.Sub(r.at).Abs() < alone {
			return false, 0
		}
	}
	if rest := one.at.Add(alone).Sub(now); rest > 0 {
		return false, rest
	}
	return true, 0
}

// settledKinds are the kinds of configuration objects.
var settledKinds = []string{"OnlinkConfig", "BGPPeer", "BGPFilter", "IPPool", "ServiceAdvertisement"}

// alarming reports whether the objects went as those of a source that has failed go:
// an empty list came, none is left of two kinds of configuration objects, or none was
// ever seen of a kind that has vanished, because this process began after its objects
// had gone. Then the least removal needs a person.
func (d *deletions) alarming(what string, vanished []string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kind := range vanished {
		if !slices.ContainsFunc(d.pending[what], func(p deletion) bool { return p.kind == kind }) {
			return true
		}
	}
	empty := map[string]bool{}
	for _, p := range d.pending[what] {
		switch {
		case !p.emptied:
		case !p.seen:
			return true
		case slices.Contains(settledKinds, p.kind):
			empty[p.kind] = true
		}
	}
	return len(empty) > 1
}

// none reports whether nothing was deleted since the last rendering that was
// accepted.
func (d *deletions) none(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending[what]) == 0
}

// unseen reports whether objects of a kind vanished from a list since the last
// rendering that was accepted: what follows from their absence is no desire.
func (d *deletions) unseen(kind string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.pending[changeServices], func(p deletion) bool { return p.kind == kind && !p.seen })
}
