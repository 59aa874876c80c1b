package controller

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
