package controller

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/controller/addresses"
)

// balancer returns a Service of type LoadBalancer. Its ingress is words: an IP
// address, one with "/proxy", or the name of a host.
func balancer(name string, ingress string, edits ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{}}}
	s.Spec.Type, s.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
	s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}
	for word := range strings.FieldsSeq(ingress) {
		text, proxy := strings.CutSuffix(word, "/proxy")
		i, mode := corev1.LoadBalancerIngress{IP: text}, corev1.LoadBalancerIPModeVIP
		if proxy {
			mode = corev1.LoadBalancerIPModeProxy
		}
		i.IPMode = &mode
		if _, err := netip.ParseAddr(text); err != nil {
			i = corev1.LoadBalancerIngress{Hostname: text}
		}
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, i)
	}
	for _, edit := range edits {
		edit(s)
	}
	return s
}

func class(name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &name }
}

func annotation(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations[key] = value }
}

// assigned is what onlink writes with the addresses of a Service.
func assigned(texts ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		var r addresses.Result
		for _, t := range texts {
			r.Addresses = append(r.Addresses, netip.MustParseAddr(t))
		}
		s.Status.Conditions = append(s.Status.Conditions, *addressCondition(s, r, false))
	}
}

func servicePool(name, cidr string) addresses.Pool {
	return addresses.Pool{Name: name, CIDR: netip.MustParsePrefix(cidr), Serves: func(string) bool { return true }}
}

