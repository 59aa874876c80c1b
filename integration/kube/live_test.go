package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	onlinkv1 "onlink/proto/v1"
)

// live is a cluster with onlink, pods on every node, a Service, and a ToR that learns
// the nodes' announcements.
type live struct {
	*cluster.Cluster

	kube   *client.Client
	tor    *lab.ToR
	hello  *cluster.Hello
	blocks map[string][]netip.Prefix // of the nodes, by name
	vip    netip.Prefix              // of the Service
}

// liveObjects are what a person makes after the first apply; %s and %d are the ToR.
const liveObjects = `apiVersion: onlink.io/v1alpha1
kind: BGPPeer
metadata: {name: tor1}
spec: {address: %s, asn: %d, connectRetry: 2s, holdTime: 30s}
---
apiVersion: onlink.io/v1alpha1
kind: IPPool
metadata: {name: services}
spec: {cidr: 192.0.2.0/24, uses: [LoadBalancer]}
---
apiVersion: onlink.io/v1alpha1
kind: ServiceAdvertisement
metadata: {name: public}
spec: {peers: [tor1]}
`

// webService has an address of the pool.
const webService = `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: hello}, ports: [{port: 80, targetPort: 8080}]}
`

// startLive starts a cluster, and returns when the ToR has learned what the nodes are to
// announce. config is the OnlinkConfig's spec as YAML flow.
func startLive(t *testing.T, o cluster.Options, config string) (context.Context, *live) {
	t.Helper()
	ctx, c := startOnlink(t, o)
	l := &live{Cluster: c, tor: c.Lab.ToRs()[0], hello: &cluster.Hello{Replicas: len(c.Nodes)}, blocks: map[string][]netip.Prefix{}}
	var err error
	l.kube, err = client.New(c.Config)
	must(t, err)
	l.tor.Accept = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	must(t, l.tor.Start(ctx))
	must(t, c.Apply(ctx, l.objects()+"---\n"+webService))
	if config != "" {
		patched := time.Now()
		_, err := c.Kubectl(ctx, "patch", "onlinkconfig", "default", "--type=merge", "-p", `{"spec":`+config+`}`)
		must(t, err)
		must(t, lab.Eventually(ctx, podTime, "restarts of the agents", func() error { return l.restarted(ctx, patched) }))
	}
	must(t, c.Deploy(ctx, l.hello, podTime))
	must(t, lab.Eventually(ctx, podTime, "the nodes announce blocks and the Service", func() error { return l.learn(ctx) }))
	must(t, lab.Eventually(ctx, podTime, "routes of all kernels", func() error { return l.intact() }))
	return ctx, l
}

// restarted returns an error while an agent has not begun after a time. A change that
// needs a restart reaches the nodes one by one, and an agent that begins answers no
// ADD for a moment.
func (l *live) restarted(ctx context.Context, after time.Time) error {
	for _, n := range l.Nodes {
		text, err := n.Exec(ctx, filepath.Join(labtest.Bin(), "onlinkctl"), "status", "-o", "json")
		if err != nil {
			return err
		}
		var shown struct{ Started time.Time }
		if err := json.Unmarshal([]byte(text), &shown); err != nil {
			return fmt.Errorf("read status of %s: %w", n.Name, err)
		}
		if !shown.Started.After(after) {
			return fmt.Errorf("the agent of %s runs since %s", n.Name, shown.Started)
		}
	}
	return nil
}

// objects are liveObjects of this cluster.
func (l *live) objects() string { return fmt.Sprintf(liveObjects, l.tor.Addr, l.tor.ASN) }

// applyManifest is what a user does to repair an installation.
func (l *live) applyManifest(ctx context.Context) error {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	return l.Apply(ctx, string(text))
}

// learn reads what is to be announced.
func (l *live) learn(ctx context.Context) error {
	list, err := l.kube.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, o := range list.Items {
		if len(o.Status.Blocks.CIDRs) == 0 {
			return fmt.Errorf("OnlinkNode %s shows no block", o.Name)
		}
		var blocks []netip.Prefix
		for _, text := range o.Status.Blocks.CIDRs {
			p, err := netip.ParsePrefix(string(text))
			if err != nil {
				return err
			}
			blocks = append(blocks, p)
		}
		l.blocks[o.Name] = blocks
	}
	if len(l.blocks) < len(l.Nodes) {
		return fmt.Errorf("%d OnlinkNodes", len(l.blocks))
	}
	s, err := l.kube.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		return errors.New("the Service has no address")
	}
	a, err := netip.ParseAddr(s.Status.LoadBalancer.Ingress[0].IP)
	l.vip = netip.PrefixFrom(a, a.BitLen())
	return err
}

