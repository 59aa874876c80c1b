package agent

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"onlink/agent/config"
	"onlink/agent/reload"
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

// ownFacts returns the facts of a node with the address 10.0.0.11.
func ownFacts() config.Facts {
	return config.Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.11")}}
}

// inForce returns an agent that has a configuration in force.
func inForce(t *testing.T, yaml string) *agent {
	t.Helper()
	c, err := config.Resolve(parse(t, yaml), ownFacts())
	if err != nil {
		t.Fatal(err)
	}
	return &agent{reload: reload.New(reload.Setup{}, c)}
}

// reloaded returns an agent that started with one file and accepted another.
func reloaded(t *testing.T, start, next string) *agent {
	t.Helper()
	a, err := change(t, start, next)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// change returns an agent that started with one file, and the outcome of another.
func change(t *testing.T, start, next string) (*agent, error) {
	t.Helper()
	file := config.File{Path: filepath.Join(t.TempDir(), "onlinkd.yaml")}
	if err := os.WriteFile(file.Path, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	a := inForce(t, start)
	a.id.Address = ownFacts().Addresses[0]
	parts := a.parts()
	for i := range parts { // the rooms do not exist
		if parts[i].Apply != nil {
			parts[i].Apply = reload.Live
		}
	}
	a.reload = reload.New(reload.Setup{
		Log: slog.New(slog.DiscardHandler), File: &file, Parts: parts, Facts: ownFacts,
	}, a.current())
	return a, a.reload.Reread(t.Context(), "a test", true)
}

// TestReadyFollowsReload: STATUS depends on the peers in force, not on those of
// the file that the agent started with.
func TestReadyFollowsReload(t *testing.T) {
	speaker, err := bgp.New(bgp.Config{
		ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.11"), NodeAddress: netip.MustParseAddr("10.0.0.11"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	const with, without = "bgp: {peers: [{name: tor, address: 10.0.0.1, asn: 65001}]}", "bgp: {peers: []}"
	for _, c := range []struct {
		name, start, next string
		want              error
	}{
		{"the last peer is removed", with, without, nil},
		{"the first peer is added, and is not up", without, with, cni.ErrLimited},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := reloaded(t, c.start, c.next)
			a.speaker = speaker
			if err := a.unreachable(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// parse returns the configuration of a file's text.
func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
