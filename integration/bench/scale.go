package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/conf"
	"onlink/ipam"
	"onlink/ipam/etcd"
	"onlink/ipam/remote"
)

const (
	fleetSpare   = 16 // blocks beyond one of each node
	fleetRack    = 40 // nodes of a rack
	registryPort = 7901
	etcdClient   = "127.0.0.1:12379"
	etcdPeer     = "127.0.0.1:12380"
)

// Scale plays the BGP sessions and the registry clients of so many nodes against two
// real reflectors and a real registry, and measures how long the nodes take to know
// what changed, and what that costs each role.
func Scale(ctx context.Context, opts Options, nodes int) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("run fleet: must be root: network namespaces are made")
	}
	if nodes < 2*fleetRack || nodes > 250*250 {
		return fmt.Errorf("%d nodes: want %d to %d", nodes, 2*fleetRack, 250*250)
	}
	// Of each node: two sessions and a connection to the registry.
	if err := allowFiles(3*nodes + 1000); err != nil {
		return err
	}
	r := &run{opts: opts, began: time.Now()}
	defer func() { err = errors.Join(err, r.clean()) }()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	f, err := newFleet(nodes)
	if err != nil {
		return err
	}
	ctx, f.stop = context.WithCancel(ctx)
	defer f.close()
	d := drill{r: r, f: f, prefix: fmt.Sprintf("scale.%d_", nodes)}
	for _, step := range []func(context.Context) error{d.start, d.registry, d.etcd, d.coldStart, d.block, d.death, d.rack, d.restart, d.cost} {
		if err := step(ctx); err != nil {
			return errors.Join(err, writeJSON(opts.JSON, r.figures))
		}
	}
	return errors.Join(writeJSON(opts.JSON, r.figures), r.table())
}

// allowFiles raises the limit of open files.
func allowFiles(n int) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	if l.Max < uint64(n) { //nolint:gosec // some ten thousand
		return fmt.Errorf("%d open files are needed, and the hard limit is %d: ulimit -Hn, or fewer nodes", n, l.Max)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

// drill is what happens to a fleet, in order.
type drill struct {
	r      *run
	f      *fleet
	prefix string
}

func (d drill) report(name, unit string, values ...float64) {
	d.r.report(d.prefix+name, unit, samples(values), versus{why: "no peer"})
}

// start starts both reflectors; the first one serves the registry.
func (d drill) start(context.Context) error {
	for k, s := range d.f.sides {
		if err := d.launch(k, s); err != nil {
			return err
		}
	}
	return nil
}

func (d drill) launch(k int, s *side) (err error) {
	at, registry := d.f.wire.near, conf.Registry{Kind: "bolt", Listen: endpoint(nearAddr), Insecure: true}
	if k > 0 {
		at, registry = d.f.second, conf.Registry{}
	}
	s.program, err = d.r.startAgent(at, agentConfig{
		node:      conf.Node{Name: fmt.Sprintf("reflector-%d", k+1), Address: s.addr.String()},
		reflector: &conf.Reflector{Clients: []string{clientsNet.String()}}, registry: registry,
	})
	return err
}

func endpoint(a netip.Addr) string { return netip.AddrPortFrom(a, registryPort).String() }

// registry has every node claim its block of the first reflector, and assert it.
func (d drill) registry(ctx context.Context) error {
	for _, n := range d.f.nodes {
		c, err := remote.Open(remote.ClientConfig{Target: endpoint(nearAddr), Dial: d.f.dial(n.addr)})
		if err != nil {
			return err
		}
		n.registry = c
	}
	server := d.f.sides[0].program
	err := server.until(ctx, "registry answers", 50*time.Millisecond, 30*time.Second, func() (bool, error) {
		return answers(ctx, d.f.nodes[0].registry), nil
	})
	if err != nil {
		return err
	}
	return d.claims(ctx, "bolt", server)
}

// answers reports whether a registry is up.
func answers(ctx context.Context, r ipam.Registry) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := r.List(ctx, "")
	return err == nil
}

