package agent

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"onlink/agent/config"
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

// TestReadyFollowsReload: STATUS asks for the peers in force, not for those of
// the file that the agent started with.
func TestReadyFollowsReload(t *testing.T) {
	speaker, err := bgp.New(bgp.Config{
		ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.11"), NodeAddress: netip.MustParseAddr("10.0.0.11"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tor := config.Peer{Name: "tor", Address: netip.MustParseAddr("10.0.0.1"), ASN: 65001}
	with, without := &config.Config{BGP: config.BGP{Peers: []config.Peer{tor}}}, &config.Config{}
	for _, c := range []struct {
		name           string
		start, inForce *config.Config
		want           error
	}{
		{"the last peer is removed", with, without, nil},
		{"the first peer is added, and is not up", without, with, cni.ErrLimited},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &agent{cfg: c.start, speaker: speaker, reload: &reloader{last: c.inForce}}
			if err := a.unreachable(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
