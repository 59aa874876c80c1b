package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// nextImage is the image under test with another name, as a new version has.
const nextImage = "docker.io/onlink/onlink:next"

// torPeer makes every node a peer of the rack's ToR.
const torPeer = `apiVersion: onlink.io/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec: {address: %s, asn: %d, import: {accept: [{prefix: 0.0.0.0/0}]}}
`

// TestUpgrade replaces the pods of the DaemonSet one by one under traffic, between
// pods of both nodes and from a machine outside: no packet is lost, no kernel removes
// a route, and no node stops to be Ready or gets the taint of a new one.
func TestUpgrade(t *testing.T) {
	ctx, c := startOnlink(t, cluster.Options{Name: "up"})
	tor := c.Lab.ToRs()[0]
	labtest.Must(t, tor.Start(ctx))
	labtest.Must(t, c.Apply(ctx, fmt.Sprintf(torPeer, tor.Addr, tor.ASN)))
	hello := &cluster.Hello{Replicas: len(c.Nodes)}
	labtest.Must(t, c.Deploy(ctx, hello, podTime))
	outside := netip.MustParsePrefix("10.244.0.0/16")
	labtest.Must(t, c.Client.Through(outside, tor))
	for _, n := range c.Nodes {
		_, err := n.Exec(ctx, "ctr", "--namespace", "k8s.io", "images", "tag", onlinkImage, nextImage)
		labtest.Must(t, err)
	}
	for round := range labtest.Times(1, 5) {
		image := []string{nextImage, onlinkImage}[round%2]
		t.Run("image "+image, func(t *testing.T) {
			upgrade(ctx, t, c, hello.Pods, func() error { return setImage(ctx, c, image) })
		})
		if *labtest.Long {
			t.Run("restart", func(t *testing.T) {
				upgrade(ctx, t, c, hello.Pods, func() error {
					_, err := c.Kubectl(ctx, "-n", "onlink", "rollout", "restart", "daemonset/onlink-node")
					return err
				})
			})
		}
	}
}

// onlinkImage is the name of the image under test in the manifest.
const onlinkImage = "docker.io/onlink/onlink:dev"

// setImage gives all containers of the DaemonSet another image.
func setImage(ctx context.Context, c *cluster.Cluster, image string) error {
	_, err := c.Kubectl(ctx, "-n", "onlink", "set", "image", "daemonset/onlink-node", "init="+image, "onlinkd="+image, "kube="+image)
	return err
}

// upgrade begins a rollout, waits for its end, and checks what happened meanwhile.
func upgrade(ctx context.Context, t *testing.T, c *cluster.Cluster, pods []corev1.Pod, begin func() error) {
	t.Helper()
	former := agents(ctx, t, c)
	stop := witnesses(ctx, t, c, pods)
	began := time.Now()
	labtest.Must(t, begin())
	_, err := c.Kubectl(ctx, "-n", "onlink", "rollout", "status", "daemonset/onlink-node", "--timeout=3m")
	labtest.Must(t, err)
	t.Logf("%d pods of the DaemonSet replaced after %s", len(c.Nodes), time.Since(began).Round(100*time.Millisecond))
	for name, uid := range agents(ctx, t, c) {
		if former[name] == uid {
			t.Errorf("the agent's pod on %s is the former one", name)
		}
	}
	stop()
	now, err := c.WaitPods(ctx, "default", "app=hello", len(pods), podTime)
	labtest.Must(t, err)
	for _, p := range now {
		if p.Status.ContainerStatuses[0].RestartCount > 0 {
			t.Errorf("pod %s was restarted", p.Name)
		}
	}
}

// agents returns the UID of the DaemonSet's ready pod of each node.
func agents(ctx context.Context, t *testing.T, c *cluster.Cluster) map[string]string {
	t.Helper()
	pods, err := c.WaitPods(ctx, "onlink", "role=node", len(c.Nodes), readyTime)
	labtest.Must(t, err)
	out := map[string]string{}
	for _, p := range pods {
		out[p.Spec.NodeName] = string(p.UID)
	}
	return out
}

