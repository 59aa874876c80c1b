package bgp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/hostile"
)

// checker is the addition of the patches to the engine's decoder. It is found at
// run time, so that this package also builds with the unpatched engine.
type checker interface {
	CheckBody(body []byte, families map[bgp.RouteFamily]bgp.BGPAddPathMode, fourOctetAS, external bool) ([]byte, *bgp.MessageError)
}

// needsPatches skips a test of the patched engine in a build with the unpatched
// one, which the messages of these tests would end.
func needsPatches(t testing.TB) checker {
	t.Helper()
	c, ok := any(new(bgp.BGPUpdate)).(checker)
	if !ok {
		t.Skip("needs the patched engine: use make, or see CONTRIBUTING.md")
	}
	return c
}

// bothFamilies are negotiated in most cases below.
var bothFamilies = map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: 0, bgp.RF_IPv6_UC: 0}

// TestUpdateRules: the result of the check of UPDATEs for messages that depend on
// the kind of the session.
func TestUpdateRules(t *testing.T) {
	const good, discard, withdraw = bgp.ERROR_HANDLING_NONE, bgp.ERROR_HANDLING_ATTRIBUTE_DISCARD, bgp.ERROR_HANDLING_TREAT_AS_WITHDRAW
	origin, hop := whole(0x40, 1, 0), whole(0x40, 3, 127, 37, 0, 7)
	path2, path4 := whole(0x40, 2, 2, 1, 0xfd, 0xe9), whole(0x40, 2, 2, 1, 0, 0, 0xfd, 0xe9)
	as4 := whole(0xc0, 17, 2, 1, 0, 1, 0, 0)
	as4Aggregator := whole(0xc0, 18, 0, 1, 0, 0, 127, 37, 0, 7)
	trans, other := whole(0xc0, 7, 0x5b, 0xa0, 127, 37, 0, 7), whole(0xc0, 7, 0xfd, 0xe9, 127, 37, 0, 7)
	body := func(withdrawn []byte, nlri []byte, attrs ...[]byte) []byte {
		all := joined(attrs...)
		return joined([]byte{0, byte(len(withdrawn))}, withdrawn, []byte{byte(len(all) >> 8), byte(len(all))}, all, nlri)
	}
	n := hostileNLRI
	v6 := []byte{64, 0xfd, 0, 2, 0x44, 0, 7, 0, 0}
	addPath := map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: bgp.BGP_ADD_PATH_RECEIVE}
	only6 := map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv6_UC: 0}
	for _, tt := range []struct {
		name     string
		families map[bgp.RouteFamily]bgp.BGPAddPathMode
		two, ext bool // two-octet AS numbers; external peer
		in, out  []byte
		want     bgp.ErrorHandling
	}{
		{name: "End-of-RIB", in: []byte{0, 0, 0, 0}, out: []byte{0, 0, 0, 0}},
		{name: "End-of-RIB of IPv6", in: body(nil, nil, whole(0x80, 15, 0, 2, 1)), out: body(nil, nil, whole(0x80, 15, 0, 2, 1))},
		{name: "a good one stays as it is", in: body(nil, n, origin, path4, hop), out: body(nil, n, origin, path4, hop)},
		{name: "External: LOCAL_PREF and reflection are left out", ext: true, want: discard, in: body(nil, n, origin, path4, hop, whole(0x40, 5, 0, 0, 0, 9), whole(0x80, 9, 1, 1, 1, 1), whole(0x80, 10, 1, 1, 1, 1)), out: body(nil, n, origin, path4, hop)},
		{name: "External: confederation segment", ext: true, want: withdraw, in: body(nil, n, origin, whole(0x40, 2, 3, 1, 0, 0, 0xfd, 0xe9), hop), out: body(nil, n, origin, hop)},
		{name: "two octets: AS_PATH is widened", two: true, in: body(nil, n, origin, path2, hop), out: body(nil, n, origin, path4, hop)},
		{name: "two octets: four given", two: true, want: withdraw, in: body(nil, n, origin, whole(0x40, 2, 2, 1, 0, 0, 0xfd, 0xe9), hop), out: body(nil, n, origin, hop)},
		{name: "two octets: AS4_PATH stays", two: true, in: body(nil, n, origin, as4, path2, hop), out: body(nil, n, origin, as4, path4, hop)},
		{name: "two octets: AS4_PATH with AS 0", two: true, want: discard, in: body(nil, n, origin, path2, hop, whole(0xc0, 17, 2, 1, 0, 0, 0, 0)), out: body(nil, n, origin, path4, hop)},
		{name: "two octets: AS4_AGGREGATOR alone", two: true, in: body(nil, n, origin, path2, hop, as4Aggregator), out: body(nil, n, origin, path4, hop)},
		{name: "two octets: both aggregators", two: true, in: body(nil, n, origin, path2, hop, trans, as4Aggregator), out: body(nil, n, origin, path4, hop, trans, as4Aggregator)},
		{name: "two octets: AGGREGATOR of a two-octet AS", two: true, in: body(nil, n, origin, path2, hop, other, as4, as4Aggregator), out: body(nil, n, origin, path4, hop, other)},
		{name: "four octets: AS4_PATH is left out", want: discard, in: body(nil, n, origin, path4, hop, as4), out: body(nil, n, origin, path4, hop)},
		{name: "unknown, to be passed on: partial", in: body(nil, n, origin, path4, hop, whole(0xc0, 99, 1)), out: body(nil, n, origin, path4, hop, whole(0xe0, 99, 1))},
		{name: "unknown, not to be passed on", in: body(nil, n, origin, path4, hop, whole(0x80, 99, 1)), out: body(nil, n, origin, path4, hop)},
		{name: "nothing left", want: discard, in: body(nil, nil, whole(0x80, 15, 0, 25, 70, 1)), out: nil},
		{name: "nothing left but an empty withdrawal", want: discard, in: body(nil, nil, whole(0x80, 14, 0, 25, 70, 0, 0), whole(0x80, 15, 0, 2, 1)), out: nil},
		{name: "IPv4 not negotiated", families: only6, want: discard, in: body(n, nil), out: nil},
		{name: "withdrawn and announced", in: body(joined(n, []byte{24, 10, 244, 8}), n, origin, path4, hop), out: body([]byte{24, 10, 244, 8}, n, origin, path4, hop)},
		{name: "the same but for bits beyond the length", in: body([]byte{26, 10, 244, 99, 63}, n, origin, path4, hop), out: body(nil, n, origin, path4, hop)},
		{name: "another path of the prefix", families: addPath, in: body(joined([]byte{0, 0, 0, 1}, n), joined([]byte{0, 0, 0, 2}, n), origin, path4, hop), out: body(joined([]byte{0, 0, 0, 1}, n), joined([]byte{0, 0, 0, 2}, n), origin, path4, hop)},
		{name: "IPv6 withdrawn and announced", in: body(nil, nil, origin, path4, whole(0x80, 14, reach6("fd00::7", v6...)...), whole(0x80, 15, append([]byte{0, 2, 1}, v6...)...)), out: body(nil, nil, origin, path4, whole(0x80, 14, reach6("fd00::7", v6...)...))},
		{name: "routes in a family beside unknown ones", want: discard, in: body(nil, n, origin, path4, hop, whole(0x80, 14, 0, 25, 70, 0, 0)), out: body(nil, n, origin, path4, hop)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			families := tt.families
			if families == nil {
				families = bothFamilies
			}
			sent := slices.Clone(tt.in)
			out, fault := needsPatches(t).CheckBody(tt.in, families, !tt.two, tt.ext)
			got := good
			if fault != nil {
				got = fault.ErrorHandling
			}
			if got != tt.want {
				t.Errorf("handling %d, want %d (%v)", got, tt.want, fault)
			}
			if diff := cmp.Diff(hex.EncodeToString(tt.out), hex.EncodeToString(out)); diff != "" || (out == nil) != (tt.out == nil) {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if !bytes.Equal(sent, tt.in) {
				t.Error("what was received was changed")
			}
		})
	}
}

