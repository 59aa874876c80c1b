package bgp

import (
	"cmp"
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

// absent returns the peers without a session that status lists too: dynamic
// ones whose last session failed a short time ago, and refused strangers.
// listed are the addresses that are listed already; dynamic returns the Dynamic
// of an address.
func (l *ledger) absent(now time.Time, listed map[netip.Addr]bool, dynamic func(netip.Addr) (Dynamic, bool)) []PeerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone, refused []PeerStatus
	for a, r := range l.peers {
		if listed[a] || r.lastError == "" || r.state == established || now.Sub(r.errorAt) > refusedMemory {
			continue
		}
		d, ok := dynamic(a)
		if !ok {
			continue
		}
		gone = append(gone, PeerStatus{
			Name: d.Name, Address: a, ASN: d.ASN, Role: d.Role, Dynamic: true, Gone: true, State: idle, Since: r.since,
			Flaps: r.flaps, LastError: r.reason(), ErrorAt: r.errorAt, Faults: r.faults, Trouble: r.trouble(now),
		})
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
	slices.SortFunc(gone, newest)
	return append(gone[:min(len(gone), goneShown)], refused...)
}
