package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/integration/uml"
)

// The length and the seed of TestChaos; five minutes are
//
//	make chaos SEED=7
var (
	chaosTime = flag.Duration("chaos.time", 0, "how long TestChaos does harm; 0: a few brief ones, without BFD")
	chaosSeed = flag.Uint64("chaos.seed", 0, "seed of TestChaos; 0: any")
	chaosOnly = flag.String("chaos.only", "", "the one kind of harm that TestChaos does")
)

// Numbers of TestChaos. The rest is docs/objectives.md's.
const (
	chaosWorkers = 4 // of each of two racks
	chaosPods    = 4 // that a runtime has at most, beside the witness of its node
	// chaosPace makes 20 requests a second of eight runtimes.
	chaosPace = 400 * time.Millisecond
	// chaosCalm is how long all witnesses must answer before all is well again.
	chaosCalm = 500 * time.Millisecond
	// chaosBrief is how many harms the short form does.
	chaosBrief = 4
	// chaosState is the size of a node's state folder, in bytes.
	chaosState = 16 << 20
)

// Times of the machine: the one slow processor of user-mode Linux takes longer.
var (
	// chaosProbe is the time between two questions of a witness to another one.
	chaosProbe = slower(50*time.Millisecond, 250*time.Millisecond)
	// chaosLate is how long an answer may take: longer than the machine is ever busy.
	chaosLate = slower(time.Second, 8*time.Second)
	// chaosBack bounds the time until all is well after a harm.
	chaosBack = slower(20*time.Second, time.Minute)
)

func slower(usual, uml time.Duration) time.Duration {
	if os.Getenv("ONLINK_BED") == "uml" {
		return uml
	}
	return usual
}

// TestChaos does one harm after the other, in random order, to two racks of four nodes
// with two reflectors, which also hold the block registry, and two ToRs a rack, while
// eight runtimes start and end pods and a witness on each node asks every other one
// twenty times a second, in both families. The schedule is the seed's. Each harm says
// which witnesses may miss each other, and until when; a datagram that is lost outside
// of these times fails the test, as does an address of two pods, a route or an address
// too many or too few ten seconds later, and what has grown at the end.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	c := newChaos(t, rand.New(rand.NewPCG(seed, 14)))
	c.start()
	c.strike()
	c.finish()
}

// chaos is the site, what is known of it, and what it may lose.
type chaos struct {
	t      *testing.T
	ctx    context.Context
	lab    *lab.Lab
	rnd    *rand.Rand // of the schedule
	owners *owners
	mesh   *lab.Mesh
	flows  []*lab.Stream

	stranger *lab.Host // a machine outside the racks

	crash    map[*lab.Node]*crash // what the runtime of a node knows
	runtimes map[*lab.Node]*crashWorker
	gate     sync.Mutex   // guards the start of a pause
	pause    sync.RWMutex // held for reading during a request
	work     sync.WaitGroup
	stop     context.CancelFunc // of the runtimes

	copies  map[*lab.Node][]string // of databases
	renewed map[*lab.Node]bool     // has had another database since the first copies
	begun   labtest.Usage          // of all agents, before the first harm
	harmed  time.Time              // the end of the last harm
	judged  time.Time              // what was sent before was judged
	losses  []window
	harms   map[string]int
}

