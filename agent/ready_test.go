package agent

import (
	"errors"
	"testing"

	"onlink/bgp"
	"onlink/cni"
)

// TestConnected: one session is enough, and a node without peers needs none.
func TestConnected(t *testing.T) {
	for _, c := range []struct {
		name       string
		configured int
		states     []string
		want       error
	}{
		{"no peers", 0, nil, nil},
		{"none up", 2, []string{"Active", "Idle"}, cni.ErrLimited},
		{"one up", 2, []string{"Active", established}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var peers []bgp.PeerStatus
			for _, s := range c.states {
				peers = append(peers, bgp.PeerStatus{State: s})
			}
			if err := connected(c.configured, peers); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
