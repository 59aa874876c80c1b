package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	"onlink/kube/node"
	onlinkv1 "onlink/proto/v1"
)

// namespace is onlink's in these tests.
const namespace = "onlink"

// bed is agents in network namespaces, each with its node process, and a real API
// server on loopback. There is no kubelet: the test writes the Nodes.
type bed struct {
	*api.Server

	lab   *lab.Lab
	nodes []*bedNode
}

// bedNode is one node: its agent, and the process beside it, which is part of the
// test's.
type bedNode struct {
	*lab.Node

	bed   *bed
	as    *client.Client // of the node's processes
	dir   string
	agent *lab.Process
	admin onlinkv1.AdminClient
	stop  func() // ends the node process; nil: it does not run
}

// beds counts the labs of this process: tests run beside each other, and each needs
// a name.
var beds atomic.Int64

// newBed starts an API server with the objects of a small cluster, and makes its
// nodes. Nothing runs on them.
func newBed(t *testing.T, nodes int) *bed {
	t.Helper()
	b := &bed{Server: api.Start(t)}
	var err error
	b.lab, err = lab.Build(t.Context(), lab.Spec{
		Name: fmt.Sprintf("kn%d-%d", os.Getpid(), beds.Add(1)), Racks: 1, NodesPerRack: nodes, Reflectors: -1, Pool: lab.Pool{Tunnel: "none"},
	}, lab.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, b.lab.Close()) })
	ctx := t.Context()
	eventually(t, "namespace", func() error { // a server that has just begun may close a connection
		_, err := b.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	for _, n := range b.lab.Nodes() {
		one := &bedNode{Node: n, bed: b, as: b.Client, dir: t.TempDir()}
		for _, d := range []string{"state", "run", "kube", "bin", "net.d"} {
			must(t, os.MkdirAll(filepath.Join(one.dir, d), 0o755))
		}
		b.nodes = append(b.nodes, one)
		b.addNode(t, one)
	}
	return b
}

// addNode makes the Node as kubelet does.
func (b *bed) addNode(t *testing.T, n *bedNode) {
	t.Helper()
	nodes := b.Client.CoreV1().Nodes()
	made, err := nodes.Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{corev1.LabelHostname: n.Name}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule},
			{Key: "example.com/other", Effect: corev1.TaintEffectNoSchedule},
		}},
	}, metav1.CreateOptions{})
	must(t, err)
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.Addr.String()}, {Type: corev1.NodeHostName, Address: n.Name}}
	_, err = nodes.UpdateStatus(t.Context(), made, metav1.UpdateOptions{})
	must(t, err)
}

// configure makes the OnlinkConfig and the pool.
func (b *bed) configure(t *testing.T) {
	t.Helper()
	_, err := b.Client.Configs.Create(t.Context(), &v1alpha1.OnlinkConfig{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName},
		// The nodes call as the administrator here, who gets no certificate.
		Spec: v1alpha1.OnlinkConfigSpec{Drain: v1alpha1.Drain{Wait: "1s"}, AdminPort: new(int32)},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = b.Client.Pools.Create(t.Context(), &v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: v1alpha1.IPPoolSpec{CIDR: "10.244.0.0/16", Encapsulation: "Never"},
	}, metav1.CreateOptions{})
	must(t, err)
}

func (b *bed) log(t *testing.T, name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", name)
}

// init is the init container.
func (n *bedNode) init(ctx context.Context, t *testing.T) error {
	t.Helper()
	return node.Init(ctx, node.InitOptions{
		Log: n.bed.log(t, n.Name), Client: n.as, Node: n.Name, Namespace: namespace, State: filepath.Join(n.dir, "state"), Certificates: filepath.Join(n.dir, "kube"),
	})
}

// agentScript starts the agent of a node in a mount namespace of its own: $1 is the
// node's folder, $2 the program.
const agentScript = `set -e
mount -t tmpfs none /run; mount -t tmpfs none /var/lib; mount -t tmpfs none /opt
mkdir -p /run/onlink /run/onlink-kube /var/lib/onlink /opt/cni/bin
mount --bind "$1/run" /run/onlink; mount --bind "$1/kube" /run/onlink-kube
mount --bind "$1/state" /var/lib/onlink; mount --bind "$1/bin" /opt/cni/bin
[ ! -d /etc/cni/net.d ] || mount --bind "$1/net.d" /etc/cni/net.d
exec "$2" --config /var/lib/onlink/onlinkd.yaml`

// startAgent starts the agent with the folders of the node in the places that the
// rendered configuration names.
func (n *bedNode) startAgent(t *testing.T) {
	t.Helper()
	bin := filepath.Join(labtest.Bin(), "onlinkd")
	var err error
	n.agent, err = n.NS.Start("onlinkd", filepath.Join(n.dir, "onlinkd.log"), "unshare", "--mount", "sh", "-c", agentScript, "sh", n.dir, bin)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.Name + ":\n" + n.agent.Tail(40))
		}
		n.stopAgent(t)
	})
	if n.admin == nil {
		conn, err := grpc.NewClient("unix:"+filepath.Join(n.dir, "run", "admin.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(t, err)
		t.Cleanup(func() { must(t, conn.Close()) })
		n.admin = onlinkv1.NewAdminClient(conn)
	}
}

func (n *bedNode) stopAgent(t *testing.T) {
	t.Helper()
	if n.agent != nil {
		must(t, n.agent.Kill())
		n.agent = nil
	}
}

// startProcess starts the process beside the agent, as the given user of the API
// server; "": the administrator.
func (n *bedNode) startProcess(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- node.Run(ctx, node.Options{
			Log: n.bed.log(t, n.Name), Client: n.as, Node: n.Name, Namespace: namespace,
			AdminSocket: filepath.Join(n.dir, "run", "admin.sock"), RegistrySocket: filepath.Join(n.dir, "kube", "registry.sock"),
			Certificates: filepath.Join(n.dir, "kube"),
		})
	}()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("node process of %s: %v", n.Name, err)
		}
		n.stop = nil
	}
	t.Cleanup(func() {
		if n.stop != nil {
			n.stop()
		}
	})
}

