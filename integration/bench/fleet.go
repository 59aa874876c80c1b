package bench

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/integration/bench/speaker"
	"onlink/ipam"
)

// Both reflectors of a fleet have a wire of their own to it.
var (
	secondAddr  = netip.MustParseAddr("10.202.0.1")
	secondFleet = netip.MustParseAddr("10.202.0.2") // the fleet's side of it
)

const (
	fleetOpens   = 6  // sessions with one reflector that are being opened at a time
	fleetCalls   = 64 // calls of the registry at a time
	fleetStuck   = 2 * time.Minute
	fleetPoll    = 2 * time.Millisecond
	fleetCallMax = 30 * time.Second
)

// fleet is many light nodes: each has a session with both reflectors, a connection to
// the registry, and blocks. The reflectors and the registry are real.
type fleet struct {
	wire   *pair  // of the first reflector and the fleet
	second *space // of the second reflector
	sides  [2]*side
	nodes  []*lightNode
	blocks int // upper bound of their numbers

	lost atomic.Pointer[error] // why a session ended that should not have
	stop context.CancelFunc
	wg   sync.WaitGroup // of what sends keepalives
}

// side is one reflector with the sessions that the fleet has with it.
type side struct {
	addr    netip.Addr
	program *program
	opens   chan struct{} // a place for each session that is being opened
	up      atomic.Int64  // sessions
	have    atomic.Int64  // prefixes that nodes know of it, over all nodes
	down    atomic.Bool   // the sessions may end: it is being restarted
}

// lightNode is a node of a fleet.
type lightNode struct {
	addr netip.Addr
	ipam.Caller
	registry ipam.Registry
	claimed  ipam.Block
	off      atomic.Bool // it has no power
	attends  sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	blocks   []int
	sessions [2]*speaker.Session
}

// newFleet makes the namespaces; nothing is started.
func newFleet(n int) (_ *fleet, err error) {
	f := &fleet{blocks: n + fleetSpare, stop: func() {}, nodes: make([]*lightNode, n)}
	if f.wire, err = newPair(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.second, err = newSpace(); err != nil {
		return nil, err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1", PeerNamespace: netlink.NsFd(f.wire.far.fd)}
	if err := f.second.link.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("create veth: %w", err)
	}
	err = errors.Join(f.second.address("up0", secondAddr), f.wire.far.address("up1", secondFleet),
		f.wire.ownClients(), f.second.link.RouteAdd(&netlink.Route{Dst: ipNet(clientsNet), Gw: secondFleet.AsSlice()}))
	if err != nil {
		return nil, fmt.Errorf("route to the fleet: %w", err)
	}
	for k, a := range []netip.Addr{nearAddr, secondAddr} {
		f.sides[k] = &side{addr: a, opens: make(chan struct{}, fleetOpens)}
	}
	for i := range f.nodes {
		a := clientAddr(i)
		f.nodes[i] = &lightNode{addr: a, blocks: []int{i}, Caller: ipam.Caller{
			Node: fmt.Sprintf("n%05d", i), Instance: fmt.Sprintf("%032x", i+1), Address: a, Period: time.Minute,
		}}
	}
	return f, nil
}

// ownClients gives the far side every address of the clients, and the near one the
// way there.
func (p *pair) ownClients() error {
	return errors.Join(
		p.far.link.RouteAdd(&netlink.Route{Dst: ipNet(clientsNet), LinkIndex: 1, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: unix.RT_TABLE_LOCAL}),
		p.near.link.RouteAdd(&netlink.Route{Dst: ipNet(clientsNet), Gw: farAddr.AsSlice()}))
}

func (f *fleet) close() {
	f.stop()
	for _, n := range f.nodes {
		if n != nil {
			n.hangUp()
			if c, ok := n.registry.(interface{ Close() error }); ok {
				_ = c.Close()
			}
		}
	}
	for _, s := range f.sides {
		if s != nil && s.program != nil {
			s.program.stop()
		}
	}
	for _, n := range f.nodes {
		if n != nil {
			n.attends.Wait()
		}
	}
	f.wg.Wait()
	if f.second != nil {
		f.second.close()
	}
	f.wire.close()
}

// dial connects from a node's address, in the fleet's namespace.
func (f *fleet) dial(from netip.Addr) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, target string) (conn net.Conn, err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		err = f.wire.far.do(func() error {
			conn, err = d.DialContext(ctx, "tcp", target)
			return err
		})
		return conn, err
	}
}

// power has nodes keep their sessions from now on.
func (f *fleet) power(ctx context.Context, nodes ...*lightNode) {
	for _, n := range nodes {
		n.attends.Wait() // since the power was cut
		n.off.Store(false)
		for k := range f.sides {
			n.attends.Go(func() { f.attend(ctx, n, k) })
		}
	}
}

// cut takes nodes off the net, as a power failure does.
func (f *fleet) cut(nodes ...*lightNode) {
	for _, n := range nodes {
		n.off.Store(true)
	}
	for _, n := range nodes {
		n.hangUp()
	}
}

func (n *lightNode) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sessions {
		if s != nil {
			_ = s.Close() // the receiver sees it
		}
	}
}

