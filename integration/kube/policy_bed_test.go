package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"onlink/integration/kube/api"
	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// policyName is that of the service account, the roles and the DaemonSet of what
// enforces NetworkPolicies.
const policyName = "onlink-policy"

// apiAddress is where the enforcers reach the API server, inside each node.
const apiAddress = "127.0.0.1:6443"

// The places of a client, as seen from the server: each takes another way through
// the kernel.
const (
	onNode    = "on the node"
	inRack    = "in the rack"
	otherRack = "in another rack"
)

// nodeOf names the node of each place; the server is on the first one.
var nodeOf = map[string]string{onNode: "r1n1", inRack: "r1n2", otherRack: "r2n1"}

// policyBed is two racks with agents, pods of both families, an API server that has
// the pods' objects, and kube-network-policies on the nodes. There is no kubelet: the
// test makes namespaces and pods, and writes the status of the latter.
type policyBed struct {
	*api.Server

	set       kubernetes.Interface
	lab       *lab.Lab
	daemon    *appsv1.DaemonSet
	web       *lab.Pod
	pods      map[string]map[string]*lab.Pod // by role and place
	enforcers []*enforcer
}

// newPolicyBed makes all of it; the enforcers do not run yet.
func newPolicyBed(t *testing.T) *policyBed {
	t.Helper()
	manifest := os.Getenv(cluster.PolicyVariable)
	if manifest == "" {
		t.Skip("make test-policy runs it: $" + cluster.PolicyVariable + " names no manifest")
	}
	labtest.NeedIPIP(t)
	began := time.Now()
	say := func(what string) { t.Logf("%s after %s", what, time.Since(began).Round(time.Second)) }
	b := &policyBed{Server: api.Attach(t, os.Getenv(cluster.AccessVariable)), pods: map[string]map[string]*lab.Pod{}}
	b.set = b.Kubernetes(t)
	_, b.lab = labtest.Build(t, lab.Spec{Name: "policy", DualStack: true, Reflectors: -1, Pool: lab.Pool{CIDR6: labtest.Pool6}})
	ctx := t.Context()
	labtest.StartAll(ctx, t, b.lab)
	say("the agents have all routes")
	applyObjects(ctx, t, b.Server, manifest, func(name string) bool { return name == policyName || name == onlinkSpace })
	b.daemon = policyDaemon(t, manifest)
	b.addNamespace(t, "shop", nil)
	b.addNamespace(t, "office", map[string]string{"team": "office"})
	b.web = b.addPod(t, nodeOf[onNode], "shop", "web", map[string]string{"app": "web"})
	for role, of := range roles {
		b.pods[role] = map[string]*lab.Pod{}
		for place, node := range nodeOf {
			b.pods[role][place] = b.addPod(t, node, of.namespace, role, of.labels)
		}
	}
	must(t, b.lab.WaitConverged(ctx))
	say("pods are connected")
	b.serve(t)
	for _, place := range []string{onNode, inRack, otherRack} {
		b.enforcers = append(b.enforcers, b.newEnforcer(t, b.lab.Node(nodeOf[place])))
	}
	return b
}

// roles are the kinds of clients, with a pod in every place. A friend and a clerk
// differ in the namespace alone, a friend and a guest in the label.
var roles = map[string]struct {
	namespace string
	labels    map[string]string
}{
	"friend": {"shop", map[string]string{"role": "friend"}},
	"guest":  {"shop", map[string]string{"role": "guest"}},
	"clerk":  {"office", map[string]string{"role": "friend"}},
}

// host is the role of a process of the node itself, which is in no pod.
const host = "host"

// policyDaemon reads the DaemonSet of a manifest.
func policyDaemon(t *testing.T, manifest string) *appsv1.DaemonSet {
	t.Helper()
	text, err := os.ReadFile(manifest)
	must(t, err)
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var d appsv1.DaemonSet
		if bytes.Contains(doc, []byte("\nkind: DaemonSet\n")) {
			must(t, yaml.UnmarshalStrict(doc, &d))
		}
		if d.Name == policyName {
			return &d
		}
	}
	t.Fatalf("%s has no DaemonSet %s", manifest, policyName)
	return nil
}

// addNamespace makes a namespace with the service account that pods need.
func (b *policyBed) addNamespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	_, err := b.set.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	must(t, err)
	_, err = b.set.CoreV1().ServiceAccounts(name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	must(t, err)
}

