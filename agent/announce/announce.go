package announce

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/agent/hold"
)

// Config is what Announcements need.
type Config struct {
	State string // the folder of the file
	Boot  string // identifies this boot of the machine; "": sets outlive all boots
	Held  *hold.Changes
	Facts func() Facts // of now
	Log   *slog.Logger
}

// Announcements are the sets of all owners. Make them with [Open]. Their methods
// may be called by any goroutine.
type Announcements struct {
	Config

	path string
	// changed has room for one signal: a replaced set sends, it is never closed; full
	// means that the originate flow has a signal that it has not received yet.
	changed chan struct{}

	turn sync.Mutex // held while a set is replaced

	mu      sync.Mutex // guards all below
	sets    []Set      // as requested, by the age of their owner
	version uint64     // of sets
	judged  []Set      // sets as they are in force
	problem string     // of the file at the start, until a set is replaced
	unknown []string   // peers that are named and have no session
	sent    uint64     // version that the speaker has
	moved   chan struct{}
}

// Open reads the sets that were in force when the agent last ran.
func Open(c Config) (*Announcements, error) {
	a := &Announcements{Config: c, path: filepath.Join(c.State, fileName), changed: make(chan struct{}, 1), moved: make(chan struct{})}
	var err error
	if a.sets, a.problem, err = load(a.path); err != nil {
		return nil, err
	}
	if a.problem != "" {
		c.Log.Error("announcements are damaged", "problem", a.problem)
	}
	a.Judge(c.Facts())
	return a, nil
}

// Changed is received from by the originate flow: the sets may be others.
func (a *Announcements) Changed() <-chan struct{} { return a.changed }

// Outcome is the effect of a replacement.
type Outcome struct {
	Version uint64       // for Await
	Held    *hold.Change // the change waits for a confirmation; nil: it was made
}

// Replace replaces the announcements of an owner. Entries that cannot be announced
// are left out, see [Set].Rejected. A set with more than a third fewer, and with
// at least two fewer, is held unless confirm is set: nothing changes then. Its
// error wraps [ErrInvalid] for a request that nothing is taken from.
func (a *Announcements) Replace(ctx context.Context, r Request, confirm bool) (Outcome, error) {
	limit := tooMany
	if confirm {
		limit = nil
	}
	return a.replace(ctx, r, limit)
}

// ReplaceKeeping is [Announcements.Replace] where any withdrawal is held.
func (a *Announcements) ReplaceKeeping(ctx context.Context, r Request) (Outcome, error) {
	return a.replace(ctx, r, func(gone, _ int) bool { return gone > 0 })
}

