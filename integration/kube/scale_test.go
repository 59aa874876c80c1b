package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	"onlink/kube/node"
	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

// scalePool has a block for each of many nodes.
var scalePool = netip.MustParsePrefix("10.128.0.0/12")

// scaleReflectors is how many Nodes have the label of reflectors in a large cluster.
const scaleReflectors = 3

// The size of the long form of TestThousandClients.
var (
	longClients = flag.Int("clients", 1000, "node processes in the long form of TestThousandClients")
	longWindow  = flag.Duration("window", 3*time.Minute, "length of each measurement in the long form of TestThousandClients")
)

// scaleBed is an API server with many Nodes, the kubelets' heartbeats, and a real node
// process for each Node, all of them in this process, with connections of their own.
type scaleBed struct {
	*api.Server

	dir        string
	size       int
	reflectors int
	clients    []*scaleClient

	mu     sync.Mutex // guards faults
	faults []error
}

// scaleClient is one node process and what it talks to.
type scaleClient struct {
	name  string
	wire  *wire
	tally *tally
	agent *recorder
}

func (c *scaleClient) figures() figures { return c.tally.figures(c.wire) }

func (b *scaleBed) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, err)
}

func scaleName(i int) string { return fmt.Sprintf("node-%04d", i) }

func scaleAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 57, byte(i / 250), byte(i%250 + 1)})
}

// newScaleBed makes the objects of a cluster of some size; no client runs.
func newScaleBed(t *testing.T, size, reflectors, services int) *scaleBed {
	t.Helper()
	b := &scaleBed{Server: api.Start(t), dir: t.TempDir(), size: size, reflectors: reflectors}
	ctx := t.Context()
	eventually(t, "namespace", func() error {
		_, err := b.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		return err
	})
	eventually(t, "namespace of the Leases", func() error { // the API server makes it a moment after its start
		_, err := b.Client.CoreV1().Namespaces().Get(ctx, corev1.NamespaceNodeLease, metav1.GetOptions{})
		return err
	})
	_, err := b.Client.Configs.Create(ctx, &v1alpha1.OnlinkConfig{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName}, Spec: v1alpha1.OnlinkConfigSpec{AdminPort: new(int32)}, // no controller issues certificates
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = b.Client.Pools.Create(ctx, &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: v1alpha1.IPPoolSpec{CIDR: v1alpha1.CIDR(scalePool.String())}}, metav1.CreateOptions{})
	must(t, err)
	advertiseExternal(t, b.Client)
	rest.SetDefaultWarningHandler(rest.NoWarnings{}) // externalIPs are deprecated
	for i := range services {
		b.addService(ctx, t, i)
	}
	for i := range size {
		b.addNode(ctx, t, i)
	}
	return b
}

// addNode makes a Node as large as kubelet's, and its Lease.
func (b *scaleBed) addNode(ctx context.Context, t *testing.T, i int) {
	t.Helper()
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: scaleName(i), Labels: map[string]string{
		corev1.LabelHostname: scaleName(i), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelTopologyZone: "a",
	}}}
	if i < b.reflectors {
		o.Labels[v1alpha1.ReflectorLabel] = ""
	}
	made, err := b.Client.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
	must(t, err)
	made.Status = scaleStatus(i)
	_, err = b.Client.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
	must(t, err)
	seconds, holder, now := int32(40), scaleName(i), metav1.NowMicro()
	_, err = b.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: scaleName(i)},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}, metav1.CreateOptions{})
	must(t, err)
}

