package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// ErrMoved is returned by [Follower.Run] when the node's address is another one
// now, and the agent has to begin anew with it.
var ErrMoved = errors.New("the node's address changed")

const (
	// followEvery is the least time between two looks.
	followEvery = 2 * time.Second
	// A change must last so long before it is followed: a link that goes down
	// and up loses its IPv6 addresses for a moment, a DHCP client its own.
	followAfter = 6 * time.Second
	// An address takes another's place no sooner than this after the start, so
	// that one that comes and goes does not keep the sessions down.
	followAge = 30 * time.Second
)

// Follower watches the node's own addresses while the agent runs.
type Follower struct {
	log     *slog.Logger
	id      Identity // in force
	started time.Time
	written netip.Addr // the address that the file names; the zero Addr: none
	// renewed are closed when another look may find something else.
	renewed func() (host, file <-chan struct{})
	addrs   func() []underlay.Address
	find    func() (Identity, error)
	needs   func(v4 bool) bool   // whether a pool is unreachable because the node has no address of that family
	accepts func(Identity) error // why the agent could not start with these addresses

	mu      sync.Mutex // guards all below
	wish    Identity   // the identity that the host suggests; the zero value: the present one
	since   time.Time  // of the wish or of the loss
	trouble string     // for `status`
}

// FollowerConfig is the configuration of a Follower.
type FollowerConfig struct {
	Log     *slog.Logger
	ID      Identity // in force
	Started time.Time
	Watch   *underlay.Watcher
	Config  func() *config.Effective // returns the configuration in force
	Renewed func() <-chan struct{}   // closed when another one is in force
}

// NewFollower returns a Follower; it does nothing before Run.
func NewFollower(c FollowerConfig) *Follower {
	return &Follower{
		log: c.Log, id: c.ID, started: c.Started, written: c.Config().Node.Address.Addr, addrs: c.Watch.Addresses,
		renewed: func() (host, file <-chan struct{}) { return c.Watch.Renewed(), c.Renewed() },
		find: func() (Identity, error) {
			id, _, err := Identify(&c.Config().Config, c.Watch)
			return id, err
		},
		needs:   func(v4 bool) bool { return c.ID.lacks(c.Config().Pools, v4) },
		accepts: func(id Identity) error { return id.Accepts(c.Config()) },
	}
}

// Run checks until ctx ends or the agent must restart with a new address: after
// each change of the host, and again and again while one has to last.
func (f *Follower) Run(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		host, file := f.renewed()
		if err := f.look(time.Now()); err != nil {
			f.log.Warn("the node's address changed, restarting", "was", f.id.Primary(), "was6", f.id.Address6, "err", err)
			return err
		}
		if f.calm() {
			select {
			case <-ctx.Done():
				return nil
			case <-host:
			case <-file:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// calm reports whether the last look found nothing to act on.
func (f *Follower) calm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.since.IsZero()
}

// look compares the node's addresses with those in force. It returns
// [ErrMoved] when a change has lasted and can be followed.
func (f *Follower) look(now time.Time) error {
	// Finding costs more than looking, and a node at rest needs it for nothing.
	find := sync.OnceValues(f.find)
	wish, lost, gained := f.compare(func() Identity {
		found, _ := find() // why nothing is found: below
		return found
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(lost) == 0 && wish == f.id {
		f.wish, f.since, f.trouble = Identity{}, time.Time{}, ""
		return nil
	}
	if f.since.IsZero() || f.wish != wish {
		f.wish, f.since = wish, now
	}
	f.trouble = ""
	if len(lost) > 0 {
		f.trouble = fmt.Sprintf("node.address: this node has lost %s, which is the next hop of its announced blocks", list(lost))
		if _, refused := find(); refused != nil {
			f.trouble += fmt.Sprintf("; restore it, or configure another: %v", refused)
		}
	}
	if wish == f.id {
		return nil
	}
	changed := fmt.Sprintf("%s instead of %s", both(wish), both(f.id))
	if err := f.accepts(wish); err != nil {
		f.trouble += fmt.Sprintf("; it has %s now, which the configuration rejects: %v", changed, err)
		return nil
	}
	if f.trouble != "" {
		f.trouble += fmt.Sprintf("; it has %s now, and onlinkd restarts with it shortly", changed)
	}
	if now.Sub(f.since) < followAfter || !gained && now.Sub(f.started) < followAge {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrMoved, changed)
}

// compare returns the addresses that the node should have in place of those in
// force, those in force that it has lost, and whether it gained one of a family
// that it had none of. It asks what the node would choose now only when one of
// those in force is missing or should be replaced.
func (f *Follower) compare(find func() Identity) (wish Identity, lost []netip.Addr, gained bool) {
	addrs := f.addrs()
	wish = f.id
	for _, v4 := range []bool{true, false} {
		have := &wish.Address
		if !v4 {
			have = &wish.Address6
		}
		gone, poor := f.state(*have, addrs)
		if gone {
			lost = append(lost, *have)
		}
		wanted := !have.IsValid() && f.needs(v4)
		if !wanted && !gone && !poor {
			continue
		}
		next := find().Address
		if !v4 {
			next = find().Address6
		}
		if next.IsValid() {
			gained, *have = gained || wanted, next
		}
	}
	return wish, lost, gained
}

// state reports whether this node has lost an address in force, and whether
// another should take its place: it is deprecated, say.
func (f *Follower) state(a netip.Addr, addrs []underlay.Address) (gone, poor bool) {
	if !a.IsValid() {
		return false, false
	}
	at := slices.IndexFunc(addrs, func(o underlay.Address) bool { return o.Addr == a })
	switch {
	case at < 0:
		return true, true
	case addrs[at].Pending:
		return false, false // duplicate address detection runs again, after its link was down
	}
	return !writable(addrs[at]), a != f.written && !usable(addrs[at])
}

// Problems returns the line for `status`; none when all is well.
func (f *Follower) Problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trouble == "" {
		return nil
	}
	return []string{f.trouble}
}

// both names the addresses of a node.
func both(id Identity) string {
	if id.Address.IsValid() && id.Address6.IsValid() {
		return fmt.Sprintf("%s and %s", id.Address, id.Address6)
	}
	return id.Primary().String()
}

// list joins addresses.
func list(addrs []netip.Addr) string {
	text := make([]string, len(addrs))
	for i, a := range addrs {
		text[i] = a.String()
	}
	return strings.Join(text, " and ")
}
