// Part of the patch hooks/monitor.

package server

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// routeMonitor is told of changes, not of their content: whoever has time for it
// takes that by MonitoredUpdates. So nothing is queued here, and a monitor that is
// slow costs a mark for each prefix that changed. All functions run on the server's
// goroutine: they must not block and must not call the server. It is an alias of a
// struct without a name so that a program can ask for the methods by an interface;
// the same holds for those below.
type routeMonitor = struct {
	Up func(monitoredSession)
	// Down comes before the routes of the session go, of which no call tells.
	Down func(peer netip.Addr, end monitoredEnd)
	// Route: a path of a peer came or went. Accepted: import alone was done again.
	Route    func(peer netip.Addr, prefix netip.Prefix, accepted bool)
	Best     func(prefix netip.Prefix)
	EndOfRIB func(peer netip.Addr, family bgp.RouteFamily)
}

// monitoredSession is a session that is established.
type monitoredSession = struct {
	Peer               netip.Addr
	PeerAS             uint32
	PeerID             netip.Addr
	Local, Remote      netip.AddrPort
	SentOpen, RecvOpen []byte // as they were on the wire
	Families           []bgp.RouteFamily
	Since              time.Time
	EndOfRIB           []bgp.RouteFamily // that the peer has ended
	Restarts           bool              // it has graceful restart: it sends End-of-RIB
}

// monitoredEnd is the end of an established session.
type monitoredEnd = struct {
	Local        bool
	Notification []byte // sent if Local, else received; nil: none
	Event        uint16 // of RFC 4271 section 8.1; without Notification, if Local
}

// tcpConnectionFails is an event of RFC 4271 section 8.1.4.
const tcpConnectionFails = 18

// MonitorRoutes tells m of the sessions that are up, then of every change until stop.
func (s *BgpServer) MonitorRoutes(m routeMonitor) (stop func(), err error) {
	to := &m
	err = s.mgmtOperation(func() error {
		for _, peer := range s.neighborMap {
			if peer.isUp() {
				to.Up(peer.monitored())
			}
		}
		s.monitors = append(s.monitors, to)
		return nil
	}, true)
	return func() {
		s.mgmtOperation(func() error {
			s.monitors = slices.DeleteFunc(s.monitors, func(o *routeMonitor) bool { return o == to })
			return nil
		}, false)
	}, err
}

func (peer *peer) monitored() monitoredSession {
	fsm := peer.fsm
	at := peer.addr()
	families := peer.negotiatedRFList()
	fsm.lock.RLock()
	defer fsm.lock.RUnlock()
	m := monitoredSession{
		Peer: at, PeerAS: fsm.peerInfo.AS, PeerID: addrOf(fsm.peerInfo.ID),
		SentOpen: fsm.sentOpen, RecvOpen: fsm.receivedOpen, Families: families,
		Since:    time.Unix(fsm.pConf.Timers.State.Uptime, 0),
		Restarts: len(fsm.capMap[bgp.BGP_CAP_GRACEFUL_RESTART]) > 0,
	}
	if fsm.conn != nil {
		m.Local, _ = netip.ParseAddrPort(fsm.conn.LocalAddr().String())
		m.Remote, _ = netip.ParseAddrPort(fsm.conn.RemoteAddr().String())
	}
	for _, a := range fsm.pConf.AfiSafis {
		if a.MpGracefulRestart.State.EndOfRibReceived {
			m.EndOfRIB = append(m.EndOfRIB, a.State.Family)
		}
	}
	return m
}

// setSentOpen notes our OPEN of the session that begins.
func (fsm *fsm) setSentOpen(b []byte) {
	fsm.lock.Lock()
	defer fsm.lock.Unlock()
	fsm.sentOpen = b
}

// monitorUp tells of a session that came up.
func (s *BgpServer) monitorUp(peer *peer) {
	if len(s.monitors) == 0 {
		return
	}
	up := peer.monitored()
	for _, m := range s.monitors {
		m.Up(up)
	}
}

// monitorDown tells of the end of an established session. It comes before the
// session's routes are dropped: the monitor has no use for each of them.
func (s *BgpServer) monitorDown(peer *peer, reason *fsmStateReason) {
	if len(s.monitors) == 0 {
		return
	}
	end, at := endOf(reason), peer.addr()
	for _, m := range s.monitors {
		m.Down(at, end)
	}
}

