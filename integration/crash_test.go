package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"onlink/cni/pod"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// crashOps is how long TestCrash runs; 10000 takes some minutes:
//
//	go test ./integration -run 'TestCrash$' -timeout 30m -args -crash.ops=10000
var crashOps = flag.Int64("crash.ops", 300, "ADD and DEL requests of TestCrash")

// Numbers of TestCrash.
const (
	crashWorkers = 4
	crashSlots   = 8 // pods a worker has at most

	// failpointChances make about every fifteenth request the agent's last.
	failpointChances = "assign.before=0.02,assign.after=0.04,release.before=0.03,release.after=0.03"
)

// TestCrash does ADD and DEL, as several runtimes at once would, against an
// agent that is killed at random moments and at the worst ones: between a
// commit and what follows it. Runtimes repeat, give up with a DEL, or vanish
// with the pod's namespace. Afterwards database, interfaces, routes and the
// pods' own addresses must be the same within ten seconds, and no address was
// given twice.
func TestCrash(t *testing.T) {
	if os.Getenv("ONLINK_BED") == "uml" {
		t.Skip("needs a Go toolchain")
	}
	useFailpoints(t)
	ctx, l := labtest.Build(t, labtest.Alone("crash"))
	if *crashOps > 1000 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 30*time.Minute)
		t.Cleanup(cancel)
	}
	n := l.Node("r1n1")
	c := &crash{t: t, node: n, dir: t.TempDir(), owners: newOwners()}
	file := n.Config()
	file.BGP = conf.Silent()
	file.API.Metrics = "off"
	file.IPAM = conf.IPAM{Cooldown: "0s"} // addresses come back at once: the hardest case
	var err error
	c.config, err = n.WriteConfig("crash.yaml", file)
	must(t, err)
	c.connect()
	ctx, c.end = context.WithCancel(ctx)

	killing, stopKilling := context.WithCancel(ctx)
	supervised := make(chan struct{})
	go func() { defer close(supervised); c.supervise(ctx, killing) }()
	var wg sync.WaitGroup
	workers := make([]*crashWorker, crashWorkers)
	for i := range workers {
		workers[i] = &crashWorker{crash: c, id: i, rnd: rand.New(rand.NewPCG(uint64(i), 11))}
		wg.Go(func() { workers[i].work(ctx) })
	}
	wg.Wait()
	stopKilling()
	want := map[string]*crashPod{}
	for _, w := range workers {
		for _, p := range w.pods {
			want[p.id] = p
		}
	}
	begin := time.Now()
	err = lab.Eventually(ctx, labtest.SettleLimit, "database, kernel and pods agree", func() error { return c.agree(ctx, want) })
	t.Logf("%d requests, %d kills from outside, %d by failpoints, %d given up, %d pods left, agreed after %v",
		c.ops.Load(), c.kills.Load(), c.deaths.Load(), c.vanished.Load(), len(want), time.Since(begin).Round(time.Millisecond))
	if err != nil {
		t.Errorf("%v\n%s", err, n.Logs(10))
	}
	if c.kills.Load() == 0 || c.deaths.Load() == 0 {
		t.Error("the agent was not killed in both ways")
	}
	c.close()
	<-supervised
	for _, p := range want {
		must(t, labtest.DropNetns(p.path))
	}
}

// useFailpoints makes the test run programs that have failpoints.
func useFailpoints(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-tags", "failpoints,grpcnotrace", "-o", dir+"/", "onlink/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build programs with failpoints: %v\n%s", err, text)
	}
	t.Setenv(labtest.BinVariable, dir)
	t.Setenv("ONLINK_FAILPOINTS", failpointChances)
}

// crash is the agent under test and what is known of it.
type crash struct {
	t      *testing.T
	node   *lab.Node
	config string
	dir    string // of the pods' namespaces
	client onlinkv1.CNIClient
	conn   *grpc.ClientConn
	end    context.CancelFunc // of the supervisor

	ops, kills, deaths, vanished, adds atomic.Int64

	*owners
}

// owners knows which container has each address that was answered, on one node
// or on all of them.
type owners struct {
	mu    sync.Mutex
	owner map[netip.Addr]string // guarded by mu
}

func newOwners() *owners { return &owners{owner: map[netip.Addr]string{}} }

func (c *crash) connect() {
	conn, err := grpc.NewClient("unix:"+c.node.CNISocket(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second, Backoff: backoff.Config{
			BaseDelay: 10 * time.Millisecond, Multiplier: 1.2, MaxDelay: 100 * time.Millisecond,
		}}))
	must(c.t, err)
	c.conn, c.client = conn, onlinkv1.NewCNIClient(conn)
}

