// Part of the patch restart/stale-bound.

package server

import (
	"net"
	"time"

	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// staleTime is how long the routes of a peer that restarts are kept at most,
// in seconds, unless stale-routes-time is configured: before it is back,
// whatever restart time it asked for, and after that, without an End-of-RIB.
const staleTime = 360

func staleBound(c *oc.Neighbor) float64 {
	if t := c.GracefulRestart.Config.StaleRoutesTime; t > 0 {
		return t
	}
	return staleTime
}

// forgetRestart drops what the OPEN before said about graceful restart. The
// caller holds the lock.
func (fsm *fsm) forgetRestart() {
	fsm.keeps = make(map[bgp.RouteFamily]bool)
	fsm.pConf.GracefulRestart.State.Enabled = false
	fsm.pConf.GracefulRestart.State.NotificationEnabled = false
	fsm.pConf.GracefulRestart.State.LongLivedEnabled = false
	for i := range fsm.pConf.AfiSafis {
		state := &fsm.pConf.AfiSafis[i].MpGracefulRestart.State
		state.Enabled, state.Received = false, false
		long := &fsm.pConf.AfiSafis[i].LongLivedGracefulRestart.State
		long.Enabled, long.Received, long.PeerRestartTime = false, false, 0
	}
}

// kept notes what the OPEN says of a family's forwarding state, which both
// capabilities can say. It reports whether the family was negotiated: what is
// said of others means nothing. The caller holds the lock.
func (fsm *fsm) kept(afi uint16, safi, flags uint8) bool {
	f := bgp.AfiSafiToRouteFamily(afi, safi)
	_, negotiated := fsm.rfMap[f]
	fsm.keeps[f] = fsm.keeps[f] || negotiated && !fsm.anew && flags&0x80 != 0
	return negotiated
}

// identify notes who sent the OPEN. Paths of another speaker before it keep their
// source. The caller holds the lock.
func (fsm *fsm) identify(as uint32, id net.IP) {
	before := fsm.peerInfo
	fsm.anew = before.ID != nil && !before.ID.Equal(id) || before.AS != 0 && before.AS != as
	if before.ID != nil && !fsm.anew && before.AS == as {
		return // nothing is written: the paths share it, and are read without the lock
	}
	now := *before
	now.AS, now.ID = as, id
	fsm.peerInfo = &now
}

func (peer *peer) isRestarting() bool {
	peer.fsm.lock.RLock()
	defer peer.fsm.lock.RUnlock()
	return peer.fsm.pConf.GracefulRestart.State.PeerRestarting
}

// isAway keeps the routes of a peer whose session broke. It returns the families
// of which none are kept.
func (s *BgpServer) isAway(peer *peer) (drop []bgp.RouteFamily) {
	peer.stopPeerRestarting() // an absence before
	keep, drop := peer.forwardingPreservedFamilies()
	// What was stale already was not said again in the session that has ended:
	// it must not outlive a second restart (RFC 4724 section 4.2).
	s.propagateUpdate(peer, peer.adjRibIn.DropStale(keep))
	s.propagateUpdate(peer, peer.StaleAll(keep))

	fsm := peer.fsm
	fsm.lock.Lock()
	fsm.pConf.GracefulRestart.State.PeerRestarting = true
	wait := time.Duration(fsm.pConf.GracefulRestart.State.PeerRestartTime) * time.Second
	for i := range fsm.pConf.AfiSafis {
		fsm.pConf.AfiSafis[i].LongLivedGracefulRestart.State.PeerRestartTimerExpired = false
	}
	fsm.lock.Unlock()
	select {
	case <-fsm.expired: // of an absence before
	default:
	}
	peer.absence++
	s.later(peer, wait, func() {
		if !peer.isUp() {
			s.notBack(peer)
		}
	})
	return drop
}

// later calls fn on the server's goroutine, unless the absence of the peer is over
// by then.
func (s *BgpServer) later(peer *peer, wait time.Duration, fn func()) {
	absence := peer.absence
	time.AfterFunc(wait, func() {
		s.mgmtOperation(func() error {
			if peer.absence == absence && peer.isRestarting() && s.neighborMap[peer.ID()] == peer {
				fn()
			}
			return nil
		}, false)
	})
}

func (peer *peer) isUp() bool {
	peer.fsm.lock.RLock()
	defer peer.fsm.lock.RUnlock()
	return peer.fsm.state == bgp.BGP_FSM_ESTABLISHED
}

// notBack follows the end of the restart time. A session that is being made goes
// on: only the routes of before go, or become the last resort (RFC 9494).
func (s *BgpServer) notBack(peer *peer) {
	s.logger.Warn("graceful restart timer expired",
		log.Fields{
			"Topic": "Peer",
			"Key":   peer.ID()})
	peer.fsm.lock.RLock()
	longLived := peer.fsm.pConf.GracefulRestart.State.LongLivedEnabled
	peer.fsm.lock.RUnlock()
	if !longLived {
		s.forgetAbsent(peer)
		return
	}
	llgr, others := peer.llgrFamilies()
	s.propagateUpdate(peer, peer.adjRibIn.DropStale(others))
	// Those with NO_LLGR are deleted. When one with LLGR_STALE is chosen as best,
	// peers without this capability are sent a withdrawal.
	s.propagateUpdate(peer, peer.markLLGRStale(llgr))
	for _, f := range llgr {
		wait := time.Second * time.Duration(peer.llgrRestartTime(f))
		s.logger.Info("LLGR restart timer started",
			log.Fields{
				"Topic":    "Peer",
				"Key":      peer.ID(),
				"Family":   f,
				"Duration": wait})
		s.later(peer, wait, func() {
			// Not what has been said since, by a peer that is back.
			s.propagateUpdate(peer, peer.adjRibIn.DropStale([]bgp.RouteFamily{f}))
			if peer.llgrRestartTimerExpired(f) {
				s.forgetAbsent(peer)
			}
		})
	}
	if len(llgr) == 0 {
		s.forgetAbsent(peer)
	}
}

// forgetAbsent drops all that was kept for a peer.
func (s *BgpServer) forgetAbsent(peer *peer) {
	peer.stopPeerRestarting()
	s.propagateUpdate(peer, peer.adjRibIn.DropStale(peer.configuredRFlist()))
	if peer.isDynamicNeighbor() && !peer.isUp() {
		select {
		case peer.fsm.expired <- struct{}{}: // it is forgotten when nobody connects
		default:
		}
	}
}

// isBack follows the return of a peer that restarted: the routes of families
// whose forwarding state it has lost, or that it does not have any more, go at
// once (RFC 4724 section 4.2), and all of another speaker in its place. The others
// go when it has said everything, or has taken too long for that.
func (s *BgpServer) isBack(peer *peer) {
	fsm := peer.fsm
	fsm.lock.RLock()
	restarting := fsm.pConf.GracefulRestart.State.PeerRestarting
	lost, left := []bgp.RouteFamily{}, false
	for _, a := range fsm.pConf.AfiSafis {
		if fsm.keeps[a.State.Family] {
			left = true
		} else {
			lost = append(lost, a.State.Family)
		}
	}
	bound := staleBound(fsm.pConf)
	fsm.lock.RUnlock()
	if !restarting {
		return
	}
	s.propagateUpdate(peer, peer.adjRibIn.DropStale(lost))
	if !left {
		peer.stopPeerRestarting()
		return
	}
	s.later(peer, time.Duration(bound*float64(time.Second)), func() {
		if peer.isUp() {
			s.forgetAbsent(peer)
		}
	})
}
