package bgp

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/bmp"
	"onlink/bgp/policy"
)

// monitor notes what a station would be informed of.
type monitor struct {
	mu      sync.Mutex
	ups     map[netip.Addr]*bmp.Session
	ends    []string
	changed map[string]bool // "PEER PREFIX", "PEER PREFIX accepted", "PREFIX"
}

func (m *monitor) Up(s *bmp.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ups[s.Peer] = s
}

func (m *monitor) Down(peer netip.Addr, end bmp.End) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ups, peer)
	text := fmt.Sprintf("local=%t event=%d", end.Local, end.Event)
	if n := end.Notification; len(n) >= 21 {
		text = fmt.Sprintf("local=%t notification=%d/%d", end.Local, n[19], n[20])
	}
	m.ends = append(m.ends, text)
}

func (m *monitor) Changed(peer netip.Addr, p netip.Prefix, acceptedOnly bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed[fmt.Sprint(peer, " ", p, map[bool]string{true: " accepted"}[acceptedOnly])] = true
}

func (m *monitor) BestChanged(p netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed[p.String()] = true
}

func (m *monitor) EndOfRIB(peer netip.Addr, f bmp.Family) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed[fmt.Sprint(peer, " end ", f)] = true
}

// waitChanged waits until exactly these changes were reported, and forgets them.
func (m *monitor) waitChanged(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		if got := slices.Sorted(maps.Keys(m.changed)); !slices.Equal(got, want) {
			return fmt.Sprintf("changes %q, want %q", got, want)
		}
		clear(m.changed)
		return ""
	})
}

// session returns the session with a peer once it is up.
func (m *monitor) session(t *testing.T, peer netip.Addr) (s *bmp.Session) {
	t.Helper()
	eventually(t, func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		if s = m.ups[peer]; s == nil {
			return fmt.Sprintf("%s is not up; ends: %q", peer, m.ends)
		}
		return ""
	})
	return s
}

func (m *monitor) waitEnd(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.ends) == 0 || m.ends[len(m.ends)-1] != want {
			return fmt.Sprintf("ends %q, want %q", m.ends, want)
		}
		return ""
	})
}

// monitored watches a speaker until the test ends.
func (n *node) monitored() *monitor {
	n.t.Helper()
	m := &monitor{ups: map[netip.Addr]*bmp.Session{}, changed: map[string]bool{}}
	stop, err := NewMonitored(n.Speaker).Watch(m)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(stop)
	return m
}

// table returns a table as a station receives it, a line for each route; nothing may be
// in it twice.
func (n *node) monitoredTable(of bmp.Table) []string {
	n.t.Helper()
	from := NewMonitored(n.Speaker)
	prefixes, err := from.Prefixes(of)
	if err != nil {
		n.t.Fatal(err)
	}
	updates, err := from.Updates(of, prefixes)
	if err != nil {
		n.t.Fatal(err)
	}
	var lines []string
	for _, u := range updates {
		if u.At.IsZero() {
			continue // a prefix without a route in this table
		}
		m, err := bgp.ParseBGPMessage(u.Message)
		if err != nil {
			n.t.Fatalf("%x: %v", u.Message, err)
		}
		lines = append(lines, updateLines(m.Body.(*bgp.BGPUpdate))...)
	}
	slices.Sort(lines)
	return lines
}

// updateLines writes the routes of an UPDATE.
func updateLines(u *bgp.BGPUpdate) (lines []string) {
	var attrs, prefixes []string
	for _, n := range u.NLRI {
		prefixes = append(prefixes, n.String())
	}
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *bgp.PathAttributeMpReachNLRI:
			attrs = append(attrs, "via "+a.Nexthop.String())
			for _, n := range a.Value {
				prefixes = append(prefixes, n.String())
			}
		case *bgp.PathAttributeNextHop:
			attrs = append(attrs, "via "+a.Value.String())
		case *bgp.PathAttributeAsPath:
			var path []string
			for _, p := range a.Value {
				path = append(path, strings.Trim(fmt.Sprint(p.GetAS()), "[]"))
			}
			attrs = append(attrs, "path "+strings.Join(path, " "))
		case *bgp.PathAttributeLocalPref:
			attrs = append(attrs, fmt.Sprint("pref ", a.Value))
		}
	}
	slices.Sort(attrs)
	for _, p := range prefixes {
		lines = append(lines, p+" "+strings.Join(attrs, " "))
	}
	return lines
}

func (n *node) waitTable(of bmp.Table, want ...string) {
	n.t.Helper()
	slices.Sort(want)
	eventually(n.t, func() string {
		if got := n.monitoredTable(of); !slices.Equal(got, want) {
			return fmt.Sprintf("%v: %q, want %q", of, got, want)
		}
		return ""
	})
}

