package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pair is two sessions on a wire with a clock of its own.
type pair struct {
	now  time.Time
	a, b *session
	// wire holds the packets on their way: each arrives after delay, or never.
	wire  []flight
	delay time.Duration
	cut   func(toB bool) bool // reports whether a packet is lost
	log   []string            // state changes, "12.3s a Down->Init"
	sent  map[*session][]time.Time
}

type flight struct {
	at  time.Time
	to  *session
	pkt packet
}

func newPair(a, b Session) *pair {
	p := &pair{now: time.Unix(1000, 0), delay: time.Millisecond, cut: func(bool) bool { return false }, sent: map[*session][]time.Time{}}
	p.a = newSession(a.withDefaults(), 1, p.now)
	p.b = newSession(b.withDefaults(), 2, p.now)
	return p
}

func (p *pair) put(from *session, list []packet) {
	to := p.a
	if from == p.a {
		to = p.b
	}
	for _, pkt := range list {
		p.sent[from] = append(p.sent[from], p.now)
		if !p.cut(to == p.b) {
			p.wire = append(p.wire, flight{p.now.Add(p.delay), to, pkt})
		}
	}
}

// run advances the clock, event by event.
func (p *pair) run(d time.Duration) {
	end := p.now.Add(d)
	for {
		next := end
		for _, at := range []time.Time{p.a.due(), p.b.due()} {
			if !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		for _, f := range p.wire {
			if f.at.Before(next) {
				next = f.at
			}
		}
		if next.After(p.now) {
			p.now = next
		}
		if !p.now.Before(end) {
			return
		}
		p.step()
	}
}

func (p *pair) step() {
	was := [2]State{p.a.state, p.b.state}
	arrived := slices.Clone(p.wire)
	p.wire = slices.DeleteFunc(p.wire, func(f flight) bool { return !p.now.Before(f.at) })
	for _, f := range arrived {
		if p.now.Before(f.at) {
			continue
		}
		again, err := parse(f.pkt.append(nil))
		if err != nil {
			panic(err)
		}
		p.put(f.to, f.to.receive(again, p.now))
	}
	for _, s := range []*session{p.a, p.b} {
		p.put(s, s.tick(p.now))
	}
	for i, s := range []*session{p.a, p.b} {
		if s.state != was[i] {
			p.log = append(p.log, fmt.Sprintf("%c %s->%s %d", 'a'+i, was[i], s.state, s.diag))
		}
	}
}

// rate counts the packets that s sent in the last d.
func (p *pair) rate(s *session, d time.Duration) int {
	n := 0
	for _, at := range p.sent[s] {
		if p.now.Sub(at) <= d {
			n++
		}
	}
	return n
}

var peerA, peerB = Session{Peer: netip.MustParseAddr("10.0.0.2")}, Session{Peer: netip.MustParseAddr("10.0.0.1")}

func with(s Session, interval time.Duration, mult uint8) Session {
	s.Interval, s.Multiplier = interval, mult
	return s
}

func (p *pair) mustUp(t *testing.T) {
	t.Helper()
	p.run(5 * time.Second)
	if p.a.state != Up || p.b.state != Up || p.a.polling || p.b.polling {
		t.Fatalf("a is %s, b is %s, polling %t %t\n%s", p.a.state, p.b.state, p.a.polling, p.b.polling, strings.Join(p.log, "\n"))
	}
}

// TestSlowStartAndNegotiation: one packet a second until Up; then the greater of
// one side's DesiredMinTx and the other's RequiredMinRx, less jitter.
func TestSlowStartAndNegotiation(t *testing.T) {
	t.Parallel()
	p := newPair(with(peerA, 100*time.Millisecond, 3), with(peerB, 50*time.Millisecond, 5))
	p.cut = func(bool) bool { return true }
	p.run(10 * time.Second)
	if n := p.rate(p.a, 10*time.Second); n < 10 || n > 15 {
		t.Errorf("%d packets in 10 s without an answer, want 10 to 14", n)
	}
	p.cut = func(bool) bool { return false }
	p.mustUp(t)
	p.run(10 * time.Second)
	for _, s := range []*session{p.a, p.b} {
		if n := p.rate(s, 10*time.Second); n < 100 || n > 135 {
			t.Errorf("%d packets in 10 s, want 100 to 134 (100 ms less up to a quarter)", n)
		}
	}
	if got, want := p.a.detection(), 500*time.Millisecond; got != want {
		t.Errorf("a's detection time %s, want %s: b's multiplier times the slower interval", got, want)
	}
	if got, want := p.b.detection(), 300*time.Millisecond; got != want {
		t.Errorf("b's detection time %s, want %s", got, want)
	}
	if p.a.downs+p.b.downs != 0 {
		t.Errorf("sessions went down: %v", p.log)
	}
}

// TestDetection: silence in one direction takes both sides down within the
// detection time, the receiving one because the other signals it; then they come
// back.
func TestDetection(t *testing.T) {
	t.Parallel()
	p := newPair(peerA, peerB)
	p.mustUp(t)
	p.log = nil
	cutAt := p.now
	p.cut = func(toB bool) bool { return toB } // b receives nothing any more
	for p.b.state == Up {
		p.run(10 * time.Millisecond)
	}
	if took := p.now.Sub(cutAt); took < 600*time.Millisecond || took > 920*time.Millisecond {
		t.Errorf("detected after %s, want at most 3 x 300 ms, at least one jittered interval less", took)
	}
	p.run(2 * time.Second)
	p.cut = func(bool) bool { return false }
	p.mustUp(t)
	want := []string{"b Up->Down 1", "a Up->Down 3"}
	if diff := cmp.Diff(want, p.log[:2]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.a.failures != 1 || p.b.failures != 1 {
		t.Errorf("failures %d and %d, want 1 and 1", p.a.failures, p.b.failures)
	}
}

// TestAdminDown: a session that its own side takes down is no failure of the
// path (RFC 5882 section 3.2).
func TestAdminDown(t *testing.T) {
	t.Parallel()
	p := newPair(peerA, peerB)
	p.mustUp(t)
	p.a.shut(p.now)
	p.run(time.Second)
	if p.b.state != Down || p.b.downs != 1 || p.b.failures != 0 || p.b.remote.state != AdminDown {
		t.Errorf("b is %s, downs %d, failures %d, remote %s", p.b.state, p.b.downs, p.b.failures, p.b.remote.state)
	}
	if p.a.state != AdminDown {
		t.Errorf("a is %s, AdminDown must not end by a packet", p.a.state)
	}
}

// TestReconfigure: timers change in both directions while the session stays
// up, and a longer interval applies only after the neighbour's answer (section
// 6.8.3).
func TestReconfigure(t *testing.T) {
	t.Parallel()
	p := newPair(peerA, peerB)
	p.mustUp(t)
	for _, interval := range []time.Duration{2 * time.Second, 50 * time.Millisecond, 300 * time.Millisecond} {
		p.a.configure(with(peerA, interval, 3), p.now)
		if old := p.a.interval(); interval > old && !p.a.polling {
			t.Errorf("slows down to %s without a Poll Sequence", interval)
		}
		p.run(10 * time.Second)
		if want := max(interval, 300*time.Millisecond); p.a.interval() != want || p.b.interval() != want || p.a.polling {
			t.Errorf("intervals %s and %s after asking for %s, polling %t", p.a.interval(), p.b.interval(), interval, p.a.polling)
		}
	}
	if p.a.downs+p.b.downs != 0 {
		t.Errorf("sessions went down: %v", p.log)
	}
}

// TestRestartedNeighbour: a neighbour with a new discriminator in state Down
// takes the session down and up again.
func TestRestartedNeighbour(t *testing.T) {
	t.Parallel()
	p := newPair(peerA, peerB)
	p.mustUp(t)
	p.b = newSession(p.b.cfg, 77, p.now)
	p.mustUp(t)
	if p.a.remote.mine != 77 || p.a.failures != 1 {
		t.Errorf("a talks to %d, failures %d", p.a.remote.mine, p.a.failures)
	}
}

// TestQuietNeighbour: RequiredMinRx 0 stops our periodic packets, as does demand
// mode while both are Up; a poll is answered all the same.
func TestQuietNeighbour(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*packet)
	}{
		{"required min rx 0", func(p *packet) { p.minRx = 0 }},
		{"demand", func(p *packet) { p.demand = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(peerA, peerB)
			p.mustUp(t)
			pkt := p.b.packet(false)
			tt.change(&pkt)
			pkt.poll = true
			got := p.a.receive(pkt, p.now)
			if len(got) != 1 || !got[0].final || got[0].poll {
				t.Errorf("poll answered with %+v", got)
			}
			if !p.a.nextTx.IsZero() {
				t.Errorf("a periodic packet is planned")
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	good := packet{state: Up, multiplier: 3, mine: 7, yours: 9, minTx: 50000, minRx: 60000, minEcho: 1, diag: 8, poll: true, independent: true}
	got, err := parse(good.append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good, got, cmp.AllowUnexported(packet{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
	}{
		{"short", func(b []byte) []byte { return b[:23] }},
		{"empty", func([]byte) []byte { return nil }},
		{"version 0", func(b []byte) []byte { b[0] &= 0x1f; return b }},
		{"version 2", func(b []byte) []byte { b[0] = 2 << 5; return b }},
		{"length 23", func(b []byte) []byte { b[3] = 23; return b }},
		{"length over the datagram", func(b []byte) []byte { b[3] = 25; return b }},
		{"authentication", func(b []byte) []byte { b[1] |= flagAuth; return b }},
		{"multipoint", func(b []byte) []byte { b[1] |= flagMultipoint; return b }},
		{"multiplier 0", func(b []byte) []byte { b[2] = 0; return b }},
		{"my discriminator 0", func(b []byte) []byte { copy(b[4:8], make([]byte, 4)); return b }},
		{"your discriminator 0 while Up", func(b []byte) []byte { copy(b[8:12], make([]byte, 4)); return b }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if p, err := parse(tt.change(good.append(nil))); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		s    Session
		want string // part of the error, "" for none
	}{
		{"default", peerA, ""},
		{"fastest", with(peerA, 50*time.Millisecond, 3), ""},
		{"too fast", with(peerA, 49*time.Millisecond, 3), "Interval"},
		{"too slow", with(peerA, 2*time.Minute, 3), "Interval"},
		{"one packet", with(peerA, time.Second, 1), "Multiplier"},
		{"no peer", Session{}, "Peer"},
		{"link-local without zone", Session{Peer: netip.MustParseAddr("fe80::1")}, "zone"},
		{"two families", Session{Peer: peerA.Peer, Local: netip.MustParseAddr("fd00::1")}, "family"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.s.withDefaults().validate()
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrSession) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzSession feeds any datagrams to a session at any times: it must not
// panic, and Up may only be reached by the three-way handshake's last packets.
func FuzzSession(f *testing.F) {
	good := packet{state: Down, multiplier: 3, mine: 7, minTx: 1, minRx: 1}
	f.Add(good.append(nil), uint32(10))
	f.Add(packet{state: Init, multiplier: 255, mine: 7, yours: 1, minTx: 1<<32 - 1, minRx: 1<<32 - 1, poll: true}.append(nil), uint32(1<<31))
	f.Add(append(good.append(nil), packet{state: Up, multiplier: 1, mine: 7, yours: 1, demand: true}.append(nil)...), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint32) {
		now := time.Unix(1000, 0)
		s := newSession(peerA.withDefaults(), 1, now)
		for len(data) > 0 {
			n := min(packetLen, len(data))
			p, err := parse(data[:n])
			data = data[n:]
			now = now.Add(time.Duration(step) * time.Microsecond)
			was := s.state
			if err == nil {
				for _, r := range s.receive(p, now) {
					if r.poll && r.final {
						t.Fatal("a packet with P and F")
					}
				}
				if s.state == Up && was != Up && p.state != Init && p.state != Up {
					t.Fatalf("%s became Up by a packet of state %s", was, p.state)
				}
			}
			s.tick(now)
			if s.nextTx.IsZero() && s.periodic() {
				t.Fatal("periodic packets are due and none is planned")
			}
		}
	})
}
