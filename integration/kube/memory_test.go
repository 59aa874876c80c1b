package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// mostMemory is what onlink-kube node may hold of memory, in kB: what a thousand nodes have
// a thousand times.
const mostMemory = 30_000

// TestNodeMemory runs onlink-kube node as the process that it is, and holds its
// resident memory to the bound: idle, and with 500 Services that it announces.
func TestNodeMemory(t *testing.T) {
	b := newBed(t, 1)
	b.configure(t)
	n := b.nodes[0]
	must(t, n.init(t.Context(), t))
	n.startAgent(t)
	p := startNode(t, n)
	n.wait(t, "OnlinkNode is Ready", func(s *v1alpha1.OnlinkNodeStatus) error {
		return condition(s, v1alpha1.ConditionReady, metav1.ConditionTrue)
	})
	staysWithin(t, p, "idle")

	const services = 500
	b.addServices(t, services)
	eventually(t, "announcements", func() error {
		r, err := n.admin.ListAnnouncements(t.Context(), &onlinkv1.ListAnnouncementsRequest{})
		if err != nil {
			return err
		}
		count := 0
		for _, s := range r.GetSets() {
			count += len(s.GetAnnouncements())
		}
		if count != services {
			return fmt.Errorf("%d, want %d", count, services)
		}
		return nil
	})
	staysWithin(t, p, fmt.Sprintf("%d Services", services))
}

// startNode starts onlink-kube node beside the agent until the test ends.
func startNode(t *testing.T, n *bedNode) *exec.Cmd {
	t.Helper()
	cfg := n.bed.Config
	file := filepath.Join(n.dir, "kubeconfig")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: k, context: {cluster: k, user: u}}]
current-context: k
`, cfg.Host, cfg.BearerToken), 0o600))
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p := exec.CommandContext(ctx, filepath.Join(labtest.Bin(), "onlink-kube"), "node", "--node-name", n.Name, "--kubeconfig", file,
		"--namespace", namespace, "--admin-socket", filepath.Join(n.dir, "run", "admin.sock"),
		"--registry-socket", filepath.Join(n.dir, "kube", "registry.sock"), "--certificates", filepath.Join(n.dir, "kube"), "--health", "")
	p.Stdout, p.Stderr = &out, &out
	must(t, p.Start())
	t.Cleanup(func() {
		cancel()
		_ = p.Wait() // it is killed
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return p
}

// staysWithin waits until the memory of a process is within the bound: what a rendering
// takes for a moment is given back within seconds.
func staysWithin(t *testing.T, p *exec.Cmd, when string) {
	t.Helper()
	var last string
	err := lab.Eventually(t.Context(), patience, "memory of onlink-kube node, "+when, func() error {
		kB, text, err := memory(p.Process.Pid)
		last = text
		if err == nil && kB > mostMemory {
			err = fmt.Errorf("it holds %s, want at most %d kB", text, mostMemory)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%s: %s", when, last)
}

// memory returns the resident memory of a process, and its parts.
func memory(pid int) (kB int, text string, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, "", err
	}
	var parts []string
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.HasPrefix(f[0], "VmRSS") && !strings.HasPrefix(f[0], "Rss") {
			continue
		}
		parts = append(parts, strings.Join(f, " "))
		if f[0] == "VmRSS:" {
			if kB, err = strconv.Atoi(f[1]); err != nil {
				return 0, "", err
			}
		}
	}
	if kB == 0 {
		return 0, "", errors.New("the process has ended")
	}
	return kB, strings.Join(parts, ", "), nil
}

// addServices makes Services of type LoadBalancer with an address and an endpoint
// each, which every node announces.
func (b *bed) addServices(t *testing.T, count int) {
	t.Helper()
	services, slices := b.Client.CoreV1().Services(metav1.NamespaceDefault), b.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	for i := range count {
		name := fmt.Sprintf("s%03d", i)
		s, err := services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name, "team": "test"}},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80}},
			},
		}, metav1.CreateOptions{})
		must(t, err)
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("192.0.2.%d", i%250)}}
		if i >= 250 {
			s.Status.LoadBalancer.Ingress[0].IP = fmt.Sprintf("198.51.100.%d", i-250)
		}
		_, err = services.UpdateStatus(t.Context(), s, metav1.UpdateOptions{})
		must(t, err)
		ready, port := true, int32(8080)
		_, err = slices.Create(t.Context(), &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{fmt.Sprintf("10.244.%d.%d", 100+i/250, 1+i%250)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			}},
		}, metav1.CreateOptions{})
		must(t, err)
	}
	_, err := b.Client.Advertisements.Create(t.Context(), &v1alpha1.ServiceAdvertisement{
		ObjectMeta: metav1.ObjectMeta{Name: "all"},
		Spec:       v1alpha1.ServiceAdvertisementSpec{Addresses: []v1alpha1.ServiceAddress{v1alpha1.AddressLoadBalancer}},
	}, metav1.CreateOptions{})
	must(t, err)
}
