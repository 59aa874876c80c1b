package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"onlink/internal/ours"
)

// patience bounds a wait for a packet that must come.
const patience = 10 * time.Second

// rack is a pod and a server with a node between them. The node forwards.
type rack struct {
	pod, node, server *host
	table             *Table // of the node
}

func newRack(t *testing.T) *rack {
	t.Helper()
	r := &rack{pod: newHost(t), node: newHost(t), server: newHost(t), table: New(nil)}
	needNFTables(t, r.node)
	r.node.forwards()
	wire(r.node, r.pod, "pod0", []string{"10.244.0.1/24", "fd00:244::1/64"}, []string{"10.244.0.2/24", "fd00:244::2/64"})
	wire(r.node, r.server, "up0", []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{
		"192.0.2.9/24", "192.0.2.10/24", "10.244.9.9/32", "2001:db8::9/64", "2001:db8::10/64", "fd00:244:0:9::9/128",
	})
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		via := map[bool]string{true: "10.244.0.1", false: "fd00:244::1"}[strings.Contains(dst, ".")]
		r.pod.route(dst, via)
	}
	r.node.route("10.244.9.0/24", "192.0.2.9")
	r.node.route("fd00:244:0:9::/64", "2001:db8::9")
	r.server.route("10.244.0.0/24", "192.0.2.1")
	r.server.route("fd00:244::/64", "2001:db8::1")
	return r
}

func (r *rack) apply(s State) {
	r.node.t.Helper()
	r.node.do(func() error { return r.table.Apply(s) })
}

// seenFrom sends a UDP packet from the pod to an address of the server and
// returns the source address that the server sees.
func (r *rack) seenFrom(t *testing.T, to string) string {
	t.Helper()
	return arrives(t, r.pod, "", r.server, "udp", to, 5000)
}

// listen opens a socket of the network ("udp", "ip4:4" and so on) in the host.
func listen(h *host, network, address string, port int) (net.PacketConn, error) {
	var conn net.PacketConn
	err := h.try(func() (err error) {
		if network == "udp" {
			conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))))
			return err
		}
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// target returns the address in the form of the network.
func target(network, address string, port int) net.Addr {
	if network == "udp" {
		return &net.UDPAddr{IP: net.ParseIP(address), Port: port}
	}
	return &net.IPAddr{IP: net.ParseIP(address)}
}

// arrives sends packets until one is received and returns its source.
func arrives(t *testing.T, from *host, source string, to *host, network, address string, port int) string {
	t.Helper()
	in, out, err := both(from, source, to, network, address, port)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, in, out)
	buffer := make([]byte, 100)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		// The first packet may be lost to neighbour resolution.
		if _, err := out.WriteTo([]byte("hello, this is a packet"), target(network, address, port)); err != nil {
			t.Fatalf("send to %s: %v", address, err)
		}
		if err := in.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, source, err := in.ReadFrom(buffer)
		if err == nil {
			host, _, splitErr := net.SplitHostPort(source.String())
			if splitErr != nil {
				host = source.String()
			}
			return host
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no %s packet from %q came to %s within %s", network, source, address, patience)
	return ""
}

// both opens the sending and the receiving socket.
func both(from *host, source string, to *host, network, address string, port int) (in, out net.PacketConn, err error) {
	if in, err = listen(to, network, address, port); err != nil {
		return nil, nil, err
	}
	if source == "" {
		source = map[bool]string{true: "0.0.0.0", false: "::"}[strings.Contains(address, ".")]
	}
	if out, err = listen(from, network, source, 0); err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, out, nil
}

