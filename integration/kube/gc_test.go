package kube

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	"onlink/kube/controller"
)

// gcPool has the blocks of all machines.
var gcPool = netip.MustParsePrefix("10.244.0.0/16")

// The size of the long form of TestBlockGC.
var (
	longMachines = flag.Int("machines", 100, "machines in the long form of TestBlockGC")
	longEvents   = flag.Duration("events", 10*time.Minute, "time of the events in the long form of TestBlockGC")
)

// gcBed is a rack of machines with an API server and two replicas of the controller.
// The driver is one goroutine: it makes the events and looks at the kernels.
type gcBed struct {
	*api.Server

	lab        *lab.Lab
	dir        string
	seats      []*seat // reflectors first
	reflectors int
	long       bool
	period     time.Duration   // twice spec.ipam.assert: the controller's patience
	podPause   time.Duration   // of kubelets
	ctx        context.Context // that of the machines, which events start
	pods       atomic.Int64

	// All below is the driver's.
	rnd     *rand.Rand
	serial  int
	names   int
	disks   int
	states  map[*gcMachine]*state
	kept    map[*seat]bool
	gone    []former
	todo    []task
	stopped bool // the API server
	count   map[string]int

	mu     sync.Mutex // guards faults
	faults []error
}

// fail notes what must not happen, from any goroutine.
func (b *gcBed) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, err)
}

// newGCBed makes the rack; no machine is on.
func newGCBed(t *testing.T, seats, reflectors int, seed uint64) *gcBed {
	t.Helper()
	b := &gcBed{
		Server: api.Start(t), dir: t.TempDir(), reflectors: reflectors, long: *labtest.Long,
		period: 6 * time.Second, podPause: 500 * time.Millisecond,
		rnd:    rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // a seed repeats the events
		states: map[*gcMachine]*state{}, kept: map[*seat]bool{}, count: map[string]int{},
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	b.ctx = ctx
	hold, size := "9s", 22
	if b.long {
		b.period, b.podPause, hold, size = 2*time.Minute, 10*time.Second, "90s", 19
	}
	var err error
	b.lab, err = lab.Build(ctx, lab.Spec{
		Name: fmt.Sprintf("gc%d", os.Getpid()), Racks: 1, NodesPerRack: seats, Reflectors: -1, Pool: lab.Pool{Tunnel: "none"},
	}, lab.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, b.lab.Close()) })
	for i, n := range b.lab.Nodes() {
		b.seats = append(b.seats, &seat{Node: n, plugged: true, reflector: i < reflectors})
	}
	t.Cleanup(func() {
		stop()
		for _, s := range b.seats {
			if m := s.machine(); m != nil {
				m.cutPower(t)
			}
		}
	})
	eventually(t, "namespace", func() error {
		_, err := b.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		return err
	})
	_, err = b.Client.Configs.Create(ctx, &v1alpha1.OnlinkConfig{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName},
		Spec: v1alpha1.OnlinkConfigSpec{
			AdminPort:  new(int32), // no certificates
			IPAM:       v1alpha1.IPAM{Assert: v1alpha1.Duration((b.period / 2).String()), Cooldown: "1s"},
			Reflection: v1alpha1.Reflection{HoldTime: v1alpha1.Duration(hold)}, Drain: v1alpha1.Drain{Wait: "1s"},
			CNI: v1alpha1.CNI{ConfDir: "/opt/cni/net.d"}, // what the machine has of its own
		},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = b.Client.Pools.Create(ctx, &v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "pods"},
		// Few blocks, so that a freed one is soon another's.
		Spec: v1alpha1.IPPoolSpec{CIDR: v1alpha1.CIDR(netip.PrefixFrom(gcPool.Addr(), size).String()), BlockSize: 28, Encapsulation: "Never"},
	}, metav1.CreateOptions{})
	must(t, err)
	for _, name := range []string{"one", "two"} {
		b.replica(t, name)
	}
	return b
}

