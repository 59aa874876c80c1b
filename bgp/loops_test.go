package bgp

import (
	"fmt"
	"testing"
)

// loops are attributes of routes that have been here before: through this AS,
// from this speaker, through this cluster.
func loops(self string) map[string][]byte {
	id := addr(self).AsSlice()
	return map[string][]byte{
		"AS_PATH":       whole(0x40, 2, 2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfc, 0),
		"ORIGINATOR_ID": whole(0x80, 9, id...),
		"CLUSTER_LIST":  joined(whole(0x80, 9, 10, 9, 9, 9), whole(0x80, 10, append([]byte{10, 8, 8, 8}, id...)...)),
	}
}

// TestOwnCluster: a route that this cluster reflected before is not used, from a
// client or from another reflector (RFC 4456 section 8).
func TestOwnCluster(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.58.0.1"))[0]
	other := to("127.58.0.3", IBGP)
	other.Passive = true
	x.setPeers([]Peer{other}, clientsOf("127.58.0.0/24"))
	for _, from := range []string{"127.58.0.2", "127.58.0.3"} {
		p := dialRaw(t, from, "127.58.0.1")
		foreign := joined(whole(0x80, 9, 10, 9, 9, 9), whole(0x80, 10, 10, 8, 8, 8))
		p.send(2, updateBody(0, loops("127.58.0.1")["CLUSTER_LIST"], hostileNLRI))
		p.send(2, updateBody(0, foreign, []byte{26, 10, 244, 100, 0}))
		eventually(t, func() string {
			if !has(x, prefix("10.244.100.0/26"), from) {
				return "the route of another cluster is not there"
			}
			return ""
		})
		if has(x, prefix("10.244.99.0/26"), from) {
			t.Errorf("a route of our own cluster is used, from %s", from)
		}
	}
}

// TestLoopReplaces: a route that is refused for a loop replaces the one that the
// peer announced before.
func TestLoopReplaces(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.59.0.1"))[0]
	x.setPeers(nil, clientsOf("127.59.0.0/24"))
	p := dialRaw(t, "127.59.0.2", "127.59.0.1")
	i := byte(0)
	for name, attr := range loops("127.59.0.1") {
		i++
		nlri, route := []byte{26, 10, 244, 100 + i, 0}, prefix(fmt.Sprintf("10.244.%d.0/26", 100+i))
		without := byte(0)
		if name == "AS_PATH" {
			without = 2
		}
		p.send(2, updateBody(0, nil, nlri))
		eventually(t, func() string {
			if !has(x, route, "127.59.0.2") {
				return name + ": the good route is not there"
			}
			return ""
		})
		p.send(2, updateBody(without, attr, nlri))
		eventually(t, func() string {
			if has(x, route, "127.59.0.2") {
				return name + ": the route before is still used"
			}
			return ""
		})
		p.send(2, updateBody(0, nil, nlri))
		eventually(t, func() string {
			if !has(x, route, "127.59.0.2") {
				return name + ": the good route did not come back"
			}
			return ""
		})
	}
}
