package bgp

import (
	"bytes"
	"testing"
	"time"

	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// TestLongLivedRestart: the routes of a ToR that is gone are the last resort
// when its restart time is over (RFC 9494), for our time and not for the one that
// it announces. Our capability makes it keep none of our own routes.
func TestLongLivedRestart(t *testing.T) {
	needsPatches(t)
	c := testConfig(t, "127.38.0.1")
	c.ASN = 65010 // the raw peers are 64512
	x := startNodes(t, c)[0]
	var peers []Peer
	for _, a := range []string{"127.38.0.2", "127.38.0.3"} {
		peers = append(peers, Peer{Name: a, Address: addr(a), Passive: true, Session: Session{
			Role: EBGP, ASN: 64512, Options: session.Options{LongLived: 5 * time.Second}, Import: policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("10.244.0.0/16")}}},
		}})
	}
	x.setPeers(peers)
	caps := []byte{
		64, 6, 0, 1, 0, 1, 1, 0x80, // graceful restart: 1 s, IPv4, forwarding kept
		71, 7, 0, 1, 1, 0x80, 0, 0x0e, 0x10, // long-lived: IPv4, forwarding kept, an hour
	}
	attrs := func(hop byte) []byte {
		return joined(attrOrigin, []byte{0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0}, []byte{0x40, 3, 4, 127, 38, 0, hop})
	}
	dying, living := dialRaw(t, "127.38.0.2", "127.38.0.1", caps...), dialRaw(t, "127.38.0.3", "127.38.0.1", caps...)
	if own := []byte{71, 7, 0, 1, 1, 0, 0, 0, 0}; !bytes.Contains(dying.open, own) {
		t.Errorf("no long-lived capability with times of 0 in % x", dying.open)
	}
	dying.update(attrs(2), someNLRI)
	living.update(attrs(3), someNLRI)
	x.waitRoutes("10.244.7.0/26 via 127.38.0.2,127.38.0.3")
	if err := dying.conn.Close(); err != nil {
		t.Fatal(err)
	}
	x.waitRoutes("10.244.7.0/26 via 127.38.0.3") // fresh routes win over stale ones
	living.send(2, append([]byte{0, byte(len(someNLRI))}, append(someNLRI, 0, 0)...))
	x.waitRoutes("10.244.7.0/26 via 127.38.0.2") // the last resort
	x.waitRoutes()                               // not an hour
}
