package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/gobgp"
	"onlink/bgp/hostile"
	"onlink/bgp/policy"
)

// Capabilities of clients, beside both families.
var (
	capFamilies  = []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1}
	capFourOctet = []byte{65, 4, 0, 0, 0xfc, 0x00}
	capRestart   = []byte{64, 2, 0, 120} // so that it is sent End-of-RIB
	capHop6      = []byte{5, 6, 0, 1, 0, 1, 0, 2}
	capAddPath   = []byte{69, 4, 0, 1, 1, 1} // receives several paths of IPv4
)

// reflection is a reflector and one client that announces to it.
type reflection struct {
	*node
	from *rawPeer
	net  string // of loopback addresses: "127.75.0."
}

// startReflection starts the reflector at .1 and the client at .2.
func startReflection(t *testing.T, net24 string) *reflection {
	t.Helper()
	needsPatches(t)
	r := &reflection{node: startNodes(t, testConfig(t, net24+"1"))[0], net: net24}
	clients := clientsOf(net24 + "0/24")
	clients.Families = []Family{IPv4, IPv6}
	r.setPeers(nil, clients)
	r.from = dialRaw(t, net24+"2", net24+"1")
	return r
}

// client brings up the session of another client and waits until it has all routes.
func (r *reflection) client(host int, caps ...[]byte) *rawClient {
	r.t.Helper()
	local := fmt.Sprintf("%s%d", r.net, host)
	c := listening(openOnly(r.t, local, r.net+"1", 180, joined(append(caps, capFamilies, capRestart, []byte{2, 0})...)...), local, nil)
	eventually(r.t, func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ends == 0 {
			return local + " was sent no End-of-RIB"
		}
		return ""
	})
	return c
}

// filled is the body of an UPDATE of exactly size bytes with its header: an
// attribute that is passed on unread fills it.
func filled(size int, nlri []byte, attrs ...[]byte) []byte {
	all := joined(attrs...)
	n := size - 19 - 4 - len(all) - len(nlri) - 4
	all = append(all, hostile.Attribute(0xd0, 99, n, make([]byte, n))...)
	return joined([]byte{0, 0, byte(len(all) >> 8), byte(len(all))}, all, nlri)
}

// med is a MULTI_EXIT_DISC, which distinguishes the versions of a route.
func med(v byte) []byte { return []byte{0x80, 4, 4, 0, 0, 0, v} }

// basics are the attributes that every route of these tests has.
func (r *reflection) basics(version byte) []byte {
	hop := addr(r.net + "2").As4()
	return joined(attrOrigin, attrASPath, whole(0x40, 3, hop[:]...), attrLocalPref, med(version))
}

// reach is an MP_REACH_NLRI for one IPv6 prefix, of one form here and there.
func reach(nlri []byte) []byte { return whole(0x90, 14, reach6("fd00::7", nlri...)...) }

// hears waits until a client has a version of a route; 0: until it has none.
func hears(t *testing.T, c *rawClient, p string, version uint32) {
	t.Helper()
	eventually(t, func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if h, known := c.known[prefix(p)]; known != (version != 0) || h.med != version {
			return fmt.Sprintf("%s knows %s: %t, version %d, want version %d", c.addr, p, known, h.med, version)
		}
		return ""
	})
}

// withholds waits until the reflector's status of a client has these values: the
// routes withheld from it now, the lowest of them and its reason, and how often
// one was withheld.
func (r *reflection) withholds(c *rawClient, routes int, lowest, why string, times uint64) {
	r.t.Helper()
	eventually(r.t, func() string {
		got := r.peer(c.addr)
		w := got.Withheld
		if w.Routes != routes || got.Faults.Withheld != times || routes > 0 && (w.Prefix != prefix(lowest) || !strings.Contains(w.Why, why)) {
			return fmt.Sprintf("%s: %+v, %d times; want %d routes, %s for %q, %d times", c.addr, w, got.Faults.Withheld, routes, lowest, why, times)
		}
		return ""
	})
}

// unharmed requires that each client has its first session, and that no panic and
// no reset is counted.
func (r *reflection) unharmed(clients ...*rawClient) {
	r.t.Helper()
	for _, c := range clients {
		if got := r.peer(c.addr); got.State != established || got.Flaps != 0 {
			r.t.Errorf("the session of %s suffered: %+v", c.addr, got)
		}
	}
	if got := r.Faults(); got.Panics != 0 || got.Reset != 0 {
		r.t.Errorf("faults: %+v, want no panic and no reset", got)
	}
}

// grown is the size of the attributes that a reflector adds: ORIGINATOR_ID, and
// CLUSTER_LIST of one.
const grown = 14

