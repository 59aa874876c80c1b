package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/ipam"
	"onlink/ipam/ipamtest"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	"onlink/kube/controller"
	"onlink/kube/registry"
)

// soon bounds what the controller does within seconds on a quiet machine.
const soon = 30 * time.Second

const firstObjects = `# comment
---
apiVersion: onlink.io/v1alpha1
kind: OnlinkConfig
metadata: {name: default}
spec: {asn: 64600}
---
apiVersion: onlink.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec: {cidr: 10.244.0.0/16}
`

// runController runs a replica until the test ends, or until stop is called.
func runController(t *testing.T, c *client.Client, namespace, identity string) (stop func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "defaults.yaml")
	must(t, os.WriteFile(file, []byte(firstObjects), 0o600))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- controller.Run(ctx, controller.Options{
			Client: c, Namespace: namespace, Identity: identity, Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("replica", identity),
			Defaults: file, Health: "127.0.0.1:0", TaintNewNodes: true, LeaseDuration: 4 * time.Second, BlockAge: time.Second,
			PolicyDaemonSet: "policy", OrphanAge: 2 * time.Second,
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("controller %s: %v", identity, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func namespaceFor(t *testing.T, s *api.Server) string {
	t.Helper()
	ns, err := s.Client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "onlink-"}}, metav1.CreateOptions{})
	must(t, err)
	return ns.Name
}

func makeNode(ctx context.Context, t *testing.T, c *client.Client, name, address string) {
	t.Helper()
	n, err := c.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(t, err)
	if address != "" {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		_, err = c.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{})
		must(t, err)
	}
}

// makeOnlinkNode creates the object that the node's own process writes.
func makeOnlinkNode(t *testing.T, c *client.Client, name string, status v1alpha1.OnlinkNodeStatus) {
	t.Helper()
	o, err := c.Nodes.Create(t.Context(), &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(t, err)
	writeStatus(t, c, o, status)
}

// writeStatus writes the status of a node that serves.
func writeStatus(t *testing.T, c *client.Client, o *v1alpha1.OnlinkNode, status v1alpha1.OnlinkNodeStatus) {
	t.Helper()
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Serves"})
	o.Status = status
	_, err := c.Nodes.UpdateStatus(t.Context(), o, metav1.UpdateOptions{})
	must(t, err)
}

func TestController(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	ctx, c := t.Context(), s.Client
	ns := namespaceFor(t, s)
	makeOnlinkNode(t, c, "n1", v1alpha1.OnlinkNodeStatus{}) // it serves
	makeNode(ctx, t, c, "n1", "192.0.2.2")
	runController(t, c, ns, "first")

	t.Run("first objects", func(t *testing.T) {
		must(t, lab.Eventually(ctx, soon, "the first objects", func() error {
			cfg, err := c.Configs.Get(ctx, "default", metav1.GetOptions{})
			if err != nil || cfg.Spec.ASN != 64600 {
				return fmt.Errorf("OnlinkConfig: %w", err)
			}
			_, err = c.Pools.Get(ctx, "default", metav1.GetOptions{})
			return err
		}))
	})
	t.Run("taint of new nodes", func(t *testing.T) {
		makeNode(ctx, t, c, "n2", "192.0.2.3")
		must(t, lab.Eventually(ctx, soon, "the taint", func() error {
			n, err := c.CoreV1().Nodes().Get(ctx, "n2", metav1.GetOptions{})
			if err != nil || !slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == v1alpha1.NotReadyTaint }) {
				return fmt.Errorf("taints: %w", err)
			}
			return nil
		}))
		n, err := c.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		if err != nil || slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == v1alpha1.NotReadyTaint }) {
			t.Fatalf("a node that serves is tainted: %v %v", n.Spec.Taints, err)
		}
	})
	t.Run("status of configuration objects", func(t *testing.T) { testStatus(t, c) })
	t.Run("owners of OnlinkNodes", func(t *testing.T) {
		makeOnlinkNode(t, c, "ghost", v1alpha1.OnlinkNodeStatus{}) //nolint:contextcheck // it has the test's; as a backup restores it
		must(t, lab.Eventually(ctx, time.Minute, "the Node owns its OnlinkNode, and one without a Node goes", func() error {
			o, err := c.Nodes.Get(ctx, "n1", metav1.GetOptions{})
			if err != nil || len(o.OwnerReferences) != 1 || o.OwnerReferences[0].Kind != "Node" {
				return fmt.Errorf("owners of n1: %v, %w", o.OwnerReferences, err)
			}
			if _, err := c.Nodes.Get(ctx, "ghost", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("OnlinkNode ghost: %w", err)
			}
			return nil
		}))
	})
	t.Run("addresses of Services", func(t *testing.T) { testAddresses(t, c) })
	t.Run("Events", func(t *testing.T) {
		must(t, lab.Eventually(ctx, soon, "an Event of assigned addresses", func() error {
			list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=AddressesAssigned,involvedObject.kind=Service"})
			if err == nil && len(list.Items) == 0 {
				err = errors.New("none")
			}
			return err
		}))
	})
	t.Run("policies that nothing enforces", func(t *testing.T) { testPolicies(t, s, ns) })
	t.Run("an OnlinkConfig that vanishes is not replaced", func(t *testing.T) {
		must(t, c.Pools.Delete(ctx, "default", metav1.DeleteOptions{}))
		f := &fleet{c: c, namespace: ns, log: slog.New(slog.NewTextHandler(t.Output(), nil)), nodes: map[string]*registry.Server{}}
		req := ipamtest.Request("n1")
		req.Caller = ipam.Caller{Node: "n1", Instance: "i1", Address: netip.MustParseAddr("192.0.2.2"), Period: time.Second}
		_, err := f.Claim(ctx, req)
		must(t, err)
		must(t, c.Configs.Delete(ctx, "default", metav1.DeleteOptions{}))
		// Two turns of the part, each of which looks at the API server.
		for end := time.Now().Add(11 * time.Second); time.Now().Before(end); <-time.After(time.Second) {
			if _, err := c.Configs.Get(ctx, "default", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Fatalf("OnlinkConfig after its deletion: %v", err)
			}
		}
	})
}

