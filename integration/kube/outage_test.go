package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/integration/cri"
	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

const (
	// outage is how long the API server and etcd are stopped in the long form.
	outage = 10 * time.Minute
	// agreeTime is in what time all agrees after an outage.
	agreeTime = 30 * time.Second
	// mostSlower bounds the p99 of ADD without an API server, as a part of that with one.
	mostSlower = 1.2
)

// TestOutage: while the API server and etcd answer nothing, pods start as fast as
// before, start and end on both nodes, no route goes, and a node that boots runs its
// static pods; when they are back all agrees.
func TestOutage(t *testing.T) {
	// A cooldown of a minute would use up the addresses of a block that no other can
	// join: 64 pods a minute.
	ctx, l := startLive(t, cluster.Options{Name: "outage"}, `{"ipam":{"cooldown":"1s"}}`)
	o := &outageTest{live: l}
	t.Cleanup(func() { must(t, l.Resume(cluster.APIServer, cluster.Etcd)) }) // for the logs of a failure
	t.Run("ADD", func(t *testing.T) { o.compareADD(ctx, t) })
	must(t, l.Pause(cluster.APIServer, cluster.Etcd))
	t.Run("pods start and end", func(t *testing.T) { o.liveWithout(ctx, t) })
	t.Run("a node boots", func(t *testing.T) { o.bootWithout(ctx, t) })
	if !t.Failed() {
		t.Run("all agrees", func(t *testing.T) { o.resume(ctx, t) })
	}
}

type outageTest struct {
	*live

	mu    sync.Mutex // guards all below
	pods  int        // static pods that ran and ended
	calls []time.Duration
}