// scaleStatus is a Node's status with kubelet's usual 50 images.
func scaleStatus(i int) corev1.NodeStatus {
	s := corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: scaleAddr(i).String()}, {Type: corev1.NodeHostName, Address: scaleName(i)}},
		Capacity:  corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110")},
	}
	s.Allocatable = s.Capacity
	for n := range 50 {
		digest := digestOf(fmt.Sprint("image", n))
		s.Images = append(s.Images, corev1.ContainerImage{
			Names:     []string{fmt.Sprintf("registry.example.com/team/service-%d@sha256:%s", n, digest), fmt.Sprintf("registry.example.com/team/service-%d:v1.%d", n, n)},
			SizeBytes: int64(n) << 20,
		})
	}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady} {
		status := corev1.ConditionFalse
		if kind == corev1.NodeReady {
			status = corev1.ConditionTrue
		}
		s.Conditions = append(s.Conditions, corev1.NodeCondition{
			Type: kind, Status: status, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(), Reason: "KubeletHasSufficient", Message: "kubelet has sufficient of it",
		})
	}
	return s
}

func scaleService(i int) (name string, address netip.Addr) {
	return fmt.Sprintf("s%03d", i), netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
}

// addService makes a Service with three endpoints on three nodes.
func (b *scaleBed) addService(ctx context.Context, t *testing.T, i int) {
	t.Helper()
	name, address := scaleService(i)
	_, err := b.Client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalIPs: []string{address.String()}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = b.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Create(ctx, b.slice(i, true), metav1.CreateOptions{})
	must(t, err)
}

func (b *scaleBed) slice(i int, ready bool) *discoveryv1.EndpointSlice {
	name, _ := scaleService(i)
	s := endpoints(name, scaleName(i%b.size), ready)
	for k := range 2 {
		more := *s.Endpoints[0].DeepCopy()
		more.Addresses, more.NodeName = []string{fmt.Sprintf("10.128.7.%d", k+1)}, new(scaleName((i+k+1)%b.size))
		s.Endpoints = append(s.Endpoints, more)
	}
	return s
}

// setReady makes the endpoints of a Service ready, or not.
func (b *scaleBed) setReady(ctx context.Context, t *testing.T, i int, ready bool) {
	t.Helper()
	b.update(ctx, t, b.slice(i, ready))
}

// update writes a slice, again when the API server has no time for it.
func (b *scaleBed) update(ctx context.Context, t *testing.T, s *discoveryv1.EndpointSlice) {
	t.Helper()
	eventually(t, "EndpointSlice "+s.Name, func() error { //nolint:contextcheck // the test's own bounds it
		_, err := b.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Update(ctx, s, metav1.UpdateOptions{})
		return err
	})
}

// touch changes a Service's slice in a way that changes no announcement: one of three
// endpoints.
func (b *scaleBed) touch(ctx context.Context, t *testing.T, i, n int) {
	t.Helper()
	s := b.slice(i, true)
	s.Endpoints[2].Addresses[0] = fmt.Sprintf("10.128.8.%d", n%250+1)
	no := n%2 == 0
	s.Endpoints[2].Conditions.Ready = &no
	b.update(ctx, t, s)
}

// heartbeats plays the kubelets of all nodes: the Lease every ten seconds, the status
// every five minutes, spread over time. A kubelet repeats a Lease that the API server had
// no time for; it is a fault when a Node has none for as long as makes it unknown.
func (b *scaleBed) heartbeats(ctx context.Context) {
	const lease, status, grace = 10 * time.Second, 5 * time.Minute, 50 * time.Second // --node-monitor-grace-period
	missed := make([]atomic.Int32, b.size)
	tick := time.NewTicker(lease / time.Duration(b.size))
	defer tick.Stop()
	every := int(status / lease)
	leases, nodes := b.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease), b.Client.CoreV1().Nodes()
	limit := make(chan struct{}, 16) // calls at once
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limit <- struct{}{}
		go func() {
			defer func() { <-limit }()
			i, now := n%b.size, time.Now()
			_, err := leases.Patch(ctx, scaleName(i), types.MergePatchType, fmt.Appendf(nil, `{"spec":{"renewTime":%q}}`, now.UTC().Format(metav1.RFC3339Micro)), metav1.PatchOptions{})
			if (n/b.size+i)%every == 0 && err == nil {
				patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","lastHeartbeatTime":%q}]}}`, now.UTC().Format(time.RFC3339))
				_, err = nodes.Patch(ctx, scaleName(i), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
			}
			switch {
			case ctx.Err() != nil:
			case err == nil:
				missed[i].Store(0)
			case missed[i].Add(1) >= int32(grace/lease):
				b.fail(fmt.Errorf("heartbeat of %s, none for %v: %w", scaleName(i), grace, err))
			}
		}()
	}
}

