package controller

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"onlink/kube/api/v1alpha1"
)

// knowing returns a controller that has received some objects.
func knowing(t *testing.T, objects ...runtime.Object) *controller {
	t.Helper()
	w := &watches{nodes: cached(&corev1.Node{}), pools: cached(&v1alpha1.IPPool{}), peers: cached(&v1alpha1.BGPPeer{}), services: cached(&corev1.Service{}), namespaces: cached(&corev1.Namespace{})}
	for _, o := range objects {
		store := w.nodes
		switch o.(type) {
		case *v1alpha1.IPPool:
			store = w.pools
		case *corev1.Service:
			store = w.services
		case *corev1.Namespace:
			store = w.namespaces
		}
		if err := store.GetStore().Add(o); err != nil {
			t.Fatal(err)
		}
	}
	return &controller{w: w}
}

func cached(o runtime.Object) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{}, o, 0, nil)
}

func machineNode(name string, addrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func rangeOf(name, cidr string, uses ...v1alpha1.PoolUse) *v1alpha1.IPPool {
	return &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}, Spec: v1alpha1.IPPoolSpec{CIDR: v1alpha1.CIDR(cidr), Uses: uses}}
}

// TestPoolCovers: a pool with the address of a Node says so while no node rejects it.
func TestPoolCovers(t *testing.T) {
	t.Parallel()
	c := knowing(t, machineNode("n2", "192.0.2.12", "2001:db8::12"), machineNode("n1", "192.0.2.11"), machineNode("n3", "198.51.100.1"))
	for name, tt := range map[string]struct {
		pool     *v1alpha1.IPPool
		rejected bool
		want     string // the beginning of the message
	}{
		"apart":         {rangeOf("p", "192.0.2.128/25", v1alpha1.UseLoadBalancer), false, ""},
		"one":           {rangeOf("p", "198.51.100.0/24", v1alpha1.UseLoadBalancer), false, "spec.cidr: 198.51.100.0/24 has the address 198.51.100.1 of Node n3: no Service is given that one"},
		"two":           {rangeOf("p", "192.0.2.0/24", v1alpha1.UseLoadBalancer), false, "spec.cidr: 192.0.2.0/24 has the address 192.0.2.11 of Node n1, and those of 1 more: no Service"},
		"IPv6":          {rangeOf("p", "2001:db8::/120", v1alpha1.UseLoadBalancer), false, "spec.cidr: 2001:db8::/120 has the address 2001:db8::12 of Node n2: no Service"},
		"of pods":       {rangeOf("p", "192.0.2.0/24"), false, "spec.cidr: 192.0.2.0/24 has the address 192.0.2.11 of Node n1, and those of 1 more: nodes that do not know the Node give it to a pod"},
		"rejected also": {rangeOf("p", "192.0.2.0/24"), true, "overlaps"},
	} {
		rejected := map[generation]*rejection{}
		if tt.rejected {
			rejected[generation{object{kindPool, "p"}, 1}] = &rejection{nodes: []string{"n1"}, reason: "overlaps"}
		}
		s := &v1alpha1.Status{}
		judge(s, object{kindPool, "p"}, 1, rejected)
		poolCovers(tt.pool, s, c.machines())
		wantCovers(t, name, s, tt.want, tt.rejected)
	}
}

// wantCovers fails unless the condition Accepted says that an object covers Nodes; "":
// that it does not.
func wantCovers(t *testing.T, name string, s *v1alpha1.Status, want string, rejected bool) {
	t.Helper()
	reason, status := reasonCovers, metav1.ConditionTrue
	switch {
	case rejected:
		reason, status = "Rejected", metav1.ConditionFalse
	case want == "":
		reason, want = "Accepted", "no node rejects it"
	}
	cond := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAccepted)
	if cond == nil || cond.Status != status || cond.Reason != reason || !strings.HasPrefix(cond.Message, want) {
		t.Errorf("%s: %+v, want %s %q", name, cond, reason, want)
	}
}