// attach calls ADD and DEL on a node, and returns how long the ADDs took.
func attach(ctx context.Context, n *cluster.Node, name string, count int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range count {
		a, err := n.Attach(ctx, fmt.Sprintf("%s-%d", name, i))
		if err != nil {
			return nil, err
		}
		took = append(took, a.Took)
		if err := a.Detach(ctx); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// compareADD compares ADD with and without an API server, in turn.
func (o *outageTest) compareADD(ctx context.Context, t *testing.T) {
	rounds, each := labtest.Times(2, 10), labtest.Times(5, 25)
	var with, without []time.Duration
	measure := func(list *[]time.Duration, name string) {
		for _, n := range o.Nodes {
			took, err := attach(ctx, n, name, each)
			must(t, err)
			*list = append(*list, took...)
		}
	}
	for i := range rounds {
		measure(&with, fmt.Sprintf("with%d", i))
		must(t, o.Pause(cluster.APIServer, cluster.Etcd))
		measure(&without, fmt.Sprintf("without%d", i))
		must(t, o.Resume(cluster.APIServer, cluster.Etcd))
		eventuallyAll(ctx, t, "all agrees after a short outage", func() error { return o.agree(ctx) })
	}
	ratio := float64(percentile(without, 99)) / float64(percentile(with, 99))
	t.Logf("%d ADDs each: with an API server p50 %s, p99 %s; without p50 %s, p99 %s; ratio of p99 %.2f", len(with),
		percentile(with, 50), percentile(with, 99), percentile(without, 50), percentile(without, 99), ratio)
	if *labtest.Long && ratio > mostSlower {
		t.Errorf("the ratio of p99 is %.2f, want at most %.1f", ratio, mostSlower)
	}
}

// percentile returns the duration that p percent of a list are not above.
func percentile(list []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[(len(sorted)*p+99)/100-1].Round(100 * time.Microsecond)
}

// liveWithout starts and ends pods on all nodes during the outage.
func (o *outageTest) liveWithout(ctx context.Context, t *testing.T) {
	began := time.Now()
	watch := o.watchRoutes(ctx, t, "outage")
	g, group := errgroup.WithContext(ctx)
	for i, n := range o.Nodes {
		other := o.Nodes[(i+1)%len(o.Nodes)]
		g.Go(func() error {
			for turn := 0; turn == 0 || *labtest.Long && time.Since(began) < outage; turn++ {
				if err := o.cycle(group, n, other, turn); err != nil {
					return fmt.Errorf("%s after %s of the outage: %w", n.Name, time.Since(began).Round(time.Second), err)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	watch.end(ctx, t)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d static pods ran and ended and %d ADDs were made in %s without an API server, ADD p99 %s", o.pods, len(o.calls),
		time.Since(began).Round(time.Second), percentile(o.calls, 99))
}

// cycle runs a static pod on a node, requests it from another, and ends it.
func (o *outageTest) cycle(ctx context.Context, n, other *cluster.Node, turn int) error {
	if err := o.intact(); err != nil {
		return err
	}
	for _, p := range o.hello.Pods { // which began before
		a, err := cluster.PodAddr(p, false)
		if err != nil {
			return err
		}
		if _, err := cluster.WaitAnswer(ctx, other.NS, cluster.At(a, cluster.HelloPort)); err != nil {
			return err
		}
	}
	took, err := attach(ctx, n, fmt.Sprintf("cycle%d", turn), 5)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("static%d", turn)
	if err := n.AddStaticPod(ctx, name, cluster.StaticHello(name, "")); err != nil {
		return err
	}
	addr, err := waitSandbox(ctx, n, name)
	if err != nil {
		return err
	}
	if _, err := cluster.WaitAnswer(ctx, other.NS, cluster.At(addr, cluster.HelloPort)); err != nil {
		return err
	}
	if err := n.RemoveStaticPod(ctx, name); err != nil {
		return err
	}
	err = lab.Eventually(ctx, podTime, "end of "+name, func() error {
		if addrs, err := sandboxes(ctx, n, name); err != nil || len(addrs) > 0 {
			return errors.Join(fmt.Errorf("it has the addresses %v", addrs), err)
		}
		return nil
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pods++
	o.calls = append(o.calls, took...)
	return err
}

// sandboxes returns the addresses of the sandboxes of a static pod that run, as the
// node's runtime says.
func sandboxes(ctx context.Context, n *cluster.Node, name string) (addrs []netip.Addr, err error) {
	c, err := cri.Dial(n.RuntimeSocket())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing is in flight
	ids, err := c.Find(ctx, name+"-"+n.Name)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		a, err := c.Address(ctx, id)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// waitSandbox waits until a static pod has its sandbox.
func waitSandbox(ctx context.Context, n *cluster.Node, name string) (addr netip.Addr, err error) {
	err = lab.Eventually(ctx, podTime, "static pod "+name+" on "+n.Name, func() error {
		addrs, err := sandboxes(ctx, n, name)
		if err == nil && len(addrs) != 1 {
			err = fmt.Errorf("%d sandboxes run", len(addrs))
		}
		if err == nil {
			addr = addrs[0]
		}
		return err
	})
	return addr, err
}

// Static pods of the node that boots: kubelet runs those with the host's network alone,
// because the agent is a pod that only the API server knows.
const (
	hostPod = "host"
	netPod  = "net"
)

// bootWithout cuts the power of a node during the outage.
func (o *outageTest) bootWithout(ctx context.Context, t *testing.T) {
	n, other := o.Nodes[1], o.Nodes[0]
	must(t, n.AddStaticPod(ctx, hostPod, cluster.StaticHello(hostPod, "hostNetwork: true")))
	must(t, n.AddStaticPod(ctx, netPod, cluster.StaticHello(netPod, "")))
	_, err := waitSandbox(ctx, n, netPod)
	must(t, err)
	_, err = cluster.WaitAnswer(ctx, other.NS, cluster.At(n.Addr, cluster.HelloPort))
	must(t, err)

	watch := o.watchRoutes(ctx, t, "boot", n.Name)
	must(t, n.Cut())
	if text, err := cluster.Get(ctx, other.NS, cluster.At(n.Addr, cluster.HelloPort)); err == nil {
		t.Errorf("a pod of a node without power answers: %s", text)
	}
	began := time.Now()
	must(t, n.Boot(ctx))
	must(t, lab.Eventually(ctx, podTime, "static pod of the booted node", func() error {
		_, err := cluster.Get(ctx, other.NS, cluster.At(n.Addr, cluster.HelloPort))
		return err
	}))
	t.Logf("a static pod of %s answers %s after the boot, without an API server", n.Name, time.Since(began).Round(100*time.Millisecond))
	if addrs, err := sandboxes(ctx, n, netPod); err != nil || len(addrs) > 0 {
		t.Errorf("a pod with a network of its own has the addresses %v (%v), and no agent runs on the node", addrs, err)
	}
	must(t, o.beside(ctx, other))
	watch.end(ctx, t)
}

// beside starts and ends a pod on the node that stayed, whose only neighbour is the ToR.
func (o *outageTest) beside(ctx context.Context, n *cluster.Node) error {
	a, err := n.Attach(ctx, "beside")
	if err != nil {
		return err
	}
	if _, err := o.tor.NS.Ping(ctx, a.Addr, 1, podTime); err != nil {
		return errors.Join(err, a.Detach(ctx))
	}
	return a.Detach(ctx)
}

// resume ends the outage.
func (o *outageTest) resume(ctx context.Context, t *testing.T) {
	n, other := o.Nodes[1], o.Nodes[0]
	must(t, o.Resume(cluster.APIServer, cluster.Etcd))
	began := time.Now()
	since := func() time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
	must(t, lab.Eventually(ctx, podTime, "the API server answers", func() error {
		_, err := o.Kubectl(ctx, "get", "--raw", "/readyz")
		return err
	}))
	t.Logf("the API server is ready %s after it goes on", since())
	limit := 3 * time.Minute
	must(t, lab.Eventually(ctx, limit, "all agrees", func() error {
		if err := n.Restart(ctx, cluster.KubeProxy); err != nil { // it ends when it finds no API server at its start
			return err
		}
		return o.agree(ctx)
	}))
	took := since()
	_, err := cluster.WaitAnswer(ctx, other.NS, cluster.At(n.Addr, cluster.HelloPort))
	must(t, err)
	addr, err := waitSandbox(ctx, n, netPod)
	must(t, err)
	_, err = cluster.WaitAnswer(ctx, other.NS, cluster.At(addr, cluster.HelloPort))
	must(t, err)
	t.Logf("all agrees %s after the outage, the booted node included; its static pod with a network of its own answers after %s", took, since())
	if *labtest.Long && took > agreeTime {
		t.Errorf("all agrees %s after the outage, want at most %s", took, agreeTime)
	}
}