func (c *crash) close() {
	if err := c.conn.Close(); err != nil {
		c.t.Error(err)
	}
	c.end()
}

// supervise starts the agent whenever it is dead, and kills it at random
// moments until killing ends.
func (c *crash) supervise(ctx, killing context.Context) {
	rnd := rand.New(rand.NewPCG(5, 5))
	for ctx.Err() == nil {
		if killing.Err() != nil {
			if err := os.Unsetenv("ONLINK_FAILPOINTS"); err != nil {
				c.t.Error(err)
			}
		}
		p, err := c.node.Run("onlinkd", c.node.LogFile(), "onlinkd", "--config", c.config)
		if err != nil {
			c.t.Errorf("start agent: %v", err)
			return
		}
		c.watch(ctx, killing, p, time.Duration(50+rnd.IntN(700))*time.Millisecond)
	}
}

// watch returns when the agent has ended, by itself or killed after life.
func (c *crash) watch(ctx, killing context.Context, p *lab.Process, life time.Duration) {
	// The last agent is killed by nobody, and has no failpoints.
	last := killing.Err() != nil
	limit, cancel := context.WithTimeout(killing, life)
	if last {
		limit, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	if _, err := p.Wait(limit); err == nil {
		if last {
			c.t.Error("the agent has ended by itself")
		}
		c.deaths.Add(1)
		return
	}
	if err := p.Kill(); err != nil {
		c.t.Error(err)
	}
	c.kills.Add(1)
}

// claim notes that a container was told that it has addrs.
func (c *crash) claim(id string, addrs []netip.Addr) {
	c.adds.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addrs {
		if o, taken := c.owner[a]; taken && o != id {
			c.t.Errorf("duplicate: %v was given to %.8s and to %.8s", a, o, id)
		}
		c.owner[a] = id
	}
}

// given returns how many times a container was told that it has addresses.
func (c *crash) given() int { return int(c.adds.Load()) }

// forget notes that a container is about to lose its addresses.
func (c *crash) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, o := range c.owner {
		if o == id {
			delete(c.owner, a)
		}
	}
}

// crashPod is one pod of the test's runtimes.
type crashPod struct {
	id, path string
	addrs    []netip.Addr
}

// crashWorker is one runtime: it does one request at a time.
type crashWorker struct {
	*crash
	id   int
	made int
	rnd  *rand.Rand
	pods []*crashPod
}

func (w *crashWorker) work(ctx context.Context) {
	for ctx.Err() == nil && w.ops.Load() < *crashOps {
		if len(w.pods) < crashSlots && (len(w.pods) == 0 || w.rnd.IntN(2) == 0) {
			w.add(ctx)
			continue
		}
		i := w.rnd.IntN(len(w.pods))
		p := w.pods[i]
		w.pods = append(w.pods[:i:i], w.pods[i+1:]...)
		w.remove(ctx, p)
	}
}

// add makes a pod. What a runtime does about a failed ADD varies.
func (w *crashWorker) add(ctx context.Context) {
	w.made++
	p := &crashPod{id: fmt.Sprintf("%02x%062x", w.id, w.made), path: filepath.Join(w.dir, fmt.Sprintf("w%d-%d", w.id, w.made))}
	if err := labtest.MakeNetns(p.path); err != nil {
		w.t.Errorf("make namespace: %v", err)
		return
	}
	for ctx.Err() == nil {
		addrs, err := w.request(ctx, w.client.Add, p)
		if err == nil {
			p.addrs = addrs
			w.claim(p.id, addrs)
			w.pods = append(w.pods, p)
			return
		}
		switch w.rnd.IntN(3) {
		case 0: // the same again
		case 1: // give up properly
			w.remove(ctx, p)
			return
		default: // vanish: nobody will call DEL
			w.vanished.Add(1)
			w.drop(p)
			return
		}
	}
}

// remove is DEL until it succeeds, then the end of the namespace; sometimes
// the other way round.
func (w *crashWorker) remove(ctx context.Context, p *crashPod) {
	w.forget(p.id)
	if w.rnd.IntN(4) == 0 {
		w.drop(p)
	}
	for ctx.Err() == nil {
		if _, err := w.request(ctx, w.client.Del, p); err == nil {
			break
		}
	}
	w.drop(p)
}

