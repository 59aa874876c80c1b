package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// The length and the seed of TestFaults; ten minutes on each registry are
//
//	go test ./integration -run TestFaults -timeout 60m -args -faults.time=10m
var (
	faultsTime = flag.Duration("faults.time", 8*time.Second, "how long TestFaults does harm to each registry")
	faultsSeed = flag.Uint64("faults.seed", 0, "seed of TestFaults; 0: any")
)

// Numbers of TestFaults.
const (
	faultWorkers  = 3 // nodes with pods
	faultRuntimes = 2 // of each
	faultPods     = 6 // that a runtime has at most
	faultHold     = 6 * time.Second
	// faultLimit is the promise: so long after the last fault no address is
	// leaked and no route is wrong.
	faultLimit = 10 * time.Second
	faultPace  = 5 * time.Millisecond // between two requests of a runtime
	faultState = 8 << 20              // bytes of a node's state folder
)

// TestFaults starts and ends pods on three nodes all the time, and does one
// harm after the other to nodes and registry, in random order: agents are
// killed, nodes cut off, disks full, databases deleted, cut short, replaced by
// older copies, cloned to another machine, names used twice, the registry lost.
// Whatever happens no address is given to two pods at a time. After each harm
// the runtimes pause, and within ten seconds the database, the kernel and the
// pods of each node are the same, every node routes every block to its owner and
// knows no other, and pods answer each other.
func TestFaults(t *testing.T) {
	for _, tc := range registryCases() {
		t.Run(tc.name, func(t *testing.T) { newFaultSite(t, tc).run() })
	}
}

// faultSite is a registry's site whose nodes speak BGP, and a machine more.
type faultSite struct {
	*registrySite
	owners *owners      // of all nodes
	spare  *lab.Node    // runs an agent only as somebody else
	names  [2]string    // the spare's name now, and its own
	gate   sync.Mutex   // guards the start of a pause
	pause  sync.RWMutex // held for reading during a request
	copies map[*lab.Node][]string
	harms  map[string]int
	stop   context.Context // ends the runtimes
}