func closeAll(t *testing.T, conns ...net.PacketConn) {
	t.Helper()
	for _, c := range conns {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// dropped sends packets until a drop rule of the chain has counted one more.
func (r *rack) dropped(t *testing.T, chain string, from *host, source string, to *host, network, address string, port int) {
	t.Helper()
	in, out, err := both(from, source, to, network, address, port)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, in, out)
	before, told := r.drops(t, chain), r.told(t, chain)
	awaitDrop(t, in, func() error {
		_, err := out.WriteTo([]byte("hello, this is a packet"), target(network, address, port))
		return err
	}, func() bool { return r.drops(t, chain) > before })
	if now := r.told(t, chain); now <= told {
		t.Errorf("chain %s: Drops has %d, as before", chain, now)
	}
}

// told returns what Drops says of a chain's cause.
func (r *rack) told(t *testing.T, chain string) (n uint64) {
	t.Helper()
	r.node.do(func() error {
		all, err := Drops()
		n = all[map[string]Cause{"input": DropGuard, "forward": DropGuard, "prerouting": DropAddress}[chain]]
		return err
	})
	return n
}

// awaitDrop sends until dropped; nothing may come in.
func awaitDrop(t *testing.T, in net.PacketConn, send func() error, dropped func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !dropped(); {
		if time.Now().After(end) {
			t.Fatalf("nothing was dropped within %s", patience)
		}
		if err := send(); err != nil {
			t.Fatalf("send: %v", err)
		}
		if err := in.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, from, err := in.ReadFrom(make([]byte, 100)); err == nil {
			t.Fatalf("a packet from %s got through", from)
		}
	}
}

// drops returns what the rules of a chain have counted.
func (r *rack) drops(t *testing.T, chain string) (n uint64) {
	t.Helper()
	r.node.do(func() (err error) {
		n, err = counted(chain)
		return err
	})
	return n
}

func TestMasquerade(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	state := State{MasqueradeFrom: pfx("10.244.0.0/16", "fd00:244::/32"), Pools: pfx("10.244.0.0/16", "fd00:244::/32")}
	check := func(name, to, want string) {
		t.Helper()
		if got := r.seenFrom(t, to); got != want {
			t.Errorf("%s: %s sees %s, want %s", name, to, got, want)
		}
	}
	check("without the table", "192.0.2.9", "10.244.0.2")
	r.apply(state)
	check("out of the pools", "192.0.2.10", "192.0.2.1")
	check("inside the pools", "10.244.9.9", "10.244.0.2")
	check("out of the pools, IPv6", "2001:db8::10", "2001:db8::1")
	check("inside the pools, IPv6", "fd00:244:0:9::9", "fd00:244::2")

	// What does not come from a masqueraded pool keeps its source.
	state.MasqueradeFrom = pfx("10.244.128.0/17")
	r.apply(state)
	check("another pool", "192.0.2.10", "10.244.0.2")
	check("another pool, IPv6", "2001:db8::10", "fd00:244::2")

	r.apply(State{MasqueradeFrom: pfx("10.244.0.0/17", "10.244.128.0/17"), Pools: pfx("10.244.0.0/17")})
	check("a pool of two halves", "192.0.2.9", "192.0.2.1")
	r.node.do(r.table.Remove)
	check("after Remove", "192.0.2.10", "10.244.0.2")
	r.node.do(r.table.Remove) // the absent table
}

func TestGuard(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	const port = 4789
	state := State{
		Pools: pfx("10.244.0.0/16", "fd00:244::/32"), MasqueradeFrom: pfx("10.244.0.0/16"),
		Guard: true, Nodes: addrs("192.0.2.9", "2001:db8::9"), VXLANPort: port,
	}
	r.apply(state)
	for _, kind := range []struct{ network, to, known, unknown string }{
		{"ip4:4", "192.0.2.1", "192.0.2.9", "192.0.2.10"},
		{"ip4:41", "192.0.2.1", "192.0.2.9", "192.0.2.10"},
		{"ip6:4", "2001:db8::1", "2001:db8::9", "2001:db8::10"},
		{"ip6:41", "2001:db8::1", "2001:db8::9", "2001:db8::10"},
		{"udp", "192.0.2.1", "192.0.2.9", "192.0.2.10"},
		{"udp", "2001:db8::1", "2001:db8::9", "2001:db8::10"},
	} {
		if got := arrives(t, r.server, kind.known, r.node, kind.network, kind.to, port); got != kind.known {
			t.Errorf("%s from a known node came as %s", kind.network, got)
		}
		r.dropped(t, "input", r.server, kind.unknown, r.node, kind.network, kind.to, port)
	}
	// Other ports and protocols are nobody's business.
	arrives(t, r.server, "192.0.2.10", r.node, "udp", "192.0.2.1", port+1)

	// A pod cannot borrow its node's address by masquerading.
	r.dropped(t, "forward", r.pod, "", r.server, "ip4:4", "192.0.2.9", port)
	r.dropped(t, "forward", r.pod, "", r.server, "udp", "192.0.2.9", port)

	// The set of nodes follows without a new table.
	state.Nodes = addrs("192.0.2.10", "2001:db8::10")
	r.apply(state)
	arrives(t, r.server, "192.0.2.10", r.node, "ip4:4", "192.0.2.1", port)
	arrives(t, r.server, "2001:db8::10", r.node, "ip6:41", "2001:db8::1", port)
	r.dropped(t, "input", r.server, "192.0.2.9", r.node, "ip4:4", "192.0.2.1", port)

	state.Guard = false
	r.apply(state)
	arrives(t, r.server, "192.0.2.9", r.node, "ip4:4", "192.0.2.1", port)
	arrives(t, r.pod, "", r.server, "udp", "192.0.2.9", port)
}

// TestWrites proves which calls of Apply write, and that a table which
// somebody changed is written again.
func TestWrites(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	needNFTables(t, h)
	table := New(nil)
	state := State{
		MasqueradeFrom: pfx("10.244.0.0/16"), Pools: pfx("10.244.0.0/16", "10.245.0.0/16"),
		Guard: true, Nodes: addrs("10.0.0.1", "10.0.0.2", "fd00::1"),
	}
	inet := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
	edit := func(change func(c *nftables.Conn) error) func() error {
		return func() error {
			c, err := dial()
			if err != nil {
				return err
			}
			if err := change(c); err != nil {
				return err
			}
			return c.Flush()
		}
	}
	steps := []struct {
		name   string
		before func() error
		change func(*State)
		writes uint64
	}{
		{"first", nil, nil, 1},
		{"the same", nil, nil, 0},
		{"the same in another order", nil, func(s *State) { slices.Reverse(s.Nodes); slices.Reverse(s.Pools) }, 0},
		{"other nodes", nil, func(s *State) { s.Nodes = addrs("10.0.0.1", "10.0.0.7", "fd00::7") }, 1},
		{"no nodes", nil, func(s *State) { s.Nodes = nil }, 1},
		{"many nodes", nil, func(s *State) { s.Nodes = manyNodes(5000) }, 1},
		{"fewer of many nodes", nil, func(s *State) { s.Nodes = manyNodes(1000) }, 1},
		{"another pool", nil, func(s *State) { s.Pools = append(s.Pools, pfx("10.246.0.0/16")...) }, 1},
		{"nobody did anything, by the table", nil, nil, 0},
		{"nobody did anything, by the ruleset's generation", nil, nil, 0},
		{"somebody deleted the table", edit(func(c *nftables.Conn) error { c.DelTable(inet); return nil }), nil, 1},
		{"somebody deleted a chain's rules", edit(func(c *nftables.Conn) error {
			c.FlushChain(&nftables.Chain{Name: "input", Table: inet})
			return nil
		}), nil, 1},
		{"somebody added a node", edit(func(c *nftables.Conn) error {
			return c.SetAddElements(families[0].set(inet, setNodes, false), families[0].addresses(addrs("10.9.9.9")))
		}), nil, 1},
		{"nobody did anything", nil, nil, 0},
		{"somebody else's table", edit(func(c *nftables.Conn) error {
			c.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyINet})
			return nil
		}), nil, 0},
		{"a device to spread", nil, func(s *State) { s.Spread = []string{"onlink-vxlan"} }, 1},
		{"the same device twice", nil, func(s *State) { s.Spread = append(s.Spread, s.Spread...) }, 0},
		{"guard off", nil, func(s *State) { s.Guard = false }, 1},
	}
	for _, step := range steps {
		if step.before != nil {
			h.do(step.before)
		}
		if step.change != nil {
			step.change(&state)
		}
		before := table.Writes()
		h.do(func() error { return table.Apply(state) })
		if got := table.Writes() - before; got != step.writes {
			t.Errorf("%s: %d writes, want %d", step.name, got, step.writes)
		}
		h.do(func() error { return holds(state) })
	}

	// A new agent takes the table over, and removes nobody else's.
	next := New(nil)
	h.do(func() error { return next.Apply(state) })
	h.do(func() error { return holds(state) })
	h.do(next.Remove)
	h.do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		if err != nil || len(tables) != 1 || tables[0].Name != "other" {
			return fmt.Errorf("after Remove: %d tables, %w", len(tables), err)
		}
		return nil
	})
}

func TestSupportedLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	needNFTables(t, h)
	h.do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		if err != nil || len(tables) != 0 {
			return fmt.Errorf("%d tables after the probe: %w", len(tables), err)
		}
		return nil
	})
}

func manyNodes(n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})
	}
	return list
}

// counted sums the counters of a chain.
func counted(chain string) (n uint64, err error) {
	c, err := dial()
	if err != nil {
		return 0, err
	}
	rules, err := c.GetRules(&nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}, &nftables.Chain{Name: chain})
	if err != nil {
		return 0, err
	}
	for _, rule := range rules {
		n += packets(rule)
	}
	return n, nil
}