// witnesses starts flows between pods of two nodes and from outside, and watches the
// routes of all kernels and the Nodes. The returned function ends all, and checks that
// nothing happened.
func witnesses(ctx context.Context, t *testing.T, c *cluster.Cluster, pods []corev1.Pod) func() {
	t.Helper()
	near, far := pods[0], pods[len(pods)-1]
	if near.Spec.NodeName == far.Spec.NodeName {
		t.Fatalf("all pods run on %s", near.Spec.NodeName)
	}
	flows := map[string]*lab.PingFlow{}
	flow := func(name string, from *lab.NS, to corev1.Pod) {
		address, err := cluster.PodAddr(to, false)
		labtest.Must(t, err)
		labtest.Must(t, lab.Eventually(ctx, podTime, name, func() error {
			_, err := from.Ping(ctx, address, 1, time.Second)
			return err
		}))
		f, err := lab.StartPingFlow(from, podNS(t, c, to), address, 500)
		labtest.Must(t, err)
		flows[name] = f
	}
	flow(near.Spec.NodeName+" to "+far.Spec.NodeName, podNS(t, c, near), far)
	flow(far.Spec.NodeName+" to "+near.Spec.NodeName, podNS(t, c, far), near)
	flow("outside to "+near.Spec.NodeName, c.Client.NS, near)
	flow("outside to "+far.Spec.NodeName, c.Client.NS, far)
	for name, f := range flows {
		if err := f.WaitFor(ctx, 200); err != nil {
			t.Fatalf("flow %s: %v", name, err)
		}
	}
	monitors := map[string]*lab.RouteMonitor{}
	places := map[string]*lab.NS{"tor": c.Lab.ToRs()[0].NS}
	for _, n := range c.Nodes {
		places[n.Name] = n.NS
	}
	for name, ns := range places {
		m, err := ns.MonitorRoutes(ctx, filepath.Join(t.TempDir(), "monitor"))
		labtest.Must(t, err)
		monitors[name] = m
	}
	nodes := watchNodes(ctx, t, c)
	return func() {
		t.Helper()
		for name, f := range flows {
			if err := f.WaitFor(ctx, 500); err != nil {
				t.Errorf("flow %s: %v", name, err)
			}
		}
		for _, fault := range nodes() {
			t.Error(fault)
		}
		for name, m := range monitors {
			changes, err := m.Stop(ctx)
			labtest.Must(t, err)
			for _, line := range changes {
				// The kernel's own link-local route goes with the pod that a new agent connects
				// and disconnects to test whether it can.
				if strings.HasPrefix(line, "Deleted ") && !strings.HasPrefix(line, "Deleted fe80::/64 dev ") {
					t.Errorf("%s removed a route: %s", name, line)
				}
			}
			t.Logf("%s changed %d routes", name, len(changes))
		}
		for name, f := range flows {
			report, err := f.Stop(ctx)
			if err != nil || report.Lost > 0 {
				t.Errorf("flow %s: %s, %v; want nothing lost", name, report, err)
			}
			t.Logf("flow %s: %s", name, report)
		}
	}
}

// podNS opens a pod's network namespace until the test ends.
func podNS(t *testing.T, c *cluster.Cluster, p corev1.Pod) *lab.NS {
	t.Helper()
	ns, err := c.PodNS(p)
	labtest.Must(t, err)
	t.Cleanup(func() { labtest.Must(t, ns.Leave()) })
	return ns
}

// watchNodes watches all Nodes until the returned function is called, which returns
// every moment in which one was not Ready, without a network or tainted.
func watchNodes(ctx context.Context, t *testing.T, c *cluster.Cluster) (stop func() []error) {
	t.Helper()
	set, err := c.Clientset()
	labtest.Must(t, err)
	w, err := set.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	labtest.Must(t, err)
	var mu sync.Mutex
	var faults []error
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, fmt.Errorf(format, args...))
	}
	done := make(chan struct{})
	var stopping atomic.Bool
	go func() {
		defer close(done)
		for event := range w.ResultChan() {
			n, ok := event.Object.(*corev1.Node)
			if !ok && stopping.Load() {
				continue // the connection's end in the middle of a message
			}
			if !ok || event.Type == watch.Deleted {
				note("watch of Nodes: %s %v", event.Type, event.Object)
				continue
			}
			for _, taint := range n.Spec.Taints {
				note("%s has the taint %s", n.Name, taint.ToString())
			}
			for _, cond := range n.Status.Conditions {
				want := map[corev1.NodeConditionType]corev1.ConditionStatus{
					corev1.NodeReady: corev1.ConditionTrue, corev1.NodeNetworkUnavailable: corev1.ConditionFalse,
				}[cond.Type]
				if want != "" && cond.Status != want {
					note("%s: %s is %s: %s", n.Name, cond.Type, cond.Status, cond.Message)
				}
			}
		}
	}()
	return func() []error {
		select {
		case <-done:
			note("%w", errors.New("the watch of Nodes ended early"))
		default:
		}
		stopping.Store(true)
		w.Stop()
		<-done
		return faults
	}
}
