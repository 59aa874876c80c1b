package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// recorder is a peer that writes down each announcement and withdrawal.
type recorder struct {
	*rawPeer

	mu   sync.Mutex // guards news
	news []string   // since the last call of expect
}

func recordOf(t *testing.T, local, speaker string) *recorder {
	t.Helper()
	return recording(openClient(t, local, speaker))
}

func recording(p *rawPeer) *recorder {
	r := &recorder{rawPeer: p}
	go r.listen()
	return r
}

// listen receives messages until the session ends.
func (r *recorder) listen() {
	for {
		typ, body, err := readMessage(r.conn)
		if err != nil {
			return
		}
		if typ == packet.BGP_MSG_KEEPALIVE {
			_ = r.put(typ, nil) // the read sees it
		}
		if typ != packet.BGP_MSG_UPDATE {
			continue
		}
		msg, err := packet.ParseBGPBody(&packet.BGPHeader{Type: typ, Len: uint16(19 + len(body))}, body)
		if err != nil {
			r.t.Errorf("decode: %v: %x", err, body)
			return
		}
		r.write(msg.Body.(*packet.BGPUpdate))
	}
}

// write adds "+PREFIX ATTRIBUTES" or "-PREFIX" for each IPv4 prefix of an UPDATE.
func (r *recorder) write(u *packet.BGPUpdate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range u.WithdrawnRoutes {
		r.news = append(r.news, "-"+n.String())
	}
	route := gobgp.Attributes(u.PathAttributes).Route(netip.Prefix{})
	var text strings.Builder
	if route.LocalPref != nil {
		fmt.Fprintf(&text, " pref %d", *route.LocalPref)
	}
	if route.MED != nil {
		fmt.Fprintf(&text, " med %d", *route.MED)
	}
	for _, c := range route.Communities {
		text.WriteString(" " + cmp.Or(map[string]string{policy.GracefulShutdown: "gshut"}[c], c))
	}
	for _, n := range u.NLRI {
		r.news = append(r.news, "+"+n.String()+text.String())
	}
}

