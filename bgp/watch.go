package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"onlink/bgp/gobgp"
	"onlink/rib"
)

// communityLLGRStale is 65535:6 (RFC 9494).
const communityLLGRStale = 0xffff0006

// watch receives the engine's events: best paths go into the feed, changes of
// sessions and End-of-RIB markers into the ledger. The engine calls back in order
// and queues without bound: nothing below may block.
type watch struct {
	asn    uint32
	log    *slog.Logger
	feed   *feed
	ledger *ledger
	zones  atomic.Pointer[zones]
	wanted atomic.Pointer[wanted] // never changed
	engine *gobgp.Engine          // set by begin
	pace   logPace                // of the lines about sessions
	retry  time.Duration          // of a peer over its prefix limit
}

func newWatch(c *Config, l *ledger) *watch {
	w := &watch{asn: c.ASN, log: c.Log, feed: newFeed(), ledger: l, retry: c.LimitRetry}
	w.zones.Store(&zones{})
	w.wanted.Store(&wanted{})
	return w
}

// begin subscribes to the engine's events until stop.
func (w *watch) begin(engine *gobgp.Engine) (stop func(), err error) {
	w.engine = engine
	stop, err = engine.Watch(gobgp.Handler{
		Peer: w.peer, EndOfRIB: w.endOfRIB, Set: w.bestSet, Flush: w.feed.signal,
		Fault: func(err error) { w.log.Warn("failed to decode a best path", "err", err) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch bgp events: %w", err)
	}
	return stop, nil
}

// bestSet receives the multipath set of one prefix. The set of an own prefix is
// empty, because our own path has no peer.
func (w *watch) bestSet(prefix netip.Prefix, paths []gobgp.Path) {
	var few [4]member // enough for most sets
	set := few[:0]
	zones := *w.zones.Load()
	for _, p := range paths {
		if !p.Peer.IsValid() || !p.NextHop.IsValid() {
			continue
		}
		peer, hop := zones.scope(p.Peer, p.NextHop, p.LinkLocal)
		set = append(set, member{stale: slices.Contains(p.Communities, communityLLGRStale), path: rib.Path{
			NextHop: hop, Peer: peer, EBGP: p.PeerAS != w.asn,
		}})
	}
	w.feed.replace(prefix, set)
}

// named adds the device to the address of a link-local peer.
func (w *watch) named(peer netip.Addr) netip.Addr {
	peer, _ = w.zones.Load().scope(peer, netip.Addr{}, netip.Addr{})
	return peer
}

func (w *watch) endOfRIB(peer netip.Addr, f gobgp.Family) {
	addr := w.named(peer)
	if complete, after := w.ledger.endOfRIB(addr, Family(f)); complete {
		w.logRoutes(addr, after)
	}
}

// peer receives the change of a session's state. The event has no families and
// capabilities of the session, so a lookup adds them.
func (w *watch) peer(ev gobgp.PeerEvent) {
	addr := w.named(ev.Peer)
	change := peerChange{addr: addr, state: ev.State, limited: ev.Limited}
	if change.state == established {
		change.carries = w.carries(addr)
	}
	w.logTurn(ev, change, w.ledger.peerChange(change))
	if other, why := w.ledger.twins(addr); why != "" && change.state == established {
		w.log.Warn("one router ID twice", "peer", addr, "other", other, "why", why)
	}
}

// carries returns the result of the OPENs of the session to addr.
func (w *watch) carries(addr netip.Addr) carried {
	o, err := w.engine.Opened(addr)
	if err != nil {
		w.log.Warn("failed to look up a peer", "peer", addr, "err", err)
	}
	c := carried{usesEOR: o.GracefulRestart, id: o.RouterID, internal: o.ASN == w.asn}
	for _, f := range o.Families {
		c.families = append(c.families, Family(f))
	}
	return c
}
