package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/gobgp"
)

// heard is a route to one prefix that a client received.
type heard struct {
	nextHop, originator netip.Addr
	med                 uint32
}

func (h heard) String() string {
	return fmt.Sprintf("%s from %s med %d", h.nextHop, h.originator, h.med)
}

// rawClient is a client of a reflector that keeps the routes that it receives.
type rawClient struct {
	*rawPeer
	addr    netip.Addr
	reading sync.Mutex // locked while the client does not read: a slow one

	addPath *packet.MarshallingOption // negotiated; nil: not

	mu    sync.Mutex // guards all below
	known map[netip.Prefix]heard
	paths map[netip.Prefix]string // AS_PATHs of known
	ends  int                     // End-of-RIB markers of IPv4
}

// connectClient brings a client's session to the reflector up.
func connectClient(t *testing.T, local, reflector string) *rawClient {
	t.Helper()
	return listening(openClient(t, local, reflector), local, nil)
}

// listening is a client that keeps the routes that it receives in a session that
// is up.
func listening(p *rawPeer, local string, addPath *packet.MarshallingOption) *rawClient {
	c := &rawClient{rawPeer: p, addr: addr(local), addPath: addPath, known: map[netip.Prefix]heard{}, paths: map[netip.Prefix]string{}}
	go c.listen()
	return c
}

// openClient dials until the reflector accepts the connection, which it does not
// in Idle. caps are capabilities beside both families and four-octet AS numbers.
func openClient(t *testing.T, local, reflector string, caps ...byte) *rawPeer {
	t.Helper()
	return openHeld(t, local, reflector, 180, caps...)
}

// openHeld is openClient with a hold time, in seconds.
func openHeld(t *testing.T, local, reflector string, hold uint16, caps ...byte) *rawPeer {
	t.Helper()
	return openOnly(t, local, reflector, hold, append([]byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfc, 0x00}, caps...)...)
}

// openOnly is openHeld with no other capabilities than those given.
func openOnly(t *testing.T, local, reflector string, hold uint16, caps ...byte) *rawPeer {
	t.Helper()
	return openAs(t, local, reflector, 64512, hold, caps...)
}

// openAs is openOnly for a peer of an AS.
func openAs(t *testing.T, local, reflector string, as, hold uint16, caps ...byte) *rawPeer {
	t.Helper()
	open := binary.BigEndian.AppendUint16([]byte{4}, as) // version 4
	open = binary.BigEndian.AppendUint16(open, hold)
	open = append(open, addr(local).AsSlice()...)
	open = append(append(open, byte(len(caps)+2), 2, byte(len(caps))), caps...)
	var p *rawPeer
	eventually(t, func() string {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: 5 * time.Second}
		c, err := d.Dial("tcp", netip.AddrPortFrom(addr(reflector), testPort).String())
		if err != nil {
			return err.Error()
		}
		p = &rawPeer{t: t, conn: c}
		if err := p.handshake(open); err != nil {
			_ = c.Close() // dialled again
			return err.Error()
		}
		return ""
	})
	t.Cleanup(func() { _ = p.conn.Close() }) // may be closed
	return p
}

// handshake sends OPEN and KEEPALIVE and waits for the reflector's.
func (p *rawPeer) handshake(open []byte) error {
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := p.put(packet.BGP_MSG_OPEN, open); err != nil {
		return err
	}
	for typ := byte(0); typ != packet.BGP_MSG_KEEPALIVE; {
		var err error
		if typ, _, err = readMessage(p.conn); err != nil {
			return err
		}
		switch typ {
		case packet.BGP_MSG_OPEN:
			if err := p.put(packet.BGP_MSG_KEEPALIVE, nil); err != nil {
				return err
			}
		case packet.BGP_MSG_NOTIFICATION:
			return errors.New("NOTIFICATION")
		}
	}
	return p.conn.SetDeadline(time.Time{})
}

// put is send for a session that may not be there.
func (p *rawPeer) put(typ byte, body []byte) error {
	m := packet.BGPMessage{Header: packet.BGPHeader{Type: typ, Len: uint16(19 + len(body))}}
	head, err := m.Header.Serialize()
	if err != nil {
		return err
	}
	_, err = p.conn.Write(append(head, body...))
	return err
}

