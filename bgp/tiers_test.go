package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// TestReflectedToUpper: a client's route carries its ORIGINATOR_ID and the
// reflector's CLUSTER_LIST also to an upper reflector, of which the reflector is
// no client but a peer (RFC 4456 sections 7 and 8).
func TestReflectedToUpper(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.1.0.1"), testConfig(t, "127.1.0.2"), testConfig(t, "127.1.0.3"))
	upper, lower, leaf := n[0], n[1], n[2]
	leaf.originate("10.244.1.0/26")
	up := from(to("127.1.0.1", IBGP), "127.1.0.2")
	up.Export.Reflected = true
	upper.setPeers(nil, clientsOf("127.1.0.2/32"))
	lower.setPeers([]Peer{up}, clientsOf("127.1.0.3/32"))
	leaf.setPeers([]Peer{from(to("127.1.0.2", IBGP), "127.1.0.3")})
	eventually(t, func() string {
		got := upper.Paths(t.Context(), prefix("10.244.1.0/26"))
		if len(got) != 1 || got[0].OriginatorID != leaf.addr || !slices.Equal(got[0].ClusterList, []netip.Addr{lower.addr}) || got[0].NextHop != leaf.addr {
			return fmt.Sprintf("the upper reflector has %+v, want originator %s, cluster list %s", got, leaf.addr, lower.addr)
		}
		return ""
	})
}