// TestWithheld: a route that no longer fits into a message to a client, after the
// reflector has added its attributes, is withheld from that client; the prefix
// beside it, with the same attributes and a byte shorter, is not. It is announced
// when it fits, withdrawn when it does not fit any more, and no session ends.
func TestWithheld(t *testing.T) {
	long, short := []byte{26, 10, 244, 99, 0}, []byte{24, 10, 244, 98}
	long6, short6 := []byte{64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0}, []byte{56, 0xfd, 0, 2, 0x44, 0, 8, 0}
	for _, family := range []struct {
		name, net   string
		long, short string // prefixes
		send        func(r *reflection, size int, version byte, long bool)
		withdraw    []byte
	}{
		{"IPv4", "127.75.0.", "10.244.99.0/26", "10.244.98.0/24", func(r *reflection, size int, version byte, is bool) {
			nlri := short
			if is {
				nlri = long
			}
			r.from.send(2, filled(size, nlri, r.basics(version)))
		}, joined([]byte{0, 5}, long, []byte{0, 0})},
		{"IPv6", "127.75.1.", "fd00:244:7::/64", "fd00:244:8::/56", func(r *reflection, size int, version byte, is bool) {
			nlri := short6
			if is {
				nlri = long6
			}
			r.from.send(2, filled(size, nil, reach(nlri), attrOrigin, attrASPath, attrLocalPref, med(version)))
		}, joined([]byte{0, 0, 0, 15}, whole(0x80, 15, append([]byte{0, 2, 1}, long6...)...))},
	} {
		t.Run(family.name, func(t *testing.T) {
			r := startReflection(t, family.net)
			c := r.client(3, capFourOctet)
			family.send(r, 4096-grown, 1, true)
			hears(t, c, family.long, 1)
			r.withholds(c, 0, "", "", 0)

			family.send(r, 4096-grown+1, 2, true)
			family.send(r, 4096-grown, 3, false) // the same attributes but one byte
			hears(t, c, family.short, 3)
			hears(t, c, family.long, 0) // it had the route
			r.withholds(c, 1, family.long, "4097 bytes", 1)
			family.send(r, 200, 4, true)
			hears(t, c, family.long, 4)
			r.withholds(c, 0, "", "", 1)

			family.send(r, 4096, 5, true) // the longest there can be
			hears(t, c, family.long, 0)
			r.withholds(c, 1, family.long, fmt.Sprint(4096+grown, " bytes"), 2)
			later := r.client(4, capFourOctet)
			hears(t, later, family.short, 3)
			hears(t, later, family.long, 0)
			r.withholds(later, 1, family.long, "4110 bytes", 1)
			for _, ask := range []func(){
				func() { later.send(5, []byte{0, 1, 0, 1}); later.send(5, []byte{0, 2, 0, 1}) },
				func() {
					if err := r.engine.SoftReset(netip.Addr{}, gobgp.Out); err != nil {
						t.Fatal(err)
					}
				},
			} {
				later.mu.Lock()
				clear(later.known)
				later.mu.Unlock()
				ask()
				hears(t, later, family.short, 3)
				hears(t, later, family.long, 0)
			}
			r.withholds(later, 1, family.long, "4110 bytes", 1)
			r.from.send(2, family.withdraw)
			r.withholds(c, 0, "", "", 2)
			r.unharmed(c, later)
		})
	}
}

// TestWithheldMessage: of the prefixes of one UPDATE each one that fits is
// announced, also those behind one that does not.
func TestWithheldMessage(t *testing.T) {
	r := startReflection(t, "127.75.2.")
	c := r.client(3, capFourOctet)
	nlri := joined([]byte{26, 10, 244, 100, 0}, []byte{24, 10, 244, 101}, []byte{26, 10, 244, 102, 0}, []byte{24, 10, 244, 103})
	const attrs = 4096 - grown - 23 - 4 // with a /24 the client's message is full
	r.from.send(2, filled(23+attrs+len(nlri), nlri, r.basics(1)))
	hears(t, c, "10.244.101.0/24", 1)
	hears(t, c, "10.244.103.0/24", 1)
	r.withholds(c, 2, "10.244.100.0/26", "4097 bytes", 2)
	hears(t, c, "10.244.102.0/26", 0)
	r.unharmed(c)
}

