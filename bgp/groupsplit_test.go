package bgp

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestGroupsSplitUnderLoad gives clients, one after the other, an export policy of
// their own while a flood of changes is announced to all: each leaves its update
// group, with its place in the log, while its sender reads that log. In the end every
// client must have the reflector's best paths: a sender that goes on in the group that
// its client has left skips what is changed in the new one.
func TestGroupsSplitUnderLoad(t *testing.T) {
	needsPatches(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	m := &mirror{t: t, rnd: rnd, own: map[string]bool{}}
	m.node = startNodes(t, testConfig(t, reflectorAddr.String()))[0]
	m.static = staticClients(8)
	m.setPeers()
	for i := range 300 {
		m.shared = append(m.shared, prefix(fmt.Sprintf("10.244.%d.%d/26", i>>2, i&3<<6)), prefix(fmt.Sprintf("fd00:244:0:%x::/64", i)))
	}
	feeder := connectClient(t, "127.40.1.1", reflectorAddr.String())
	change := func(version uint32) {
		for _, at := range rnd.Perm(len(m.shared)) {
			feeder.announce(version+uint32(rnd.IntN(200)), m.shared[at])
		}
	}
	version := uint32(0)
	for range 2 {
		m.clients = m.clients[:0]
		for i := range m.static {
			m.static[i].Export.MED = 0
		}
		m.setPeers()
		for i := range m.static {
			m.clients = append(m.clients, connectClient(t, m.static[i].Address.String(), reflectorAddr.String()))
		}
		for i := range m.static {
			version += 1000
			change(version)
			m.static[i].Export.MED = uint32(i+1) * 77
			m.setPeers()
		}
		m.settle()
		for _, c := range m.clients {
			_ = c.conn.Close() // the reader sees it
		}
	}
}