// wantCondition waits for a condition.
func wantCondition(ctx context.Context, t *testing.T, kind string, want metav1.ConditionStatus, words string, read func() ([]metav1.Condition, error)) {
	t.Helper()
	must(t, lab.Eventually(ctx, soon, "condition "+kind, func() error {
		all, err := read()
		if err != nil {
			return err
		}
		cond := meta.FindStatusCondition(all, kind)
		if cond == nil || cond.Status != want || !strings.Contains(cond.Message, words) {
			return fmt.Errorf("it is %+v, want %s with %q", cond, want, words)
		}
		return nil
	}))
}

// testPolicies: NetworkPolicies count as enforced while the DaemonSet that enforces
// them is ready on every node, not because it exists.
func testPolicies(t *testing.T, s *api.Server, ns string) {
	t.Helper()
	ctx, c := t.Context(), s.Client
	conditions := func() ([]metav1.Condition, error) {
		cfg, err := c.Configs.Get(ctx, "default", metav1.GetOptions{})
		return cfg.Status.Conditions, err
	}
	_, err := s.Kubernetes(t).NetworkingV1().NetworkPolicies("default").Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, metav1.CreateOptions{})
	must(t, err)
	wantCondition(ctx, t, "PolicyEnforced", metav1.ConditionFalse, "default/p", conditions)
	labels := map[string]string{"app": "policy"}
	set, err := c.AppsV1().DaemonSets(ns).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "policy"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "policy", Image: "localhost/policy:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	for ready, want := range map[int32]metav1.ConditionStatus{1: metav1.ConditionFalse, 2: metav1.ConditionTrue} {
		// No controller of DaemonSets runs here: the status is the test's.
		set.Status.DesiredNumberScheduled, set.Status.NumberReady = 2, ready
		set, err = c.AppsV1().DaemonSets(ns).UpdateStatus(ctx, set, metav1.UpdateOptions{})
		must(t, err)
		words := map[int32]string{1: "ready on 1 of 2 nodes", 2: "enforced"}[ready]
		wantCondition(ctx, t, "PolicyEnforced", want, words, conditions)
	}
}