// replace holds a set when limit reports that it withdraws too much; nil: none is.
func (a *Announcements) replace(_ context.Context, r Request, limit func(gone, present int) bool) (Outcome, error) {
	if err := check(r.Owner, r.List); err != nil {
		return Outcome{}, err
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	facts := a.Facts()
	a.Judge(facts)
	next := Set{Owner: r.Owner, Changed: time.Now().UTC()}
	if r.ThisBoot {
		next.Boot = a.Boot
	}
	next.Announcements, next.Rejected = parse(r.List, func(p netip.Prefix) string { return a.holder(p, r.Owner) })
	if limit != nil {
		if change, held := a.guard(&next, r, facts, limit); held {
			return Outcome{Held: &change}, nil
		}
	}
	version, fresh, err := a.put(&next)
	if err != nil {
		return Outcome{}, err
	}
	a.mu.Lock()
	a.problem = "" // the set is whole again
	a.mu.Unlock()
	a.Held.Drop(what(r.Owner))
	if a.Judge(facts); fresh {
		select {
		case a.changed <- struct{}{}:
		default:
		}
	}
	return Outcome{Version: version}, nil
}

// what names the change of an owner's set.
func what(owner string) string { return "announce " + owner }

// guard holds a set that would withdraw too much. What is withheld is not announced, so
// that nothing of it is withdrawn.
func (a *Announcements) guard(next *Set, r Request, facts Facts, limit func(gone, present int) bool) (hold.Change, bool) {
	kept := map[netip.Prefix]bool{}
	for i := range next.Announcements {
		if one := &next.Announcements[i]; facts.unfit(one) == "" {
			kept[one.Prefix] = true
		}
	}
	present, gone := 0, []string{}
	for _, s := range a.Sets() {
		if s.Owner != next.Owner {
			continue
		}
		for _, one := range s.Announcements {
			present++
			if !kept[one.Prefix] {
				gone = append(gone, one.Prefix.String())
			}
		}
	}
	if !limit(len(gone), present) {
		return hold.Change{}, false
	}
	// What it would withdraw identifies the change, also when it announces more
	// meanwhile, and on every node that announces the same.
	content := strings.Join(gone, " ")
	reason := fmt.Sprintf("%d of %d announcements", len(gone), present)
	if len(gone) > 3 {
		gone = append(gone[:3], "...")
	}
	reason += " (" + strings.Join(gone, ", ") + ")"
	return a.Held.Hold(hold.Change{What: what(next.Owner), Reason: reason}, []byte(content), func(ctx context.Context) error {
		_, err := a.Replace(ctx, r, true)
		return err
	}), true
}

// tooMany reports whether the loss of that many of the present announcements is an
// alarm. That of a single one is not: a service ends.
func tooMany(gone, present int) bool { return gone >= 2 && 3*gone > present }

// holder returns the other owner of a prefix; "": none.
func (a *Announcements) holder(p netip.Prefix, except string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.sets {
		if s := &a.sets[i]; s.Owner != except {
			if _, has := slices.BinarySearchFunc(s.Announcements, p, func(o Announcement, p netip.Prefix) int { return o.Prefix.Compare(p) }); has {
				return s.Owner
			}
		}
	}
	return ""
}

// put makes next the set of its owner, in the file first, and reports whether that
// is another one. An empty one frees the owner's place.
func (a *Announcements) put(next *Set) (version uint64, fresh bool, err error) {
	a.mu.Lock()
	sets, last := slices.Clone(a.sets), a.version
	a.mu.Unlock()
	i := slices.IndexFunc(sets, func(s Set) bool { return s.Owner == next.Owner })
	empty := len(next.Announcements)+len(next.Rejected) == 0
	switch {
	case i >= 0 && sets[i].equal(next), i < 0 && empty:
		return last, false, nil
	case i >= 0 && empty:
		sets = slices.Delete(sets, i, i+1)
	case i >= 0:
		sets[i] = *next
	case len(sets) >= MaxOwners:
		return 0, false, fmt.Errorf("%w: owner %s: there are %d owners already; use one of them, or send an empty set for one", ErrInvalid, next.Owner, MaxOwners)
	default:
		sets = append(sets, *next)
	}
	if err := save(a.path, sets); err != nil {
		return 0, false, fmt.Errorf("write announcements: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sets = sets
	a.version++
	a.Log.Info("announcements replaced", "owner", next.Owner, "prefixes", len(next.Announcements), "rejected", len(next.Rejected))
	return a.version, true, nil
}

// equal reports whether s and o announce and reject the same, for as long.
func (s *Set) equal(o *Set) bool {
	return s.Boot == o.Boot && slices.Equal(s.Rejected, o.Rejected) &&
		slices.EqualFunc(s.Announcements, o.Announcements, func(a, b Announcement) bool { return a.equal(&b) })
}

// Judge brings the sets to the facts of the node, and returns the announcements in
// force with the names of peers that exist, and the version for Sent.
func (a *Announcements) Judge(f Facts) ([]Announcement, uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Announcement
	a.judged, a.unknown = nil, nil
	for i := range a.sets {
		s := &a.sets[i]
		now := Set{Owner: s.Owner, Changed: s.Changed, Boot: s.Boot, Rejected: slices.Clone(s.Rejected)}
		if a.outlived(s) {
			now.Withheld = s.Announcements
			a.judged = append(a.judged, now)
			continue
		}
		for j := range s.Announcements {
			one := s.Announcements[j]
			if why := f.unfit(&one); why != "" {
				now.Rejected = append(now.Rejected, Rejection{Prefix: one.Prefix.String(), Reason: why})
				continue
			}
			now.Announcements = append(now.Announcements, one)
			if len(one.Peers) > 0 {
				a.noteUnknown(f, one.Peers)
				one.Peers = f.known(one.Peers)
			}
			all = append(all, one)
		}
		a.judged = append(a.judged, now)
	}
	return all, a.version
}

// noteUnknown notes the names of peers that do not exist. The caller holds a.mu.
func (a *Announcements) noteUnknown(f Facts, names []string) {
	for _, name := range names {
		if !f.Peers[name] && !slices.Contains(a.unknown, name) {
			a.unknown = append(a.unknown, name)
		}
	}
}

// outlived reports whether the machine has booted since a set that does not outlive that.
func (a *Announcements) outlived(s *Set) bool {
	return s.Boot != "" && a.Boot != "" && s.Boot != a.Boot
}

// Sent records that the speaker has the announcements of a version.
func (a *Announcements) Sent(version uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if version <= a.sent {
		return
	}
	a.sent = version
	close(a.moved)
	a.moved = make(chan struct{})
}

// Await returns when the speaker has the announcements of a version, or with the
// error of ctx.
func (a *Announcements) Await(ctx context.Context, version uint64) error {
	for {
		a.mu.Lock()
		sent, moved := a.sent, a.moved
		a.mu.Unlock()
		if sent >= version {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Sets returns the announcements of every owner, and those that are left out, as of
// the last [Announcements.Judge]. The lists must not be changed.
func (a *Announcements) Sets() []Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.judged
}

// Of returns the longest announced prefix that contains addr, and its owner; or the
// longest withheld one, where none is announced.
func (a *Announcements) Of(addr netip.Addr) (one Announcement, owner string, withheld, ok bool) {
	sets := a.Sets()
	longest := func(list []Announcement, of string) {
		for i := range list {
			if p := list[i].Prefix; p.Contains(addr) && (!ok || p.Bits() > one.Prefix.Bits()) {
				one, owner, ok = list[i], of, true
			}
		}
	}
	for i := range sets {
		longest(sets[i].Announcements, sets[i].Owner)
	}
	if ok {
		return one, owner, false, true
	}
	for i := range sets {
		longest(sets[i].Withheld, sets[i].Owner)
	}
	return one, owner, ok, ok
}

// Problems returns the faults for the operator, one line each.
func (a *Announcements) Problems() []string {
	var out []string
	for _, s := range a.Sets() {
		if n := len(s.Rejected); n > 0 {
			out = append(out, fmt.Sprintf("%d of %d announcements of %s are left out, such as %s: %s; see onlinkctl announcements",
				n, n+len(s.Announcements)+len(s.Withheld), s.Owner, s.Rejected[0].Prefix, s.Rejected[0].Reason))
		}
		if n := len(s.Withheld); n > 0 {
			out = append(out, fmt.Sprintf("%d announcements of %s are withheld, such as %s: %s", n, s.Owner, s.Withheld[0].Prefix, WithheldReason))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.problem != "" {
		out = append(out, a.problem)
	}
	if len(a.unknown) > 0 {
		out = append(out, fmt.Sprintf("announcements name peers that do not exist: %s; they are for their other peers alone", strings.Join(a.unknown, ", ")))
	}
	return out
}