// listen receives the reflector's messages until the session ends.
func (c *rawClient) listen() {
	for {
		c.reading.Lock()
		typ, body, err := readMessage(c.conn)
		c.reading.Unlock()
		if err != nil {
			return
		}
		if typ == packet.BGP_MSG_KEEPALIVE {
			_ = c.put(typ, nil) // the read sees it
		}
		if typ != packet.BGP_MSG_UPDATE {
			continue
		}
		head := &packet.BGPHeader{Type: typ, Len: uint16(19 + len(body))}
		var options []*packet.MarshallingOption
		if c.addPath != nil {
			options = append(options, c.addPath)
		}
		msg, err := packet.ParseBGPBody(head, body, options...)
		if err != nil {
			c.t.Errorf("%s was sent what cannot be decoded: %v: %x", c.addr, err, body)
			return
		}
		c.take(msg.Body.(*packet.BGPUpdate))
	}
}

// take is RFC 4271 section 9 without a choice.
func (c *rawClient) take(u *packet.BGPUpdate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if eor, f := u.IsEndOfRib(); eor && f == packet.RF_IPv4_UC {
		c.ends++
	}
	var h heard
	path := ""
	var gone, told []packet.AddrPrefixInterface
	for _, n := range u.WithdrawnRoutes {
		gone = append(gone, n)
	}
	for _, n := range u.NLRI {
		told = append(told, n)
	}
	h.nextHop = gobgp.Attributes(u.PathAttributes).NextHop()
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *packet.PathAttributeMultiExitDisc:
			h.med = a.Value
		case *packet.PathAttributeOriginatorId:
			h.originator, _ = netip.AddrFromSlice(a.Value.To4())
		case *packet.PathAttributeMpReachNLRI:
			told = append(told, a.Value...)
		case *packet.PathAttributeAsPath:
			path = a.String()
		case *packet.PathAttributeMpUnreachNLRI:
			gone = append(gone, a.Value...)
		}
	}
	for _, n := range gone {
		if p, ok := prefixOf(n); ok {
			delete(c.known, p)
			delete(c.paths, p)
		}
	}
	for _, n := range told {
		if p, ok := prefixOf(n); ok {
			c.known[p], c.paths[p] = h, path
		}
	}
}

// prefixOf returns the prefix of a unicast NLRI.
func prefixOf(n packet.AddrPrefixInterface) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(n.String())
	return p.Masked(), err == nil
}

// announce announces prefixes of one family to the reflector; med distinguishes
// the versions of a route.
func (c *rawClient) announce(med uint32, prefixes ...netip.Prefix) {
	attrs := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(0), packet.NewPathAttributeAsPath(nil)}
	var v4 []*packet.IPAddrPrefix
	var v6 []packet.AddrPrefixInterface
	for _, p := range prefixes {
		if p.Addr().Is4() {
			v4 = append(v4, packet.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String()))
		} else {
			v6 = append(v6, packet.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String()))
		}
	}
	if len(v4) > 0 {
		attrs = append(attrs, packet.NewPathAttributeNextHop(c.addr.String()))
	}
	attrs = append(attrs, packet.NewPathAttributeMultiExitDisc(med), packet.NewPathAttributeLocalPref(100))
	if len(v6) > 0 {
		attrs = append(attrs, packet.NewPathAttributeMpReachNLRI(c.hop6().String(), v6))
	}
	c.sendUpdate(packet.NewBGPUpdateMessage(nil, attrs, v4))
}

// hop6 is the client's next hop for IPv6 prefixes.
func (c *rawClient) hop6() netip.Addr {
	a := addr("fd00:99::").As16()
	v4 := c.addr.As4()
	copy(a[12:], v4[:])
	return netip.AddrFrom16(a)
}

func (c *rawClient) withdraw(p netip.Prefix) {
	if p.Addr().Is4() {
		c.sendUpdate(packet.NewBGPUpdateMessage([]*packet.IPAddrPrefix{packet.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())}, nil, nil))
		return
	}
	n := packet.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String())
	c.sendUpdate(packet.NewBGPUpdateMessage(nil, []packet.PathAttributeInterface{packet.NewPathAttributeMpUnreachNLRI([]packet.AddrPrefixInterface{n})}, nil))
}

