package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
)

// matrix is the pods and Services of the table, and their state.
type matrix struct {
	*services

	t    *testing.T
	list []*service
	pods map[string]podState // by node
	// excluded nodes have the label node.kubernetes.io/exclude-from-external-load-balancers.
	excluded map[string]bool
}

// podState is the state of the one pod of a node.
type podState int

const (
	absent podState = iota
	unready
	ready
	terminating // and serving
)

// service is a Service, and what the table says of it.
type service struct {
	kind, form string
	spec       string // more fields, as YAML flow
	local      bool   // by the policy that decides
	bare       bool   // announced without endpoints
	never      string // it is not announced, and the reason has this word; "": it may be
	grouped    bool   // its advertisement has an aggregate
	port       int
	addrs      []netip.Addr // IPv4, IPv6
	gone       bool         // it is deleted
}

func (s *service) name() string { return s.kind + "-" + s.form }

// deleted are the seconds in which a pod that is deleted serves on.
const deleted = 300

func newMatrix(t *testing.T, s *services) *matrix {
	t.Helper()
	m := &matrix{services: s, t: t, pods: map[string]podState{}, excluded: map[string]bool{}}
	for _, form := range forms {
		add := func(number int, one service) {
			one.form = form
			from := ranges[form]
			if one.kind == "inner" {
				from = innerRanges[form]
			}
			for _, p := range from {
				a := p.Addr()
				for range number {
					a = a.Next()
				}
				one.addrs = append(one.addrs, a)
			}
			if one.port == 0 {
				one.port = 80
			}
			m.list = append(m.list, &one)
		}
		const local = "externalTrafficPolicy: Local"
		add(1, service{kind: "local", local: true, spec: local})
		add(2, service{kind: "any"})
		add(3, service{kind: "bare", bare: true})
		add(4, service{kind: "class", local: true, spec: local + ", loadBalancerClass: example.com/other", never: "loadBalancerClass"})
		add(5, service{kind: "proxy", local: true, spec: local, never: "ipMode"})
		add(6, service{kind: "share-a", local: true, spec: local})
		add(6, service{kind: "share-b", local: true, spec: local, port: 81})
		add(7, service{kind: "external", local: true, spec: local})
		add(8, service{kind: "inner", local: true, spec: "internalTrafficPolicy: Local"})
		add(65, service{kind: "group", grouped: true})
		add(66, service{kind: "group-local", local: true, spec: local, grouped: true})
	}
	return m
}

// manifest is the Service as YAML.
func (s *service) manifest() string {
	text := make([]string, len(s.addrs))
	for i, a := range s.addrs {
		text[i] = fmt.Sprintf("%q", a)
	}
	list := strings.Join(text, ", ")
	advertise, kind, spec := s.form, "LoadBalancer", s.spec
	annotations := map[string]string{}
	switch s.kind {
	case "external":
		kind, spec = "ClusterIP", spec+", externalIPs: ["+list+"]"
	case "inner":
		kind, spec, advertise = "ClusterIP", spec+", clusterIP: "+text[0]+", clusterIPs: ["+list+"]", s.form+"-inner"
	default:
		annotations[v1alpha1.AddressesAnnotation] = strings.Trim(fmt.Sprint(s.addrs), "[]")
	}
	switch {
	case s.bare:
		advertise += "-bare"
	case s.grouped:
		advertise += "-group"
	case strings.HasPrefix(s.kind, "share"):
		annotations[v1alpha1.SharingAnnotation] = "together"
	}
	var notes strings.Builder
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		fmt.Fprintf(&notes, "%s: %q, ", key, annotations[key])
	}
	if spec != "" {
		spec = ", " + strings.TrimPrefix(spec, ", ")
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %s, labels: {advertise: %s}, annotations: {%s}}
spec: {type: %s, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6], selector: {app: matrix}, ports: [{name: http, port: %d, targetPort: %d}]%s}
`, s.name(), advertise, notes.String(), kind, s.port, cluster.HelloPort, spec)
}

// podName is the name of the pod on a node, which answers with it.
func podName(node string) string { return "pod-" + node }

// pod is a pod that is Ready once the test says so, and that serves on for a
// while when it is deleted.
func pod(node string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: matrix}}
spec: {
  nodeName: %s, terminationGracePeriodSeconds: %d, readinessGates: [{conditionType: example.com/open}],
  containers: [{name: hello, image: %q, imagePullPolicy: Never, lifecycle: {preStop: {sleep: {seconds: %d}}}}]}
`, podName(node), node, deleted+10, cluster.HelloImage, deleted)
}

