package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/bgp/policy"
)

// TestPeerDetail: both ends of a session see the capabilities of each other, the timers
// that they agreed on, messages and families.
func TestPeerDetail(t *testing.T) {
	needsPatches(t)
	rr, client := dual(t, "127.97.0.1", "2001:db8::971"), testConfig(t, "127.97.0.2")
	n := startNodes(t, rr, client)
	clients := clientsOf("127.97.0.0/24")
	clients.HoldTime = 30 * time.Second
	n[0].setPeers(nil, clients)
	n[1].originate("10.244.2.0/26")
	n[1].setPeers([]Peer{from(to("127.97.0.1", IBGP), "127.97.0.2")})
	n[0].waitUp(n[1].addr)
	n[1].waitUp(n[0].addr)

	here, err := NewOperator(n[0].Speaker).Detail(t.Context(), n[1].addr)
	if err != nil {
		t.Fatal(err)
	}
	there, err := NewOperator(n[1].Speaker).Detail(t.Context(), n[0].addr)
	if err != nil {
		t.Fatal(err)
	}
	if here.NegotiatedHold != 30*time.Second || there.NegotiatedHold != 30*time.Second || there.Hold != DefaultHoldTime || here.NegotiatedKeepalive == 0 {
		t.Errorf("hold times %s and %s of %s and %s, want 30s of 30s and 1m30s", here.NegotiatedHold, there.NegotiatedHold, here.Hold, there.Hold)
	}
	if here.RouterID != n[1].addr || here.LocalID != n[0].addr || here.Local != n[0].addr {
		t.Errorf("addresses: %s %s %s", here.Local, here.LocalID, here.RouterID)
	}
	if !here.Passive || here.Yield || there.Passive {
		t.Errorf("who dials: %+v", here)
	}
	if !slices.Equal(here.Families, []Family{IPv4}) {
		t.Errorf("families %v, want those of both ends", here.Families)
	}
	names := func(list []Capability) (out []string) {
		for _, c := range list {
			out = append(out, c.Name+"="+c.Value)
		}
		return out
	}
	ours, theirs := names(here.Ours), names(here.Theirs)
	if !slices.Contains(ours, "family ipv6=") || slices.Contains(theirs, "family ipv6=") {
		t.Errorf("offered %q, received %q: the family that one end has not is at the other end only", ours, theirs)
	}
	for _, want := range []string{"family ipv4=", "route refresh=", "four-octet AS=64512", "graceful restart=120s, N bit, ipv4"} {
		if !slices.ContainsFunc(theirs, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("the peer's capabilities %q lack %q", theirs, want)
		}
	}
	if here.SentMessages.Open == 0 || here.Heard.Open == 0 || here.Heard.Update == 0 || here.SentMessages.Keepalive == 0 || here.Heard.Total < here.Heard.Update+here.Heard.Open {
		t.Errorf("messages sent %+v, received %+v", here.SentMessages, here.Heard)
	}
	if i := slices.IndexFunc(here.PerFamily, func(f FamilyRoutes) bool { return f.Family == IPv4 }); i < 0 || here.PerFamily[i].Received != 1 || here.PerFamily[i].Accepted != 1 {
		t.Errorf("per family %+v", here.PerFamily)
	}
	if _, err := NewOperator(n[0].Speaker).Detail(t.Context(), addr("127.97.0.9")); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("a peer that does not exist: %v", err)
	}
}

// TestUpdateGroup: clients of one kind are in one group, which has what was announced.
func TestUpdateGroup(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.98.0.1"), testConfig(t, "127.98.0.2"), testConfig(t, "127.98.0.3"))
	n[0].setPeers(nil, clientsOf("127.98.0.0/24"))
	for i, x := range n[1:] {
		x.originate(fmt.Sprintf("10.244.%d.0/26", i))
		x.setPeers([]Peer{from(to("127.98.0.1", IBGP), x.addr.String())})
	}
	n[0].waitUp(n[1].addr, n[2].addr)
	eventually(t, func() string {
		d, err := NewOperator(n[0].Speaker).Detail(t.Context(), n[1].addr)
		if err != nil {
			return err.Error()
		}
		if len(d.Groups) != 1 {
			return fmt.Sprintf("groups %+v, want one", d.Groups)
		}
		g := d.Groups[0]
		if g.Family != IPv4 || !slices.Equal(g.Members, []netip.Addr{n[1].addr, n[2].addr}) || g.Prefixes != 2 || g.Behind != 0 || g.Withheld != 0 {
			return fmt.Sprintf("group %+v", g)
		}
		return ""
	})
}

