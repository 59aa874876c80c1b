package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onlink/bgp/gobgp"
)

// stranger records a connection from an address that no Peer and no Dynamic has.
func (l *ledger) stranger(e gobgp.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.strangers[e.Peer]
	if x == nil {
		if len(l.strangers) >= refusedKept {
			l.dropOldestLocked()
		}
		x = &stranger{}
		l.strangers[e.Peer] = x
	}
	x.at = l.now()
	if !e.ID.IsValid() {
		return // a probe of the port, or a later connection without OPEN
	}
	x.as, x.id, x.same = e.AS, e.ID, netip.Addr{}
	for a, r := range l.peers {
		if a != e.Peer && r.id() == e.ID {
			x.same = a
		}
	}
}

func (l *ledger) dropOldestLocked() {
	var oldest netip.Addr
	for a, x := range l.strangers {
		if !oldest.IsValid() || x.at.Before(l.strangers[oldest].at) {
			oldest = a
		}
	}
	delete(l.strangers, oldest)
}

// newStranger returns the reason why a stranger is refused, "" if it returned that
// within the last reasonAgain.
func (l *ledger) newStranger(addr netip.Addr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.strangers[addr]
	if x == nil || !x.logged.IsZero() && l.now().Sub(x.logged) < reasonAgain {
		return ""
	}
	x.logged = l.now()
	return x.text()
}

// left records the routes of a session that ends.
func (l *ledger) left(addr netip.Addr, had Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recordLocked(addr).had = had
}

// missed records a peer of the run before this one that did not come back.
func (l *ledger) missed(addr netip.Addr, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(addr)
	r.seen = true
	r.fail(why, l.now())
}

// dismiss forgets a peer without a session, or a stranger, and reports whether it had
// one of the two.
func (l *ledger) dismiss(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, x := l.peers[addr], l.strangers[addr]
	if r != nil && r.state == established {
		return false
	}
	delete(l.peers, addr)
	delete(l.strangers, addr)
	return r != nil || x != nil
}

// forgetGone drops the records of dynamic peers that were up and are gone, those that
// are older than goneMemory and the oldest beyond goneKept. keep reports whether a
// record must stay.
func (l *ledger) forgetGone(now time.Time, keep func(netip.Addr) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone []netip.Addr
	for a, r := range l.peers {
		if r.seen && r.state == idle && !keep(a) {
			gone = append(gone, a)
		}
	}
	slices.SortFunc(gone, func(a, b netip.Addr) int {
		return cmp.Or(l.peers[b].since.Compare(l.peers[a].since), a.Compare(b))
	})
	for i, a := range gone {
		if i >= goneKept || now.Sub(l.peers[a].since) > goneMemory {
			delete(l.peers, a)
		}
	}
}

// absent returns the peers without a session that status lists too: dynamic
// ones that were up once or whose last session failed a short time ago, and refused
// strangers. listed are the addresses that are listed already; dynamic returns the
// Dynamic of an address.
func (l *ledger) absent(now time.Time, listed map[netip.Addr]bool, dynamic func(netip.Addr) (Dynamic, bool)) []PeerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone, failed, refused []PeerStatus
	for a, r := range l.peers {
		recent := r.lastError != "" && now.Sub(r.errorAt) <= refusedMemory
		if listed[a] || r.state == established || !recent && (!r.seen || now.Sub(r.since) > goneMemory) {
			continue
		}
		d, ok := dynamic(a)
		if !ok {
			continue
		}
		one := PeerStatus{
			Name: d.Name, Address: a, ASN: d.ASN, Role: d.Role, Dynamic: true, Gone: true, State: idle, Since: r.since,
			Flaps: r.flaps, LastError: r.reason(), ErrorAt: r.errorAt, Faults: r.faults, Trouble: r.trouble(now), Seen: r.seen, Lost: r.had,
		}
		if r.seen {
			gone = append(gone, one)
		} else {
			failed = append(failed, one)
		}
	}
	for a, x := range l.strangers {
		if listed[a] || now.Sub(x.at) > refusedMemory {
			continue
		}
		if _, ok := dynamic(a); ok {
			continue // it has become a dynamic peer since
		}
		refused = append(refused, PeerStatus{
			Address: a, ASN: x.as, Gone: true, Stranger: true, Speaks: x.id.IsValid(), State: idle, Since: x.at, LastError: x.text(), ErrorAt: x.at,
		})
	}
	newest := func(a, b PeerStatus) int { return cmp.Or(b.ErrorAt.Compare(a.ErrorAt), a.Address.Compare(b.Address)) }
	slices.SortFunc(gone, func(a, b PeerStatus) int { return cmp.Or(b.Since.Compare(a.Since), a.Address.Compare(b.Address)) })
	slices.SortFunc(failed, newest)
	return slices.Concat(gone[:min(len(gone), goneKept)], failed[:min(len(failed), goneShown)], refused)
}

// Forget lists a peer that is gone no longer; after its next connection it is listed
// again. It wraps [ErrUnknownPeer] for a peer that is not gone.
func (o Operator) Forget(_ context.Context, peer netip.Addr) error {
	if _, err := o.running(); err != nil {
		return err
	}
	gone := slices.ContainsFunc(o.s.Peers(), func(p PeerStatus) bool { return p.Address == peer && p.Gone })
	if !gone || !o.s.ledger.dismiss(peer) {
		return fmt.Errorf("%w that is gone: %s", ErrUnknownPeer, peer)
	}
	return nil
}