func (m *matrix) run(ctx context.Context) {
	t, nodes := m.t, m.c.Nodes
	first, second := nodes[0].Name, nodes[1].Name
	var text strings.Builder
	for _, s := range m.list {
		text.WriteString(s.manifest())
	}
	labtest.Must(t, m.c.Apply(ctx, text.String()))
	m.foreign(ctx)
	if !m.step(ctx, "no pod", func() {}) {
		return // sessions or assignment: nothing further can work
	}
	m.refused(ctx)
	m.reasons(ctx)

	m.step(ctx, "one pod is Ready, one is not", func() {
		labtest.Must(t, m.c.Apply(ctx, pod(first)+pod(second)))
		m.pods[first], m.pods[second] = ready, unready
		m.open(ctx, first, true)
	})
	m.step(ctx, "both are Ready", func() {
		m.pods[second] = ready
		m.open(ctx, second, true)
	})
	m.step(ctx, "a node is excluded", func() {
		m.exclude(ctx, second, true)
	})
	m.step(ctx, "it is no longer excluded", func() {
		m.exclude(ctx, second, false)
	})
	m.step(ctx, "one of two that share an address is deleted", func() { m.remove(ctx, "share-a") })
	m.step(ctx, "the other one is deleted too", func() { m.remove(ctx, "share-b") })
	m.step(ctx, "one pod terminates and serves", func() {
		m.pods[first] = terminating
		m.terminate(ctx, first, nil)
	})
	m.step(ctx, "both terminate and serve", func() {
		m.pods[second] = terminating
		m.terminate(ctx, second, nil)
	})
	m.step(ctx, "no pod is left", func() {
		for _, node := range []string{first, second} {
			m.pods[node] = absent
			m.terminate(ctx, node, new(int64(0)))
		}
	})
	m.refused(ctx)
}

// step makes a change, waits until the routers have exactly what the table says,
// and requests every address from outside.
func (m *matrix) step(ctx context.Context, name string, change func()) bool {
	return m.t.Run(name, func(t *testing.T) {
		outer := m.t
		m.t = t
		defer func() { m.t = outer }()
		change()
		began := time.Now()
		prefixes := 0
		for i, r := range m.routers {
			want := m.want(i)
			prefixes += len(want)
			labtest.Must(t, lab.Eventually(ctx, announceTime, "routes of "+r.ToR.Name, func() error { return holds(r, want) }))
		}
		t.Logf("the routers have %d prefixes, %s after the change", prefixes, time.Since(began).Round(10*time.Millisecond))
		for _, s := range m.list {
			m.request(ctx, s)
		}
	})
}

// want is what a router has to have: prefixes, each with the nodes, LOCAL_PREF and
// communities.
func (m *matrix) want(router int) map[string][]string {
	want := map[string][]string{}
	add := func(prefix, path string) {
		if !slices.Contains(want[prefix], path) {
			want[prefix] = append(want[prefix], path)
			slices.Sort(want[prefix])
		}
	}
	for _, s := range m.list {
		if s.form == "one" && router == 1 || s.never != "" || s.gone {
			continue
		}
		for _, n := range m.c.Nodes {
			// The second router's BGPPeer has includeExcludedNodes.
			if m.excluded[n.Name] && router == 0 {
				continue
			}
			best := m.best(s, n.Name)
			for _, a := range s.addrs {
				switch {
				case best == ready && s.grouped && !s.local:
					bits := 29
					if a.Is6() {
						bits = 125
					}
					add(netip.PrefixFrom(a, bits).Masked().String(), n.Name+" 100")
				case best == ready:
					add(netip.PrefixFrom(a, a.BitLen()).String(), n.Name+" 100")
				case best == terminating:
					add(netip.PrefixFrom(a, a.BitLen()).String(), n.Name+" 0 (65535,0)")
				}
			}
		}
	}
	return want
}