func newChaos(t *testing.T, rnd *rand.Rand) *chaos {
	t.Helper()
	tunnel := "vxlan"
	if uml.HasIPIP() {
		tunnel = "ipip"
	}
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "chaos", Racks: 2, NodesPerRack: chaosWorkers, ToRsPerRack: 2, Reflectors: 2, DualStack: true,
		Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: tunnel},
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), *chaosTime+10*time.Minute)
	t.Cleanup(cancel)
	c := &chaos{
		t: t, ctx: ctx, lab: l, rnd: rnd, owners: newOwners(),
		crash: map[*lab.Node]*crash{}, runtimes: map[*lab.Node]*crashWorker{}, copies: map[*lab.Node][]string{}, renewed: map[*lab.Node]bool{}, harms: map[string]int{},
	}
	var err error
	c.stranger, err = l.AddHost("stranger", 201)
	must(t, err)
	l.Bin = t.TempDir()
	for _, program := range []string{"onlinkctl", "onlinkd", "onlink-cni"} {
		must(t, labtest.ReplaceProgram(labtest.Bin(), l.Bin, program))
	}
	for _, tor := range l.ToRs() {
		// The racks' networks, as long as the ToR has a way to them.
		tor.BFD, tor.Transit, tor.Reflectors, tor.Accept = !c.brief(), true, true, underlay
	}
	for _, n := range l.Nodes() {
		n.Edit = func(f *conf.Config) { c.edit(n, f) }
		must(t, unix.Mount("onlink-test", n.StateDir(), "tmpfs", 0, fmt.Sprintf("size=%d", chaosState)))
		t.Cleanup(func() {
			if err := unix.Unmount(n.StateDir(), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return c
}

// underlay is where the networks of all racks are.
var underlay = []netip.Prefix{netip.MustParsePrefix("10.57.0.0/16"), netip.MustParsePrefix("fd57::/16")}

// edit gives a node the way to the other rack from its ToRs, BFD everywhere, and the
// registry of both reflectors.
func (c *chaos) edit(n *lab.Node, f *conf.Config) {
	var registry []string
	for _, rr := range c.lab.Reflectors() {
		registry = append(registry, rr.Addr.String()+":4790")
	}
	f.IPAM = conf.IPAM{Cooldown: "0s", Registry: conf.Registry{Kind: "grpc", Address: registry, Insecure: true, Assert: registryAssert.String()}}
	for _, p := range f.BGP.Peers {
		p.BFD = c.bfd(chaosFarBFD)
	}
	if n.Reflector {
		f.IPAM.Registry.Kind, f.IPAM.Registry.Listen = "bolt", n.Addr.String()+":4790"
		f.BGP.Reflector.Clients = nil
		for _, w := range c.lab.Workers() {
			f.BGP.Peers = append(f.BGP.Peers, w.Peer().With(func(p *conf.Peer) { p.Client, p.BFD = true, c.bfd(chaosFarBFD) }))
		}
	}
	for _, tor := range c.lab.Racks[n.Rack-1].ToRs {
		i := slices.IndexFunc(f.BGP.Peers, func(p *conf.Peer) bool { return p.Name == tor.Name })
		if i < 0 {
			f.BGP.Peers = append(f.BGP.Peers, tor.Peer())
			i = len(f.BGP.Peers) - 1
		}
		p := f.BGP.Peers[i]
		p.BFD = c.bfd(chaosNearBFD)
		p.Import.Accept = conf.Rules(underlay...)
	}
}

// brief reports whether this is the short form, beside other tests.
func (c *chaos) brief() bool { return *chaosTime == 0 }

// bfd is a peer's BFD; the short form has none.
func (c *chaos) bfd(interval time.Duration) *conf.BFD {
	if c.brief() {
		return nil
	}
	return &conf.BFD{Interval: interval.String()}
}

// start brings everything up, with a witness on each node.
func (c *chaos) start() {
	c.t.Helper()
	labtest.StartAll(c.ctx, c.t, c.lab)
	var witnesses []*lab.Pod
	for _, n := range c.lab.Workers() {
		p, err := n.AddPod(c.ctx, n.Name+"-witness")
		must(c.t, err)
		witnesses = append(witnesses, p)
		c.owners.owner[p.Addrs[0]] = p.ContainerID
		k := &crash{t: c.t, node: n, dir: c.t.TempDir(), owners: c.owners, end: func() {}}
		k.connect()
		c.crash[n] = k
		c.runtimes[n] = &crashWorker{crash: k, id: len(witnesses), rnd: rand.New(rand.NewPCG(c.rnd.Uint64(), 1))}
	}
	must(c.t, c.lab.WaitConverged(c.ctx))
	var err error
	c.mesh, err = lab.StartMesh(witnesses, chaosProbe)
	must(c.t, err)
	c.t.Cleanup(func() {
		if err := c.mesh.Stop(); err != nil {
			c.t.Error(err)
		}
	})
	for _, ends := range [][2]string{{"r1n1", "r1n2"}, {"r1n3", "r2n3"}} {
		to := labtest.PodOf(c.lab, ends[1])
		flow, err := lab.StartStream(c.ctx, labtest.PodOf(c.lab, ends[0]).NS, to.NS, to.Addr())
		must(c.t, err)
		c.flows = append(c.flows, flow)
	}
	ctx, stop := context.WithCancel(c.ctx)
	c.stop = stop
	c.t.Cleanup(c.end)
	for _, n := range c.lab.Workers() {
		c.work.Go(func() { c.runtime(ctx, c.runtimes[n]) })
	}
	c.judged = time.Now().Add(time.Hour) // nothing counts before all is well
	c.settled("the start", chaosStart)
	for _, n := range c.lab.Nodes() {
		c.copyDatabase(n)
	}
	c.begun = c.usage()
	c.judged = time.Now()
}

// end ends the runtimes and their pods.
func (c *chaos) end() {
	c.stop()
	c.work.Wait()
	for _, w := range c.runtimes {
		w.dropLeft()
		w.close()
	}
}

// runtime starts and ends pods of a node, and waits while all is compared.
func (c *chaos) runtime(ctx context.Context, w *crashWorker) {
	pace := time.NewTicker(chaosPace)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		c.gate.Lock() // whoever wants to pause comes before the next request
		c.pause.RLock()
		c.gate.Unlock()
		if len(w.pods) < chaosPods && (len(w.pods) == 0 || w.rnd.IntN(2) == 0) {
			w.add(ctx)
		} else {
			i := w.rnd.IntN(len(w.pods))
			p := w.pods[i]
			w.pods = slices.Delete(w.pods, i, i+1)
			w.remove(ctx, p)
		}
		c.pause.RUnlock()
	}
}

// strike does one harm after the other until the time is over; each kind comes before
// one comes twice.
func (c *chaos) strike() {
	c.t.Helper()
	all := append(chaosHarms(), hostileHarms()...)
	if c.brief() {
		all = slices.DeleteFunc(all, func(h harm) bool { return !h.brief })
	}
	if *chaosOnly != "" {
		all = slices.DeleteFunc(all, func(h harm) bool { return h.name != *chaosOnly })
	}
	if len(all) == 0 {
		c.t.Fatalf("no harm is called %q", *chaosOnly)
	}
	until := time.Now().Add(*chaosTime)
	for done := 0; ; {
		for _, i := range c.rnd.Perm(len(all)) {
			if over := time.Now().After(until); c.brief() && done == chaosBrief || !c.brief() && over || c.t.Failed() {
				return
			}
			done++
			h := all[i]
			n := c.lab.Workers()[c.rnd.IntN(2*chaosWorkers)]
			what := h.name + " " + n.Name
			c.t.Logf("%s %s", time.Now().Format("15:04:05.000"), what)
			h.do(c, n)
			c.harmed = time.Now()
			c.harms[h.name]++
			c.settled(what, chaosBack)
			if c.rnd.IntN(3) == 0 {
				c.copyDatabase(c.lab.Nodes()[c.rnd.IntN(len(c.lab.Nodes()))])
			}
		}
	}
}

// finish compares what is left with what was there before.
func (c *chaos) finish() {
	c.t.Helper()
	for _, flow := range c.flows {
		if bytes, err := flow.Stop(); err != nil {
			c.t.Errorf("a TCP connection broke after %d bytes: %v", bytes, err)
		}
	}
	c.grown()
	c.t.Logf("%d datagrams, %d addresses given; harms: %v", c.mesh.Sent(), c.given(), c.harms)
}

// copyDatabase keeps a copy of a running node's database for later.
func (c *chaos) copyDatabase(n *lab.Node) {
	c.t.Helper()
	path := fmt.Sprintf("%s/%s-%d.db", c.t.TempDir(), n.Name, len(c.copies[n]))
	out, err := n.Ctl(c.ctx, "ipam", "backup", path)
	if err == nil && out.Code != 0 {
		err = errors.New(out.Stdout + out.Stderr)
	}
	must(c.t, err)
	c.copies[n] = append(c.copies[n], path)
}