// TestLeftAlone: the addresses of a Service that another controller gave it are
// neither changed nor given to another Service.
func TestLeftAlone(t *testing.T) {
	lb := servicePool("lb", "192.0.2.0/24")
	pools, none := []addresses.Pool{lb}, []addresses.Pool(nil)
	manual := lb
	manual.Manual = true
	for _, tt := range []struct {
		name    string
		pools   []addresses.Pool
		service *corev1.Service
		want    string // the addresses that onlink makes it have; "-": it leaves the Service alone
	}{
		{"new", pools, balancer("s", ""), "192.0.2.1"},
		{"new of our class", pools, balancer("s", "", class(v1alpha1.LoadBalancerClass)), "192.0.2.1"},
		{"of another class", pools, balancer("s", "192.0.2.9", class("example.com/other")), "-"},
		{"without a pool", none, balancer("s", ""), "-"},
		{"of our class without a pool", none, balancer("s", "", class(v1alpha1.LoadBalancerClass)), ""},
		{"without a name of a manual pool", []addresses.Pool{manual}, balancer("s", ""), "-"},
		{"an address of a manual pool", []addresses.Pool{manual}, balancer("s", "192.0.2.4"), "192.0.2.4"},
		{"it names a manual pool", []addresses.Pool{manual}, balancer("s", "", annotation(v1alpha1.PoolsAnnotation, "lb")), "192.0.2.1"},
		{"a name, without a pool", none, balancer("s", "lb.example.com"), "-"},
		{"a name", pools, balancer("s", "lb.example.com"), "-"},
		{"a proxy and a name", pools, balancer("s", "192.0.2.4/proxy lb.example.com"), "-"},
		{"a proxy in the pool", pools, balancer("s", "192.0.2.4/proxy"), "-"},
		{"a name and an address of the pool", pools, balancer("s", "192.0.2.4 lb.example.com"), "-"},
		{"a name, our class", pools, balancer("s", "lb.example.com", class(v1alpha1.LoadBalancerClass)), "192.0.2.1"},
		{"addresses outside the pools, of several nodes", pools, balancer("s", "198.51.100.1 198.51.100.2"), "-"},
		{"addresses of several nodes, without a pool", none, balancer("s", "198.51.100.1 198.51.100.2"), "-"},
		{"an address of the pool", pools, balancer("s", "192.0.2.4"), "192.0.2.4"},
		{"an address of a pool that is gone", none, balancer("s", "192.0.2.4", assigned("192.0.2.4")), "192.0.2.4"},
		{"an address of a former pool", pools, balancer("s", "203.0.113.4", assigned("203.0.113.4")), "203.0.113.4"},
		{"our address is replaced by a name", none, balancer("s", "lb.example.com", assigned("192.0.2.4")), "-"},
		{"our address is replaced by another", none, balancer("s", "198.51.100.1", assigned("192.0.2.4")), "-"},
		{"our address was erased", pools, balancer("s", "", assigned("192.0.2.4")), "192.0.2.1"},
		{"it asks for an address, without a pool", none, balancer("s", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.4")), ""},
		{"it asks for a pool, with a name", pools, balancer("s", "lb.example.com", annotation(v1alpha1.PoolsAnnotation, "lb")), "-"},
		{"another address is asked for", pools, balancer("s", "192.0.2.4", annotation(v1alpha1.AddressesAnnotation, "192.0.2.5"), assigned("192.0.2.4")), "192.0.2.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			decided, others := decide([]*corev1.Service{tt.service}, tt.pools, nil, nil)
			if len(decided)+len(others) != 1 {
				t.Fatalf("%d Services are assigned, %d left alone, of one", len(decided), len(others))
			}
			got := "-"
			for _, d := range decided {
				got = strings.Trim(fmt.Sprint(d.result.Addresses), "[]")
			}
			if got != tt.want {
				t.Errorf("addresses %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("an address of another controller is not given", func(t *testing.T) {
		decided, _ := decide([]*corev1.Service{balancer("a", "192.0.2.1 lb.example.com"), balancer("b", "192.0.2.2", class("example.com/other")), balancer("c", "")}, pools, nil, nil)
		if len(decided) != 1 || fmt.Sprint(decided[0].result.Addresses) != "[192.0.2.3]" {
			t.Errorf("decided %+v, want 192.0.2.3 for c alone", decided)
		}
	})
}

// TestAddressCondition: the condition names what onlink gave, is written once, and
// never only to be there.
func TestAddressCondition(t *testing.T) {
	r := addresses.Result{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.4"), netip.MustParseAddr("2001:db8::1")}}
	s := balancer("s", "")
	if c := addressCondition(s, r, true); c != nil {
		t.Errorf("a Service that has its addresses gets the condition %+v", c)
	}
	c := addressCondition(s, r, false)
	if c == nil || c.Status != metav1.ConditionTrue || c.Message != "192.0.2.4, 2001:db8::1" {
		t.Fatalf("condition %+v", c)
	}
	s.Status.Conditions = []metav1.Condition{*c}
	if again := addressCondition(s, r, true); again != nil {
		t.Errorf("the condition is written again: %+v", again)
	}
	for _, a := range r.Addresses {
		if !given(s)[a] {
			t.Errorf("%v is not known as given", a)
		}
	}
	r.Problem = "lacks one"
	if c := addressCondition(s, r, true); c == nil || c.Status != metav1.ConditionFalse || c.Message != r.Problem {
		t.Errorf("condition %+v, want the problem", c)
	}
}

// TestRejectedPools: a pool that the nodes reject gives no address, whether one has
// said so or not, and the Service says why. What it has of the pool it keeps.
func TestRejectedPools(t *testing.T) {
	pool := func(name, cidr string, age time.Duration, uses ...v1alpha1.PoolUse) *v1alpha1.IPPool {
		return &v1alpha1.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 2, CreationTimestamp: metav1.NewTime(time.Now().Add(-age))},
			Spec:       v1alpha1.IPPoolSpec{CIDR: v1alpha1.CIDR(cidr), Uses: uses},
		}
	}
	judged := func(generation int64) *v1alpha1.IPPool {
		p := pool("lb", "192.0.2.0/24", 0, v1alpha1.UseLoadBalancer)
		p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, ObservedGeneration: generation, Message: "the agent is old"}}
		return p
	}
	hostBits := pool("lb", "192.0.2.10/24", 0, v1alpha1.UseLoadBalancer)
	for _, tt := range []struct {
		name    string
		pools   []*v1alpha1.IPPool
		service *corev1.Service
		want    string // addresses
		problem string
	}{
		{"accepted", []*v1alpha1.IPPool{pool("lb", "192.0.2.0/24", 0, v1alpha1.UseLoadBalancer)}, balancer("s", ""), "192.0.2.1", ""},
		{"host bits", []*v1alpha1.IPPool{hostBits}, balancer("s", ""), "", "IPPool lb is rejected: spec.cidr"},
		{"host bits, the address is asked for", []*v1alpha1.IPPool{hostBits}, balancer("s", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.20")), "", "IPPool lb is rejected"},
		{"host bits, the pool is asked for", []*v1alpha1.IPPool{hostBits}, balancer("s", "", annotation(v1alpha1.PoolsAnnotation, "lb")), "", "IPPool lb is rejected"},
		{"an address that it has", []*v1alpha1.IPPool{hostBits}, balancer("s", "192.0.2.7"), "192.0.2.7", ""},
		{
			"another pool",
			[]*v1alpha1.IPPool{hostBits, pool("lb2", "198.51.100.0/24", 0, v1alpha1.UseLoadBalancer)},
			balancer("s", ""), "198.51.100.1", "",
		},
		{
			"an older pool has the range",
			[]*v1alpha1.IPPool{pool("a", "192.0.2.0/25", 0, v1alpha1.UseLoadBalancer), pool("b", "192.0.2.0/24", time.Hour, v1alpha1.UseLoadBalancer)},
			balancer("s", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.20")), "192.0.2.20", "",
		},
		{"a node rejects it", []*v1alpha1.IPPool{judged(2)}, balancer("s", ""), "", "IPPool lb is rejected: the agent is old"},
		{"a node rejected it as it was", []*v1alpha1.IPPool{judged(1)}, balancer("s", ""), "192.0.2.1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			known := cache.NewSharedIndexInformer(&cache.ListWatch{}, &v1alpha1.IPPool{}, 0, nil)
			for _, p := range tt.pools {
				if err := known.GetStore().Add(p); err != nil {
					t.Fatal(err)
				}
			}
			pools, pods := (&controller{w: &watches{pools: known}}).addressPools()
			decided, _ := decide([]*corev1.Service{tt.service}, pools, pods, nil)
			if len(decided) != 1 {
				t.Fatalf("%d decisions, want 1", len(decided))
			}
			r := decided[0].result
			if got := strings.Trim(fmt.Sprint(r.Addresses), "[]"); got != tt.want || (r.Problem == "") != (tt.problem == "") || !strings.Contains(r.Problem, tt.problem) {
				t.Errorf("addresses %q, problem %q; want %q, %q", got, r.Problem, tt.want, tt.problem)
			}
		})
	}
}

// TestTaken: an address that is in use otherwise is given to no Service, also that of a
// Service which terminates.
func TestTaken(t *testing.T) {
	pools := []addresses.Pool{servicePool("lb", "192.0.2.0/24")}
	end := metav1.Now()
	external := balancer("external", "")
	external.Spec.Type, external.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{"192.0.2.3", "no address"}
	ends := balancer("ends", "192.0.2.4", assigned("192.0.2.4"))
	ends.DeletionTimestamp = &end
	endsEmpty := balancer("ends-empty", "")
	endsEmpty.DeletionTimestamp = &end
	taken := map[netip.Addr]string{netip.MustParseAddr("192.0.2.1"): "an address of Node n1", netip.MustParseAddr("192.0.2.2"): "the address of BGPPeer tor"}
	for _, tt := range []struct {
		name    string
		service *corev1.Service
		want    string
	}{
		{"the lowest", balancer("a", ""), "[192.0.2.5]"},
		{"a router's", balancer("a", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.2")), "BGPPeer tor"},
		{"an external one", balancer("a", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.3")), "externalIPs of Service ns/external"},
		{"one of a Service that terminates", balancer("a", "", annotation(v1alpha1.AddressesAnnotation, "192.0.2.4")), "Service ns/ends has it"},
	} {
		decided, others := decide([]*corev1.Service{tt.service, external, ends, endsEmpty}, pools, nil, taken)
		if len(decided) != 1 || len(others) != 0 {
			t.Fatalf("%s: %d are decided and %d left alone, want one and none", tt.name, len(decided), len(others))
		}
		if got := fmt.Sprint(decided[0].result.Addresses, decided[0].result.Problem); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestPatches: what this leader wrote counts until the cache has it.
func TestPatches(t *testing.T) {
	at := func(version, address string) *corev1.Service {
		s := balancer("a", address)
		s.UID, s.ResourceVersion = "1", version
		return s
	}
	p := patches{}
	p.note(at("7", ""), at("8", "192.0.2.1"))
	p.note(at("8", "192.0.2.1"), at("9", "192.0.2.2"))
	for _, tt := range []struct{ cached, want string }{{"7", "9"}, {"8", "9"}, {"9", "9"}, {"7", "7"}} {
		if got := p.apply([]*corev1.Service{at(tt.cached, "")})[0].ResourceVersion; got != tt.want {
			t.Errorf("the cache has version %s, and version %s counts; want %s", tt.cached, got, tt.want)
		}
	}
	p.note(at("7", ""), at("8", "192.0.2.1"))
	if p.apply(nil); len(p) > 0 {
		t.Error("a Service that is gone is remembered")
	}
}