// etcd is the same with etcd, whose clients connect from this machine's own namespace.
func (d drill) etcd(ctx context.Context) error {
	server, err := d.startEtcd(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	bolt := make([]ipam.Registry, len(d.f.nodes))
	for i, n := range d.f.nodes {
		c, err := etcd.Open(etcd.Config{Endpoints: []string{etcdClient}, Prefix: "/onlink/"})
		if err != nil {
			return err
		}
		bolt[i], n.registry = n.registry, c
	}
	err = d.claims(ctx, "etcd", server)
	for i, n := range d.f.nodes {
		if c, ok := n.registry.(*etcd.Registry); ok {
			err = errors.Join(err, c.Close())
		}
		n.registry = bolt[i]
	}
	return err
}

func (d drill) startEtcd(ctx context.Context) (*program, error) {
	path, err := lookPath("etcd")
	if err != nil {
		return nil, err
	}
	here, err := ownSpace()
	if err != nil {
		return nil, err
	}
	p, err := launch(here, path, "--data-dir", filepath.Join(d.r.dir, "etcd"), "--name", "scale", "--log-level", "error",
		"--listen-client-urls", "http://"+etcdClient, "--advertise-client-urls", "http://"+etcdClient,
		"--listen-peer-urls", "http://"+etcdPeer, "--initial-advertise-peer-urls", "http://"+etcdPeer, "--initial-cluster", "scale=http://"+etcdPeer)
	if err != nil {
		return nil, err
	}
	err = p.until(ctx, "etcd answers", 50*time.Millisecond, 30*time.Second, func() (bool, error) {
		c, err := etcd.Open(etcd.Config{Endpoints: []string{etcdClient}, Prefix: "/onlink/"})
		if err != nil {
			return false, err
		}
		return answers(ctx, c), c.Close()
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// claims measures a registry: a claim of every node at once, then an assert.
func (d drill) claims(ctx context.Context, kind string, server *program) error {
	took, err := d.f.register(ctx, func(ctx context.Context, n *lightNode) error {
		var err error
		n.claimed, err = n.registry.Claim(ctx, ipam.ClaimRequest{Caller: n.Caller, Pool: "fed", PoolCIDR: fedNet, BlockSize: blockBits, Block: block(n.blocks[0])})
		return err
	})
	if err != nil {
		return fmt.Errorf("claim at the registry (%s): %w", kind, err)
	}
	d.report("claims_"+kind, "s", took)
	before, err := server.cpu()
	if err != nil {
		return err
	}
	took, err = d.f.register(ctx, func(ctx context.Context, n *lightNode) error {
		lost, err := n.registry.Assert(ctx, n.Caller, []ipam.Block{n.claimed})
		if err == nil && len(lost) > 0 {
			err = fmt.Errorf("the registry denies %v", lost)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("assert at the registry (%s): %w", kind, err)
	}
	after, err := server.cpu()
	if err != nil {
		return err
	}
	now, peak, err := server.memory()
	if err != nil {
		return err
	}
	d.report("asserts_"+kind, "s", took)
	d.report("asserts_"+kind+"_cpu", "s", after-before)
	d.report("registry_"+kind+"_rss", "MB", now)
	d.report("registry_"+kind+"_rss_peak", "MB", peak)
	return nil
}

// coldStart opens all sessions, as after a power failure of the whole site.
func (d drill) coldStart(ctx context.Context) error {
	begin := time.Now()
	d.f.power(ctx, d.f.nodes...)
	end, err := d.f.settled(ctx, d.f.sides[:]...)
	if err != nil {
		return fmt.Errorf("cold start: %w", err)
	}
	d.report("cold_start", "s", end.Sub(begin).Seconds())
	return nil
}

// block has single nodes announce another block.
func (d drill) block(ctx context.Context) error {
	var took []float64
	for i := range fleetSpare {
		if err := pause(ctx, settleTime); err != nil {
			return err
		}
		begin := time.Now()
		if err := d.f.nodes[i*7%len(d.f.nodes)].announce(len(d.f.nodes) + i); err != nil {
			return err
		}
		end, err := d.f.settled(ctx, d.f.sides[:]...)
		if err != nil {
			return fmt.Errorf("new block: %w", err)
		}
		took = append(took, end.Sub(begin).Seconds()*1000)
	}
	d.report("new_block", "ms", took...)
	return nil
}

// outage takes nodes off the net and back again.
func (d drill) outage(ctx context.Context, nodes []*lightNode) (gone, back float64, err error) {
	if err := pause(ctx, settleTime); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	d.f.cut(nodes...)
	end, err := d.f.settled(ctx, d.f.sides[:]...)
	if err != nil {
		return 0, 0, err
	}
	gone = end.Sub(begin).Seconds() * 1000
	begin = time.Now()
	d.f.power(ctx, nodes...)
	end, err = d.f.settled(ctx, d.f.sides[:]...)
	return gone, end.Sub(begin).Seconds() * 1000, err
}

// death is the outage of single nodes, whose connections are closed.
func (d drill) death(ctx context.Context) error {
	var gone, back []float64
	for i := range 5 {
		n := d.f.nodes[(i+1)*len(d.f.nodes)/7]
		g, b, err := d.outage(ctx, []*lightNode{n})
		if err != nil {
			return fmt.Errorf("death of a node: %w", err)
		}
		gone, back = append(gone, g), append(back, b)
	}
	d.report("node_gone", "ms", gone...)
	d.report("node_back", "ms", back...)
	return nil
}

// rack is the outage of a whole rack.
func (d drill) rack(ctx context.Context) error {
	gone, back, err := d.outage(ctx, d.f.nodes[fleetRack:2*fleetRack])
	if err != nil {
		return fmt.Errorf("power cycle of a rack: %w", err)
	}
	d.report("rack_gone", "ms", gone)
	d.report("rack_back", "ms", back)
	return nil
}

// restart kills the second reflector and starts it again with an empty state. Of the
// first one no node may lose anything.
func (d drill) restart(ctx context.Context) error {
	first, second := d.f.sides[0], d.f.sides[1]
	_, known := d.f.complete()
	second.down.Store(true)
	begin := time.Now()
	second.program.stop()
	if err := d.launch(1, second); err != nil {
		return err
	}
	end, err := d.f.settled(ctx, d.f.sides[:]...)
	if err != nil {
		return fmt.Errorf("restart of a reflector: %w", err)
	}
	second.down.Store(false)
	if n := first.have.Load(); n != known {
		return fmt.Errorf("restart of a reflector: of the other one the nodes know %d prefixes, want %d", n, known)
	}
	d.report("reflector_back", "s", end.Sub(begin).Seconds())
	return nil
}

// cost reports what the first reflector, which is the registry as well, has used.
func (d drill) cost(context.Context) error {
	p := d.f.sides[0].program
	_, peak, err := p.memory()
	if err != nil {
		return err
	}
	used, err := p.cpu()
	if err != nil {
		return err
	}
	d.report("reflector_rss_peak", "MB", peak)
	d.report("reflector_cpu", "s", used)
	return nil
}