// TestDecoders: messages that made the decoders panic no longer do, also without
// the check before them.
func TestDecoders(t *testing.T) {
	needsPatches(t)
	message := func(body []byte) []byte {
		m := slices.Repeat([]byte{0xff}, 16)
		return append(append(m, byte((19+len(body))>>8), byte(19+len(body)), 2), body...)
	}
	for name, body := range map[string][]byte{
		"MP_REACH of 3 bytes":       updateBody(0, whole(0x80, 14, 0, 2, 1), nil),
		"MP_REACH of 4 bytes":       updateBody(0, whole(0x80, 14, 0, 2, 1, 0), nil),
		"Prefix-SID cut in a TLV":   updateBody(0, whole(0xc0, 40, 5, 0, 4, 0, 1, 0, 0), hostileNLRI),
		"Prefix-SID of one byte":    updateBody(0, whole(0xc0, 40, 5), hostileNLRI),
		"Prefix-SID with long TLV":  updateBody(0, whole(0xc0, 40, 5, 0xff, 0xff, 0, 1), hostileNLRI),
		"tunnel encapsulation, cut": updateBody(0, whole(0xc0, 23, 0, 15, 0, 200, 12, 1), hostileNLRI),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := bgp.ParseBGPMessage(message(body)); err == nil && body[3] == 14 {
				t.Error("decoded without an error")
			}
		})
	}
}

