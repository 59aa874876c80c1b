package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// machine is a Host as the test says it is.
type machine struct {
	addrs    []underlay.Address
	networks []underlay.Network
}

func (m machine) Addresses() []underlay.Address { return m.addrs }
func (m machine) Networks() []underlay.Network  { return m.networks }

// effective is the configuration of a node without facts.
func effective(t *testing.T, yaml string) *config.Effective {
	t.Helper()
	file, err := config.Parse("f", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Resolve(file, config.Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.11")}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rack is a node with an uplink, a container bridge and an address of its own on
// a loopback device.
func rack(t *testing.T) Surroundings {
	t.Helper()
	pfx := netip.MustParsePrefix
	return Surroundings{
		ID: Identity{Name: "a", Address: netip.MustParseAddr("10.0.0.11"), Address6: netip.MustParseAddr("fd00::11")},
		Host: machine{
			addrs: host(t, "10.0.0.11/24 eth0 hw", "fd00::11/128 lo loopback", "172.17.0.1/16 docker0 bridge"),
			networks: []underlay.Network{
				{Prefix: pfx("10.0.0.0/24"), Dev: "eth0"},
				{Prefix: pfx("10.0.0.1/32"), Dev: "eth0", Via: true},
				{Prefix: pfx("172.17.0.0/16"), Dev: "docker0"},
				{Prefix: pfx("172.17.0.1/32"), Dev: "docker0"},
				{Prefix: pfx("fd00::11/128"), Dev: "lo"},
			},
		},
	}
}

// TestFacts: what the node is connected to, and what of it is its own to
// announce: all but the networks of its uplinks and the gateways there.
func TestFacts(t *testing.T) {
	s := rack(t)
	got := s.Facts()
	if !slices.Equal(got.Addresses, []netip.Addr{s.ID.Address, s.ID.Address6}) || got.Routers != nil {
		t.Errorf("addresses %v, routers %v", got.Addresses, got.Routers)
	}
	var claims []string
	for _, c := range got.Claims {
		text := c.Prefix.String() + " " + c.What
		if c.Ours {
			text += ", ours"
		}
		claims = append(claims, text)
	}
	want := []string{
		"10.0.0.0/24 the network of eth0",
		"10.0.0.1/32 the gateway of routes over eth0",
		"172.17.0.0/16 the network of docker0, ours",
		"172.17.0.1/32 an address of this node on docker0, ours",
		"fd00::11/128 an address of this node on lo, ours",
	}
	if d := cmp.Diff(want, claims); d != "" {
		t.Errorf("claims (-want +got):\n%s", d)
	}
}

// TestStartable: an address that is written out must be the machine's.
func TestStartable(t *testing.T) {
	s := rack(t)
	for _, tt := range []struct {
		address string
		want    bool
	}{
		{"10.0.0.11", true},
		{"172.17.0.1", true},
		{"fd00::11", true},
		{"10.0.0.12", false},
		{"10.0.0.12/32", false},
		{"10.0.0.0/24", true},
		{"eth7", true}, // a device may come back
		{"auto", true},
	} {
		c, err := config.Parse("f.yaml", []byte("node: {address: "+tt.address+"}"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := config.Resolve(c, s.Facts())
		if err != nil {
			t.Fatal(err)
		}
		err = s.Startable(e)
		if (err == nil) != tt.want || err != nil && !strings.Contains(err.Error(), "node.address: this machine does not have 10.0.0.12") {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}

// TestUplinks: the devices of the node's addresses, but no loopback device, and
// those that next hops are reached over, each once.
func TestUplinks(t *testing.T) {
	s := rack(t)
	if got := s.Uplinks(); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("without a next hop %v, want eth0", got)
	}
	reached := []string{"eth1", "eth0"}
	if got := s.Uplinks(reached...); !slices.Equal(got, []string{"eth0", "eth1"}) || reached[0] != "eth1" {
		t.Errorf("got %v, want eth0 and eth1; the argument is %v", got, reached)
	}
}

// TestProblems: a network that comes into a pool while the agent runs is told
// before the next start is refused for it.
func TestProblems(t *testing.T) {
	s := rack(t)
	if got := s.Problems(effective(t, "pools: [{name: a, cidr: 10.244.0.0/16}]")); got != nil {
		t.Errorf("apart: %v", got)
	}
	got := s.Problems(effective(t, "pools: [{name: a, cidr: 10.244.0.0/16}, {name: b, cidr: 172.16.0.0/12}]"))
	if len(got) != 1 || !strings.HasPrefix(got[0], "pools[1].cidr: 172.16.0.0/12 overlaps 172.17.0.0/16, the network of docker0") ||
		!strings.HasSuffix(got[0], "; no drop route covers it, and the next start fails") {
		t.Errorf("over a container bridge: %q", got)
	}
}

// TestFollowerConfig: what a Follower asks is the configuration in force.
func TestFollowerConfig(t *testing.T) {
	now := effective(t, "node: {address: 10.0.0.11}\npools: [{name: a, cidr: 10.1.0.0/16}]")
	only4 := Identity{Address: netip.MustParseAddr("10.0.0.11")}
	f := NewFollower(FollowerConfig{ID: only4, Watch: underlay.New(nil, nil), Config: func() *config.Effective { return now }})
	other := Identity{Address: netip.MustParseAddr("10.0.0.12")}
	if f.written != only4.Address || f.needs(true) || f.needs(false) || f.accepts(other) != nil {
		t.Errorf("of IPv4 pools and no mesh: written %v, needs %v and %v, accepts %v", f.written, f.needs(true), f.needs(false), f.accepts(other))
	}
	now = effective(t, "pools: [{name: a, cidr: 10.1.0.0/16}, {name: b, cidr: 'fd44::/48'}]\nbgp: {mesh: {nodes: [10.0.0.11, 10.0.0.13]}}")
	if f.needs(true) || !f.needs(false) {
		t.Errorf("a pool of IPv6 came: needs %v and %v", f.needs(true), f.needs(false))
	}
	if err := f.accepts(other); err == nil || err.Error() != "bgp.mesh: 10.0.0.12 is not among its nodes; add it" || f.accepts(only4) != nil {
		t.Errorf("a mesh came: %v, and of a member %v", err, f.accepts(only4))
	}
}