func newFaultSite(t *testing.T, tc registryCase) *faultSite {
	t.Helper()
	f := &faultSite{owners: newOwners(), copies: map[*lab.Node][]string{}, harms: map[string]int{}}
	tc.edit = f.edit
	nodes := faultWorkers + 1
	f.registrySite = newRegistrySiteOf(t, tc, "faults", nodes, *faultsTime+4*time.Minute)
	seed := *faultsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	f.rnd = rand.New(rand.NewPCG(seed, 1))
	f.spare, f.workers = f.workers[faultWorkers], f.workers[:faultWorkers]
	f.names = [2]string{f.spare.Name, f.spare.Name}
	for _, n := range append(slices.Clone(f.workers), f.servers...) {
		must(t, unix.Mount("onlink-test", n.StateDir(), "tmpfs", 0, fmt.Sprintf("size=%d", faultState)))
		t.Cleanup(func() {
			if err := unix.Unmount(n.StateDir(), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return f
}

// edit gives nodes BGP among themselves, and the spare somebody's name.
func (f *faultSite) edit(n *lab.Node, c *conf.Config) {
	c.BGP = n.Config().BGP
	c.BGP.Peers = nil
	for _, rr := range f.lab.Reflectors() {
		if rr != n {
			c.BGP.Peers = append(c.BGP.Peers, rr.Peer().With(func(p *conf.Peer) { p.HoldTime = faultHold.String() }))
		}
	}
	if n == f.spare {
		c.Node.Name = f.names[0]
	}
}

// run is the test.
func (f *faultSite) run() {
	f.tc.open(f.registrySite)
	f.t.Cleanup(func() {
		if f.etcd != nil {
			f.closeEtcd()
		}
	})
	for _, rr := range f.lab.Reflectors() {
		if !slices.Contains(f.servers, rr) {
			f.start(rr)
		}
	}
	for _, n := range append(slices.Clone(f.workers), f.spare) {
		c := &crash{t: f.t, node: n, dir: f.t.TempDir(), owners: f.owners, end: func() {}}
		c.connect()
		f.crash[n] = c
		defer c.close()
	}
	var work sync.WaitGroup
	stop, end := context.WithCancel(f.ctx)
	defer f.dropPods()
	defer work.Wait()
	defer end()
	f.stop = stop
	for i, n := range f.workers {
		f.start(n)
		for w := range faultRuntimes {
			worker := &crashWorker{crash: f.crash[n], id: i*faultRuntimes + w, rnd: rand.New(rand.NewPCG(f.rnd.Uint64(), 1))}
			f.all = append(f.all, worker)
			work.Go(func() { f.work(worker) })
		}
	}
	f.agreed("the start")
	for _, n := range f.nodes() {
		f.copyDatabase(n)
	}
	f.harm()
	total := 0
	for _, c := range f.crash {
		total += int(c.ops.Load())
	}
	f.t.Logf("%d requests, %d addresses given; harms: %v", total, f.given(), f.harms)
}

// nodes are all that have an agent and a database with something in it.
func (f *faultSite) nodes() []*lab.Node { return append(slices.Clone(f.workers), f.servers...) }

// harm does one thing after the other until the time is over.
func (f *faultSite) harm() {
	all := f.faults()
	for until := time.Now().Add(*faultsTime); ; {
		for _, i := range f.rnd.Perm(len(all)) {
			if time.Now().After(until) || f.t.Failed() {
				return
			}
			fault := all[i]
			n := f.workers[f.rnd.IntN(len(f.workers))]
			if fault.servers && len(f.servers) > 0 && f.rnd.IntN(2) == 0 {
				n = f.servers[f.rnd.IntN(len(f.servers))]
			}
			what := fault.name + " of " + n.Name
			f.t.Log(what)
			fault.do(n)
			f.harms[fault.name]++
			f.agreed(what)
			if f.rnd.IntN(3) == 0 {
				f.copyDatabase(f.nodes()[f.rnd.IntN(len(f.nodes()))])
			}
		}
	}
}

// work is one runtime, which waits while the others are compared.
func (f *faultSite) work(w *crashWorker) {
	pace := time.NewTicker(faultPace)
	defer pace.Stop()
	for {
		select {
		case <-f.stop.Done():
			return
		case <-pace.C:
		}
		f.gate.Lock() // whoever wants to pause comes before the next request
		f.pause.RLock()
		f.gate.Unlock()
		switch {
		case len(w.pods) < faultPods && (len(w.pods) == 0 || w.rnd.IntN(2) == 0):
			w.add(f.stop)
		default:
			i := w.rnd.IntN(len(w.pods))
			p := w.pods[i]
			w.pods = slices.Delete(w.pods, i, i+1)
			w.remove(f.stop, p)
		}
		f.pause.RUnlock()
	}
}

// busy returns when the runtimes have done some more requests, or have had the
// time for many: with a full disk and a lost registry they may all wait.
func (f *faultSite) busy(requests int64) {
	count := func() (sum int64) {
		for _, n := range f.workers {
			sum += f.crash[n].ops.Load()
		}
		return sum
	}
	want := count() + requests
	ctx, cancel := context.WithTimeout(f.ctx, 2*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for count() < want {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// given counts the addresses that were given.
func (f *faultSite) given() (sum int) {
	for _, c := range f.crash {
		sum += c.given()
	}
	return sum
}

// copyDatabase keeps a copy of a running node's database for later.
func (f *faultSite) copyDatabase(n *lab.Node) {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), n.Name+".db")
	must(f.t, lab.Eventually(f.ctx, labtest.Patience, "backup of "+n.Name, func() error { // it may have been killed just now
		out, err := n.Ctl(f.ctx, "ipam", "backup", path)
		if err == nil && out.Code != 0 {
			err = errors.New(out.Stdout + out.Stderr)
		}
		return err
	}))
	f.copies[n] = append(f.copies[n], path)
}