// dialTwoOctets brings a session up without the four-octet capability.
func dialTwoOctets(t *testing.T, local, remote string) *rawPeer {
	t.Helper()
	p := connectRaw(t, local, remote)
	t.Cleanup(func() { _ = p.conn.Close() }) // the test is over
	p.send(1, append(append([]byte{4, 0xfc, 0, 0, 90}, net.ParseIP(local).To4()...), 0))
	p.send(4, nil)
	if got := p.answer(); got != hostile.Used {
		t.Fatalf("the OPEN was not taken: %s", got)
	}
	return p
}

// TestTwoOctetSession: the AS4 attributes of an old speaker, in any order and
// each without the other (CVE-2026-41643 was one of these).
func TestTwoOctetSession(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.41.0.1"))[0]
	x.setPeers(nil, clientsOf("127.41.0.0/24"))
	p := dialTwoOctets(t, "127.41.0.2", "127.41.0.1")
	path, as4 := whole(0x40, 2, 2, 1, 0x5b, 0xa0), whole(0xc0, 17, 2, 1, 0, 1, 0, 0)
	rest := joined(attrOrigin, []byte{0x40, 3, 4, 127, 41, 0, 2}, attrLocalPref)
	aggregator := whole(0xc0, 18, 0, 1, 0, 0, 127, 41, 0, 2)
	for i, attrs := range [][]byte{
		joined(as4, path, rest), joined(as4, aggregator, path, rest), joined(rest, aggregator, path),
		joined(path, as4, as4, rest), joined(whole(0xc0, 17), path, rest), joined(as4, whole(0x40, 2), rest),
	} {
		p.update(attrs, []byte{26, 10, 244, byte(i), 0})
		eventually(t, func() string {
			if !has(x, prefix(fmt.Sprintf("10.244.%d.0/26", i)), "127.41.0.2") {
				return fmt.Sprintf("route %d is not there", i)
			}
			return ""
		})
	}
}

// TestNotificationAfterFlood: a peer that goes on sending after its fault still
// receives the NOTIFICATION.
func TestNotificationAfterFlood(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.42.0.1"))[0]
	x.setPeers(nil, clientsOf("127.42.0.0/24"))
	keepalive := append(slices.Repeat([]byte{0xff}, 16), 0, 19, 4)
	for i := range 5 {
		p := dialRaw(t, fmt.Sprintf("127.42.0.%d", 2+i), "127.42.0.1")
		p.send(2, updateBody(0, nil, []byte{33}))
		if _, err := p.conn.Write(slices.Repeat(keepalive, 5000)); err != nil {
			t.Logf("round %d: write: %v", i, err) // the speaker need not read all of it
		}
		if got := p.closing(); got != "3/10" {
			t.Errorf("round %d: ended with %q, want 3/10", i, got)
		}
	}
}

// TestQuickReconnect: four lost sessions in a row come up again in less time
// than the four idle times of 5 s of the unpatched engine.
func TestQuickReconnect(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.43.0.1"))[0]
	peer := to("127.43.0.2", Client)
	peer.Passive = true
	x.setPeers([]Peer{peer})
	start := time.Now()
	for range 5 {
		p := dialRaw(t, "127.43.0.2", "127.43.0.1")
		eventually(t, func() string {
			if x.peer(peer.Address).State != established {
				return "not up"
			}
			return ""
		})
		if err := p.conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 18*time.Second {
		t.Errorf("five sessions took %s", took)
	}
}
