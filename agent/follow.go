package agent

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

	"onlink/fib/underlay"
)

// ErrRestart is returned by [Run] when the agent has to begin anew, because
// its address is another one now. Routes and pods stay, the sessions restart
// gracefully (RFC 4724): the caller calls the program again.
var ErrRestart = errors.New("the node's address changed")

const (
	followEvery = 2 * time.Second
	// A change must last so long before it is followed: a link that goes down
	// and up loses its IPv6 addresses for a moment, a DHCP client its own.
	followAfter = 6 * time.Second
	// An address takes another's place no sooner than this after the start, so
	// that one that comes and goes does not keep the sessions down.
	followAge = 30 * time.Second
)

// follower watches the node's own addresses while the agent runs.
type follower struct {
	log     *slog.Logger
	id      identity // in force
	started time.Time
	written netip.Addr // the address that the file names; the zero Addr: none
	addrs   func() []underlay.Address
	find    func() (identity, error)
	needs   func(v4 bool) bool // whether a pool is reached by nobody for want of an address of that family
	accepts func(identity) error

	mu      sync.Mutex // guards all below
	wish    identity   // what the host would have us be; the zero value: what we are
	since   time.Time  // of the wish or of the loss
	trouble string     // for `status`
}

// newFollower makes the follower of this agent.
func (a *agent) newFollower() *follower {
	return &follower{
		log: a.log.With("part", "address"), id: a.id, started: a.started, written: a.current().Node.Address.Addr,
		addrs: a.watch.Addresses,
		find: func() (identity, error) {
			id, _, err := identify(&a.current().Config, a.watch)
			return id, err
		},
		needs: func(v4 bool) bool {
			for _, p := range a.pools() {
				if p.CIDR.Addr().Is4() == v4 && !a.id.reaches(p.CIDR) {
					return true
				}
			}
			return false
		},
		accepts: a.acceptsIdentity,
	}
}

// acceptsIdentity reports why the agent could not start with these addresses.
func (a *agent) acceptsIdentity(id identity) error {
	if m := a.current().BGP.Mesh; m != nil {
		if _, member := m.Peers(id.Address, id.Address6); !member {
			return fmt.Errorf("bgp.mesh: %s is not among its nodes; add it", id.primary())
		}
	}
	return nil
}

// Run looks until ctx ends or the change has to be followed.
func (f *follower) Run(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := f.look(time.Now()); err != nil {
			f.log.Warn("the node's address changed, starting anew", "was", f.id.primary(), "was6", f.id.Address6, "err", err)
			return err
		}
	}
}

// look compares the node's addresses with those in force. It returns
// [ErrRestart] when a change has lasted and can be followed.
func (f *follower) look(now time.Time) error {
	found, refused := f.find()
	wish, lost, gained := f.compare(found)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(lost) == 0 && wish == f.id {
		f.wish, f.since, f.trouble = identity{}, time.Time{}, ""
		return nil
	}
	if f.since.IsZero() || f.wish != wish {
		f.wish, f.since = wish, now
	}
	f.trouble = ""
	if len(lost) > 0 {
		f.trouble = fmt.Sprintf("node.address: %s is no address of this node any more, and its blocks are announced with it as next hop", list(lost))
		if refused != nil {
			f.trouble += fmt.Sprintf("; give it back, or another: %v", refused)
		}
	}
	if wish == f.id {
		return nil
	}
	changed := fmt.Sprintf("%s instead of %s", both(wish), both(f.id))
	if err := f.accepts(wish); err != nil {
		f.trouble += fmt.Sprintf("; it has %s now, which cannot be followed: %v", changed, err)
		return nil
	}
	if f.trouble != "" {
		f.trouble += fmt.Sprintf("; it has %s now, and onlinkd starts anew with that in a moment", changed)
	}
	if now.Sub(f.since) < followAfter || !gained && now.Sub(f.started) < followAge {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrRestart, changed)
}

// compare returns the addresses that the node should have in place of those in
// force, those in force that it has lost, and whether it gained one of a family
// that it had none of.
func (f *follower) compare(found identity) (wish identity, lost []netip.Addr, gained bool) {
	addrs := f.addrs()
	wish = f.id
	for _, v4 := range []bool{true, false} {
		have, next := &wish.Address, found.Address
		if !v4 {
			have, next = &wish.Address6, found.Address6
		}
		gone, poor := f.state(*have, addrs)
		if gone {
			lost = append(lost, *have)
		}
		switch {
		case !have.IsValid() && next.IsValid() && f.needs(v4):
			gained, *have = true, next
		case (gone || poor) && next.IsValid():
			*have = next
		}
	}
	return wish, lost, gained
}

// state reports whether an address in force is none of this node's any more,
// and whether another should take its place: it is deprecated, say.
func (f *follower) state(a netip.Addr, addrs []underlay.Address) (gone, poor bool) {
	if !a.IsValid() {
		return false, false
	}
	at := slices.IndexFunc(addrs, func(o underlay.Address) bool { return o.Addr == a })
	switch {
	case at < 0:
		return true, true
	case addrs[at].Pending:
		return false, false // it is asked for again, after its link was down
	}
	return !writable(addrs[at]), a != f.written && !usable(addrs[at])
}

// problem is what `status` says.
func (f *follower) problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble
}

// both names the addresses of a node.
func both(id identity) string {
	if id.Address.IsValid() && id.Address6.IsValid() {
		return fmt.Sprintf("%s and %s", id.Address, id.Address6)
	}
	return id.primary().String()
}

// list joins addresses.
func list(addrs []netip.Addr) string {
	text := make([]string, len(addrs))
	for i, a := range addrs {
		text[i] = a.String()
	}
	return strings.Join(text, " and ")
}
