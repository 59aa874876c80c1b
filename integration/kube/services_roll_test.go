package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
)

// connectionRate is how many connections a second the client opens to the address that
// onlink announces; in the short form fewer, which leaves something of two CPUs to the
// cluster.
func connectionRate() int { return labtest.Times(100, 500) }

// besideRate is how many it opens to each address beside it: enough for a percentage,
// and few enough that the machine does not lose connections for lack of time.
const besideRate = 100

// rollTime bounds one rolling restart.
const rollTime = 2 * time.Minute

// rollManifest is a Deployment as users write it for a service without gaps: a pod
// that is to end serves on for some seconds, and one ends only after another is
// Ready. Two replicas on three nodes, never two on one: each restart moves pods, so
// that nodes lose their last endpoint, and gain their first. Its Services have the
// same pods behind them: one that onlink announces, and two that nodes have static
// routes for.
const rollManifest = `apiVersion: apps/v1
kind: Deployment
metadata: {name: roll}
spec:
  replicas: 2
  minReadySeconds: 2
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: roll}}
  template:
    metadata: {labels: {app: roll}}
    spec: {
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: roll}}}]}},
      containers: [{name: hello, image: "` + cluster.HelloImage + `", imagePullPolicy: Never,
        lifecycle: {preStop: {sleep: {seconds: 5}}},
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 5}}]}
`

// rollService is a Service in front of these pods.
func rollService(name, advertise, policy string, a netip.Addr) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %s, labels: {advertise: %s}, annotations: {%s: %s}}
spec: {type: LoadBalancer, externalTrafficPolicy: %s, ipFamilies: [IPv4], selector: {app: roll}, ports: [{port: 80, targetPort: %d}]}
`, name, advertise, v1alpha1.AddressesAnnotation, a, policy, cluster.HelloPort)
}

// rollingRestart restarts a Deployment behind a Service of policy Local while a
// client opens connections, 500 a second in the long form. No one may be refused or
// end unanswered, but for those that are open at the moment when a router changes its
// next hops: their packets then come to another node. Beside it, the same load on the
// same pods without onlink: with static routes to all nodes, once with policy Cluster
// (what kube-proxy itself loses) and once with Local (what routes that are not
// withdrawn lose).
func (s *services) rollingRestart(ctx context.Context) {
	t := s.t
	base := ranges["two"][0].Addr().As4()
	address := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{base[0], base[1], base[2], base[3] + n}) }
	type target struct {
		name, advertise, policy string
		addr                    netip.Addr
	}
	announced := target{"roll", "two", "Local", address(100)}
	beside := []target{
		{"roll-cluster", "by-hand", "Cluster", address(101)},
		{"roll-static", "by-hand", "Local", address(102)},
	}
	objects := []string{rollManifest}
	for _, one := range append([]target{announced}, beside...) {
		objects = append(objects, rollService(one.name, one.advertise, one.policy, one.addr))
	}
	labtest.Must(t, s.c.Apply(ctx, strings.Join(objects, "")))
	for _, one := range beside {
		var ways []lab.Gateway
		for _, n := range s.c.Nodes {
			ways = append(ways, lab.Gateway{Via: n.Addr})
		}
		for _, r := range s.routers {
			labtest.Must(t, r.ToR.NS.SetRoute(netip.PrefixFrom(one.addr, 32), ways...))
		}
	}
	_, err := s.c.WaitPods(ctx, "default", "app=roll", 2, podTime)
	labtest.Must(t, err)
	for _, one := range append([]target{announced}, beside...) {
		_, err := cluster.WaitAnswer(ctx, s.c.Client.NS, cluster.At(one.addr, 80))
		labtest.Must(t, err)
	}

	var watches []*moves
	for _, r := range s.routers {
		w, err := watchMoves(r.ToR.NS, r.ToR.Name, netip.PrefixFrom(announced.addr, 32))
		labtest.Must(t, err)
		watches = append(watches, w)
	}
	began := time.Now()
	ours := startLoad(ctx, "announced by onlink, policy Local", s.c.Client.NS, netip.AddrPortFrom(announced.addr, 80), connectionRate())
	var others []*load
	for _, one := range beside {
		others = append(others, startLoad(ctx, "static routes, policy "+one.policy, s.c.Client.NS, netip.AddrPortFrom(one.addr, 80), besideRate))
	}
	rolls := labtest.Times(1, 4)
	for range rolls {
		s.roll(ctx)
	}
	took := time.Since(began)
	labtest.Must(t, ours.end())
	for _, l := range others {
		labtest.Must(t, l.end())
	}
	var seen []move
	for _, w := range watches {
		seen = append(seen, w.end()...)
	}
	slices.SortFunc(seen, func(a, b move) int { return a.at.Compare(b.at) })
	t.Logf("%d rolling restarts in %s, %d changes of next hops", rolls, took.Round(100*time.Millisecond), len(seen))
	for _, m := range seen {
		t.Logf("%6.2fs %s", m.at.Sub(began).Seconds(), m.text)
	}
	for _, l := range append([]*load{ours}, others...) {
		t.Log(l)
		for _, text := range l.lost(began) {
			t.Logf("%s: %s", l.name, text)
		}
	}
	s.judge(ours, others[0], seen, began, took)
}

// roll is one rolling restart, to the end of the last former pod.
func (s *services) roll(ctx context.Context) {
	s.t.Helper()
	for _, args := range [][]string{
		{"rollout", "restart", "deployment/roll"},
		{"rollout", "status", "deployment/roll", "--timeout", rollTime.String()},
	} {
		_, err := s.c.Kubectl(ctx, args...)
		labtest.Must(s.t, err)
	}
	_, err := s.c.WaitPods(ctx, "default", "app=roll", 2, rollTime)
	labtest.Must(s.t, err)
}

// judge fails the test for every connection that onlink's announcements lost. Where
// the machine is so busy that connections time out by static routes and policy Cluster
// too, which change with nothing, time-outs are the machine's.
func (s *services) judge(l, still *load, seen []move, began time.Time, took time.Duration) {
	t := s.t
	t.Helper()
	const most = 20 // errors that are shown
	if want := int(took.Seconds() * float64(connectionRate()) * .9); len(l.calls) < want {
		t.Errorf("%d connections were opened in %s, want %d: the machine is too slow to measure", len(l.calls), took, want)
	}
	if len(seen) < 2*len(s.routers) {
		t.Errorf("the routers changed next hops %d times: nothing was tried", len(seen))
	}
	busy := still.count(timedOut) > 0
	lost, late, moved := 0, 0, 0
	for _, c := range l.calls {
		switch {
		case c.err == nil:
		case c.is(reset) && c.moved(seen), c.struck(seen):
			moved++
		case c.is(timedOut) && busy:
			late++
		default:
			if lost++; lost <= most {
				t.Error(c.text(began))
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d connections were lost", lost)
	}
	if late > 0 {
		t.Logf("%d connections timed out on a machine where others do too", late)
	}
	t.Logf("%d connections were reset or got no answer that were open when a router changed next hops", moved)
	pods := map[string]int{}
	for _, c := range l.calls {
		if c.pod != "" {
			pods[c.pod]++
		}
	}
	var names []string
	for name, n := range pods {
		names = append(names, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(names)
	t.Logf("answers: %s", strings.Join(names, ", "))
}