// routesOf lists a set as "prefix state: rule".
func routesOf(t *testing.T, n *node, peer netip.Addr, set RouteSet, within string) []string {
	t.Helper()
	var p netip.Prefix
	if within != "" {
		p = prefix(within)
	}
	var out []string
	err := NewOperator(n.Speaker).Routes(t.Context(), peer, set, p, func(r *PeerRoute) error {
		out = append(out, fmt.Sprintf("%s %s: %s", r.Route.Prefix, r.State, r.Rule))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantSet compares a set with the beginnings of lines.
func wantSet(t *testing.T, n *node, peer netip.Addr, set RouteSet, within string, want ...string) {
	t.Helper()
	eventually(t, func() string {
		got := routesOf(t, n, peer, set, within)
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			return fmt.Sprintf("set %d of %s within %q:\n%s\nwant\n%s", set, peer, within, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return ""
	})
}

// TestPeerRoutes: what a peer announces, with the rule that decided; the two parts of it;
// and the prefixes that cover one or are inside it.
func TestPeerRoutes(t *testing.T) {
	needsPatches(t)
	c := testConfig(t, "127.99.0.1")
	c.Pools = []policy.Pool{{Prefix: prefix("10.244.0.0/16"), Block: 26}}
	x := startNodes(t, c)[0]
	x.originate("10.244.9.0/26")
	x.setPeers(nil, clientsOf("127.99.0.0/24"))
	p := dialRaw(t, "127.99.0.2", "127.99.0.1")
	hop := whole(0x40, 3, 127, 99, 0, 2)
	plain := joined(attrOrigin, attrASPath, hop, attrLocalPref)
	p.update(plain, []byte{26, 10, 244, 1, 0, 26, 10, 244, 1, 64, 16, 192, 168, 24, 10, 244, 7})
	p.update(plain, []byte{28, 10, 244, 3, 0, 26, 10, 244, 9, 0})
	p.update(joined(attrOrigin, attrASPath, whole(0x40, 3, 169, 254, 1, 7), attrLocalPref), []byte{26, 10, 244, 4, 0})
	p.update(joined(plain, whole(0x80, 9, 127, 99, 0, 1)), []byte{26, 10, 244, 5, 0})
	p.update(joined(plain, whole(0x80, 9, 10, 9, 9, 9), whole(0x80, 10, 127, 99, 0, 1)), []byte{26, 10, 244, 6, 0})
	p.update(joined(attrOrigin, whole(0x40, 2, 2, 1, 0, 0, 0xfc, 0), hop, attrLocalPref), []byte{26, 10, 244, 8, 0})
	at := addr("127.99.0.2")
	accepted := []string{"10.244.1.0/26 accepted: pools", "10.244.1.64/26 accepted: pools", "10.244.7.0/24 accepted: pools"}
	rejected := []string{
		"10.244.3.0/28 rejected: longer than a block of the pool",
		"10.244.4.0/26 rejected: the next hop 169.254.1.7 is no address of a router",
		"10.244.5.0/26 rejected: ORIGINATOR_ID 127.99.0.1 is this node: a loop",
		"10.244.6.0/26 rejected: CLUSTER_LIST holds our cluster 127.99.0.1: a loop",
		"10.244.8.0/26 rejected: the AS_PATH holds our AS 64512: a loop",
		"10.244.9.0/26 rejected: a prefix of this node",
		"192.168.0.0/16 rejected: not in the pools or import.accept",
	}
	wantSet(t, x, at, Accepted, "", accepted...)
	wantSet(t, x, at, Rejected, "", rejected...)
	all := slices.Concat(accepted, rejected)
	slices.SortFunc(all, func(a, b string) int {
		first, second := prefix(strings.Fields(a)[0]), prefix(strings.Fields(b)[0])
		return first.Compare(second)
	})
	wantSet(t, x, at, Received, "", all...)
	wantSet(t, x, at, Received, "10.244.1.0/24", accepted[:2]...)
	wantSet(t, x, at, Received, "10.244.7.9/32", accepted[2])
	wantSet(t, x, at, Received, "172.16.0.0/12")

	if err := NewOperator(x.Speaker).Routes(t.Context(), addr("127.99.0.7"), Received, netip.Prefix{}, nil); !errors.Is(err, ErrNoSession) {
		t.Errorf("routes of a client without a session: %v", err)
	}
	stop := errors.New("the reader has enough")
	n := 0
	err := NewOperator(x.Speaker).Routes(t.Context(), at, Received, netip.Prefix{}, func(*PeerRoute) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("after the reader's error: %v, %d routes", err, n)
	}
}

// TestAdvertised: the announcements to a client, with the rule, and why the others are
// not announced to it.
func TestAdvertised(t *testing.T) {
	needsPatches(t)
	tor := testConfig(t, "127.100.0.4")
	tor.ASN = 65001
	n := startNodes(t, testConfig(t, "127.100.0.1"), testConfig(t, "127.100.0.2"), testConfig(t, "127.100.0.3"), tor)
	up := from(to("127.100.0.4", EBGP), "127.100.0.1")
	up.ASN, up.Import = 65001, accepting("172.16.0.0/12 ge 12 le 24")
	up.Export.Own = true
	n[0].originate("10.244.0.0/26")
	n[0].setPeers([]Peer{up}, clientsOf("127.100.0.2/31"))
	for i, x := range n[1:3] {
		x.originate(fmt.Sprintf("10.244.%d.0/26", i+2))
		x.setPeers([]Peer{from(to("127.100.0.1", IBGP), x.addr.String())})
	}
	down := from(to("127.100.0.1", EBGP), "127.100.0.4")
	down.ASN, down.Export.Own = 64512, true
	n[3].originate("172.16.1.0/24")
	n[3].setPeers([]Peer{down})
	n[0].waitUp(n[1].addr, n[2].addr, n[3].addr)

	client, peer := n[1].addr, n[3].addr
	wantSet(t, n[0], client, Advertised, "", "10.244.0.0/26 sent: own prefixes", "10.244.3.0/26 sent: reflected routes")
	wantSet(t, n[0], client, Advertised, "0.0.0.0/0",
		"10.244.0.0/26 sent: own prefixes",
		"10.244.2.0/26 not announced: the peer announced the best path itself",
		"10.244.3.0/26 sent: reflected routes",
		"172.16.1.0/24 not announced: nothing else is announced")
	wantSet(t, n[0], peer, Advertised, "", "10.244.0.0/26 sent: own prefixes")
	wantSet(t, n[0], peer, Advertised, "10.244.2.0/23",
		"10.244.2.0/26 not announced: nothing else is announced", "10.244.3.0/26 not announced: nothing else is announced")
	err := NewOperator(n[0].Speaker).Routes(t.Context(), client, Advertised, prefix("10.244.3.0/26"), func(r *PeerRoute) error {
		if r.OriginatorID != n[2].addr || !slices.Equal(r.ClusterList, []netip.Addr{n[0].addr}) || r.Route.NextHop != n[2].addr {
			return fmt.Errorf("the reflected route is sent as %+v", r)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRefresh: refresh in asks the peer for each family of the session and lets it be
// established; one without the capability is not asked. refresh out sends all again.
func TestRefresh(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.101.0.1"))[0]
	x.originate("10.244.1.0/26")
	x.setPeers(nil, clientsOf("127.101.0.0/24"))
	able, unable := dialRaw(t, "127.101.0.2", "127.101.0.1", 2, 0), dialRaw(t, "127.101.0.3", "127.101.0.1")
	x.waitRaw(addr("127.101.0.2"))
	x.waitRaw(addr("127.101.0.3"))
	since := x.peer(addr("127.101.0.2")).Since
	o := NewOperator(x.Speaker)
	if got, err := o.RefreshIn(t.Context(), addr("127.101.0.2")); err != nil || !slices.Equal(got, []Family{IPv4}) {
		t.Fatalf("asked for %v, %v; want ipv4", got, err)
	}
	if got, err := o.RefreshIn(t.Context(), addr("127.101.0.3")); err != nil || len(got) != 0 {
		t.Errorf("a peer without the capability: asked for %v, %v", got, err)
	}
	// messages reads until one of the type has come, and counts the routes before it.
	messages := func(p *rawPeer, last byte) (routes int) {
		for {
			typ, body, err := readMessage(p.conn)
			if err != nil {
				t.Fatal(err)
			}
			if typ == 2 && strings.HasSuffix(string(body), string([]byte{26, 10, 244, 1, 0})) {
				routes++
			}
			if typ == last && (typ != 2 || routes > 0) {
				return routes
			}
		}
	}
	messages(able, 5)
	messages(unable, 2)
	if err := o.RefreshOut(t.Context(), addr("127.101.0.3")); err != nil {
		t.Fatal(err)
	}
	if got := messages(unable, 2); got != 1 {
		t.Errorf("%d routes after refresh out, want one", got)
	}
	if got := x.peer(addr("127.101.0.2")); got.State != established || !got.Since.Equal(since) {
		t.Errorf("the session after a refresh: %+v", got)
	}
	if _, err := o.RefreshIn(t.Context(), addr("127.101.0.9")); !errors.Is(err, ErrNoSession) {
		t.Errorf("refresh of a peer without a session: %v", err)
	}
	eventually(t, func() string { // the engine counts a message after it has sent it
		if d, err := o.Detail(t.Context(), addr("127.101.0.2")); err != nil || d.SentMessages.Refresh != 1 {
			return fmt.Sprintf("sent %+v, %v; want one ROUTE-REFRESH", d.SentMessages, err)
		}
		return ""
	})
}

// blockUpdates are UPDATEs with count prefixes /32 from 11.0.0.0 on, 500 in each.
func blockUpdates(local net.IP, count int) []byte {
	attrs := joined(attrOrigin, attrASPath, whole(0x40, 3, local.To4()...), attrLocalPref)
	var out []byte
	for first := 0; first < count; first += 500 {
		body := append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...)
		for i := first; i < min(first+500, count); i++ {
			body = append(body, 32, 11, byte(i>>16), byte(i>>8), byte(i))
		}
		out = append(out, rawMessage(2, body)...)
	}
	return out
}

// TestManyRoutes: a listing of 100,000 routes takes the memory of the list of their
// prefixes, and of one page of routes, and no more.
func TestManyRoutes(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.102.0.1"))[0]
	x.setPeers(nil, clientsOf("127.102.0.0/24"))
	p := dialRaw(t, "127.102.0.2", "127.102.0.1")
	go drainConn(p.conn)
	const routes = 100_000
	if err := p.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.conn.Write(blockUpdates(net.IPv4(127, 102, 0, 2), routes)); err != nil {
		t.Fatal(err)
	}
	at := addr("127.102.0.2")
	eventually(t, func() string {
		if n := x.peer(at).Received; n != routes {
			return fmt.Sprintf("%d of %d routes received", n, routes)
		}
		return ""
	})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most, n := heap(), uint64(0), 0
	began := time.Now()
	err := NewOperator(x.Speaker).Routes(t.Context(), at, Rejected, netip.Prefix{}, func(*PeerRoute) error {
		if n++; n%10_000 == 1 {
			most = max(most, heap())
		}
		return nil
	})
	took := time.Since(began)
	if err != nil || n != routes {
		t.Fatalf("%d routes listed, %v", n, err)
	}
	const bound = 8 << 20 // 3.2 MB of prefixes, a page, and what the engine does meanwhile
	more := uint64(0)
	if most > before {
		more = most - before
	}
	t.Logf("%d routes in %s, %d kB more than the %d kB before", n, took.Round(time.Millisecond), more>>10, before>>10)
	if more > bound {
		t.Errorf("the listing holds %d kB, want at most %d", more>>10, bound>>10)
	}
}
