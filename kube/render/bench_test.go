package render

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// large returns a cluster of many Services, each with some endpoints.
func large(services, endpoints int) *Input {
	in := &Input{Node: node("n0", "10.57.0.1"), Config: &v1alpha1.OnlinkConfig{}}
	for i := range 3 {
		o := &v1alpha1.ServiceAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("a", i)}}
		o.Spec.ServiceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": strconv.Itoa(i)}}
		o.Spec.Addresses = []v1alpha1.ServiceAddress{v1alpha1.AddressLoadBalancer, v1alpha1.AddressCluster}
		if i == 2 {
			o.Spec.Aggregate = &v1alpha1.ServiceAggregate{IPv4: 24}
		}
		in.Advertisements = append(in.Advertisements, o)
	}
	for i := range services {
		name := fmt.Sprint("s", i)
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, Labels: map[string]string{"tier": strconv.Itoa(i % 4), "app": name}}}
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		svc.Spec.ClusterIPs = []string{fmt.Sprintf("10.96.%d.%d", i>>8, i&255)}
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("172.20.%d.%d", i>>8, i&255)}}
		in.Services = append(in.Services, svc)
		s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
		s.Namespace, s.Name, s.Labels = "web", name, map[string]string{discoveryv1.LabelServiceName: name}
		for j := range endpoints / services {
			at := fmt.Sprint("n", (i+j)%500)
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", i&255, j)}, NodeName: &at})
		}
		in.Slices = append(in.Slices, s)
	}
	return in
}

func node(name, addr string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}
	return n
}

func BenchmarkRender(b *testing.B) {
	for _, size := range []struct{ services, endpoints int }{{50, 200}, {5000, 20000}} {
		b.Run(fmt.Sprintf("services=%d/endpoints=%d", size.services, size.endpoints), func(b *testing.B) {
			in := large(size.services, size.endpoints)
			b.ReportAllocs()
			for b.Loop() {
				out, err := Render(in)
				if err != nil || len(out.Announcements) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestOrder: the order of many objects changes nothing.
func TestOrder(t *testing.T) {
	t.Parallel()
	in := large(300, 1200)
	for i := range 60 {
		in.Nodes = append(in.Nodes, node(fmt.Sprint("n", i), fmt.Sprintf("10.57.0.%d", i+1)))
	}
	want, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
		shuffle(r, in.Nodes)
		shuffle(r, in.Services)
		shuffle(r, in.Slices)
		shuffle(r, in.Advertisements)
		got, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: -want +got\n%s", seed, diff)
		}
	}
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// TestMesh: up to 100 nodes are a mesh; above it the mesh in force stays, without
// the nodes that are gone, until there are reflectors.
func TestMesh(t *testing.T) {
	t.Parallel()
	in := &Input{Node: node("n001", "10.57.0.1"), Config: &v1alpha1.OnlinkConfig{}}
	for i := range 100 {
		in.Nodes = append(in.Nodes, node(fmt.Sprintf("n%03d", i+1), fmt.Sprintf("10.57.0.%d", i+1)))
	}
	size := func() int {
		t.Helper()
		l := newLedger(in)
		out, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		in.Current = out.Config
		m := readCurrent(out.Config, l).file.BGP.Mesh
		if m == nil {
			return 0
		}
		return len(m.Nodes)
	}
	if got := size(); got != 100 {
		t.Errorf("100 nodes: a mesh of %d", got)
	}
	in.Nodes = append(in.Nodes, node("n101", "10.57.1.1"), node("n102", "10.57.1.2"))
	if got := size(); got != 100 {
		t.Errorf("102 nodes: a mesh of %d", got)
	}
	in.Nodes = slices.Delete(in.Nodes, 9, 10)
	if got := size(); got != 99 {
		t.Errorf("one of the mesh gone, 101 nodes: a mesh of %d", got)
	}
	fresh := *in
	fresh.Node, fresh.Current = in.Nodes[len(in.Nodes)-1], nil
	out, err := Render(&fresh)
	if err != nil || len(out.Problems) == 0 || readCurrent(out.Config, newLedger(in)).file.BGP.Mesh != nil {
		t.Errorf("a new node beside a full mesh: %v %v", out, err)
	}
	in.Nodes[20].Labels = map[string]string{v1alpha1.ReflectorLabel: ""}
	in.Reflectors = in.Nodes[20:21]
	if got := size(); got != 0 {
		t.Errorf("with a reflector: a mesh of %d", got)
	}
}

// TestSource: a field of an entry, and one without a source of its own.
func TestSource(t *testing.T) {
	t.Parallel()
	o := &Output{Sources: map[string]Object{"bgp.peers[2]": {kindPeer, "tor"}, "bgp": {kindConfig, "default"}}}
	for field, want := range map[string]string{
		"bgp.peers[2].import.filters[0]": "tor", "bgp.peers[2]": "tor", "bgp.peers[21].asn": "default", "bgp.asn": "default", "node.address": "", "": "",
	} {
		if got, ok := o.Source(field); got.Name != want || ok != (want != "") {
			t.Errorf("%q: %v %t, want %s", field, got, ok, want)
		}
	}
}