// endOf returns the end that a state reason stands for. That of a graceful restart
// has its cause; without one the peer has connected anew.
func endOf(r *fsmStateReason) (end monitoredEnd) {
	if r != nil && r.Type == fsmGracefulRestart && r.cause != nil {
		r = r.cause
	}
	if r == nil {
		return end
	}
	switch r.Type {
	case fsmNotificationRecv, fsmHardReset:
	case fsmReadFailed:
		return end
	case fsmGracefulRestart, fsmWriteFailed:
		return monitoredEnd{Local: true, Event: tcpConnectionFails}
	default:
		end.Local = true
	}
	if r.BGPNotification != nil {
		end.Notification, _ = r.BGPNotification.Serialize()
	}
	return end
}

// monitorDeleted tells of the end of a session that is removed, with the
// NOTIFICATION that its handler is about to send.
func (s *BgpServer) monitorDeleted(peer *peer, code, subcode uint8) {
	if !peer.isUp() {
		return
	}
	m := bgp.NewBGPNotificationMessage(code, subcode, nil)
	peer.fsm.lock.RLock()
	if peer.fsm.pConf.GracefulRestart.State.NotificationEnabled {
		m = hardReset(m)
	}
	peer.fsm.lock.RUnlock()
	s.monitorDown(peer, newfsmStateReason(fsmNotificationSent, m, nil))
}

// monitorRoutes tells of the paths of a peer that are about to be imported.
func (s *BgpServer) monitorRoutes(peer *peer, paths []*table.Path) {
	if len(s.monitors) == 0 || peer == nil || len(paths) == 0 || !peer.isUp() {
		return
	}
	at := peer.addr()
	for _, p := range paths {
		prefix := prefixOfNlri(p.GetNlri())
		if !prefix.IsValid() {
			continue
		}
		for _, m := range s.monitors {
			m.Route(at, prefix, s.importingAgain)
		}
	}
}

// againImported imports paths that the peer announced before: only the result of
// import may be another one.
func (s *BgpServer) againImported(peer *peer, paths []*table.Path) {
	s.importingAgain = true
	defer func() { s.importingAgain = false }()
	s.propagateUpdate(peer, paths)
}

// monitorBest tells of the best paths that GetChanges found.
func (s *BgpServer) monitorBest(best []*table.Path) {
	if len(s.monitors) == 0 {
		return
	}
	for _, p := range best {
		if p == nil {
			continue
		}
		if prefix := prefixOfNlri(p.GetNlri()); prefix.IsValid() {
			for _, m := range s.monitors {
				m.Best(prefix)
			}
		}
	}
}

func (s *BgpServer) monitorEndOfRIB(peer *peer, family bgp.RouteFamily) {
	if len(s.monitors) == 0 {
		return
	}
	at := peer.addr()
	for _, m := range s.monitors {
		m.EndOfRIB(at, family)
	}
}

// monitoredUpdate is one UPDATE message and when its paths came; the zero Time: it
// withdraws.
type monitoredUpdate = struct {
	Message []byte
	At      time.Time
}

// The tables of MonitoredUpdates.
const (
	monitorReceived = "received" // Adj-RIB-In as the peer announces it
	monitorAccepted = "accepted" // the same after import
	monitorBest     = "best"     // Loc-RIB: the one best path
)

// MonitoredUpdates returns UPDATE messages (RFC 4271 section 4.3, AS numbers of four
// octets) that make a table of prefixes equal to what it is now: those without a
// path are withdrawn. from is the peer that the table is of. A path that no message
// can hold is withdrawn too.
func (s *BgpServer) MonitoredUpdates(of string, from netip.Addr, prefixes []netip.Prefix) (list []monitoredUpdate, err error) {
	err = s.mgmtOperation(func() error {
		var peer *peer
		if of != monitorBest {
			var err error
			if peer, err = s.peerAt(from); err != nil {
				return err
			}
		}
		e := updateEncoder{known: map[string]*outAttrs{}}
		for _, prefix := range prefixes {
			nlri, family := nlriOfPrefix(prefix)
			e.add(s.monitoredPath(of, peer, nlri, family), nlri, family)
		}
		list = e.updates()
		return nil
	}, true)
	return list, err
}