func testStatus(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	peer, err := c.Peers.Create(ctx, &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v1alpha1.BGPPeerSpec{Address: "192.0.2.254"}}, metav1.CreateOptions{})
	must(t, err)
	filter, err := c.Filters.Create(ctx, &v1alpha1.BGPFilter{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Spec: v1alpha1.BGPFilterSpec{Rules: []v1alpha1.FilterRule{{Action: "accept"}}}}, metav1.CreateOptions{})
	must(t, err)
	n1, err := c.Nodes.Get(ctx, "n1", metav1.GetOptions{})
	must(t, err)
	writeStatus(t, c, n1, v1alpha1.OnlinkNodeStatus{
		ConfigGeneration: 1, Sessions: v1alpha1.NodeSessions{Peers: []v1alpha1.NodeSession{{Name: "tor", Address: "192.0.2.254", State: "Established"}}},
		Rejected: []v1alpha1.RejectedObject{{Kind: "BGPFilter", Name: "f", Generation: filter.Generation, Reason: "rules[0]: bad"}},
		Blocks:   v1alpha1.NodeBlocks{Count: 1, Used: 7, Total: 64},
	})
	began := time.Now()
	wantCondition(ctx, t, "Accepted", metav1.ConditionFalse, "rules[0]: bad (node n1)", func() ([]metav1.Condition, error) {
		o, err := c.Filters.Get(ctx, "f", metav1.GetOptions{})
		return o.Status.Conditions, err
	})
	t.Logf("a rejection is in the status of its object after %v", time.Since(began).Round(time.Millisecond))
	wantCondition(ctx, t, "Accepted", metav1.ConditionTrue, "", func() ([]metav1.Condition, error) {
		o, err := c.Peers.Get(ctx, peer.Name, metav1.GetOptions{})
		if err == nil && (o.Status.Established != 1 || o.Status.Nodes != 2) {
			err = fmt.Errorf("status %+v", o.Status)
		}
		return o.Status.Conditions, err
	})
	must(t, lab.Eventually(ctx, soon, "counts", func() error {
		cfg, err := c.Configs.Get(ctx, "default", metav1.GetOptions{})
		if err != nil || cfg.Status.Agree != 1 || cfg.Status.Nodes != 1 {
			return fmt.Errorf("OnlinkConfig %+v: %w", cfg.Status, err)
		}
		p, err := c.Pools.Get(ctx, "default", metav1.GetOptions{})
		if err != nil || p.Status.Used != 7 || p.Status.Total != "65536" {
			return fmt.Errorf("IPPool %+v: %w", p.Status, err)
		}
		return nil
	}))
	// An edit is judged anew.
	filter.Spec.Rules[0].Action = "reject"
	filter, err = c.Filters.Get(ctx, "f", metav1.GetOptions{})
	must(t, err)
	filter.Spec.Rules[0].Action = "reject"
	_, err = c.Filters.Update(ctx, filter, metav1.UpdateOptions{})
	must(t, err)
	wantCondition(ctx, t, "Accepted", metav1.ConditionTrue, "", func() ([]metav1.Condition, error) {
		o, err := c.Filters.Get(ctx, "f", metav1.GetOptions{})
		return o.Status.Conditions, err
	})
}