// TestAggregateCovers: an advertisement of which a node announces an aggregate with the
// address of a Node says so; one by one the addresses cover nothing.
func TestAggregateCovers(t *testing.T) {
	t.Parallel()
	c := knowing(t, machineNode("n1", "192.0.2.11", "2001:db8::11"), rangeOf("a", "192.0.2.64/26", v1alpha1.UseLoadBalancer), rangeOf("b", "192.0.2.0/28", v1alpha1.UseLoadBalancer),
		balancer("web", "192.0.2.70 192.0.2.1 2001:db8::70"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	for name, tt := range map[string]struct {
		aggregate *v1alpha1.ServiceAggregate
		states    string // ADDRESS STATE ...
		want      string
	}{
		"none":               {nil, "192.0.2.70 announced", ""},
		"around the Node":    {&v1alpha1.ServiceAggregate{IPv4: 24}, "192.0.2.70 aggregated", "spec.aggregate: 192.0.2.0/24 has the address 192.0.2.11 of Node n1: nodes"},
		"one by one":         {&v1alpha1.ServiceAggregate{IPv4: 24}, "192.0.2.70 announced", ""},
		"beside the Node":    {&v1alpha1.ServiceAggregate{IPv4: 26}, "192.0.2.70 aggregated", ""},
		"IPv6":               {&v1alpha1.ServiceAggregate{IPv4: 26, IPv6: 64}, "2001:db8::70 aggregated", "spec.aggregate: 2001:db8::/64 has the address 2001:db8::11 of Node n1: nodes"},
		"the pool":           {&v1alpha1.ServiceAggregate{Pool: true}, "192.0.2.1 aggregated", "spec.aggregate: 192.0.2.0/28 has the address 192.0.2.11 of Node n1: nodes"},
		"the pool beside it": {&v1alpha1.ServiceAggregate{Pool: true}, "192.0.2.70 aggregated", ""},
	} {
		o := &v1alpha1.ServiceAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all", Generation: 1}, Spec: v1alpha1.ServiceAdvertisementSpec{Aggregate: tt.aggregate, Addresses: []v1alpha1.ServiceAddress{v1alpha1.AddressLoadBalancer}}}
		f := strings.Fields(tt.states)
		nodes := []*v1alpha1.OnlinkNode{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: v1alpha1.OnlinkNodeStatus{Services: []v1alpha1.NodeService{{Address: f[0], Service: "ns/web", State: f[1]}}}}}
		count, states := c.announced(o, nodes)
		if count != 1 || len(states) != 1 {
			t.Fatalf("%s: %d services, %v", name, count, states)
		}
		s := &v1alpha1.Status{}
		judge(s, object{kindAdvertisement, "all"}, 1, nil)
		c.aggregateCovers(o, s, states, c.machines())
		wantCovers(t, name, s, tt.want, false)
	}
}

// TestNodeAddressTaken: no Service is given the address of a Node, by itself or by its
// wish.
func TestNodeAddressTaken(t *testing.T) {
	t.Parallel()
	c := knowing(t, machineNode("n1", "192.0.2.1"), rangeOf("lb", "192.0.2.0/29", v1alpha1.UseLoadBalancer))
	pools, pods := c.addressPools()
	asks := balancer("b", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.1"))
	decided, _ := decide([]*corev1.Service{balancer("a", ""), asks}, pools, pods, c.taken())
	for _, d := range decided {
		switch d.service.Name {
		case "a":
			if len(d.result.Addresses) != 1 || d.result.Addresses[0] != netip.MustParseAddr("192.0.2.2") {
				t.Errorf("%+v, want the next one", d.result)
			}
		case "b":
			if len(d.result.Addresses) != 0 || !strings.Contains(d.result.Problem, "192.0.2.1: it is an address of Node n1") {
				t.Errorf("%+v", d.result)
			}
		}
	}
}