// TestWithheldFromOld: AS4_PATH, which a client with AS numbers of two octets
// receives too, may be too long for a message; and a long path of such a client may
// be too long for those with four.
func TestWithheldFromOld(t *testing.T) {
	r := startReflection(t, "127.75.3.")
	c, old := r.client(3, capFourOctet), r.client(4)
	path := func(as ...byte) []byte { return whole(0x50, 2, segments(60, as...)...) }
	hop := addr(r.net + "2").As4()
	attrs := func(version byte, as ...byte) []byte {
		return joined(attrOrigin, path(as...), whole(0x40, 3, hop[:]...), attrLocalPref, med(version))
	}
	nlri := []byte{26, 10, 244, 99, 0}
	r.from.send(2, filled(4093, nlri, attrs(1, 0, 1, 0, 7))) // as in the route that ended sessions
	r.from.send(2, filled(600, []byte{26, 10, 244, 98, 0}, attrs(1, 0, 1, 0, 7)))
	for _, client := range []*rawClient{c, old} {
		hears(t, client, "10.244.98.0/26", 1)
		r.withholds(client, 1, "10.244.99.0/26", " bytes", 1)
	}
	// The path is a segment of 60: 246 bytes with its header, and for the old one
	// 125, with 245 of AS4_PATH.
	const becomes = 125 + 245 - 246
	r.from.send(2, filled(4096-grown, nlri, attrs(2, 0, 1, 0, 7)))
	hears(t, c, "10.244.99.0/26", 2)
	r.withholds(old, 1, "10.244.99.0/26", fmt.Sprintf("%d bytes", 4096+becomes), 2)
	r.from.send(2, filled(4096-grown+1, nlri, attrs(3, 0, 0, 0xfd, 0xe9))) // no AS4_PATH: shorter
	hears(t, old, "10.244.99.0/26", 3)
	hears(t, c, "10.244.99.0/26", 0)
	// Many prefixes share their attributes, which grow only for the old one.
	var many []byte
	for i := range byte(200) {
		many = append(many, 32, 10, 244, 97, i)
	}
	r.from.send(2, filled(2500, many, attrs(4, 0, 1, 0, 7)))
	for _, i := range []int{0, 100, 199} {
		hears(t, c, fmt.Sprintf("10.244.97.%d/32", i), 4)
		hears(t, old, fmt.Sprintf("10.244.97.%d/32", i), 4)
	}
	// From the old one: 60 AS numbers need 120 bytes more with four octets.
	o := addr("127.75.3.4").As4()
	old.send(2, filled(4096-grown, []byte{26, 10, 244, 96, 0}, attrOrigin, whole(0x50, 2, segments(60, 0xfd, 0xe9)...), whole(0x40, 3, o[:]...), attrLocalPref, med(5)))
	r.withholds(c, 2, "10.244.96.0/26", "4216 bytes", 3)
	older := r.client(5)
	hears(t, older, "10.244.96.0/26", 5)
	r.unharmed(c, old, older)
}

// segments is the value of an AS_PATH of one segment: n times an AS number of two
// or four octets.
func segments(n byte, as ...byte) []byte { return append([]byte{2, n}, slices.Repeat(as, int(n))...) }

// TestWithheldByPolicy: attributes that the export policy adds count.
func TestWithheldByPolicy(t *testing.T) {
	needsPatches(t)
	const self, other = "127.75.4.1", "127.75.4.9"
	r := &reflection{node: startNodes(t, testConfig(t, self))[0], net: "127.75.4."}
	marked := to(other, Client)
	marked.Passive = true
	marked.Export.Filters = []policy.Filter{{Name: "mark", Rules: []policy.Rule{{Set: policy.Set{Communities: policy.CommunityChange{Add: []string{"64512:7"}}}, Action: policy.Next}}}}
	r.setPeers([]Peer{marked}, clientsOf("127.75.4.0/24"))
	r.from = dialRaw(t, r.net+"2", self)
	plain, c := r.client(3, capFourOctet), r.client(9, capFourOctet)
	r.from.send(2, filled(4096-grown, []byte{26, 10, 244, 99, 0}, r.basics(1)))
	hears(t, plain, "10.244.99.0/26", 1)
	r.withholds(c, 1, "10.244.99.0/26", "4103 bytes", 1)
	r.from.send(2, filled(4096-grown-7, []byte{26, 10, 244, 99, 0}, r.basics(2)))
	hears(t, c, "10.244.99.0/26", 2)
	r.withholds(plain, 0, "", "", 0)
	r.unharmed(plain, c)
}