// best is the state of the best endpoint that counts for a Service on a node.
func (m *matrix) best(s *service, node string) podState {
	if s.local {
		return m.pods[node]
	}
	states := slices.Collect(maps.Values(m.pods))
	switch {
	case slices.Contains(states, ready), s.bare && !slices.Contains(states, terminating):
		return ready
	case slices.Contains(states, terminating):
		return terminating
	}
	return absent
}

// holds compares what a router has.
func holds(r *cluster.Router, want map[string][]string) error {
	routes, err := r.Routes()
	if err != nil {
		return err
	}
	got := map[string][]string{}
	for p, paths := range routes {
		for _, path := range paths {
			got[p.String()] = append(got[p.String()], path.String())
		}
		slices.Sort(got[p.String()])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("(-want +got):\n%s", diff)
	}
	return nil
}

// answering are the pods that may answer requests to a Service, and those of them
// that have to; none: there is no route, or no endpoint behind it.
func (m *matrix) answering(s *service) (may, have []string) {
	if s.never != "" || s.gone {
		return nil, nil
	}
	for _, state := range []podState{ready, terminating} {
		for node, is := range m.pods {
			if is != state || m.excluded[node] && s.local && s.form == "one" {
				continue
			}
			may = append(may, podName(node))
			// An excluded node has the second router alone, by which flows of IPv6
			// need not come: this client's kernel chooses before it chooses the port.
			if !m.excluded[node] || !s.local {
				have = append(have, podName(node))
			}
		}
		if len(may) > 0 {
			return may, have
		}
	}
	return nil, nil
}

// request requests a Service from outside, until every pod that has to answer did,
// and then a few times more: no other one may answer any longer. Kube-proxy of another
// node may be a second behind.
func (m *matrix) request(ctx context.Context, s *service) {
	m.t.Helper()
	pods, have := m.answering(s)
	if len(pods) == 0 {
		return
	}
	for _, a := range s.addrs {
		missing, row := slices.Clone(have), 0
		ask := func() error {
			text, err := cluster.Get(ctx, m.c.Client.NS, cluster.At(a, s.port))
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(text, "hello from "), " ")
			if !slices.Contains(pods, name) {
				return fmt.Errorf("pod %s answers, want of %v", name, pods)
			}
			missing = slices.DeleteFunc(missing, func(p string) bool { return p == name })
			from, err := cluster.Source(text)
			if err == nil && s.local && s.kind != "inner" && from != m.c.Client.Addr && from != m.c.Client.Addr6 {
				err = fmt.Errorf("the pod saw %s, want the client's address", from)
			}
			return err
		}
		err := lab.Eventually(ctx, announceTime, s.name()+" at "+a.String(), func() error {
			for ; row < inRow || len(missing) > 0; row++ {
				if err := ask(); err != nil {
					row = 0
					return err
				}
				if row > most {
					return fmt.Errorf("%d answers, and none of %v", row, missing)
				}
			}
			return nil
		})
		if err != nil {
			m.t.Error(err)
		}
	}
}

// inRow is how many requests in a row the right pods have to answer, and most how many
// may be answered without one of those that have to.
const inRow, most = 4, 100

// refused checks what kube-proxy does with requests to what is announced without an
// endpoint: it refuses them, so that a client need not wait.
func (m *matrix) refused(ctx context.Context) {
	m.t.Helper()
	for _, s := range m.list {
		if !s.bare {
			continue
		}
		for _, a := range s.addrs {
			err := lab.Eventually(ctx, announceTime, "refusal of "+a.String(), func() error {
				text, err := cluster.Get(ctx, m.c.Client.NS, cluster.At(a, s.port))
				if !errors.Is(err, unix.ECONNREFUSED) {
					return fmt.Errorf("got %q and the error %w, want a refusal", text, err)
				}
				return nil
			})
			if err != nil {
				m.t.Error(err)
			}
		}
	}
}