// startClient starts the node process of a Node, and the agent that it talks to.
func (b *scaleBed) startClient(ctx context.Context, t *testing.T, i int, running *sync.WaitGroup) {
	t.Helper()
	dir := filepath.Join(b.dir, strconv.Itoa(i))
	must(t, os.MkdirAll(dir, 0o755))
	c := &scaleClient{name: scaleName(i), wire: newWire(), tally: newTally(), agent: newRecorder(t, dir, scaleName(i))} //nolint:contextcheck // it lives as long as the test
	cfg := c.wire.config(b.Config)
	cfg.QPS, cfg.Burst = 20, 40 // those of the command
	cfg.Wrap(c.tally.wrap)
	api, err := client.New(cfg)
	must(t, err)
	b.clients = append(b.clients, c)
	socket := filepath.Join(dir, "registry.sock")
	running.Go(func() {
		err := node.Run(ctx, node.Options{
			Log: slog.New(slog.DiscardHandler), Client: api, Node: c.name, Namespace: namespace,
			AdminSocket: filepath.Join(dir, "admin.sock"), RegistrySocket: socket, Certificates: dir,
		})
		if err != nil {
			b.fail(fmt.Errorf("node process of %s: %w", c.name, err))
		}
	})
	running.Go(func() { c.agent.hold(ctx, socket, scaleAddr(i), b.fail) })
}

// all adds the figures of the clients.
func (b *scaleBed) all() (f figures) {
	for _, c := range b.clients {
		f.add(c.figures())
	}
	return f
}

// sound fails the test for what went wrong in the background.
func (b *scaleBed) sound(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.faults {
		t.Error(err)
	}
	b.faults = nil
}

// announced waits until every client announces a prefix, or none does, and returns
// the time that the last one, and the one in the middle, took since began.
func (b *scaleBed) announced(t *testing.T, p netip.Prefix, began time.Time, limit time.Duration) (middle, last time.Duration) {
	t.Helper()
	var took []time.Duration
	must(t, lab.Eventually(t.Context(), limit, "every client announces "+p.String(), func() error {
		took = took[:0]
		for _, c := range b.clients {
			at, ok := c.agent.since(p)
			if !ok {
				return fmt.Errorf("%s does not", c.name)
			}
			took = append(took, at.Sub(began))
		}
		return nil
	}))
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1]
}

func (b *scaleBed) withdrawn(t *testing.T, p netip.Prefix, limit time.Duration) {
	t.Helper()
	must(t, lab.Eventually(t.Context(), limit, "no client announces "+p.String(), func() error {
		for _, c := range b.clients {
			if _, ok := c.agent.since(p); ok {
				return errors.New(c.name + " does")
			}
		}
		return nil
	}))
}

// allowed are the requests of a node that is no reflector. Any other is a list or a
// watch that grows with the cluster.
var allowed = []string{
	"watch nodes by metadata.name=", "list nodes by metadata.name=", "watch nodes by onlink.io/reflector", "list nodes by onlink.io/reflector",
	"patch nodes/status", "patch nodes", "get nodes",
	"watch onlinknodes by metadata.name=", "list onlinknodes by metadata.name=", "create onlinknodes", "patch onlinknodes/status",
	"watch onlinkconfigs", "list onlinkconfigs", "watch bgppeers", "list bgppeers", "watch bgpfilters", "list bgpfilters", "watch ippools", "list ippools",
	"watch serviceadvertisements", "list serviceadvertisements", "watch namespaces", "list namespaces",
	"watch services", "list services", "watch endpointslices", "list endpointslices", "create events",
	"get leases", "create leases", "update leases", "list leases by onlink.io/node",
	"get blocks", "create blocks", "update blocks", "list blocks by onlink.io/node=", "list blocks by onlink.io/node, one",
	"list blocks by onlink.io/node,onlink.io/size4,onlink.io/size4!=",
}