// addPod connects a pod, and makes its object as the scheduler and kubelet do.
func (b *policyBed) addPod(t *testing.T, node, namespace, name string, labels map[string]string) *lab.Pod {
	t.Helper()
	n := b.lab.Node(node)
	p, err := n.AddPod(t.Context(), name)
	must(t, err)
	pods := b.set.CoreV1().Pods(namespace)
	o, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-" + node, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: node, AutomountServiceAccountToken: new(bool),
			Containers: []corev1.Container{{Name: name, Image: "localhost/" + name + ":1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	o.Status.Phase, o.Status.HostIP = corev1.PodRunning, n.Addr.String()
	o.Status.HostIPs = []corev1.HostIP{{IP: n.Addr.String()}, {IP: n.Addr6.String()}}
	o.Status.PodIP = p.Addr().String()
	for _, a := range p.Addrs {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	_, err = pods.UpdateStatus(t.Context(), o, metav1.UpdateOptions{})
	must(t, err)
	return p
}

// serve answers in the pod web, on each node and on each ToR: TCP ports 80 and 81, and
// UDP ports 53, which kube-network-policies judges in another hook than others, and 54.
func (b *policyBed) serve(t *testing.T) {
	t.Helper()
	places := []*lab.NS{b.web.NS}
	for _, n := range b.lab.Nodes() {
		places = append(places, n.NS)
	}
	for _, tor := range b.lab.ToRs() {
		places = append(places, tor.NS)
	}
	for _, ns := range places {
		for _, port := range []string{"80", "81"} {
			answerTCP(t, ns, port)
		}
		for _, port := range []string{"53", "54"} {
			answerUDP(t, ns, port)
		}
	}
}

// answerTCP sends back what arrives on a port, until the test ends.
func answerTCP(t *testing.T, ns *lab.NS, port string) {
	t.Helper()
	var lis net.Listener
	must(t, ns.Do(func() (err error) { lis, err = net.Listen("tcp", ":"+port); return err }))
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // until the client, or the policy, ends it
				_ = c.Close()
			}()
		}
	}()
}

// answerUDP sends back each datagram that arrives on a port, until the test ends.
func answerUDP(t *testing.T, ns *lab.NS, port string) {
	t.Helper()
	var c net.PacketConn
	must(t, ns.Do(func() (err error) { c, err = net.ListenPacket("udp", ":"+port); return err }))
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buf[:n], from)
		}
	}()
}

// forward leads connections to an address in a namespace to one of this process's,
// until the test ends: what a load balancer on the node does for the API server.
func forward(t *testing.T, ns *lab.NS, at, to string) {
	t.Helper()
	var lis net.Listener
	must(t, ns.Do(func() (err error) { lis, err = net.Listen("tcp", at); return err }))
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			near, err := lis.Accept()
			if err != nil {
				return
			}
			go relay(near, to)
		}
	}()
}

// relay copies both ways until one of the ends closes.
func relay(near net.Conn, to string) {
	far, err := net.Dial("tcp", to)
	if err != nil {
		_ = near.Close() // the client tries again
		return
	}
	var once sync.Once
	end := func() { once.Do(func() { _ = errors.Join(near.Close(), far.Close()) }) }
	defer end()
	go func() {
		defer end()
		_, _ = io.Copy(far, near)
	}()
	_, _ = io.Copy(near, far)
}

// enforcer is kube-network-policies on one node, with the arguments, the rights and
// the token that the manifest gives it.
type enforcer struct {
	*lab.Node

	bed     *policyBed
	process *lab.Process
	log     string
	token   string // folder of the service account's token
}

