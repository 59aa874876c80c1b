package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// restarter is a hand-made peer that restarts.
type restarter struct {
	t    *testing.T
	x    *node // whose peer it is
	addr string
	id   string // its BGP identifier
	as   uint16 // its AS
}

// Restart capabilities: IPv4, IPv6 or both, with the forwarding state kept (F) or
// lost, and a restart time in seconds.
func restart(seconds byte, families ...[]byte) []byte {
	return append([]byte{64, byte(2 + 4*len(families)), 0, seconds}, joined(families...)...)
}

var (
	kept4, lost4 = []byte{0, 1, 1, 0x80}, []byte{0, 1, 1, 0}
	kept6, lost6 = []byte{0, 2, 1, 0x80}, []byte{0, 2, 1, 0}
)

// startRestarter starts a speaker at .1 whose client at .2 restarts: one that is
// configured, or one of a range.
func startRestarter(t *testing.T, net24 string, dynamic bool, change func(*Session)) *restarter {
	t.Helper()
	needsPatches(t)
	r := &restarter{t: t, x: startNodes(t, testConfig(t, net24+"1"))[0], addr: net24 + "2", id: net24 + "2", as: 64512}
	session := Session{Role: Client, Families: []Family{IPv4, IPv6}}
	if change != nil {
		change(&session)
	}
	if dynamic {
		r.x.setPeers(nil, Dynamic{Name: "clients", Prefix: prefix(net24 + "0/24"), Session: session})
	} else {
		r.x.setPeers([]Peer{{Name: "raw", Address: addr(r.addr), Port: testPort, Passive: true, Session: session}})
	}
	return r
}

// open is the peer's OPEN.
func (r *restarter) open(caps ...[]byte) []byte {
	all := joined(append([][]byte{{65, 4, 0, 0, byte(r.as >> 8), byte(r.as)}}, caps...)...)
	b := binary.BigEndian.AppendUint16([]byte{4}, r.as)
	b = append(append(b, 0, 180), addr(r.id).AsSlice()...)
	return append(append(b, byte(len(all)+2), 2, byte(len(all))), all...)
}

// dial connects and reads the speaker's OPEN, as soon as it sends one.
func (r *restarter) dial() *rawPeer {
	r.t.Helper()
	p := &rawPeer{t: r.t}
	eventually(r.t, func() string {
		c, err := r.connect()
		if err != nil {
			return err.Error()
		}
		typ, body, err := readMessage(c)
		if err != nil || typ != 1 {
			return fmt.Sprintf("no OPEN: type %d, %v", typ, errors.Join(err, c.Close()))
		}
		p.conn, p.open = c, body
		return ""
	})
	r.t.Cleanup(func() { _ = p.conn.Close() }) // most are over
	return p
}

// connect opens a TCP connection from the peer's address.
func (r *restarter) connect() (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(r.addr)}, Timeout: time.Second}
	c, err := d.Dial("tcp", netip.AddrPortFrom(r.x.addr, testPort).String())
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

// up brings a session up; both families unless caps names some.
func (r *restarter) up(caps ...[]byte) *rawPeer {
	r.t.Helper()
	p := r.dial()
	if !slices.ContainsFunc(caps, func(c []byte) bool { return c[0] == 1 }) {
		caps = append(caps, capFamilies)
	}
	p.send(1, r.open(caps...))
	p.send(4, nil)
	if got := p.answer(); got != "used" {
		r.t.Fatalf("the OPEN was not taken: %s", got)
	}
	r.isUp()
	return p
}

func (r *restarter) isUp() {
	r.t.Helper()
	eventually(r.t, func() string { return notUp(r.x.peer(addr(r.addr))) })
}

// dies ends the session as a crash does, and waits until the speaker reports it.
func (r *restarter) dies(p *rawPeer) {
	r.t.Helper()
	if err := p.conn.(*net.TCPConn).SetLinger(0); err != nil {
		r.t.Fatal(err)
	}
	if err := p.conn.Close(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, func() string {
		if r.x.peer(addr(r.addr)).State == established {
			return "the loss was not noticed"
		}
		return ""
	})
}

// says announces routes: 4.N is 10.244.N.0/26, 6.N is fd00:244:0:N::/64.
func (r *restarter) says(p *rawPeer, routes ...string) {
	r.t.Helper()
	for _, route := range routes {
		to := named(route)
		a := to.Addr().AsSlice()
		nlri := append([]byte{byte(to.Bits())}, a[:(to.Bits()+7)/8]...)
		hop := addr(r.addr).As4()
		attrs := joined(attrOrigin, whole(0x40, 2, r.path()...), whole(0x40, 3, hop[:]...), attrLocalPref)
		if to.Addr().Is6() {
			attrs, nlri = joined(attrOrigin, whole(0x40, 2, r.path()...), attrLocalPref, reach(nlri)), nil
		}
		p.update(attrs, nlri)
	}
}

// path is the AS_PATH of the peer's routes.
func (r *restarter) path() []byte {
	if r.as == 64512 {
		return nil
	}
	return []byte{2, 1, 0, 0, byte(r.as >> 8), byte(r.as)}
}

func named(route string) netip.Prefix {
	n := strings.TrimPrefix(strings.TrimPrefix(route, "4."), "6.")
	if strings.HasPrefix(route, "4.") {
		return prefix("10.244." + n + ".0/26")
	}
	return prefix("fd00:244:0:" + n + "::/64")
}

// The End-of-RIB markers.
func (p *rawPeer) end4() { p.send(2, []byte{0, 0, 0, 0}) }
func (p *rawPeer) end6() { p.send(2, []byte{0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1}) }

// keeps waits until exactly these routes of the peer are held.
func (r *restarter) keeps(why string, want ...string) {
	r.t.Helper()
	eventually(r.t, func() string {
		var got []string
		for _, family := range []string{"4.", "6."} {
			for n := range 10 {
				if route := fmt.Sprintf("%s%d", family, n); has(r.x, named(route), r.addr) {
					got = append(got, route)
				}
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%s: routes %q are held, want %q", why, got, want)
		}
		return ""
	})
}

// neverLost requires that routes were never withdrawn.
func (r *restarter) neverLost(routes ...string) {
	r.t.Helper()
	for _, route := range routes {
		if slices.Contains(r.x.lost(), named(route)) {
			r.t.Errorf("%s was lost meanwhile", route)
		}
	}
}