// narrow fails the test for a request that a node must not make. A reflector watches
// all Nodes, for the networks that it accepts clients from.
func (b *scaleBed) narrow(t *testing.T) {
	t.Helper()
	for i, c := range b.clients {
		for name, n := range c.figures().requests {
			if i < b.reflectors && (name == "watch nodes" || name == "list nodes") || slices.Contains(allowed, name) {
				continue
			}
			t.Errorf("%s made %d requests: %s", c.name, n, name)
		}
	}
}

// TestThousandClients runs node processes against a real API server: with -long 1,000
// and one more as a program of its own, otherwise 50. Kubelets' heartbeats are played,
// so that what the watches cost is what they cost in a cluster. The code of the node
// process and the API server are real. The agents are not: 1,000 real ones need 36 GB,
// so that a small server of the agent's admin API in this process stands for each, and
// a client of ipam/remote for its allocator, which claims and asserts over the socket
// of the node process. All run in one process on the CPUs of the API server: times
// until the last announcement are upper bounds.
func TestThousandClients(t *testing.T) {
	size, services, window, settle := 50, 20, 10*time.Second, 3*time.Minute
	if *labtest.Long {
		size, services, window, settle = *longClients, 100, *longWindow, 30*time.Minute
	}
	b := newScaleBed(t, size+1, scaleReflectors, services)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	running.Go(func() { b.heartbeats(ctx) })

	began := time.Now()
	before := heap()
	for i := range size {
		b.startClient(ctx, t, i, &running)
	}
	program := b.startProgram(ctx, t, size)
	_, first := scaleService(services - 1)
	_, last := b.announced(t, netip.PrefixFrom(first, 32), began, settle)
	t.Logf("%d clients announce all %v after the first began; %s", size, last.Round(10*time.Millisecond), perClient(b.all(), size, 0))
	dials := int64(0)
	for _, c := range b.clients {
		dials += c.wire.dials.Load()
	}
	t.Logf("%.1f connections a client were opened", float64(dials)/float64(size))
	t.Logf("requests until then:\n%s", b.all())
	t.Logf("memory of all in this process, agents' part included: %.1f MB a client", float64(heap()-before)/float64(size)/1e6)
	must(t, lab.Eventually(ctx, settle, "every node has a block and a status", func() error { return b.complete(ctx) }))

	b.measure(t, "without a change of a service", window, nil)
	b.changes(t, labtest.Times(2, 5), services)
	// The API server sends each change to every client: with 1,000 of them on two CPUs
	// one a second is more than it can, and watches end.
	pause, n := labtest.Times(1, 10), 0
	churned := b.measure(t, fmt.Sprintf("with one change of an EndpointSlice every %d s", pause), window, func() {
		if n++; n%pause == 0 {
			b.touch(ctx, t, n/pause%services, n)
		}
	})
	if lists := listsOf(churned); len(lists) > 0 {
		t.Errorf("clients list while nothing ends their watches: %v", lists)
	}
	// A minute has: the Lease read and written and one list of the own blocks for each
	// assert, one status of the OnlinkNode; and the watches begin anew every five to ten.
	most := size * (10 + int(window/time.Minute)*10)
	if churned.total() > most {
		t.Errorf("%d requests in %v, want at most %d:\n%s", churned.total(), window, most, churned)
	}
	b.narrow(t)
	b.sound(t)
	program(t)
}