// newEnforcer prepares a node.
func (b *policyBed) newEnforcer(t *testing.T, n *lab.Node) *enforcer {
	t.Helper()
	dir := t.TempDir()
	e := &enforcer{Node: n, bed: b, log: filepath.Join(dir, "log"), token: filepath.Join(dir, "token")}
	must(t, os.Mkdir(e.token, 0o755))
	reply, err := b.set.CoreV1().ServiceAccounts(onlinkSpace).CreateToken(t.Context(), policyName, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	ca, err := b.CA()
	must(t, err)
	for name, content := range map[string][]byte{"token": []byte(reply.Status.Token), "ca.crt": ca, "namespace": []byte(onlinkSpace)} {
		must(t, os.WriteFile(filepath.Join(e.token, name), content, 0o600))
	}
	forward(t, n.NS, apiAddress, strings.TrimPrefix(b.Config.Host, "https://"))
	t.Cleanup(func() {
		if t.Failed() && e.process != nil {
			t.Logf("kube-network-policies on %s:\n%s", n.Name, e.process.Tail(30))
		}
		e.kill(t)
	})
	return e
}

// enforcerScript starts the enforcer in a mount namespace of its own: $1 is the folder
// of the token, $2 the capabilities.
const enforcerScript = `set -e
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount
mount -o remount,bind,ro /
caps=$2
shift 2
exec setpriv --no-new-privs --inh-caps=-all --bounding-set="$caps" "$@"`

// start starts the program, and returns when the node's probe of readiness succeeds.
func (e *enforcer) start(t *testing.T) {
	t.Helper()
	c := e.bed.daemon.Spec.Template.Spec.Containers[0]
	address, port, err := net.SplitHostPort(apiAddress)
	must(t, err)
	var caps strings.Builder
	caps.WriteString("-all")
	for _, name := range c.SecurityContext.Capabilities.Add {
		caps.WriteString(",+" + strings.ToLower(string(name)))
	}
	argv := []string{
		"env", "KUBERNETES_SERVICE_HOST=" + address, "KUBERNETES_SERVICE_PORT=" + port,
		"unshare", "--mount", "sh", "-c", enforcerScript, "sh", e.token, caps.String(), filepath.Join(labtest.Bin(), filepath.Base(c.Command[0])),
	}
	for _, arg := range c.Args {
		argv = append(argv, strings.ReplaceAll(arg, "$(NODE_NAME)", e.Name))
	}
	e.process, err = e.NS.Start("kube-network-policies", e.log, argv...)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), policyTime)
	defer cancel()
	must(t, lab.Started(ctx, e.process, func() error { return e.ready(ctx) }))
}

// ready calls the node's probe of readiness.
func (e *enforcer) ready(ctx context.Context) error {
	probe := e.bed.daemon.Spec.Template.Spec.Containers[0].ReadinessProbe.Exec.Command
	out, err := e.Exec(ctx, lab.Command{Program: filepath.Base(probe[0]), Args: probe[1:]})
	if err == nil && out.Code != 0 {
		err = errors.New(strings.TrimSpace(out.Stderr))
	}
	return err
}

// kill ends the program as a crash does.
func (e *enforcer) kill(t *testing.T) {
	t.Helper()
	if e.process != nil {
		must(t, e.process.Kill())
		e.process = nil
	}
}

// drops returns how many packets the enforcers have dropped.
func (b *policyBed) drops(ctx context.Context) (total int, err error) {
	for _, e := range b.enforcers {
		text, err := labtest.Scrape(ctx, e.NS, "127.0.0.1:9177")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "kube_network_policies_packet_count{") || !strings.Contains(line, `verdict="drop"`) {
				continue
			}
			_, value, _ := strings.Cut(line, "} ")
			count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0, fmt.Errorf("read %q: %w", line, err)
			}
			total += int(count)
		}
	}
	return total, nil
}

// replace puts other policies in the place of those that exist.
func (b *policyBed) replace(t *testing.T, policies string) {
	t.Helper()
	for _, namespace := range []string{"shop", "office"} {
		must(t, b.set.NetworkingV1().NetworkPolicies(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
	for doc := range strings.SplitSeq(policies, "---\n") {
		if doc == "" {
			continue
		}
		var p networkingv1.NetworkPolicy
		must(t, yaml.UnmarshalStrict([]byte(doc), &p))
		_, err := b.set.NetworkingV1().NetworkPolicies(p.Namespace).Create(t.Context(), &p, metav1.CreateOptions{})
		must(t, err)
	}
}

// withToken returns a client that has an enforcer's token.
func (e *enforcer) withToken(t *testing.T) kubernetes.Interface {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.token, "token"))
	must(t, err)
	config := rest.CopyConfig(e.bed.Config)
	config.BearerToken = string(text)
	set, err := kubernetes.NewForConfig(config)
	must(t, err)
	return set
}

// policyTime bounds what takes seconds on a quiet machine, and ten times that in a
// kernel that is interpreted.
const policyTime = 3 * time.Minute
