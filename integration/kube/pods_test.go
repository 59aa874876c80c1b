package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// manyTime bounds the start, and the end, of many pods.
const manyTime = 4 * time.Minute

// many are the pods of one Deployment on one cluster.
type many struct {
	t       *testing.T
	c       *cluster.Cluster
	set     *kubernetes.Clientset
	count   int
	network *network // whose turn it is
}

// network is what connects pods: onlink, or another configuration, whose file is the
// first by name when it is there.
type network struct {
	name string
	// pods are the range of the addresses; invalid: the nodes' own, of pods in the network
	// of their node.
	pods netip.Prefix
	// file is below /etc/cni and holds the configuration; empty: onlink's is in force.
	file string

	up, gone []time.Duration
	add, del []time.Duration // the runtime's call of the network, per pod
	sandbox  []time.Duration // kubelet's call that starts a sandbox, of which the network is a part

	starts, ends []map[string]time.Duration // processor time by program
}

// TestManyPods starts many pods at once on both nodes, and ends them: all run, all
// addresses differ, and nothing is left in the kernels and the agents' databases. The
// long form takes turns with ptp and host-local on the same nodes, and compares; pods
// with an empty namespace and pods in their node's network show the floor.
func TestManyPods(t *testing.T) {
	ctx, c := startOnlink(t, cluster.Options{Name: "many"})
	set, err := c.Clientset()
	labtest.Must(t, err)
	onlink := &network{name: "onlink", pods: netip.MustParsePrefix("10.244.0.0/16")}
	m := &many{t: t, c: c, set: set, count: labtest.Times(20, 80), network: onlink}
	before := links(t, c)
	if !*labtest.Long {
		m.round(ctx)
		m.nothingLeft(ctx, before)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
	defer cancel()
	reference := &network{name: "ptp + host-local", pods: netip.MustParsePrefix("10.200.0.0/16"), file: "reference"}
	empty := &network{name: "an empty namespace", pods: netip.MustParsePrefix("10.201.0.0/16"), file: "empty"}
	without := &network{name: "no network", file: "reference"}
	m.installOthers(ctx)
	const rounds = 5
	networks := []*network{onlink, reference, empty, without}
	for range rounds {
		for _, n := range networks {
			m.change(ctx, n)
			m.round(ctx)
		}
	}
	m.change(ctx, onlink)
	m.nothingLeft(ctx, before)
	for _, part := range []struct {
		name string
		of   func(*network) []time.Duration
		most float64 // of onlink's to the reference's; 0: only shown
	}{
		{"all Running", func(n *network) []time.Duration { return n.up }, 0.9},
		{"all gone", func(n *network) []time.Duration { return n.gone }, 0.9},
		{"network, ADD of a pod", func(n *network) []time.Duration { return n.add }, 0},
		{"network, DEL of a pod", func(n *network) []time.Duration { return n.del }, 0},
		{"kubelet's start of a sandbox", func(n *network) []time.Duration { return n.sandbox }, 0},
	} {
		ratio := func(n *network) float64 { return float64(median(part.of(n))) / float64(median(part.of(reference))) }
		for _, n := range networks {
			t.Logf("%d pods, %s, %s: %s, %.2f of ptp + host-local %v", m.count, part.name, n.name, median(part.of(n)), ratio(n), part.of(n))
		}
		if part.most > 0 && ratio(onlink) > part.most {
			t.Errorf("%s: %.2f of ptp + host-local, want at most %.2f; pods with an empty namespace, the floor of every plugin, take %.2f", part.name, ratio(onlink), part.most, ratio(empty))
		}
	}
	for _, n := range networks {
		t.Logf("%s: processor time of a pod's start: %s", n.name, perPod(n.starts, m.count))
		t.Logf("%s: processor time of a pod's end: %s", n.name, perPod(n.ends, m.count))
	}
}

func median(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2].Round(100 * time.Microsecond)
}

// round starts all pods and ends them, and measures both.
func (m *many) round(ctx context.Context) {
	m.t.Helper()
	before, spent := m.meters(ctx), readProcessors(m.t)
	began := time.Now()
	pods := m.start(ctx, "many", m.count)
	up := time.Since(began)
	m.network.starts = append(m.network.starts, readProcessors(m.t).since(spent))
	seen := map[string]string{}
	for _, p := range pods {
		a, err := netip.ParseAddr(p.Status.PodIP)
		if !m.network.pods.IsValid() {
			continue
		}
		if err != nil || !m.network.pods.Contains(a) {
			m.t.Errorf("pod %s has the address %q (%v), want one of %s", p.Name, p.Status.PodIP, err, m.network.pods)
		}
		if other, twice := seen[p.Status.PodIP]; twice {
			m.t.Errorf("pods %s and %s have the address %s", p.Name, other, p.Status.PodIP)
		}
		seen[p.Status.PodIP] = p.Name
	}
	spent, began = readProcessors(m.t), time.Now()
	m.end(ctx, "many")
	gone := time.Since(began)
	m.network.ends = append(m.network.ends, readProcessors(m.t).since(spent))
	after := m.meters(ctx)
	n := m.network
	n.up, n.gone = append(n.up, up), append(n.gone, gone)
	n.add = append(n.add, after.add.since(before.add))
	n.del = append(n.del, after.del.since(before.del))
	n.sandbox = append(n.sandbox, after.sandbox.since(before.sandbox))
	if started := after.add.count - before.add.count; n.pods.IsValid() && started < float64(m.count) {
		m.t.Errorf("%s: containerd names %v calls of the network for %d pods", n.name, started, m.count)
	}
	last := len(n.up) - 1
	m.t.Logf("%s: %d pods Running after %s, gone after %s; per pod: network ADD %s, DEL %s, of the sandbox's start %s", n.name, m.count,
		up.Round(time.Millisecond), gone.Round(time.Millisecond), n.add[last], n.del[last], n.sandbox[last])
}