func testAddresses(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	for name, spec := range map[string]v1alpha1.IPPoolSpec{
		"lb":  {CIDR: "192.0.2.0/28", Uses: []v1alpha1.PoolUse{v1alpha1.UseLoadBalancer}},
		"lb6": {CIDR: "2001:db8::/120", Uses: []v1alpha1.PoolUse{v1alpha1.UseLoadBalancer}},
	} {
		_, err := c.Pools.Create(ctx, &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
		must(t, err)
	}
	create := func(name string, edit func(*corev1.Service)) {
		t.Helper()
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}}
		s.Spec.Type, s.Spec.Ports = corev1.ServiceTypeLoadBalancer, []corev1.ServicePort{{Port: 80}}
		if edit != nil {
			edit(s)
		}
		_, err := c.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
		must(t, err)
	}
	want := func(name string, addrs ...string) {
		t.Helper()
		must(t, lab.Eventually(ctx, soon, "addresses of "+name, func() error {
			s, err := c.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			var have []string
			for _, i := range s.Status.LoadBalancer.Ingress {
				have = append(have, i.IP)
				if i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeVIP {
					return fmt.Errorf("%s has no mode VIP", i.IP)
				}
			}
			if !slices.Equal(have, addrs) {
				return fmt.Errorf("it has %v, want %v (%v)", have, addrs, s.Status.Conditions)
			}
			return nil
		}))
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	create("a", nil)
	want("a", "192.0.2.1") // n1 and n2 have .2 and .3
	create("b", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &dual })
	want("b", "192.0.2.4", "2001:db8::1")
	create("c", func(s *corev1.Service) { s.Annotations[v1alpha1.AddressesAnnotation] = "192.0.2.2" })
	wantCondition(ctx, t, "onlink.io/AddressesAssigned", metav1.ConditionFalse, "Node n1", func() ([]metav1.Condition, error) {
		s, err := c.CoreV1().Services("default").Get(ctx, "c", metav1.GetOptions{})
		return s.Status.Conditions, err
	})
	patch := `{"metadata":{"annotations":{"onlink.io/load-balancer-ips":"192.0.2.9"}}}`
	_, err := c.CoreV1().Services("default").Patch(ctx, "c", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	must(t, err)
	want("c", "192.0.2.9")
	class := "example.com/other"
	create("other", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class })
	create("d", nil)
	want("d", "192.0.2.5") // after which "other" had its turn too
	want("other")
	must(t, c.CoreV1().Services("default").Delete(ctx, "a", metav1.DeleteOptions{}))
	create("e", nil)
	want("e", "192.0.2.1")
	want("d", "192.0.2.5")
	t.Run("another leader", func(t *testing.T) {
		must(t, c.Pools.Delete(ctx, "lb", metav1.DeleteOptions{})) // a pool that vanishes takes nothing away
		want("d", "192.0.2.5")
		want("b", "192.0.2.4", "2001:db8::1")
	})
}

// TestControllerReplicas: of two replicas one works; when it ends the other goes on,
// with the addresses as they are.
func TestControllerReplicas(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	ctx, c := t.Context(), s.Client
	ns := namespaceFor(t, s)
	makeNode(ctx, t, c, "n1", "192.0.2.2")
	_, err := c.Pools.Create(ctx, &v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "lb"},
		Spec:       v1alpha1.IPPoolSpec{CIDR: "198.51.100.0/24", Uses: []v1alpha1.PoolUse{v1alpha1.UseLoadBalancer}},
	}, metav1.CreateOptions{})
	must(t, err)
	stops := map[string]func(){}
	for _, name := range []string{"a", "b"} {
		stops[name] = runController(t, c, ns, name)
	}
	holder := func() string {
		l, err := c.CoordinationV1().Leases(ns).Get(ctx, controller.LeaseName, metav1.GetOptions{})
		if err != nil || l.Spec.HolderIdentity == nil {
			return ""
		}
		return *l.Spec.HolderIdentity
	}
	address := func(name string) (found string) {
		t.Helper()
		must(t, lab.Eventually(ctx, soon, "an address of "+name, func() error {
			s, err := c.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil || len(s.Status.LoadBalancer.Ingress) != 1 {
				return fmt.Errorf("none: %w", err)
			}
			found = s.Status.LoadBalancer.Ingress[0].IP
			return nil
		}))
		return found
	}
	create := func(name string) {
		t.Helper()
		_, err := c.CoreV1().Services("default").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		must(t, err)
	}
	for i := range 5 {
		create(fmt.Sprintf("s%d", i))
	}
	before := map[string]string{}
	for i := range 5 {
		name := fmt.Sprintf("s%d", i)
		before[name] = address(name)
	}
	first := holder()
	stops[first]()
	create("late")
	late := address("late")
	if now := holder(); now == first || now == "" {
		t.Fatalf("%q leads after %q ended", now, first)
	}
	for name, had := range before {
		if has := address(name); has != had || has == late {
			t.Errorf("%s had %s and has %s after another replica took the lead; the new one has %s", name, had, has, late)
		}
	}
}
