package bfd

import (
	"math/rand/v2"
	"time"
)

// slow is the least interval of a session that is not Up (RFC 5880 section
// 6.8.3): a neighbour that does not answer costs one packet a second.
const slow = time.Second

// session is the state machine of one session. It does no I/O: its methods receive
// the time and return the packets to send. The names of RFC 5880 section 6.8.1 are
// in the comments.
type session struct {
	cfg   Session
	local uint32 // bfd.LocalDiscr

	state State     // bfd.SessionState
	diag  Diag      // bfd.LocalDiag
	since time.Time // of state

	remote    packet // the neighbour's last packet; mine is bfd.RemoteDiscr
	lastHeard time.Time

	polling bool          // a Poll Sequence is open
	tx      time.Duration // bfd.DesiredMinTxInterval as announced
	rx      time.Duration // bfd.RequiredMinRxInterval as announced
	// Until the neighbour answers a Poll Sequence that lengthens our interval, or
	// shortens the neighbour's, the old value applies (section 6.8.3).
	oldTx, oldRx time.Duration

	nextTx   time.Time // of the periodic packet; zero: none
	detectAt time.Time // end of the detection time; zero: no packet received

	downs, failures, sent, unsent, received uint64
}

func newSession(cfg Session, local uint32, now time.Time) *session {
	s := &session{cfg: cfg, local: local, state: Down, since: now, nextTx: now, rx: cfg.Interval}
	s.tx = max(cfg.Interval, slow)
	s.remote = packet{minRx: 1, state: Down}
	return s
}

// due returns when the session next needs a tick; zero: never.
func (s *session) due() time.Time {
	if s.nextTx.IsZero() || !s.detectAt.IsZero() && s.detectAt.Before(s.nextTx) {
		return s.detectAt
	}
	return s.nextTx
}

// receive receives a valid packet of this session and returns the packets to
// answer with at once (RFC 5880 section 6.8.6).
func (s *session) receive(p packet, now time.Time) (reply []packet) {
	s.remote, s.lastHeard = p, now
	s.received++
	if s.polling && p.final {
		s.polling, s.oldTx, s.oldRx = false, 0, 0
	}
	if s.state == AdminDown {
		return nil
	}
	s.detectAt = now.Add(s.detection())
	changed := s.transition(p, now)
	if s.nextTx.IsZero() || s.nextTx.After(now.Add(s.interval())) {
		s.nextTx = now.Add(s.jittered())
	}
	if !s.periodic() {
		s.nextTx = time.Time{}
	}
	switch {
	case p.poll:
		reply = append(reply, s.packet(true))
	case changed:
		reply = append(reply, s.packet(false))
	}
	return reply
}

// transition moves the state machine of section 6.2 by a neighbour's packet
// and reports whether the state changed.
func (s *session) transition(p packet, now time.Time) bool {
	switch {
	case p.state == AdminDown:
		if s.state == Down {
			return false
		}
		s.enter(Down, DiagNeighbour, now)
	case s.state == Down && p.state == Down:
		s.enter(Init, s.diag, now)
	case s.state == Down && p.state == Init, s.state == Init && (p.state == Init || p.state == Up):
		s.enter(Up, DiagNone, now)
	case s.state == Up && p.state == Down:
		s.failures++
		s.enter(Down, DiagNeighbour, now)
	default:
		return false
	}
	return true
}

// tick takes the session down after the detection time and returns the periodic
// packet when they are due. The caller must have passed on all packets that
// arrived before now.
func (s *session) tick(now time.Time) (out []packet) {
	if !s.detectAt.IsZero() && !now.Before(s.detectAt) {
		s.remote.mine, s.remote.minRx, s.remote.demand = 0, 1, false
		s.polling, s.oldTx, s.oldRx = false, 0, 0
		if s.state == Init || s.state == Up {
			if s.state == Up {
				s.failures++
			}
			s.enter(Down, DiagExpired, now)
			out = append(out, s.packet(false))
		}
		s.detectAt = time.Time{}
		s.nextTx = now.Add(s.jittered())
	}
	if !s.nextTx.IsZero() && !now.Before(s.nextTx) {
		out = append(out, s.packet(false))
		s.nextTx = now.Add(s.jittered())
	}
	return out
}