// replica runs a replica of the controller, again when it has lost the lead.
func (b *gcBed) replica(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	lease := 4 * time.Second
	if b.long {
		lease = 15 * time.Second
	}
	c, err := client.New(b.Config)
	must(t, err)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("replica", name)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := controller.Run(ctx, controller.Options{
				Client: c, Namespace: namespace, Identity: name, Log: log, LeaseDuration: lease, BlockAge: time.Second,
			})
			if err != nil {
				log.Warn("the replica ended and starts again", "err", err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// check is one look of the oracle.
func (b *gcBed) check(t *testing.T) {
	t.Helper()
	faults, err := b.inspect(t.Context())
	must(t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range faults {
		b.faults = append(b.faults, errors.New(string(f)))
	}
	if all := errors.Join(b.faults...); all != nil {
		b.tell(t)
		t.Fatal(all) // last, where a reader looks first
	}
}

// tell shows the machines.
func (b *gcBed) tell(t *testing.T) {
	t.Helper()
	for _, s := range b.seats {
		if m := s.machine(); m != nil {
			t.Log(m.tell())
		}
	}
}

// serves returns an error unless every machine has pods and the Node that goes with
// it, so that an oracle that sees nothing wrong has something to see.
func (b *gcBed) serves() error {
	var all []string
	for _, s := range b.seats {
		if m := s.machine(); m != nil && len(m.allPods()) < 2 {
			m.mu.Lock()
			all = append(all, fmt.Sprintf("%s (Node %s): %d pods, last error %v", m.id(), m.name, len(m.pods), m.last))
			m.mu.Unlock()
		}
	}
	if len(all) > 0 {
		return errors.New(strings.Join(all, "\n"))
	}
	return nil
}

// TestBlockGC plays machines that join and leave in cycles, partitions from the API
// server and from the reflectors, an API server that stops for seconds, copied disks,
// renamed and reinstalled machines, two machines of one name, and machines that come
// back when their blocks are another's. An oracle reads the kernels all the time: no
// address is twice, and each is in a Block of its machine's node. At the end no Block
// and no Lease of a machine that is gone is left.
//
// A machine is a network namespace with a real onlinkd, its part of kubelet and its
// pods; the process beside the agent is real too, but runs in this one. Short: 12
// machines and half a minute of events, with spec.ipam.assert of 3 s. With -long: 100
// machines and ten minutes, with the default of one minute.
//
// $ONLINK_SEED repeats the events of a run.
func TestBlockGC(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	seats, reflectors, length, pause := 12, 2, 25*time.Second, 400*time.Millisecond
	if *labtest.Long {
		seats, reflectors, length, pause = *longMachines, 3, *longEvents, time.Second
	}
	b := newGCBed(t, seats, reflectors, seed)
	for _, s := range b.seats[:reflectors] {
		b.start(t, s, b.name(), b.newDisk(), state{})
	}
	for range (seats - reflectors) * 2 / 3 {
		b.join(t)
	}
	limit := time.Minute
	if b.long {
		limit = 15 * time.Minute
	}
	began := time.Now()
	must(t, lab.Eventually(t.Context(), limit, "every machine has pods", b.serves))
	t.Logf("%d machines are up after %v", len(b.states), time.Since(began).Round(time.Second))

	looks := 0
	for end := time.Now().Add(length); time.Now().Before(end); <-time.After(pause) {
		b.due(t, false)
		b.happen(t)
		b.check(t)
		looks++
	}
	b.due(t, true)
	b.due(t, true) // a machine that returned may have more to do
	quiet := time.Now()
	patience := 3 * time.Minute
	must(t, lab.Eventually(t.Context(), patience, "no Block and no Lease of a dead machine, and every machine serves", func() error {
		b.check(t)
		looks++
		faults, err := b.leaks(t.Context())
		if err != nil {
			return err
		}
		var texts []string
		for _, f := range faults {
			texts = append(texts, string(f))
		}
		if err := b.serves(); err != nil {
			texts = append(texts, err.Error())
		}
		if len(texts) > 0 {
			return errors.New(strings.Join(texts, "\n"))
		}
		return nil
	}))
	t.Logf("all is freed and all serves %v after the last event; %d looks; events: %v; %d pods", time.Since(quiet).Round(time.Second), looks, b.count, b.pods.Load())
	if t.Failed() {
		return
	}
	b.proveOracle(t)
}

// proveOracle makes by hand what must never be, and sees that the oracle reports it.
func (b *gcBed) proveOracle(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	first, second := b.seats[b.reflectors-1].machine(), b.seats[0].machine()
	first.mu.Lock()
	first.pause = true
	first.mu.Unlock()
	second.mu.Lock()
	second.pause = true
	second.mu.Unlock()
	want := func(what, words string, look func(context.Context) ([]fault, error)) {
		t.Helper()
		must(t, lab.Eventually(ctx, 10*time.Second, "the oracle sees "+what, func() error {
			faults, err := look(ctx)
			if err == nil && !slices.ContainsFunc(faults, func(f fault) bool { return strings.Contains(string(f), words) }) {
				err = fmt.Errorf("it reports %q", faults)
			}
			return err
		}))
	}
	// A Block that is a dead node's.
	stray := v1alpha1.Block{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.BlockName(netip.MustParsePrefix("10.245.0.0/28"))},
		Spec:       v1alpha1.BlockSpec{CIDR: "10.245.0.0/28", Pool: "pods", Node: "stray", Epoch: 1},
	}
	_, err := b.Client.Blocks.Create(ctx, &stray, metav1.CreateOptions{})
	must(t, err)
	want("a leaked Block", "Block 10.245.0.0/28 is that of stray", b.leaks)

	// An address of one machine in a pod of another.
	uses, _, err := first.kernel()
	must(t, err)
	pod := second.allPods()[0]
	must(t, pod.NS.AddAddr("eth0", netip.PrefixFrom(uses[0].addr, 32)))
	want("an address twice", "is twice", b.inspect)
	must(t, pod.NS.DeleteAddr("eth0", netip.PrefixFrom(uses[0].addr, 32)))

	// A Block of a living machine, freed and given to another.
	first.wire.cut() // it would assert it
	owners, err := b.owners(ctx)
	must(t, err)
	block, _ := ownerOf(uses[0].addr, owners)
	must(t, b.Client.Blocks.Delete(ctx, v1alpha1.BlockName(block), metav1.DeleteOptions{}))
	want("a freed Block that is in use", "which is in no Block", b.inspect)
	stray.Name, stray.Spec.CIDR, stray.Spec.Node = v1alpha1.BlockName(block), v1alpha1.CIDR(block.String()), second.name
	_, err = b.Client.Blocks.Create(ctx, &stray, metav1.CreateOptions{})
	must(t, err)
	want("a Block of another that is in use", fmt.Sprintf("which is %q's", second.name), b.inspect)
}

// seedOf returns the seed of a run and logs it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ONLINK_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatalf("ONLINK_SEED: %v", err)
		}
	}
	t.Logf("ONLINK_SEED=%d repeats the events of this run", seed)
	return seed
}
