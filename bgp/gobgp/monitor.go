package gobgp

import (
	"errors"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/bmp"
)

// ErrNoMonitor is the error of an unpatched engine for what monitoring stations need.
var ErrNoMonitor = errors.New("the BGP engine is built without onlink's patches, and reports no changes of routes")

// routeMonitor, monitoredSession, monitoredEnd and monitoredUpdate are the engine's
// types: aliases, because the engine names them by their fields.
type routeMonitor = struct {
	Up       func(monitoredSession)
	Down     func(peer netip.Addr, end monitoredEnd)
	Route    func(peer netip.Addr, prefix netip.Prefix, accepted bool)
	Best     func(prefix netip.Prefix)
	EndOfRIB func(peer netip.Addr, family bgp.RouteFamily)
}

type monitoredSession = struct {
	Peer               netip.Addr
	PeerAS             uint32
	PeerID             netip.Addr
	Local, Remote      netip.AddrPort
	SentOpen, RecvOpen []byte
	Families           []bgp.RouteFamily
	Since              time.Time
	EndOfRIB           []bgp.RouteFamily
	Restarts           bool
}

type monitoredEnd = struct {
	Local        bool
	Notification []byte
	Event        uint16
}

type monitoredUpdate = struct {
	Message []byte
	At      time.Time
}

// monitored is an addition of a patched engine: changes of routes by their prefix, and
// the routes of its tables as messages.
type monitored interface {
	MonitorRoutes(m routeMonitor) (stop func(), err error)
	MonitoredUpdates(of string, from netip.Addr, prefixes []netip.Prefix) ([]monitoredUpdate, error)
	MonitoredCounts() (peers map[netip.Addr]map[bgp.RouteFamily]int, best map[bgp.RouteFamily]int, err error)
}

// Monitored is an engine as monitoring stations read it: it implements [bmp.Source].
type Monitored struct {
	engine    *Engine
	withdrawn func(peer netip.Addr) uint64
}

// NewMonitored returns the engine for stations; withdrawn counts the updates of a peer
// that were treated as withdrawals.
func NewMonitored(e *Engine, withdrawn func(peer netip.Addr) uint64) Monitored {
	return Monitored{e, withdrawn}
}

// Watch implements [bmp.Source]. An unpatched engine returns [ErrNoMonitor], as for the
// methods below.
func (m Monitored) Watch(w bmp.Watcher) (stop func(), err error) {
	e, able := any(m.engine.server).(monitored)
	if !able {
		return nil, ErrNoMonitor
	}
	return e.MonitorRoutes(routeMonitor{
		Up:    func(s monitoredSession) { w.Up(sessionOf(&s)) },
		Down:  func(peer netip.Addr, end monitoredEnd) { w.Down(peer, bmp.End(end)) },
		Route: w.Changed,
		Best:  w.BestChanged,
		EndOfRIB: func(peer netip.Addr, f bgp.RouteFamily) {
			if own, carried := stationFamily(f); carried {
				w.EndOfRIB(peer, own)
			}
		},
	})
}

func sessionOf(s *monitoredSession) *bmp.Session {
	return &bmp.Session{
		Peer: s.Peer, ASN: s.PeerAS, RouterID: s.PeerID, Local: s.Local, Remote: s.Remote, SentOpen: s.SentOpen, ReceivedOpen: s.RecvOpen,
		Families: stationFamilies(s.Families), Since: s.Since, SendsEndOfRIB: s.Restarts, Ended: stationFamilies(s.EndOfRIB),
	}
}

// stationFamily returns a family by its AFI; false for one that is not carried.
func stationFamily(f bgp.RouteFamily) (bmp.Family, bool) {
	afi, _ := bgp.RouteFamilyToAfiSafi(f)
	return bmp.Family(afi), familyOf(f) != 0
}

func stationFamilies(list []bgp.RouteFamily) (out []bmp.Family) {
	for _, f := range list {
		if own, carried := stationFamily(f); carried {
			out = append(out, own)
		}
	}
	return out
}

// Prefixes implements [bmp.Source].
func (m Monitored) Prefixes(of bmp.Table) ([]netip.Prefix, error) {
	all := func(netip.Prefix) bool { return true }
	if of.View == bmp.Best {
		return m.engine.BestPrefixes(all)
	}
	return m.engine.ReceivedPrefixes(of.Peer, all)
}

// Updates implements [bmp.Source].
func (m Monitored) Updates(of bmp.Table, prefixes []netip.Prefix) ([]bmp.Update, error) {
	e, able := any(m.engine.server).(monitored)
	if !able {
		return nil, ErrNoMonitor
	}
	updates, err := e.MonitoredUpdates(string(of.View), of.Peer, prefixes)
	list := make([]bmp.Update, len(updates))
	for i, u := range updates {
		list[i] = bmp.Update(u)
	}
	return list, err
}

// Counts implements [bmp.Source].
func (m Monitored) Counts() (bmp.Counts, error) {
	e, able := any(m.engine.server).(monitored)
	if !able {
		return bmp.Counts{}, ErrNoMonitor
	}
	peers, best, err := e.MonitoredCounts()
	c := bmp.Counts{Peers: map[netip.Addr]bmp.PeerCounts{}, Best: stationCounts(best)}
	for peer, counts := range peers {
		c.Peers[peer] = bmp.PeerCounts{Received: stationCounts(counts), Withdrawn: m.withdrawn(peer)}
	}
	return c, err
}

func stationCounts(counts map[bgp.RouteFamily]int) map[bmp.Family]uint64 {
	out := map[bmp.Family]uint64{}
	for f, n := range counts {
		if own, carried := stationFamily(f); carried {
			out[own] = uint64(max(n, 0))
		}
	}
	return out
}