// enter changes the state, and with it our intervals.
func (s *session) enter(to State, why Diag, now time.Time) {
	if s.state == Up && to != Up {
		s.downs++
	}
	s.state, s.diag, s.since = to, why, now
	want := s.cfg.Interval
	if to != Up {
		want = max(want, slow)
	}
	s.desire(want, s.cfg.Interval)
	s.detectAt = now.Add(s.detection())
	s.nextTx = now.Add(s.jittered())
}

// desire announces new intervals, with a Poll Sequence where the neighbour may
// use the old ones (section 6.8.3).
func (s *session) desire(tx, rx time.Duration) {
	if tx == s.tx && rx == s.rx {
		return
	}
	if s.state == Up {
		s.polling = true
		if tx > s.tx && s.oldTx == 0 {
			s.oldTx = s.tx
		}
		if rx < s.rx && s.oldRx == 0 {
			s.oldRx = s.rx
		}
	}
	s.tx, s.rx = tx, rx
}

// configure adopts changed timers without touching the session's state.
func (s *session) configure(cfg Session, now time.Time) {
	s.cfg = cfg
	want := cfg.Interval
	if s.state != Up {
		want = max(want, slow)
	}
	s.desire(want, cfg.Interval)
	s.nextTx = now
}

// shut takes the session down for good (section 6.8.16).
func (s *session) shut(now time.Time) {
	if s.state == Up {
		s.downs++
	}
	s.state, s.diag, s.since = AdminDown, DiagAdminDown, now
	s.polling, s.oldTx, s.oldRx, s.detectAt = false, 0, 0, time.Time{}
	s.nextTx = now
}

// periodic reports whether periodic packets must be sent (section 6.8.7).
func (s *session) periodic() bool {
	quiet := s.remote.demand && s.state == Up && s.remote.state == Up && !s.polling
	return s.remote.minRx != 0 && !quiet
}

// interval is the time between our packets, before jitter.
func (s *session) interval() time.Duration {
	tx := s.tx
	if s.oldTx > 0 {
		tx = min(tx, s.oldTx)
	}
	return max(tx, micros(s.remote.minRx))
}

// jittered is interval less up to a quarter, so that many sessions do not
// send in step (section 6.8.7). A multiplier of one would allow less.
func (s *session) jittered() time.Duration {
	d := s.interval()
	return d - time.Duration(rand.Int64N(int64(d)/4+1)) //nolint:gosec // spread, not secrecy
}

// detection is the detection time (section 6.8.4).
func (s *session) detection() time.Duration {
	return time.Duration(s.remote.multiplier) * max(s.rx, s.oldRx, micros(s.remote.minTx))
}

// packet returns the session's packet of now, and counts it as sent.
func (s *session) packet(final bool) packet {
	s.sent++
	return packet{
		diag: s.diag, state: s.state, poll: s.polling && !final, final: final,
		multiplier: s.cfg.Multiplier, mine: s.local, yours: s.remote.mine,
		minTx: wire(s.tx), minRx: wire(s.rx),
	}
}

// status returns the observed state of the session.
func (s *session) status() Status {
	st := Status{
		Session: s.cfg, State: s.state, Diag: s.diag, Since: s.since,
		RemoteState: s.remote.state, RemoteDiag: s.remote.diag, Independent: s.remote.independent,
		LastHeard: s.lastHeard, Downs: s.downs, Failures: s.failures, Sent: s.sent, Unsent: s.unsent, Received: s.received,
	}
	if s.remote.mine != 0 {
		st.Interval, st.Detection = s.interval(), s.detection()
	}
	return st
}

func micros(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

func wire(d time.Duration) uint32 { return uint32(d / time.Microsecond) } //nolint:gosec // validated: at most a minute