// foreign gives Services the addresses that other controllers give them, and makes
// one a proxy's.
func (m *matrix) foreign(ctx context.Context) {
	m.t.Helper()
	for _, s := range m.list {
		if s.never == "" {
			continue
		}
		var mode *corev1.LoadBalancerIPMode
		if s.kind == "proxy" {
			mode = new(corev1.LoadBalancerIPModeProxy)
			labtest.Must(m.t, cluster.WaitFor(ctx, m.c, cluster.Objects{Resource: cluster.ServiceObjects, Namespace: "default", Name: s.name()}, announceTime,
				func(list []corev1.Service) error {
					if len(list) != 1 || len(list[0].Status.LoadBalancer.Ingress) != len(s.addrs) {
						return errors.New("it has no addresses")
					}
					return nil
				}))
		}
		client := m.api.CoreV1().Services("default")
		labtest.Must(m.t, lab.Eventually(ctx, announceTime, "status of "+s.name(), func() error {
			o, err := client.Get(ctx, s.name(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			o.Status.LoadBalancer.Ingress = nil
			for _, a := range s.addrs {
				o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: mode})
			}
			_, err = client.UpdateStatus(ctx, o, metav1.UpdateOptions{})
			return err
		}))
	}
}

// reasons checks that every node's status says why it announces no address of what
// belongs to others.
func (m *matrix) reasons(ctx context.Context) {
	m.t.Helper()
	nodes := v1alpha1.GroupVersion.WithResource("onlinknodes")
	labtest.Must(m.t, cluster.WaitFor(ctx, m.c, cluster.Objects{Resource: nodes}, announceTime, func(list []v1alpha1.OnlinkNode) error {
		for _, n := range list {
			for _, s := range m.list {
				if err := explained(n.Status.Services, s); err != nil {
					return fmt.Errorf("%s: %w", n.Name, err)
				}
			}
		}
		return nil
	}))
}

func explained(status []v1alpha1.NodeService, s *service) error {
	if s.never == "" {
		return nil
	}
	for _, a := range s.addrs {
		if !slices.ContainsFunc(status, func(one v1alpha1.NodeService) bool {
			return one.Service == "default/"+s.name() && one.Address == a.String() && one.State == "not-announced" && strings.Contains(one.Why, s.never)
		}) {
			return fmt.Errorf("no reason with %q for %s of %s: %v", s.never, a, s.name(), status)
		}
	}
	return nil
}

// open opens or closes a pod's readiness gate.
func (m *matrix) open(ctx context.Context, node string, yes bool) {
	m.t.Helper()
	status := map[bool]string{true: "True", false: "False"}[yes]
	_, err := m.api.CoreV1().Pods("default").Patch(ctx, podName(node), types.StrategicMergePatchType,
		fmt.Appendf(nil, `{"status":{"conditions":[{"type":"example.com/open","status":%q}]}}`, status), metav1.PatchOptions{}, "status")
	labtest.Must(m.t, err)
}

// terminate deletes a pod; nil: with the time to serve on that it has.
func (m *matrix) terminate(ctx context.Context, node string, seconds *int64) {
	m.t.Helper()
	labtest.Must(m.t, m.api.CoreV1().Pods("default").Delete(ctx, podName(node), metav1.DeleteOptions{GracePeriodSeconds: seconds}))
}

// exclude sets or removes the label that excludes a node from load balancers.
func (m *matrix) exclude(ctx context.Context, node string, yes bool) {
	m.t.Helper()
	m.excluded[node] = yes
	value := "null"
	if yes {
		value = `""`
	}
	_, err := m.api.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, corev1.LabelNodeExcludeBalancers, value), metav1.PatchOptions{})
	labtest.Must(m.t, err)
}

// remove deletes the Services of a kind.
func (m *matrix) remove(ctx context.Context, kind string) {
	m.t.Helper()
	for _, s := range m.list {
		if s.kind == kind {
			labtest.Must(m.t, m.api.CoreV1().Services("default").Delete(ctx, s.name(), metav1.DeleteOptions{}))
			s.gone = true
		}
	}
}