func (c *rawClient) sendUpdate(m *packet.BGPMessage) {
	c.t.Helper()
	b, err := m.Body.Serialize()
	if err != nil {
		c.t.Fatalf("encode: %v", err)
	}
	c.send(packet.BGP_MSG_UPDATE, b)
}

// wrong returns a difference between the client's routes and those that a
// reflector with the given best paths must have announced; "" for none.
func (c *rawClient) wrong(best map[netip.Prefix]PathInfo, ownMED uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, b := range best {
		h, known := c.known[p]
		if b.Peer == c.addr {
			if known {
				return fmt.Sprintf("%s was told of %s, its own: %s", c.addr, p, h)
			}
			continue
		}
		want := heard{nextHop: b.NextHop, originator: b.Peer, med: b.MED}
		if b.Own {
			want.originator, want.med = reflectorAddr, ownMED
		}
		if h != want {
			return fmt.Sprintf("%s: %s is %s, want %s", c.addr, p, h, want)
		}
	}
	for p, h := range c.known {
		if _, ok := best[p]; !ok {
			return fmt.Sprintf("%s: %s is gone, and the client was not told: %s", c.addr, p, h)
		}
	}
	return ""
}

var reflectorAddr = addr("127.40.0.1")

// mirror is a reflector with clients that send random messages to it.
type mirror struct {
	t       *testing.T
	rnd     *rand.Rand
	node    *node
	clients []*rawClient
	paused  map[*rawClient]bool
	static  []Peer
	own     map[string]bool
	shared  []netip.Prefix // the prefixes that all clients announce
}

// TestReflectorTellsWhatIsBest has many clients announce, change and withdraw
// the same prefixes, go and come back, read slowly, and the reflector's own
// prefixes and export policy change meanwhile. In the end every client must
// have exactly the reflector's best paths, except its own.
func TestReflectorTellsWhatIsBest(t *testing.T) {
	newMirror(t, 9).run(4, 150)
}

// TestReflectorTellsMany is the same with so many clients that changes go in rounds.
func TestReflectorTellsMany(t *testing.T) {
	newMirror(t, 72).run(20, 60)
}

// run does random things, so many at a time, and requires after each round that every
// client has what it must have.
func (m *mirror) run(rounds, steps int) {
	m.t.Helper()
	for range rounds {
		for range steps {
			m.step()
		}
		m.settle()
	}
}

// newMirror starts a reflector with clients in both families, three of which are
// peers of its configuration.
func newMirror(t *testing.T, clients int) *mirror {
	t.Helper()
	needsPatches(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	m := &mirror{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), paused: map[*rawClient]bool{}, own: map[string]bool{}}
	m.node = startNodes(t, testConfig(t, reflectorAddr.String()))[0]
	m.static = staticClients(3)
	m.setPeers()
	for i := range 30 {
		m.shared = append(m.shared, prefix(fmt.Sprintf("10.244.%d.0/26", i)), prefix(fmt.Sprintf("fd00:244:0:%x::/64", i)))
	}
	for i := range clients {
		local := fmt.Sprintf("127.40.1.%d", i+1)
		if i < len(m.static) {
			local = m.static[i].Address.String()
		}
		m.clients = append(m.clients, connectClient(t, local, reflectorAddr.String()))
	}
	return m
}

// staticClients returns clients of a configuration, in both families.
func staticClients(n int) []Peer {
	out := make([]Peer, n)
	for i := range out {
		p := &out[i]
		p.Name, p.Address, p.Passive = fmt.Sprintf("static-%d", i), addr(fmt.Sprintf("127.40.2.%d", i+1)), true
		p.Role, p.Families = Client, []Family{IPv4, IPv6}
	}
	return out
}

func (m *mirror) setPeers() { m.node.setPeers(m.static, clientsOfBoth("127.40.1.0/24")) }

// clientsOfBoth is clientsOf for both families.
func clientsOfBoth(p string) Dynamic {
	d := clientsOf(p)
	d.Families = []Family{IPv4, IPv6}
	return d
}