// attend keeps a node's session with one reflector until the node is off.
func (f *fleet) attend(ctx context.Context, n *lightNode, k int) {
	side := f.sides[k]
	for ctx.Err() == nil && !n.off.Load() {
		s, err := f.open(ctx, n, side)
		if err == nil {
			err = f.converse(ctx, n, k, s)
			if ctx.Err() == nil && !n.off.Load() && !side.down.Load() {
				err = fmt.Errorf("%s lost its session with %s: %w", n.Node, side.addr, err)
				f.lost.CompareAndSwap(nil, &err)
			}
		}
		if n.off.Load() || pause(ctx, openRetry) != nil {
			return
		}
	}
}

func (f *fleet) open(ctx context.Context, n *lightNode, side *side) (s *speaker.Session, err error) {
	select {
	case side.opens <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-side.opens }()
	err = f.wire.far.do(func() error {
		s, err = speaker.Open(ctx, n.addr, side.addr, asn)
		return err
	})
	return s, err
}

// converse announces the node's blocks, and counts what it learns until the session
// ends.
func (f *fleet) converse(ctx context.Context, n *lightNode, k int, s *speaker.Session) error {
	side := f.sides[k]
	n.mu.Lock()
	n.sessions[k] = s
	msg := speaker.AppendEndOfRIB(speaker.AppendUpdate(nil, n.addr, prefixes(n.blocks), len(n.blocks)))
	err := s.Write(msg)
	n.mu.Unlock()
	if n.off.Load() { // since before the session was known to cut
		err = errors.Join(err, s.Close())
	}
	if err != nil {
		return err
	}
	side.up.Add(1)
	defer side.up.Add(-1)
	f.wg.Go(func() { s.KeepUp(ctx) })
	seen := make([]uint64, (f.blocks+63)/64)
	note := func(p netip.Prefix, now bool) {
		b := blockIndex(p)
		if b < 0 || b >= f.blocks {
			return
		}
		word, bit := b/64, uint64(1)<<(b%64)
		switch known := seen[word]&bit != 0; {
		case now && !known:
			side.have.Add(1)
		case !now && known:
			side.have.Add(-1)
		default:
			return
		}
		seen[word] ^= bit
	}
	err = s.Follow(func(p netip.Prefix) { note(p, true) }, func(p netip.Prefix) { note(p, false) })
	left := 0
	for _, w := range seen {
		left += bits.OnesCount64(w)
	}
	side.have.Add(int64(-left))
	return err
}

// prefixes returns the blocks with the numbers.
func prefixes(numbers []int) []netip.Prefix {
	out := make([]netip.Prefix, len(numbers))
	for i, b := range numbers {
		out[i] = block(b)
	}
	return out
}

// announce has a node announce another block to both reflectors.
func (n *lightNode) announce(b int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocks = append(n.blocks, b)
	msg := speaker.AppendUpdate(nil, n.addr, prefixes([]int{b}), 1)
	var err error
	for _, s := range n.sessions {
		err = errors.Join(err, s.Write(msg))
	}
	return err
}

// complete returns how many prefixes the nodes that are on know of a reflector, over
// all nodes, when each knows all of the others.
func (f *fleet) complete() (nodes, known int64) {
	total := 0
	on := slices.DeleteFunc(slices.Clone(f.nodes), func(n *lightNode) bool { return n.off.Load() })
	for _, n := range on {
		total += len(n.blocks)
	}
	for _, n := range on {
		known += int64(total - len(n.blocks))
	}
	return int64(len(on)), known
}

// settled waits until every node that is on knows all blocks of the others, of each of
// the sides and of nothing else, and returns when.
func (f *fleet) settled(ctx context.Context, sides ...*side) (time.Time, error) {
	nodes, known := f.complete()
	last, moved := int64(-1), time.Now()
	for {
		done, have := true, int64(0)
		for _, s := range sides {
			h := s.have.Load()
			have += h + s.up.Load()
			done = done && h == known && s.up.Load() == nodes
			if err := s.program.ended(); err != nil {
				return time.Time{}, err
			}
		}
		now := time.Now()
		switch lost := f.lost.Load(); {
		case lost != nil:
			return now, *lost
		case done:
			return now, nil
		case have != last:
			last, moved = have, now
		case now.Sub(moved) > fleetStuck:
			return now, fmt.Errorf("%w: nothing has come for %v; %s", errLost, fleetStuck, f.progress(nodes, known))
		}
		if err := pause(ctx, fleetPoll); err != nil {
			return now, err
		}
	}
}

func (f *fleet) progress(nodes, known int64) string {
	var out []string
	for _, s := range f.sides {
		out = append(out, fmt.Sprintf("%s: %d of %d sessions, %d of %d prefixes", s.addr, s.up.Load(), nodes, s.have.Load(), known))
	}
	return strings.Join(out, "; ")
}

// register calls do for every node, so many at a time, and returns the seconds that it took.
func (f *fleet) register(ctx context.Context, do func(context.Context, *lightNode) error) (float64, error) {
	begin := time.Now()
	var next atomic.Int64
	errs := make([]error, fleetCalls)
	var calls sync.WaitGroup
	for w := range fleetCalls {
		calls.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(f.nodes)) && errs[w] == nil; i = next.Add(1) - 1 {
				call, cancel := context.WithTimeout(ctx, fleetCallMax)
				if err := do(call, f.nodes[i]); err != nil {
					errs[w] = fmt.Errorf("%s: %w", f.nodes[i].Node, err)
				}
				cancel()
			}
		})
	}
	calls.Wait()
	return time.Since(begin).Seconds(), errors.Join(errs...)
}