// start makes a Deployment and returns its pods when all are Running.
func (m *many) start(ctx context.Context, name string, count int) map[string]*corev1.Pod {
	m.t.Helper()
	labels := map[string]string{"app": name}
	replicas, no, grace := int32(count), false, int64(1)
	_, err := m.set.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork:                   !m.network.pods.IsValid(),
					TerminationGracePeriodSeconds: &grace, AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					Containers: []corev1.Container{{Name: "pause", Image: cluster.PauseImage, ImagePullPolicy: corev1.PullNever}},
				},
			},
		},
	}, metav1.CreateOptions{})
	labtest.Must(m.t, err)
	return m.watch(ctx, name, func(pods map[string]*corev1.Pod) bool {
		running := 0
		for _, p := range pods {
			if p.Status.Phase == corev1.PodRunning && p.Status.PodIP != "" {
				running++
			}
		}
		return running == count && len(pods) == count
	})
}

// end deletes a Deployment and returns when its pods are gone.
func (m *many) end(ctx context.Context, name string) {
	m.t.Helper()
	background := metav1.DeletePropagationBackground
	labtest.Must(m.t, m.set.AppsV1().Deployments("default").Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background}))
	m.watch(ctx, name, func(pods map[string]*corev1.Pod) bool { return len(pods) == 0 })
}

// watch watches the pods of a Deployment until done. It reads each change once, in
// protobuf: the test must not take the processors that it measures.
func (m *many) watch(ctx context.Context, name string, done func(map[string]*corev1.Pod) bool) map[string]*corev1.Pod {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, manyTime)
	defer cancel()
	var pods map[string]*corev1.Pod
	var err error
	for ctx.Err() == nil {
		var complete bool
		if pods, complete, err = m.follow(ctx, name, done); complete {
			return pods
		}
	}
	phases := map[corev1.PodPhase]int{}
	for _, p := range pods {
		phases[p.Status.Phase]++
	}
	m.t.Fatalf("%s: the pods of %s are %v after %s: %v", m.network.name, name, phases, manyTime, err)
	return nil
}

// follow is one list and one watch, which a busy API server may end.
func (m *many) follow(ctx context.Context, name string, done func(map[string]*corev1.Pod) bool) (pods map[string]*corev1.Pod, complete bool, err error) {
	api, pods := m.set.CoreV1().Pods("default"), map[string]*corev1.Pod{}
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return nil, false, err
	}
	for i := range list.Items {
		pods[list.Items[i].Name] = &list.Items[i]
	}
	if done(pods) {
		return pods, true, nil
	}
	w, err := api.Watch(ctx, metav1.ListOptions{LabelSelector: "app=" + name, ResourceVersion: list.ResourceVersion})
	if err != nil {
		return pods, false, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		p, ok := event.Object.(*corev1.Pod)
		switch {
		case !ok:
			return pods, false, fmt.Errorf("watch of pods: %s %v", event.Type, event.Object)
		case event.Type == watch.Deleted:
			delete(pods, p.Name)
		default:
			pods[p.Name] = p
		}
		if done(pods) {
			return pods, true, nil
		}
	}
	return pods, false, errors.New("the watch of pods ended")
}

// otherFile is the configuration of another network; its name is before onlink's.
const otherFile = "/etc/cni/net.d/00-other.conflist"