// TestCrowdedMesh: without reflectors, the nodes of a cluster that is too large for a
// mesh do not watch all Nodes.
func TestCrowdedMesh(t *testing.T) {
	b := newScaleBed(t, render.MaxMesh+2, 0, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	b.startClient(ctx, t, 0, &running)
	c := b.clients[0]
	_, address := scaleService(0)
	b.announced(t, netip.PrefixFrom(address, 32), time.Now(), time.Minute)
	eventually(t, "the node says that there are too many", func() error {
		o, err := b.Client.Nodes.Get(ctx, c.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(o.Status.Problems, func(s string) bool { return strings.Contains(s, "too many for a mesh") }) {
			return fmt.Errorf("problems: %q", o.Status.Problems)
		}
		return nil
	})
	before := c.figures()
	if before.requests["watch nodes"]+before.requests["list nodes"] == 0 {
		t.Error("it never listed the Nodes: the test proves nothing")
	}
	const changes = 100
	for i := range changes {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"example.com/change":"%d"}}}`, i)
		_, err := b.Client.CoreV1().Nodes().Patch(ctx, scaleName(50), types.MergePatchType, patch, metav1.PatchOptions{})
		must(t, err)
	}
	b.setReady(ctx, t, 0, false) // what the node sees after them
	b.withdrawn(t, netip.PrefixFrom(address, 32), time.Minute)
	f := c.figures().minus(before)
	if f.events >= changes || f.requests["watch nodes"]+f.requests["list nodes"] > 0 {
		t.Errorf("%d events while another Node changed %d times:\n%s", f.events, changes, f)
	}
	b.sound(t)
}

// heap is the memory that Go has from the kernel and uses.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// perClient describes figures of many clients.
func perClient(f figures, size int, length time.Duration) string {
	n := float64(size)
	if length == 0 {
		return fmt.Sprintf("%.1f kB received, %.1f kB sent, %.1f requests a client", float64(f.read)/n/1e3, float64(f.written)/n/1e3, float64(f.total())/n)
	}
	s := n * length.Seconds()
	return fmt.Sprintf("%.3f watch events/s, %.0f B/s received, %.0f B/s sent, %.3f requests/s a client",
		float64(f.events)/s, float64(f.read)/s, float64(f.written)/s, float64(f.total())/s)
}

// complete returns an error unless every client has a Block and an OnlinkNode.
func (b *scaleBed) complete(ctx context.Context) error {
	blocks, err := b.Client.Blocks.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	onlink, err := b.Client.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	owners := map[string]int{}
	for _, o := range blocks.Items {
		owners[o.Spec.Node]++
	}
	for _, c := range b.clients {
		if owners[c.name] != 1 {
			return fmt.Errorf("%s has %d Blocks", c.name, owners[c.name])
		}
	}
	if len(onlink.Items) < len(b.clients) {
		return fmt.Errorf("%d OnlinkNodes of %d clients", len(onlink.Items), len(b.clients))
	}
	return nil
}

// measure watches the clients for a while, with a change each second. The pods of each
// node change once a minute, which its OnlinkNode shows.
func (b *scaleBed) measure(t *testing.T, name string, length time.Duration, change func()) figures {
	t.Helper()
	before, server, own := b.all(), b.server(t), cpu(t)
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for second := 0; time.Since(began) < length; second++ {
		<-tick.C
		if change != nil {
			change()
		}
		for i := second % 60; i < len(b.clients); i += 60 {
			b.clients[i].agent.edit(func(s *onlinkv1.Status) { s.AddressesUsed = uint32(rand.N(60)) }) //nolint:gosec // any number
		}
	}
	took := time.Since(began)
	f := b.all().minus(before)
	after := b.server(t)
	t.Logf("%s, %v: %s\nAPI server: %.2f CPUs, %.0f MB; this process: %.2f CPUs\n%s", name, took.Round(time.Second), perClient(f, len(b.clients), took),
		(after["process_cpu_seconds_total"]-server["process_cpu_seconds_total"])/took.Seconds(), after["process_resident_memory_bytes"]/1e6,
		(cpu(t)-own).Seconds()/took.Seconds(), f)
	return f
}

// cpu is the time that this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// server returns metrics of the API server that have no labels.
func (b *scaleBed) server(t *testing.T) map[string]float64 {
	t.Helper()
	text, err := b.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	must(t, err)
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		var name string
		var value float64
		if _, err := fmt.Sscan(line, &name, &value); err == nil {
			out[name] = value
		}
	}
	return out
}

// listsOf returns the lists in figures that only a watch that failed needs.
func listsOf(f figures) (found []string) {
	for name, n := range f.requests {
		if strings.HasPrefix(name, "list ") && name != "list blocks by onlink.io/node=" {
			found = append(found, fmt.Sprintf("%d %s", n, name))
		}
	}
	slices.Sort(found)
	return found
}

// changes measures the time from a change of a Service's endpoints to the last
// announcement.
func (b *scaleBed) changes(t *testing.T, times, services int) {
	t.Helper()
	for k := range times {
		i := k % services
		_, address := scaleService(i)
		p := netip.PrefixFrom(address, 32)
		b.setReady(t.Context(), t, i, false)
		b.withdrawn(t, p, time.Minute)
		began := time.Now()
		b.setReady(t.Context(), t, i, true)
		middle, last := b.announced(t, p, began, time.Minute)
		t.Logf("a Service gets its first endpoint: half of the clients announce it after %v, the last after %v", middle.Round(time.Millisecond), last.Round(time.Millisecond))
	}
}

// startProgram starts the program itself for one more Node. The returned function
// judges its memory.
func (b *scaleBed) startProgram(ctx context.Context, t *testing.T, i int) func(*testing.T) {
	t.Helper()
	dir := filepath.Join(b.dir, "program")
	must(t, os.MkdirAll(dir, 0o755))
	agent := newRecorder(t, dir, scaleName(i)) //nolint:contextcheck // it lives as long as the test
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": b.Config.Host, "insecure-skip-tls-verify": true}}},
		"users":    []any{map[string]any{"name": "c", "user": map[string]any{"token": b.Config.BearerToken}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "c"}}},
	}
	text, err := json.Marshal(config)
	must(t, err)
	file := filepath.Join(dir, "kubeconfig")
	must(t, os.WriteFile(file, text, 0o600))
	cmd := exec.CommandContext(ctx, filepath.Join(labtest.Bin(), "onlink-kube"), "node", "--node-name", scaleName(i), "--kubeconfig", file, "--namespace", namespace,
		"--admin-socket", filepath.Join(dir, "admin.sock"), "--registry-socket", filepath.Join(dir, "registry.sock"), "--certificates", dir, "--health", "")
	var out bytes.Buffer
	cmd.Stderr = &out
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	go agent.hold(ctx, filepath.Join(dir, "registry.sock"), scaleAddr(i), b.fail)
	return func(t *testing.T) {
		t.Helper()
		select {
		case err := <-ended:
			t.Fatalf("onlink-kube node has ended: %v\n%s", err, out.String())
		default:
		}
		if configs, sets := agent.counts(); configs == 0 || sets == 0 {
			t.Errorf("onlink-kube node made %d configurations and %d sets of announcements", configs, sets)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		must(t, err)
		memory := map[string]float64{}
		for line := range strings.Lines(string(status)) {
			name, rest, _ := strings.Cut(line, ":")
			var kB float64
			if _, err := fmt.Sscan(rest, &kB); err == nil {
				memory[name] = kB * 1024 / 1e6
			}
		}
		t.Logf("onlink-kube node as a program of its own: %.1f MB resident (%.1f MB of them not of files), at most %.1f MB", memory["VmRSS"], memory["RssAnon"], memory["VmHWM"])
	}
}