// TestWithheldWithoutGroup: the same for a client that receives several paths of a
// prefix (RFC 7911), for which the engine has other code.
func TestWithheldWithoutGroup(t *testing.T) {
	needsPatches(t)
	const self, other = "127.75.5.1", "127.75.5.9"
	r := &reflection{node: startNodes(t, testConfig(t, self))[0], net: "127.75.5."}
	many := to(other, Client)
	many.Passive = true
	r.setPeers([]Peer{many}, clientsOf("127.75.5.0/24"))
	if err := r.engine.RemoveNeighbor(addr(other)); err != nil {
		t.Fatal(err)
	}
	with := r.Speaker.sessions.neighbor(r.Speaker.sessions.want.peers[addr(other)], false)
	with.SendPaths = 4
	if err := r.engine.AddNeighbor(with); err != nil {
		t.Fatal(err)
	}
	r.from = dialRaw(t, r.net+"2", self)
	options := &packet.MarshallingOption{AddPath: map[packet.RouteFamily]packet.BGPAddPathMode{packet.RF_IPv4_UC: packet.BGP_ADD_PATH_BOTH}}
	c := listening(openOnly(t, other, self, 180, joined(capFamilies[:6], capAddPath)...), other, options)
	path := whole(0x50, 2, segments(60, 0, 1, 0, 7)...)
	hop := addr(r.net + "2").As4()
	attrs := func(version byte) []byte {
		return joined(attrOrigin, path, whole(0x40, 3, hop[:]...), attrLocalPref, med(version))
	}
	nlri := []byte{26, 10, 244, 99, 0}
	// The client needs 4 bytes more for the identifier, and AS4_PATH.
	const becomes = 4 + 125 + 245 - 246
	r.from.send(2, filled(4096-grown-becomes, nlri, attrs(1)))
	hears(t, c, "10.244.99.0/26", 1)
	r.from.send(2, filled(4096-grown-becomes+1, nlri, attrs(2)))
	hears(t, c, "10.244.99.0/26", 0)
	r.withholds(c, 1, "10.244.99.0/26", "4097 bytes", 1)
	r.from.send(2, filled(4093, nlri, attrs(3)))
	var shared []byte
	for i := range byte(200) {
		shared = append(shared, 32, 10, 244, 97, i)
	}
	r.from.send(2, filled(3500, shared, attrs(4)))
	for _, i := range []int{0, 100, 199} {
		hears(t, c, fmt.Sprintf("10.244.97.%d/32", i), 4)
	}
	r.withholds(c, 1, "10.244.99.0/26", " bytes", 2)
	r.from.send(2, filled(600, nlri, attrs(5)))
	hears(t, c, "10.244.99.0/26", 5)
	r.withholds(c, 0, "", "", 2)
	r.unharmed(c)
}

// TestWithheldHop: an IPv4 route with an IPv6 next hop is announced only to peers
// with the capability (RFC 8950 section 4): for others the message is malformed.
func TestWithheldHop(t *testing.T) {
	r := startReflection(t, "127.75.6.")
	able, unable := r.client(3, capFourOctet, capHop6), r.client(4, capFourOctet)
	hop := addr("fd00::7").As16()
	value := slices.Concat([]byte{0, 1, 1, 16}, hop[:], []byte{0, 26, 10, 244, 99, 0})
	attrs := joined(attrOrigin, attrASPath, attrLocalPref, med(1), whole(0x80, 14, value...))
	r.from.update(attrs, nil)
	hears(t, able, "10.244.99.0/26", 1)
	r.withholds(unable, 1, "10.244.99.0/26", "fd00::7 is an IPv6 address", 1)
	hears(t, unable, "10.244.99.0/26", 0)
	r.from.send(2, filled(200, []byte{26, 10, 244, 99, 0}, r.basics(2)))
	hears(t, unable, "10.244.99.0/26", 2)
	r.unharmed(able, unable)
}

// TestMergedPath: AS_PATH and AS4_PATH of an old speaker make a path without a
// segment of no AS, which others would have to take for malformed (RFC 7606
// section 7.2).
func TestMergedPath(t *testing.T) {
	r := startReflection(t, "127.75.7.")
	c, old := r.client(3, capFourOctet), r.client(4)
	o := addr("127.75.7.4").As4()
	rest := joined(attrOrigin, whole(0x40, 3, o[:]...), attrLocalPref)
	for i, tt := range []struct {
		path, as4 []byte
		want      string
	}{
		{[]byte{1, 1, 0x5b, 0xa0}, []byte{1, 1, 0, 1, 0, 7}, "{AsPath: {65543}}"},
		{[]byte{2, 1, 0x5b, 0xa0}, []byte{2, 1, 0, 1, 0, 7}, "{AsPath: 65543}"},
		{[]byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, []byte{1, 1, 0, 1, 0, 7}, "{AsPath: 65001 {65543}}"},
		{[]byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, []byte{2, 2, 0, 0, 0xfd, 0xe9, 0, 1, 0, 7}, "{AsPath: 65001 65543}"},
	} {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 26)
		old.update(joined(rest, med(byte(i+1)), whole(0x40, 2, tt.path...), whole(0xc0, 17, tt.as4...)), []byte{26, 10, 244, byte(i), 0})
		hears(t, c, p.String(), uint32(i+1))
		c.mu.Lock()
		if got := c.paths[p]; got != tt.want {
			t.Errorf("AS_PATH %x, AS4_PATH %x: told %q, want %q", tt.path, tt.as4, got, tt.want)
		}
		c.mu.Unlock()
	}
	r.unharmed(c, old)
}