// expect waits until exactly these have arrived since the last call.
func (r *recorder) expect(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	eventually(r.t, func() string {
		r.mu.Lock()
		defer r.mu.Unlock()
		got := slices.Sorted(slices.Values(r.news))
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%s received\n%s\nwant\n%s", r.conn.LocalAddr(), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return ""
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news = nil
}

// TestServiceOrigins: a change of the announced services reaches exactly the
// peers that it concerns, without a session's reset and without another prefix.
func TestServiceOrigins(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.95.0.1"))[0]
	passive := func(host string) Peer {
		p := to("127.95.0."+host, IBGP)
		p.Name, p.Passive = "tor"+host, true
		return p
	}
	x.setPeers([]Peer{passive("7"), passive("8")}, clientsOf("127.95.1.0/24"))
	set := func(list ...Origin) {
		t.Helper()
		list = append(list, Origin{Prefix: prefix("10.244.1.0/26")})
		if err := x.SetOrigins(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	service := func(p string, peers ...string) Origin {
		return Origin{Prefix: prefix(p), Service: true, Peers: peers}
	}
	number := func(n uint32) *uint32 { return &n }

	web := service("203.0.113.7/32")
	web.LocalPref, web.MED, web.Communities = number(200), number(5), []string{"64512:9"}
	set(web, service("203.0.113.8/32", "tor7"))
	t7, t8, client := recordOf(t, "127.95.0.7", "127.95.0.1"), recordOf(t, "127.95.0.8", "127.95.0.1"), recordOf(t, "127.95.1.9", "127.95.0.1")
	block, first := "+10.244.1.0/26 pref 100", "+203.0.113.7/32 pref 200 med 5 64512:9"
	t7.expect(block, first, "+203.0.113.8/32 pref 100")
	t8.expect(block, first)
	client.expect(block, first)

	// A fence after each step: it arrives after all that the step sent.
	fences := 0
	step := func(list ...Origin) string {
		t.Helper()
		fences++
		p := fmt.Sprintf("198.51.100.%d/32", fences)
		set(append(list, service(p))...)
		return "+" + p + " pref 100"
	}
	past := func() string { return fmt.Sprintf("-198.51.100.%d/32", fences-1) }

	f := step(web, service("203.0.113.8/32", "tor7", "tor8"))
	t7.expect(f)
	t8.expect("+203.0.113.8/32 pref 100", f)
	client.expect(f)

	f = step(web, service("203.0.113.8/32", "tor8"))
	t7.expect("-203.0.113.8/32", f, past())
	t8.expect(f, past())
	client.expect(f, past())

	web.MED = number(6)
	f = step(web, service("203.0.113.8/32", "clients-127.95.1.0/24"))
	t7.expect("+203.0.113.7/32 pref 200 med 6 64512:9", f, past())
	t8.expect("+203.0.113.7/32 pref 200 med 6 64512:9", "-203.0.113.8/32", f, past())
	client.expect("+203.0.113.7/32 pref 200 med 6 64512:9", "+203.0.113.8/32 pref 100", f, past())

	web.Draining = true
	f = step(web, service("203.0.113.8/32", "gone"))
	for _, r := range []*recorder{t7, t8} {
		r.expect("+203.0.113.7/32 pref 0 med 6 64512:9 gshut", f, past())
	}
	client.expect("+203.0.113.7/32 pref 0 med 6 64512:9 gshut", "-203.0.113.8/32", f, past())

	f = step()
	for _, r := range []*recorder{t7, t8, client} {
		r.expect("-203.0.113.7/32", f, past())
	}
	for _, p := range x.Peers() {
		if p.Flaps != 0 || p.State != established {
			t.Errorf("%s: %s after %d flaps", p.Name, p.State, p.Flaps)
		}
	}
}

// TestRenamedPeer: a peer with another name has the prefixes that are for that name,
// without a reset.
func TestRenamedPeer(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.110.2.1"))[0]
	name := func(name string) {
		t.Helper()
		p := to("127.110.2.7", IBGP)
		p.Name, p.Passive = name, true
		x.setPeers([]Peer{p})
	}
	err := x.SetOrigins(t.Context(), []Origin{
		{Prefix: prefix("10.244.1.0/26")}, {Prefix: prefix("203.0.113.7/32"), Service: true, Peers: []string{"tor"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name("tor")
	r := recordOf(t, "127.110.2.7", "127.110.2.1")
	block, service := "+10.244.1.0/26 pref 100", "+203.0.113.7/32 pref 100"
	r.expect(block, service)
	name("leaf")
	r.expect(block, "-203.0.113.7/32") // all of it is sent again
	name("tor")
	r.expect(block, service)
	if p := x.peer(addr("127.110.2.7")); p.Flaps != 0 || p.State != established {
		t.Errorf("%s: %s after %d flaps", p.Name, p.State, p.Flaps)
	}
}

// TestServiceOfOthers: another node's announcement of a service that this node
// announces too is refused here, is no rival, and is used when this node's own
// ends, without another peer's routes being evaluated again.
func TestServiceOfOthers(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.96.0.1"), testConfig(t, "127.96.0.2"))
	x, other := n[0], n[1]
	own := []Origin{{Prefix: prefix("203.0.113.7/32"), Service: true}, {Prefix: prefix("10.244.1.0/26")}}
	if err := x.SetOrigins(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if err := other.SetOrigins(t.Context(), []Origin{{Prefix: prefix("203.0.113.7/32"), Service: true}, {Prefix: prefix("203.0.113.8/32"), Service: true}, {Prefix: prefix("10.244.2.0/26")}}); err != nil {
		t.Fatal(err)
	}
	p := from(to("127.96.0.2", IBGP), "127.96.0.1")
	p.Import = policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("203.0.113.0/29"), Ge: 32, Le: 32}}}
	x.setPeers([]Peer{p})
	other.setPeers([]Peer{from(to("127.96.0.1", IBGP), "127.96.0.2")})
	x.waitUp(other.addr)
	other.waitUp(x.addr)
	// .8 is outside what x accepts, .7 is its own
	x.waitRoutes("10.244.2.0/26 via 127.96.0.2")
	other.waitRoutes("10.244.1.0/26 via 127.96.0.1") // outside the pools nothing is accepted
	x.look(t.Context())
	if got := x.Rivals(); len(got) != 0 {
		t.Errorf("rivals: %+v", got)
	}
	v, err := x.TestImport(t.Context(), "to-127.96.0.2", policy.Route{Prefix: prefix("203.0.113.7/32")})
	if err != nil || v.Accepted || v.Rule != "a prefix of this node, or inside one" {
		t.Errorf("import: %+v, %v", v, err)
	}
	if err := x.SetOrigins(t.Context(), own[1:]); err != nil {
		t.Fatal(err)
	}
	x.waitRoutes("10.244.2.0/26 via 127.96.0.2", "203.0.113.7/32 via 127.96.0.2")
}
