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
	mu      sync.Mutex                   // guards all below
	pending map[string]map[string]losses // by change, then by kind
	recent  []deletion                   // younger than three times alone
}

// losses are what went of one kind. They have one size, however much goes while the
// agent holds the change.
type losses struct {
	names   []string // the first two
	at      time.Time
	unseen  bool // some vanished from a list
	emptied bool // deletions left none
	blank   bool // a list came without any
}

// causes are the kinds of which the deletion of one object can remove what each change
// removes. Others go beside it, such as the EndpointSlice of a Service.
var causes = map[string][]string{
	changeConfig:   {"OnlinkConfig", "BGPPeer", "BGPFilter", "IPPool", kindReflector, kindOther},
	changeServices: {"ServiceAdvertisement", "Service"},
}

func newDeletions() *deletions {
	return &deletions{pending: map[string]map[string]losses{changeConfig: {}, changeServices: {}}}
}

// add notes a deletion.
func (d *deletions) add(gone deletion) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kinds := range d.pending {
		l := kinds[gone.kind]
		l.names = slices.Concat(l.names, gone.names)
		l.names = l.names[:min(len(l.names), 2)]
		l.at = gone.at
		l.unseen = l.unseen || !gone.seen
		l.emptied = l.emptied || gone.emptied && gone.seen
		l.blank = l.blank || gone.emptied && !gone.seen
		kinds[gone.kind] = l
	}
	d.recent = slices.DeleteFunc(d.recent, func(r deletion) bool { return gone.at.Sub(r.at) > 3*alone })
	d.recent = append(d.recent, gone)
}

// accepted forgets the deletions up to t, because a rendering of then was accepted.
func (d *deletions) accepted(what string, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for kind, l := range d.pending[what] {
		if !l.at.After(t) {
			delete(d.pending[what], kind)
		}
	}
}

// cause returns the deletion that alone can be why a rendering of the moment t removes
// what the agent holds; nil: it is not one object that was seen to be deleted.
func (d *deletions) cause(what string, t time.Time) *deletion {
	d.mu.Lock()
	defer d.mu.Unlock()
	var one *deletion
	for kind, l := range d.pending[what] {
		switch {
		case l.unseen:
			return nil
		case !slices.Contains(causes[what], kind):
		case one != nil, len(l.names) != 1, l.at.After(t), kind == "OnlinkConfig":
			return nil
		default:
			one = &deletion{kind: kind, names: l.names, at: l.at, seen: true}
		}
	}
	return one
}

// byPerson reports whether no other object of the kind was deleted beside one.
// Otherwise wait is when to look again; 0: another was.
func (d *deletions) byPerson(one *deletion, now time.Time) (ok bool, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
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
		if _, seen := d.pending[what][kind]; !seen {
			return true
		}
	}
	ended := 0
	for kind, l := range d.pending[what] {
		switch {
		case l.blank:
			return true
		case l.emptied && slices.Contains(settledKinds, kind):
			ended++
		}
	}
	return ended > 1
}

// none reports whether nothing that can cause a change was deleted, and nothing
// vanished, since the last rendering that was accepted.
func (d *deletions) none(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for kind, l := range d.pending[what] {
		if l.unseen || slices.Contains(causes[what], kind) {
			return false
		}
	}
	return true
}

// unseen reports whether objects of a kind vanished from a list since the last
// rendering that was accepted: what follows from their absence is no desire.
func (d *deletions) unseen(kind string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending[changeServices][kind].unseen
}