// monitoredPath returns the path to a prefix in a table, nil for none.
func (s *BgpServer) monitoredPath(of string, peer *peer, nlri bgp.AddrPrefixInterface, family bgp.RouteFamily) *table.Path {
	var received *table.Path
	if of != monitorBest {
		received = peer.adjRibIn.Find(family, nlri)
		if received == nil || of == monitorReceived {
			return received
		}
	}
	t, ok := s.globalRib.Tables[family]
	if !ok {
		return nil
	}
	dst := t.GetDestination(nlri)
	if dst == nil {
		return nil
	}
	if received == nil {
		return dst.GetBestPath(table.GLOBAL_RIB_NAME, 0)
	}
	for _, p := range dst.GetAllKnownPathList() {
		if p.GetSource() == received.GetSource() {
			return p
		}
	}
	return nil
}

// updateEncoder encodes paths so that those with the same attributes, of the same
// time, share a message.
type updateEncoder struct {
	known map[string]*outAttrs
	paths []encodedPath
}

type encodedPath struct {
	family bgp.RouteFamily
	tell   tell
	at     time.Time
}

// add adds the path to a prefix, nil to withdraw it.
func (e *updateEncoder) add(path *table.Path, nlri bgp.AddrPrefixInterface, family bgp.RouteFamily) {
	key, ok := outPrefixOf(nlri)
	if !ok {
		return
	}
	p := encodedPath{family: family, tell: tell{prefix: key}}
	if path != nil {
		if p.tell.attrs = e.encode(path, family, key.bits); p.tell.attrs != nil {
			p.at = path.GetTimestamp()
		}
	}
	e.paths = append(e.paths, p)
}

// encode returns the attributes of a path, nil where no message can hold them. A
// panic is a fault of this path alone.
func (e *updateEncoder) encode(path *table.Path, family bgp.RouteFamily, bits uint8) (attrs *outAttrs) {
	defer func() {
		if recover() != nil {
			attrs = nil
		}
	}()
	a, why := encodeAttrs(path, family, outSession{hop6: true})
	if why != "" || updateOverhead(a)+1+int(bits+7)/8 > bgp.BGP_MAX_MESSAGE_LENGTH {
		return nil
	}
	if known, ok := e.known[a.key]; ok {
		return known
	}
	a.id = uint64(len(e.known) + 1)
	e.known[a.key] = a
	return a
}

// updates returns the messages of the paths: withdrawals first.
func (e *updateEncoder) updates() (list []monitoredUpdate) {
	slices.SortStableFunc(e.paths, func(a, b encodedPath) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.tell.id(), b.tell.id()), a.at.Compare(b.at))
	})
	for i := 0; i < len(e.paths); {
		first := e.paths[i]
		w := updateWriter{family: first.family}
		for ; i < len(e.paths) && e.paths[i].family == first.family && e.paths[i].tell.attrs == first.tell.attrs && e.paths[i].at.Equal(first.at); i++ {
			w.add(e.paths[i].tell)
		}
		w.end()
		for rest := w.buf; len(rest) > 0; {
			n := binary.BigEndian.Uint16(rest[bgp.BGP_HEADER_LENGTH-3:])
			list = append(list, monitoredUpdate{Message: rest[:n:n], At: first.at})
			rest = rest[n:]
		}
	}
	return list
}

// id orders messages by attributes; 0: it withdraws.
func (t tell) id() uint64 {
	if t.attrs == nil {
		return 0
	}
	return t.attrs.id
}

// MonitoredCounts returns how many unicast paths each session and the Loc-RIB have,
// by family.
func (s *BgpServer) MonitoredCounts() (peers map[netip.Addr]map[bgp.RouteFamily]int, best map[bgp.RouteFamily]int, err error) {
	peers, best = map[netip.Addr]map[bgp.RouteFamily]int{}, map[bgp.RouteFamily]int{}
	err = s.mgmtOperation(func() error {
		for _, peer := range s.neighborMap {
			if !peer.isUp() {
				continue
			}
			counts := map[bgp.RouteFamily]int{}
			for _, f := range peer.negotiatedRFList() {
				counts[f] = peer.adjRibIn.Count([]bgp.RouteFamily{f})
			}
			peers[peer.addr()] = counts
		}
		for _, f := range unicast {
			t, ok := s.globalRib.Tables[f]
			if !ok {
				continue
			}
			best[f] = 0
			for dst := range t.GetDestinations() { // some outlive their last path
				if dst.GetBestPath(table.GLOBAL_RIB_NAME, 0) != nil {
					best[f]++
				}
			}
		}
		return nil
	}, true)
	return peers, best, err
}