// intact returns an error unless every kernel has the routes of the living nodes: the
// nodes each other's blocks, the ToR the blocks and the Service. dead are nodes without
// power.
func (l *live) intact(dead ...string) error {
	var errs []error
	for _, n := range l.Nodes {
		if slices.Contains(dead, n.Name) {
			continue
		}
		for _, o := range l.Nodes {
			if o != n && !slices.Contains(dead, o.Name) {
				errs = append(errs, routed(n.NS, l.blocks[o.Name]...))
			}
		}
		errs = append(errs, routed(l.tor.NS, l.blocks[n.Name]...))
	}
	return errors.Join(append(errs, routed(l.tor.NS, l.vip))...)
}

// routed returns an error unless the kernel of a namespace has routes of prefixes.
func routed(ns *lab.NS, prefixes ...netip.Prefix) error {
	list, err := ns.Link.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", ns.Name, err)
	}
	for _, p := range prefixes {
		if !slices.ContainsFunc(list, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.String() == p.String() }) {
			return fmt.Errorf("%s has no route of %s", ns.Name, p)
		}
	}
	return nil
}

// routeWatch is what the kernels do to the routes that must stay, from its begin on.
type routeWatch struct {
	precious map[string][]netip.Prefix // by the name of a namespace
	monitors map[string]*lab.RouteMonitor
}

// watchRoutes begins to look at the kernels of the nodes with power and of the ToR.
func (l *live) watchRoutes(ctx context.Context, t *testing.T, name string, dead ...string) *routeWatch {
	t.Helper()
	w := &routeWatch{precious: map[string][]netip.Prefix{}, monitors: map[string]*lab.RouteMonitor{}}
	begin := func(ns *lab.NS) {
		m, err := ns.MonitorRoutes(ctx, filepath.Join(t.TempDir(), name+".routes"))
		must(t, err)
		w.monitors[ns.Name] = m
	}
	for _, n := range l.Nodes {
		if slices.Contains(dead, n.Name) {
			continue
		}
		begin(n.NS)
		w.precious[l.tor.NS.Name] = append(w.precious[l.tor.NS.Name], l.blocks[n.Name]...)
		for _, o := range l.Nodes {
			if o != n && !slices.Contains(dead, o.Name) {
				w.precious[n.NS.Name] = append(w.precious[n.NS.Name], l.blocks[o.Name]...)
			}
		}
	}
	begin(l.tor.NS)
	w.precious[l.tor.NS.Name] = append(w.precious[l.tor.NS.Name], l.vip)
	must(t, l.intact(dead...))
	return w
}

// end ends the watch, and fails the test for every route that went, also for a moment.
func (w *routeWatch) end(ctx context.Context, t *testing.T) {
	t.Helper()
	for name, m := range w.monitors {
		lines, err := m.Stop(ctx)
		if err != nil {
			t.Error(err)
		}
		for _, line := range lines {
			rest, deleted := strings.CutPrefix(line, "Deleted ")
			if !deleted {
				continue
			}
			for _, p := range w.precious[name] {
				words := strings.Fields(rest)
				if slices.Contains(words[:min(2, len(words))], p.String()) || p.IsSingleIP() && slices.Contains(words[:min(2, len(words))], p.Addr().String()) {
					t.Errorf("%s lost a route: %s", name, line)
				}
			}
		}
	}
}