// installOthers puts the other plugins and, aside, their configurations onto the nodes.
func (m *many) installOthers(ctx context.Context) {
	m.t.Helper()
	empty := filepath.Join(m.c.Lab.Dir, "empty")
	if out, err := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", empty, "onlink/integration/kube/cmd/empty").CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	for i, n := range m.c.Nodes {
		for name, plugin := range map[string]map[string]any{
			"empty": {"type": "empty"},
			"reference": {"type": "ptp", "ipam": map[string]any{
				"type": "host-local", "ranges": []any{[]any{map[string]any{"subnet": fmt.Sprintf("10.200.%d.0/24", i+1)}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
			}},
		} {
			text, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": name, "plugins": []any{plugin}})
			labtest.Must(m.t, err)
			_, err = n.Exec(ctx, "sh", "-c", `printf %s "$1" > /etc/cni/"$2"`, "sh", string(text), name)
			labtest.Must(m.t, err)
		}
		// The plugin counts from here, so that two nodes do not give one address.
		_, err := n.Exec(ctx, "sh", "-c", fmt.Sprintf(`printf '\%03o\000' > /run/empty`, i<<6))
		labtest.Must(m.t, err)
		for _, plugin := range []string{filepath.Join(m.c.Options.Bin, "ptp"), filepath.Join(m.c.Options.Bin, "host-local"), empty} {
			_, err := n.Exec(ctx, "cp", plugin, "/opt/cni/bin/")
			labtest.Must(m.t, err)
		}
	}
}

// change makes a network the one that the runtimes of all nodes use. Containerd reads
// the folder when a file changes: a pod on each node shows that it has.
func (m *many) change(ctx context.Context, to *network) {
	m.t.Helper()
	for _, n := range m.c.Nodes {
		command := "rm -f " + otherFile
		if to.file != "" {
			command = "cp /etc/cni/" + to.file + " " + otherFile + ".new && mv " + otherFile + ".new " + otherFile
		}
		_, err := n.Exec(ctx, "sh", "-c", command)
		labtest.Must(m.t, err)
	}
	m.network = to
	labtest.Must(m.t, lab.Eventually(ctx, manyTime, "pods of "+to.name, func() error {
		var wrong error
		for _, p := range m.start(ctx, "probe", len(m.c.Nodes)) {
			if a, err := netip.ParseAddr(p.Status.PodIP); to.pods.IsValid() && (err != nil || !to.pods.Contains(a)) {
				wrong = fmt.Errorf("a pod has the address %s", p.Status.PodIP)
			}
		}
		m.end(ctx, "probe")
		return wrong
	}))
}

// nothingLeft checks that the kernels have the links and the agents the addresses of
// before.
func (m *many) nothingLeft(ctx context.Context, before []int) {
	m.t.Helper()
	labtest.Must(m.t, lab.Eventually(ctx, labtest.Patience, "links as before", func() error {
		if after := links(m.t, m.c); !slices.Equal(before, after) {
			return fmt.Errorf("before %v, after %v", before, after)
		}
		return nil
	}))
	for _, n := range m.c.Nodes {
		text, err := n.Exec(ctx, filepath.Join(labtest.Bin(), "onlinkctl"), "ipam", "show", "-o", "json")
		labtest.Must(m.t, err)
		var shown struct {
			Blocks, Assignments []json.RawMessage
		}
		labtest.Must(m.t, json.Unmarshal([]byte(text), &shown))
		if len(shown.Blocks) == 0 || len(shown.Assignments) > 0 {
			m.t.Errorf("%s has no pods; its agent has %d blocks and %d addresses: %s", n.Name, len(shown.Blocks), len(shown.Assignments), text)
		}
	}
}

// meter is a histogram's sum and count.
type meter struct {
	sum   float64 // seconds
	count float64
}

// since returns the mean of what came after another reading.
func (a meter) since(b meter) time.Duration {
	if a.count == b.count {
		return 0
	}
	return time.Duration((a.sum - b.sum) / (a.count - b.count) * float64(time.Second)).Round(100 * time.Microsecond)
}

// meters are what the runtime and kubelet say of their work, of all nodes together.
type meters struct {
	add, del meter // containerd's calls of the network
	sandbox  meter // kubelet's calls that start a sandbox
}

// metricLine is a sum or count of a histogram of operations.
var metricLine = regexp.MustCompile(`^(containerd_cri_network_plugin_operations_duration_seconds|kubelet_runtime_operations_duration_seconds)(?:_seconds)?_(sum|count)\{(.*)\} (\S+)$`)

// meters reads the metrics of containerd and kubelet on every node.
func (m *many) meters(ctx context.Context) (out meters) {
	m.t.Helper()
	for _, n := range m.c.Nodes {
		containerd, err := cluster.Get(ctx, n.NS, "http://"+cluster.ContainerdMetrics+"/v1/metrics")
		labtest.Must(m.t, err)
		kubelet, err := m.set.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", n.Name, "proxy/metrics").DoRaw(ctx)
		labtest.Must(m.t, err)
		for line := range strings.Lines(containerd + string(kubelet)) {
			f := metricLine.FindStringSubmatch(strings.TrimSpace(line))
			if f == nil {
				continue
			}
			value, err := strconv.ParseFloat(f[4], 64)
			labtest.Must(m.t, err)
			for label, to := range map[string]*meter{
				`operation_type="set_up_pod"`: &out.add, `operation_type="tear_down_pod"`: &out.del, `operation_type="run_podsandbox"`: &out.sandbox,
			} {
				if !strings.Contains(f[3], label) {
					continue
				}
				if f[2] == "sum" {
					to.sum += value
				} else {
					to.count += value
				}
			}
		}
	}
	if out.sandbox.count == 0 {
		m.t.Fatal("the metrics of kubelet name no started sandbox")
	}
	return out
}
