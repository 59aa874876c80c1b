package state

import (
	"net/netip"
	"testing"

	"onlink/bgp"
)

// TestPeerProblem: what of a peer is a problem in status.
func TestPeerProblem(t *testing.T) {
	at := netip.MustParseAddr("10.0.0.1")
	for _, c := range []struct {
		name string
		peer bgp.PeerStatus
		want string
	}{
		{"up, with an error of before", bgp.PeerStatus{Name: "tor", Address: at, State: Established, LastError: "hold timer expired"}, ""},
		{"not up", bgp.PeerStatus{Name: "tor", Address: at, State: "Active", LastError: "connect: refused"}, "peer tor (10.0.0.1) is Active: connect: refused"},
		{"not up yet", bgp.PeerStatus{Name: "tor", Address: at, State: "Active"}, ""},
		{"held down", bgp.PeerStatus{Name: "tor", Address: at, State: "Idle", Held: "ticket", LastError: "x"}, "peer tor (10.0.0.1) is held down: ticket"},
		{"up, with two of its router ID", bgp.PeerStatus{Name: "c", Address: at, State: Established, Trouble: "one router ID twice"}, "peer c (10.0.0.1): one router ID twice"},
		{"a lost client", bgp.PeerStatus{Name: "c", Address: at, State: "Idle", Gone: true, Dynamic: true, LastError: "bad peer AS"}, "peer c (10.0.0.1) is Idle: bad peer AS"},
		{"a client that is gone", bgp.PeerStatus{Name: "c", Address: at, State: "Idle", Gone: true, Seen: true, Dynamic: true, LastError: "hold timer expired", Lost: bgp.Loss{Received: 3, Accepted: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/26"), netip.MustParsePrefix("10.244.2.0/26")}}}, "peer c (10.0.0.1) is gone, with its 2 routes such as 10.244.1.0/26: hold timer expired"},
		{"one without routes", bgp.PeerStatus{Name: "c", Address: at, State: "Idle", Gone: true, Seen: true, Dynamic: true, LastError: "hold timer expired"}, "peer c (10.0.0.1) is gone: hold timer expired"},
		{"a stranger", bgp.PeerStatus{Address: at, State: "Idle", Gone: true, Stranger: true, Speaks: true, LastError: "refused: no peer"}, "connections from 10.0.0.1 are refused: no peer"},
		{"a probe of the port", bgp.PeerStatus{Address: at, State: "Idle", Gone: true, Stranger: true, LastError: "refused: no peer"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&Peer{PeerStatus: c.peer}).Problem(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