// start starts all of a node.
func (n *bedNode) start(t *testing.T) {
	t.Helper()
	must(t, n.init(t.Context(), t))
	n.startProcess(t)
	n.startAgent(t)
}

// up starts every node, and returns when all are ready.
func (b *bed) up(t *testing.T) {
	t.Helper()
	for _, n := range b.nodes {
		n.start(t)
	}
	for _, n := range b.nodes {
		n.wait(t, "OnlinkNode is Ready", func(s *v1alpha1.OnlinkNodeStatus) error {
			return condition(s, v1alpha1.ConditionReady, metav1.ConditionTrue)
		})
	}
}

// patience is for what takes seconds on a quiet machine.
const patience = time.Minute

// eventually polls what the API server and the agent show.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	must(t, lab.Eventually(t.Context(), patience, what, f))
}

// wait waits for a status of the node's OnlinkNode.
func (n *bedNode) wait(t *testing.T, what string, f func(*v1alpha1.OnlinkNodeStatus) error) {
	t.Helper()
	eventually(t, n.Name+": "+what, func() error {
		o, err := n.bed.Client.Nodes.Get(t.Context(), n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return f(&o.Status)
	})
}

// condition returns an error unless a condition has a status.
func condition(s *v1alpha1.OnlinkNodeStatus, kind string, want metav1.ConditionStatus) error {
	for _, c := range s.Conditions {
		if c.Type == kind {
			if c.Status == want {
				return nil
			}
			return fmt.Errorf("%s is %s: %s: %s", kind, c.Status, c.Reason, c.Message)
		}
	}
	return errors.New("no condition " + kind)
}

// advertiseExternal makes a pool for services, and an advertisement of the external IPs
// in it.
func advertiseExternal(t *testing.T, c *client.Client) {
	t.Helper()
	_, err := c.Pools.Create(t.Context(), &v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "services"},
		Spec:       v1alpha1.IPPoolSpec{CIDR: "192.0.2.0/24", Uses: []v1alpha1.PoolUse{v1alpha1.UseLoadBalancer}, Manual: true},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = c.Advertisements.Create(t.Context(), &v1alpha1.ServiceAdvertisement{
		ObjectMeta: metav1.ObjectMeta{Name: "all"},
		Spec:       v1alpha1.ServiceAdvertisementSpec{Addresses: []v1alpha1.ServiceAddress{v1alpha1.AddressExternal}},
	}, metav1.CreateOptions{})
	must(t, err)
}

// addPeer makes a BGPPeer.
func (b *bed) addPeer(t *testing.T, name, address string, change func(*v1alpha1.BGPPeer)) {
	t.Helper()
	p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.BGPPeerSpec{Address: address, ASN: 65001}}
	if change != nil {
		change(p)
	}
	_, err := b.Client.Peers.Create(t.Context(), p, metav1.CreateOptions{})
	must(t, err)
}

// peers returns the names of the peers of the agent, the mesh's included.
func (n *bedNode) peers(t *testing.T) ([]string, error) {
	t.Helper()
	r, err := n.admin.ListPeers(t.Context(), &onlinkv1.ListPeersRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range r.GetPeers() {
		if !p.GetStranger() && !p.GetGone() {
			names = append(names, p.GetName())
		}
	}
	return names, nil
}

// hasPeers returns an error unless the agent has these peers of BGPPeers.
func (n *bedNode) hasPeers(t *testing.T, want ...string) error {
	t.Helper()
	names, err := n.peers(t)
	if err != nil {
		return err
	}
	var got []string
	for _, name := range names {
		if strings.HasPrefix(name, "tor") {
			got = append(got, name)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("peers %v, want %v", got, want)
	}
	return nil
}

// announces returns an error unless the agent announces these prefixes for
// services.
func (n *bedNode) announces(t *testing.T, want ...netip.Prefix) error {
	t.Helper()
	r, err := n.admin.ListAnnouncements(t.Context(), &onlinkv1.ListAnnouncementsRequest{})
	if err != nil {
		return err
	}
	var got []netip.Prefix
	for _, s := range r.GetSets() {
		for _, a := range s.GetAnnouncements() {
			p, err := netip.ParsePrefix(a.GetPrefix())
			if err != nil {
				return err
			}
			got = append(got, p)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("announces %v, want %v", got, want)
	}
	return nil
}

// annotate sets an annotation of the Node; nil removes it.
func (n *bedNode) annotate(t *testing.T, name string, value *string) {
	t.Helper()
	text := "null"
	if value != nil {
		text = fmt.Sprintf("%q", *value)
	}
	_, err := n.bed.Client.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, name, text), metav1.PatchOptions{})
	must(t, err)
}