func (w *crashWorker) drop(p *crashPod) {
	if err := labtest.DropNetns(p.path); err != nil {
		w.t.Errorf("drop namespace: %v", err)
	}
}

// request is one CNI call.
func (w *crashWorker) request(ctx context.Context, verb func(context.Context, *onlinkv1.CNIRequest, ...grpc.CallOption) (*onlinkv1.CNIReply, error), p *crashPod) ([]netip.Addr, error) {
	w.ops.Add(1)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	rep, err := verb(ctx, &onlinkv1.CNIRequest{
		ContainerId: p.id, Netns: p.path, Ifname: "eth0", Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=crash;K8S_POD_NAME=" + filepath.Base(p.path),
		Config: []byte(`{"cniVersion":"1.0.0","name":"onlink","type":"onlink-cni"}`),
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	if rep.GetExitCode() != 0 {
		return nil, errors.New(string(rep.GetStdout()))
	}
	if len(rep.GetStdout()) == 0 {
		return nil, nil
	}
	res, err := create.CreateFromBytes(rep.GetStdout())
	if err != nil {
		return nil, err
	}
	result, err := types100.NewResultFromResult(res)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, nil
}

// dropLeft ends the namespaces of pods that the runtimes have left.
func (c *crash) dropLeft() {
	left, err := filepath.Glob(filepath.Join(c.dir, "*"))
	if err != nil {
		c.t.Error(err)
	}
	for _, path := range left {
		if err := labtest.DropNetns(path); err != nil {
			c.t.Error(err)
		}
	}
}

// assignments returns what is in a node's database, which must have passed its own check.
func assignments(ctx context.Context, n *lab.Node) ([]*onlinkv1.Assignment, error) {
	admin, err := n.Admin()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	check, err := admin.CheckIPAM(ctx, &onlinkv1.CheckIPAMRequest{})
	if err != nil {
		return nil, err
	}
	if p := check.GetProblems(); len(p) > 0 {
		return nil, fmt.Errorf("ipam check: %s", strings.Join(p, "\n"))
	}
	show, err := admin.ShowIPAM(ctx, &onlinkv1.ShowIPAMRequest{})
	if err != nil {
		return nil, err
	}
	return show.GetAssignments(), nil
}

// agree compares the database, the node's kernel and the pods with what the
// runtimes were told.
func (c *crash) agree(ctx context.Context, want map[string]*crashPod) error {
	assigned, err := assignments(ctx, c.node)
	if err != nil {
		return err
	}
	if got := len(assigned); got != len(want) {
		return fmt.Errorf("%d addresses in the database, want %d", got, len(want))
	}
	routes := map[netip.Addr]string{}
	for _, s := range assigned {
		p := want[s.GetContainerId()]
		if p == nil || p.addrs[0].String() != s.GetAddress() {
			return fmt.Errorf("database has %s for %s, want %+v", s.GetAddress(), s.GetContainerId(), p)
		}
		routes[p.addrs[0]] = pod.HostDevice(p.id, "eth0")
		if err := hasAddress(p); err != nil {
			return err
		}
	}
	return c.kernelHas(routes)
}

// kernelHas compares the node's pod routes and interfaces.
func (c *crash) kernelHas(want map[netip.Addr]string) error {
	link := c.node.NS.Link
	links, err := link.LinkList()
	if err != nil {
		return err
	}
	names := map[int]string{}
	for _, l := range links {
		if l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, "onl") {
			names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	if len(names) != len(want) {
		return fmt.Errorf("%d pod interfaces, want %d", len(names), len(want))
	}
	routes, err := link.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: labtest.RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return err
	}
	seen := 0
	for _, r := range routes {
		addr, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		if ones, _ := r.Dst.Mask.Size(); !ok || ones != 32 {
			continue // a block
		}
		if dev := names[r.LinkIndex]; dev == "" || want[addr] != dev {
			return fmt.Errorf("route to %v leads to %q, want %q", addr, dev, want[addr])
		}
		seen++
	}
	if seen != len(want) {
		return fmt.Errorf("%d pod routes, want %d", seen, len(want))
	}
	return nil
}

// hasAddress looks into a pod.
func hasAddress(p *crashPod) error {
	ns, err := netns.GetFromPath(p.path)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("pod %.8s: %w", p.id, err)
	}
	list, err := h.AddrList(eth0, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0].IP.String() != p.addrs[0].String() {
		return fmt.Errorf("pod %.8s has %v, want %v", p.id, list, p.addrs)
	}
	return nil
}