// peersOf asks the agent of a node for its peers. It keeps no connection: an agent
// bounds those of one user, and tests ask until something is true.
func peersOf(ctx context.Context, n *cluster.Node) ([]*onlinkv1.Peer, error) {
	conn, err := grpc.NewClient(fmt.Sprintf("unix:/proc/%d/root/run/onlink/admin.sock", n.PID()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	r, err := onlinkv1.NewAdminClient(conn).ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	return r.GetPeers(), err
}

// hasSessions returns an error unless the agent of a node has sessions of these names
// configured, and no other than those and with nodes.
func (l *live) hasSessions(ctx context.Context, t *testing.T, n *cluster.Node, want ...string) error {
	t.Helper()
	peers, err := peersOf(ctx, n)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	var got []string
	for _, p := range peers {
		node := slices.ContainsFunc(l.Nodes, func(n *cluster.Node) bool { return n.Name == p.GetName() })
		if !p.GetStranger() && !p.GetGone() && !node {
			got = append(got, p.GetName())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s has sessions with %v, want %v", n.Name, got, want)
	}
	return nil
}

// allHaveSessions is hasSessions of every node.
func (l *live) allHaveSessions(ctx context.Context, t *testing.T, want ...string) error {
	t.Helper()
	var errs []error
	for _, n := range l.Nodes {
		errs = append(errs, l.hasSessions(ctx, t, n, want...))
	}
	return errors.Join(errs...)
}

// statuses returns the OnlinkNodes' status by name, an error while a node has none.
func (l *live) statuses(ctx context.Context) (map[string]*v1alpha1.OnlinkNodeStatus, error) {
	list, err := l.kube.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[string]*v1alpha1.OnlinkNodeStatus{}
	for i := range list.Items {
		out[list.Items[i].Name] = &list.Items[i].Status
	}
	for _, n := range l.Nodes {
		if out[n.Name] == nil {
			return nil, fmt.Errorf("there is no OnlinkNode %s", n.Name)
		}
	}
	return out, nil
}

// agree returns an error unless everything that the cluster shows is right: Nodes and
// OnlinkNodes are Ready, nothing is rejected or held, pods are ready, and the kernels
// have the routes.
func (l *live) agree(ctx context.Context) error {
	if err := l.intact(); err != nil {
		return err
	}
	nodes, err := l.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		if i < 0 || n.Status.Conditions[i].Status != corev1.ConditionTrue {
			return fmt.Errorf("Node %s is not Ready", n.Name)
		}
		if len(n.Spec.Taints) > 0 {
			return fmt.Errorf("Node %s has the taint %s", n.Name, n.Spec.Taints[0].ToString())
		}
	}
	statuses, err := l.statuses(ctx)
	if err != nil {
		return err
	}
	for name, s := range statuses {
		for kind, want := range map[string]metav1.ConditionStatus{
			v1alpha1.ConditionReady: metav1.ConditionTrue, v1alpha1.ConditionAccepted: metav1.ConditionTrue, v1alpha1.ConditionHeld: metav1.ConditionFalse,
		} {
			if err := condition(s, kind, want); err != nil {
				return fmt.Errorf("OnlinkNode %s: %w", name, err)
			}
		}
		if s.Sessions.Established != int32(len(l.Nodes)) { //nolint:gosec // the other nodes and the ToR
			return fmt.Errorf("OnlinkNode %s shows %s sessions", name, s.Sessions.Summary)
		}
	}
	set, err := l.Clientset()
	if err != nil {
		return err
	}
	pods, err := set.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
		if !ready || p.DeletionTimestamp != nil {
			return fmt.Errorf("pod %s of %s on %s is not ready: %s", p.Name, p.Namespace, p.Spec.NodeName, p.Status.Phase)
		}
	}
	return nil
}

// metric returns the value of a metric of onlink-kube on a node, as text.
func metric(ctx context.Context, n *cluster.Node, name string) (string, error) {
	text, err := cluster.Get(ctx, n.NS, "http://127.0.0.1:9178/metrics")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no metric %s", n.Name, name)
}

// wantMetric returns an error unless every node shows a value of a metric.
func (l *live) wantMetric(ctx context.Context, name, want string) error {
	for _, n := range l.Nodes {
		if got, err := metric(ctx, n, name); err != nil || got != want {
			return errors.Join(fmt.Errorf("%s shows %s %s, want %s", n.Name, name, got, want), err)
		}
	}
	return nil
}

// wantEvent returns an error unless an Event of a reason and text is on every Node.
func (l *live) wantEvent(ctx context.Context, reason, text string) error {
	set, err := l.Clientset()
	if err != nil {
		return err
	}
	list, err := set.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		return err
	}
	for _, n := range l.Nodes {
		if !slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return e.InvolvedObject.Name == n.Name && strings.Contains(e.Message, text) }) {
			return fmt.Errorf("Node %s has no Event %s with %q", n.Name, reason, text)
		}
	}
	return nil
}

// eventuallyAll is for what takes seconds.
func eventuallyAll(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	labtest.Must(t, lab.Eventually(ctx, patience, what, f))
}