// TestMonitoredSession: a station receives both OPENs as they were on the wire, also an
// unknown capability of the peer, and those of a session that began before it watched;
// so does one whose connection replaced another.
func TestMonitoredSession(t *testing.T) {
	r := startRestarter(t, "127.115.0.", false, nil)
	first := r.x.monitored()
	caps := [][]byte{restart(120, kept4, kept6), capFamilies, {200, 3, 1, 2, 3}}
	check := func(p *rawPeer, m *monitor) {
		t.Helper()
		s := m.session(t, addr(r.addr))
		if want := rawMessage(1, p.open); !bytes.Equal(s.SentOpen, want) {
			t.Errorf("sent %x, want %x", s.SentOpen, want)
		}
		if want := rawMessage(1, r.open(caps...)); !bytes.Equal(s.ReceivedOpen, want) {
			t.Errorf("received %x, want %x", s.ReceivedOpen, want)
		}
		remote, err := netip.ParseAddrPort(p.conn.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if s.Local != netip.AddrPortFrom(r.x.addr, testPort) || s.Remote != remote || s.ASN != 64512 || s.RouterID != addr(r.id) {
			t.Errorf("%+v", s)
		}
		slices.Sort(s.Families)
		if !slices.Equal(s.Families, []bmp.Family{bmp.IPv4, bmp.IPv6}) || !s.SendsEndOfRIB || s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
	}
	p := r.up(caps...)
	check(p, first)
	check(p, r.x.monitored())
	p.end4()
	first.waitChanged(t, r.addr+" end 1")
	eventually(t, func() string {
		if s := r.x.monitored().session(t, addr(r.addr)); !slices.Equal(s.Ended, []bmp.Family{bmp.IPv4}) {
			return fmt.Sprintf("ended %v", s.Ended)
		}
		return ""
	})

	next := r.dial() // the peer restarted, and connects anew (RFC 4724 section 5)
	next.send(1, r.open(caps...))
	next.send(4, nil)
	first.waitEnd(t, "local=true event=18")
	check(next, first)
}

// TestMonitoredEnd: each end of a session is what it is for Peer Down, also one over
// which the routes of the peer are kept.
func TestMonitoredEnd(t *testing.T) {
	r := startRestarter(t, "127.115.1.", false, nil)
	m := r.x.monitored()
	for _, tt := range []struct {
		name string
		caps []byte // graceful restart; nil: none
		end  func(p *rawPeer)
		want string
	}{
		{"the peer sends a NOTIFICATION", nil, func(p *rawPeer) { p.send(3, []byte{6, 4}) }, "local=false notification=6/4"},
		{"and keeps its routes", []byte{0x40}, func(p *rawPeer) { p.send(3, []byte{6, 4}) }, "local=false notification=6/4"},
		{"the connection is lost", nil, r.dies, "local=false event=0"},
		{"and its routes are kept", []byte{0}, r.dies, "local=false event=0"},
		{"a malformed message", nil, func(p *rawPeer) { p.send(2, []byte{0xff, 0xff, 0, 0}) }, "local=true notification=3/1"},
		{"the operator resets it", nil, func(*rawPeer) {
			if err := r.x.Reset(t.Context(), addr(r.addr), "test"); err != nil {
				t.Error(err)
			}
		}, "local=true notification=6/4"},
		{"it leaves the configuration", nil, func(*rawPeer) { r.x.setPeers(nil) }, "local=true notification=6/3"},
	} {
		t.Log(tt.name)
		caps := [][]byte{capFamilies}
		if tt.caps != nil {
			one := restart(120, kept4, kept6)
			one[2] |= tt.caps[0] // the N bit (RFC 8538)
			caps = append(caps, one)
		}
		p := r.up(caps...)
		m.session(t, addr(r.addr))
		m.mu.Lock()
		m.ends = nil
		m.mu.Unlock()
		tt.end(p)
		m.waitEnd(t, tt.want)
	}
	if _, err := NewMonitored(r.x.Speaker).Updates(bmp.Table{View: bmp.Received, Peer: addr(r.addr)}, []netip.Prefix{prefix("10.244.1.0/26")}); err == nil {
		t.Error("a table of a peer that is gone")
	}
}

// TestMonitoredRoutes: the tables before and after import and the Loc-RIB are those of
// the engine, and each change of one is reported, nothing else.
func TestMonitoredRoutes(t *testing.T) {
	needsPatches(t)
	tor := testConfig(t, "127.115.2.1")
	tor.ASN, tor.Pools = 65001, nil
	n := startNodes(t, testConfig(t, "127.115.2.9"), tor)
	x, y := n[0], n[1]
	x.originate("10.244.1.0/26")
	y.originate("172.16.1.0/24", "192.168.0.0/16")
	imports := func(pref uint32, accept ...string) policy.Import {
		i := policy.Import{LocalPref: pref}
		for _, a := range accept {
			p := prefix(a)
			i.Accept = append(i.Accept, policy.PrefixRule{Prefix: p, Ge: p.Bits(), Le: 32})
		}
		return i
	}
	peer := func(to, local string, asn uint32, i policy.Import) Peer {
		p := from(Peer{Name: "to-" + to, Address: addr(to), Port: testPort, Session: Session{Role: EBGP, ASN: asn, Import: i, Export: policy.Export{Own: true}}}, local)
		return p
	}
	m := x.monitored()
	x.setPeers([]Peer{peer("127.115.2.1", "127.115.2.9", 65001, imports(200, "172.16.0.0/12"))})
	y.setPeers([]Peer{peer("127.115.2.9", "127.115.2.1", 64512, imports(0, "10.244.0.0/16"))})
	x.waitUp(y.addr)

	received, accepted, best := bmp.Table{View: bmp.Received, Peer: y.addr}, bmp.Table{View: bmp.Accepted, Peer: y.addr}, bmp.Table{View: bmp.Best}
	const one, two = "172.16.1.0/24 path 65001 ", "192.168.0.0/16 path 65001 "
	own := "10.244.1.0/26 path  via 127.115.2.9"
	if got := x.monitoredTable(best); len(got) != 2 {
		t.Errorf("best %q", got)
	} else {
		own = got[0]
	}
	x.waitTable(received, one+"via 127.115.2.1", two+"via 127.115.2.1")
	x.waitTable(accepted, one+"pref 200 via 127.115.2.1")
	x.waitTable(best, own, one+"pref 200 via 127.115.2.1")
	at := y.addr.String() + " "
	m.waitChanged(t, at+"172.16.1.0/24", at+"192.168.0.0/16", "172.16.1.0/24", at+"end 1")

	// Another import changes what is accepted; what the peer announces is the same.
	x.setPeers([]Peer{peer("127.115.2.1", "127.115.2.9", 65001, imports(300, "192.168.0.0/16"))})
	x.waitTable(accepted, two+"pref 300 via 127.115.2.1")
	x.waitTable(best, own, two+"pref 300 via 127.115.2.1")
	x.waitTable(received, one+"via 127.115.2.1", two+"via 127.115.2.1")
	m.waitChanged(t, at+"172.16.1.0/24 accepted", at+"192.168.0.0/16 accepted", "172.16.1.0/24", "192.168.0.0/16")

	y.originate("192.168.0.0/16")
	x.waitTable(received, two+"via 127.115.2.1")
	m.waitChanged(t, at+"172.16.1.0/24")
	x.originate()
	x.waitTable(best, two+"pref 300 via 127.115.2.1")
	m.waitChanged(t, "10.244.1.0/26")

	counts, err := NewMonitored(x.Speaker).Counts()
	if err != nil || counts.Peers[y.addr].Received[bmp.IPv4] != 1 || counts.Best[bmp.IPv4] != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
	withdrawn, err := NewMonitored(x.Speaker).Updates(received, []netip.Prefix{prefix("172.16.1.0/24"), prefix("2001:db8::/32"), prefix("192.168.0.0/16")})
	if err != nil || len(withdrawn) != 3 || !withdrawn[0].At.IsZero() || withdrawn[1].At.IsZero() || !withdrawn[2].At.IsZero() {
		t.Errorf("%+v, %v", withdrawn, err)
	}
}

// TestMonitoredMany: prefixes with the same attributes share messages, none of which is
// longer than a message may be.
func TestMonitoredMany(t *testing.T) {
	r := startRestarter(t, "127.115.3.", false, nil)
	p := r.up()
	var nlri []byte
	for i := range 1000 {
		nlri = append(nlri, 32, 10, 244, byte(i>>8), byte(i))
	}
	hop := addr(r.addr).As4()
	for part := range slices.Chunk(nlri, 3000) {
		p.update(joined(attrOrigin, whole(0x40, 2), whole(0x40, 3, hop[:]...), attrLocalPref), part)
	}
	of := bmp.Table{View: bmp.Received, Peer: addr(r.addr)}
	from := NewMonitored(r.x.Speaker)
	var prefixes []netip.Prefix
	eventually(t, func() string {
		var err error
		if prefixes, err = from.Prefixes(of); err != nil || len(prefixes) != 1000 {
			return fmt.Sprintf("%d prefixes, %v", len(prefixes), err)
		}
		return ""
	})
	updates, err := from.Updates(of, prefixes)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, u := range updates {
		if len(u.Message) > 4096 {
			t.Errorf("a message of %d bytes", len(u.Message))
		}
		m, err := bgp.ParseBGPMessage(u.Message)
		if err != nil {
			t.Fatal(err)
		}
		count += len(m.Body.(*bgp.BGPUpdate).NLRI)
	}
	if count != 1000 || len(updates) > 4 {
		t.Errorf("%d routes in %d messages", count, len(updates))
	}
}

// TestMonitoredNotStarted: a speaker that does not run has no tables.
func TestMonitoredNotStarted(t *testing.T) {
	s, err := New(testConfig(t, "127.115.4.1"))
	if err != nil {
		t.Fatal(err)
	}
	from := NewMonitored(s)
	_, watch := from.Watch(&monitor{})
	_, prefixes := from.Prefixes(bmp.Table{View: bmp.Best})
	_, updates := from.Updates(bmp.Table{View: bmp.Best}, nil)
	_, counts := from.Counts()
	for _, err := range []error{watch, prefixes, updates, counts} {
		if !errors.Is(err, ErrNotStarted) {
			t.Errorf("%v", err)
		}
	}
}