// step does one random thing.
func (m *mirror) step() {
	c := m.clients[m.rnd.IntN(len(m.clients))]
	p := m.shared[m.rnd.IntN(len(m.shared))]
	switch n := m.rnd.IntN(100); {
	case n < 45:
		c.announce(uint32(m.rnd.IntN(3)), p)
	case n < 60: // several prefixes with one set of attributes
		at := m.rnd.IntN(len(m.shared) - 8)
		med := uint32(m.rnd.IntN(3))
		for i := at &^ 1; i < at+8; i += 2 {
			c.announce(med, m.shared[i])
		}
	case n < 85:
		c.withdraw(p)
	case n < 90:
		if m.paused[c] {
			c.reading.Unlock()
			delete(m.paused, c)
		} else if c.reading.TryLock() {
			m.paused[c] = true
		}
	case n < 93:
		m.reconnect(m.rnd.IntN(len(m.clients)))
	case n < 96:
		own := fmt.Sprintf("10.244.%d.0/26", 100+m.rnd.IntN(3))
		if m.own[own] = !m.own[own]; !m.own[own] {
			delete(m.own, own)
		}
		list := make([]string, 0, len(m.own))
		for p := range m.own {
			list = append(list, p)
		}
		m.node.originate(list...)
	case n < 97:
		s := &m.static[m.rnd.IntN(len(m.static))]
		s.Export.MED = uint32(m.rnd.IntN(2)) * 77
		m.setPeers()
	}
}

// reconnect ends a client's session and opens it again.
func (m *mirror) reconnect(i int) {
	old := m.clients[i]
	if m.paused[old] {
		old.reading.Unlock()
		delete(m.paused, old)
	}
	_ = old.conn.Close() // the reader sees it
	m.clients[i] = connectClient(m.t, old.addr.String(), reflectorAddr.String())
}

// settle waits until every client has the routes that it must have.
func (m *mirror) settle() {
	m.t.Helper()
	for c := range m.paused {
		c.reading.Unlock()
	}
	clear(m.paused)
	candidates := append([]netip.Prefix(nil), m.shared...)
	for i := range 3 {
		candidates = append(candidates, prefix(fmt.Sprintf("10.244.%d.0/26", 100+i)))
	}
	eventually(m.t, func() string {
		best, six := map[netip.Prefix]PathInfo{}, 0
		for _, p := range candidates {
			if paths := m.node.Paths(m.node.t.Context(), p); len(paths) > 0 {
				best[p] = paths[0]
				if p.Addr().Is6() {
					six++
				}
			}
		}
		if six == 0 || six == len(best) {
			return "the test announces one family only"
		}
		for i, c := range m.clients {
			med := uint32(0)
			if i < len(m.static) {
				med = m.static[i].Export.MED
			}
			if wrong := c.wrong(best, med); wrong != "" {
				return wrong
			}
		}
		return ""
	})
}

// TestEndOfRIBFollowsTheTable has a client with graceful restart connect to a
// reflector with a table: the marker must come after every prefix of it
// (RFC 4724 section 2), and prefixes with the same attributes in one message.
func TestEndOfRIBFollowsTheTable(t *testing.T) {
	n := startNodes(t, testConfig(t, reflectorAddr.String()))[0]
	n.setPeers(nil, clientsOf("127.40.1.0/24"))
	feeder := connectClient(t, "127.40.1.1", reflectorAddr.String())
	const many = 1000
	for i := range many {
		a := [4]byte{10, 244, byte(i >> 2), byte(i << 6)}
		feeder.announce(uint32(i%2), netip.PrefixFrom(netip.AddrFrom4(a), 26))
	}
	eventually(t, func() string {
		if len(n.routes()) < many {
			return "the reflector has not learned all"
		}
		return ""
	})
	c := openClient(t, "127.40.1.2", reflectorAddr.String(), 64, 2, 0, 120)
	prefixes, messages := 0, 0
	for {
		typ, body, err := readMessage(c.conn)
		if err != nil {
			t.Fatalf("after %d prefixes: %v", prefixes, err)
		}
		if typ != packet.BGP_MSG_UPDATE {
			continue
		}
		attrs := binary.BigEndian.Uint16(body[2:])
		if len(body) == 4 && attrs == 0 {
			break // End-of-RIB of IPv4
		}
		messages++
		prefixes += (len(body) - 4 - int(attrs)) / 5
	}
	if prefixes != many {
		t.Errorf("%d prefixes before End-of-RIB, want %d", prefixes, many)
	}
	if Patched() && messages > 10 {
		t.Errorf("%d messages for two sets of attributes, want 10 at most", messages)
	}
}
