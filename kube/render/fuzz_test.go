package render

import (
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/agent/config"
	"onlink/kube/api/v1alpha1"
)

// FuzzRender: objects with any mistakes never panic, what is rendered is a file that
// the agent takes, and the order of the objects changes nothing; at a first start,
// and with something in force.
func FuzzRender(f *testing.F) {
	for seed := range byte(8) {
		f.Add([]byte{seed, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233})
	}
	f.Fuzz(func(t *testing.T, data []byte) { try(t, &dice{data: data}) })
}

var seeds = flag.Uint64("render.seeds", 200, "clusters that TestAny tries")

// TestAny is FuzzRender with random clusters.
func TestAny(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		if try(t, &dice{rng: rand.New(rand.NewPCG(seed, 0))}); t.Failed() { //nolint:gosec // no secret
			t.Fatalf("seed %d", seed)
		}
	}
}

// try renders three clusters, each with that before it in force.
func try(t *testing.T, d *dice) {
	t.Helper()
	var current []byte
	var announced []Announcement
	for range 3 {
		in := d.input()
		in.Current, in.Announced = current, announced
		in.Former = slices.Compact(slices.Sorted(slices.Values(several(d, d.name))))
		in.Heard = map[netip.Addr]bool{}
		for _, text := range several(d, d.addr) {
			if a, err := netip.ParseAddr(text); err == nil {
				in.Heard[a] = true
			}
		}
		out, err := Render(in)
		if err != nil {
			continue
		}
		mustAccept(t, out)
		d.shuffle(in)
		again, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(out, again); diff != "" {
			t.Fatalf("another order of the objects changes the output: -first +second\n%s", diff)
		}
		for _, a := range out.Announcements {
			if p, err := netip.ParsePrefix(a.Prefix); err != nil || p != p.Masked() {
				t.Fatalf("%q is not announced: %v", a.Prefix, err)
			}
		}
		current, announced = out.Config, out.Announcements
	}
}

// mustAccept checks that the agent takes a file.
func mustAccept(t *testing.T, out *Output) {
	t.Helper()
	if _, err := config.Parse("onlinkd.yaml", out.Config); err != nil {
		t.Errorf("the agent rejects the file: %v\n%s", err, out.Config)
	}
}

// dice makes objects of the values that a fuzzer finds, and of a sequence that
// follows from them once they are used up.
type dice struct {
	data []byte
	rng  *rand.Rand
}

func (d *dice) n(limit int) int {
	if len(d.data) > 0 {
		v := d.data[0]
		if d.data = d.data[1:]; len(d.data) == 0 {
			d.rng = rand.New(rand.NewPCG(uint64(v), 0)) //nolint:gosec // no secret
		}
		return int(v) % limit
	}
	if d.rng == nil {
		d.rng = rand.New(rand.NewPCG(0, 0)) //nolint:gosec // no secret
	}
	return d.rng.IntN(limit)
}

func (d *dice) yes(of int) bool { return d.n(of) == 0 }

func (d *dice) number() int64 {
	return d.pick(0, 0, 1, 2, 7, 24, 26, 64, 255, 64512, 65001, 23456, 1<<32-1, 1<<32, -1)
}

func (d *dice) pick(list ...int64) int64 { return list[d.n(len(list))] }

func (d *dice) text(list ...string) string {
	if d.yes(40) {
		return []string{"\x00", "a: b", "- x", "\xff\u007f", " ", "null", "{", "'", "\"", "🦜", "10.0.0.1/33", "~"}[d.n(12)]
	}
	return list[d.n(len(list))]
}

func (d *dice) name() string {
	return d.text("a", "b", "c", "n1", "n2", "tor", "123", "on", "x.y-z")
}

func (d *dice) addr() string {
	return d.text("10.57.0.1", "10.57.0.2", "10.57.0.11", "10.57.0.12", "10.57.1.13", "192.0.2.1", "192.0.2.2", "fd00::11", "fd00::12", "fe80::1",
		"fe80::1%eth0", "10.244.0.9", "::ffff:10.57.0.1", "2001:db8::1", "127.0.0.1", "0.0.0.0", "")
}

func (d *dice) cidr() v1alpha1.CIDR {
	return v1alpha1.CIDR(d.text("10.244.0.0/16", "10.244.128.0/17", "10.245.0.0/16", "10.57.0.0/24", "fd00:10:244::/56", "fd00::/64", "192.0.2.0/24",
		"10.0.0.0/8", "0.0.0.0/0", "10.244.1.1/16", "::ffff:10.0.0.0/104", "10.244.0.0/20", "10.244.3.0/24", "fd00:10:244:3::/64", ""))
}

func (d *dice) duration() v1alpha1.Duration {
	return v1alpha1.Duration(d.text("", "", "", "3s", "9s", "90s", "1500ms", "300ms", "1h", "25h", "-1s", "soon"))
}

func (d *dice) selector() *metav1.LabelSelector {
	switch d.n(5) {
	case 0:
		return &metav1.LabelSelector{MatchLabels: map[string]string{d.text("rack", "a b"): d.text("r1", "r2")}}
	case 1:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: d.text("rack", ""), Operator: metav1.LabelSelectorOperator(d.text("In", "Exists", "Near")), Values: several(d, func() string { return d.text("r1", "r2") }),
		}}}
	}
	return nil
}

func several[T any](d *dice, one func() T) (list []T) {
	for range d.n(3) {
		list = append(list, one())
	}
	return list
}

func (d *dice) meta() metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: d.name(), CreationTimestamp: metav1.NewTime(time.Unix(int64(d.n(3)), 0))}
	m.Labels = map[string]string{"rack": d.text("r1", "r2")}
	m.Annotations = map[string]string{v1alpha1.PoolsAnnotation: d.text("a", "b, c", ",")}
	if d.yes(3) {
		m.Annotations[v1alpha1.SharingAnnotation] = "k"
	}
	if d.yes(4) {
		m.Labels[v1alpha1.ReflectorLabel] = d.text("", "false")
	}
	if d.yes(6) {
		m.Labels[corev1.LabelNodeExcludeBalancers] = ""
	}
	return m
}

func (d *dice) node() *corev1.Node {
	n := &corev1.Node{ObjectMeta: d.meta()}
	n.Spec.PodCIDRs = several(d, func() string { return string(d.cidr()) })
	for range 1 + d.n(2) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: d.addr()})
	}
	return n
}

func (d *dice) bfd() *v1alpha1.BFD {
	if !d.yes(4) {
		return nil
	}
	return &v1alpha1.BFD{Interval: d.duration(), Multiplier: int32(d.number()), Hops: d.text("", "single", "multi", "none")} //nolint:gosec // any
}

func (d *dice) secret() *v1alpha1.SecretKey {
	if !d.yes(4) {
		return nil
	}
	return &v1alpha1.SecretKey{Name: d.name(), Key: d.text("", "k", "../x")}
}

func (d *dice) optional() *int64 {
	if !d.yes(3) {
		return nil
	}
	return new(d.number())
}

func (d *dice) rules() []v1alpha1.PrefixRule {
	return several(d, func() v1alpha1.PrefixRule {
		r := v1alpha1.PrefixRule{Prefix: d.cidr()}
		if d.yes(3) {
			r.GE = new(int32(d.number())) //nolint:gosec // any
		}
		if d.yes(3) {
			r.LE = new(int32(d.number())) //nolint:gosec // any
		}
		return r
	})
}

func (d *dice) community() string {
	return d.text("64512:1", "64512:1:2", "no-export", "^64512:.*$", "^(", "1:70000", "007:1", "x")
}

func (d *dice) change() *v1alpha1.CommunityChange {
	if !d.yes(3) {
		return nil
	}
	return &v1alpha1.CommunityChange{Add: several(d, d.community), Remove: several(d, d.community), Replace: several(d, d.community)}
}

func (d *dice) filter() *v1alpha1.BGPFilter {
	o := &v1alpha1.BGPFilter{ObjectMeta: d.meta()}
	o.Spec.Rules = several(d, func() v1alpha1.FilterRule {
		r := v1alpha1.FilterRule{Action: d.text("accept", "accept", "reject", "next", "")}
		if d.yes(2) {
			r.Match = &v1alpha1.FilterMatch{
				Prefixes: d.rules(), Communities: several(d, d.community), LargeCommunities: several(d, d.community),
				ASPath: several(d, func() string { return d.text("^65001_", "(", "") }), Source: d.text("", "own", "service", "reflected", "external"),
			}
		}
		if d.yes(2) {
			r.Set = &v1alpha1.FilterSet{
				LocalPref: d.optional(), MED: d.optional(), Prepend: int32(d.number()), Communities: d.change(), //nolint:gosec // any
				LargeCommunities: d.change(), NextHop: d.text("", "self", "unchanged", "peer-address", "10.57.0.1", "x"), Origin: d.text("", "igp", "x"),
			}
		}
		return r
	})
	return o
}

func (d *dice) peer() *v1alpha1.BGPPeer {
	o := &v1alpha1.BGPPeer{ObjectMeta: d.meta()}
	o.Spec = v1alpha1.BGPPeerSpec{
		NodeSelector: d.selector(), Address: d.addr(), Interface: d.text("", "", "eth0", "eth0/1"), ASN: d.pick(0, 64512, 65001, 65002, 23456, -1),
		PasswordSecretRef: d.secret(), BFD: d.bfd(), IncludeExcludedNodes: d.yes(2), Client: d.yes(5), Passive: d.yes(5),
	}
	if s := &o.Spec; d.yes(2) {
		s.Port, s.LocalASN, s.TTLSecurity, s.Multihop = int32(d.number()), d.number(), int32(d.number()), int32(d.number()) //nolint:gosec // any
		s.HoldTime, s.Keepalive, s.ConnectRetry, s.LongLivedRestart = d.duration(), d.duration(), d.duration(), d.duration()
		s.AllowOwnAS = int32(d.number()) //nolint:gosec // any
	}
	if d.yes(2) {
		o.Spec.Import = &v1alpha1.Import{Accept: d.rules(), Filters: several(d, d.name)}
		if d.yes(3) {
			o.Spec.Import.MaxPrefixes, o.Spec.Import.LocalPref = d.number(), d.optional()
			o.Spec.Import.DisableConnectedCheck, o.Spec.Import.DisableOwnerCheck = d.yes(3), d.yes(3)
		}
	}
	if d.yes(2) {
		o.Spec.Export = &v1alpha1.Export{Prefixes: d.rules(), Filters: several(d, d.name), MED: d.optional(), Reflected: d.yes(5)}
		o.Spec.Export.Communities = several(d, func() v1alpha1.Community { return v1alpha1.Community(d.community()) })
		o.Spec.Export.Aggregates = several(d, func() v1alpha1.ExportAggregate {
			return v1alpha1.ExportAggregate{Prefix: d.cidr(), SummaryOnly: d.yes(2)}
		})
		if d.yes(3) {
			o.Spec.Export.Own = new(d.yes(2))
		}
	}
	return o
}

func (d *dice) pool() *v1alpha1.IPPool {
	o := &v1alpha1.IPPool{ObjectMeta: d.meta()}
	o.Spec = v1alpha1.IPPoolSpec{
		CIDR: d.cidr(), FromNodePodCIDR: d.yes(4), Encapsulation: d.text("", "Never", "CrossSubnet", "Always", "x"),
		Tunnel: d.text("", "ipip", "vxlan", "none", "x"), Disabled: d.yes(4), Manual: d.yes(4), Reserved: several(d, d.addr),
		NodeSelector: d.selector(), NamespaceSelector: d.selector(),
	}
	if d.yes(3) {
		o.Spec.BlockSize = int32(d.number()) //nolint:gosec // any
	}
	o.Spec.Uses = several(d, func() v1alpha1.PoolUse { return v1alpha1.PoolUse(d.text("Pod", "LoadBalancer", "Pod", "x")) })
	return o
}

func (d *dice) advertisement() *v1alpha1.ServiceAdvertisement {
	o := &v1alpha1.ServiceAdvertisement{ObjectMeta: d.meta()}
	o.Spec = v1alpha1.ServiceAdvertisementSpec{
		ServiceSelector: d.selector(), NamespaceSelector: d.selector(), NodeSelector: d.selector(), LocalPref: d.optional(), MED: d.optional(),
		WithoutEndpoints: d.yes(3), Addresses: []v1alpha1.ServiceAddress{v1alpha1.AddressLoadBalancer, v1alpha1.AddressExternal, v1alpha1.ServiceAddress(d.text("Cluster", "x"))},
	}
	if d.yes(3) {
		o.Spec.Peers = several(d, d.name)
	}
	o.Spec.Communities = several(d, func() v1alpha1.Community { return v1alpha1.Community(d.community()) })
	if d.yes(2) {
		o.Spec.Aggregate = &v1alpha1.ServiceAggregate{IPv4: int32(d.number()), IPv6: int32(d.number()), Pool: d.yes(2)} //nolint:gosec // any
	}
	return o
}

func (d *dice) service() *corev1.Service {
	o := &corev1.Service{ObjectMeta: d.meta()}
	o.Namespace = d.text("web", "dns")
	o.Spec.Type = corev1.ServiceType(d.text("LoadBalancer", "LoadBalancer", "ClusterIP", "ExternalName"))
	o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(d.text("Local", "Cluster", ""))
	if d.yes(2) {
		o.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if d.yes(4) {
		o.Spec.LoadBalancerClass = new(d.text(v1alpha1.LoadBalancerClass, "x"))
	}
	o.Spec.ExternalIPs, o.Spec.ClusterIPs, o.Spec.ClusterIP = several(d, d.addr), several(d, d.addr), d.text("None", "10.96.0.1", "")
	o.Spec.Ports = several(d, func() corev1.ServicePort { return corev1.ServicePort{Port: int32(d.n(2))} }) //nolint:gosec // small
	o.Status.LoadBalancer.Ingress = several(d, func() corev1.LoadBalancerIngress {
		in := corev1.LoadBalancerIngress{IP: d.addr()}
		if d.yes(5) {
			in.IPMode = new(corev1.LoadBalancerIPModeProxy)
		}
		return in
	})
	return o
}

func (d *dice) bit() *bool {
	switch d.n(3) {
	case 0:
		return new(true)
	case 1:
		return new(false)
	}
	return nil
}

func (d *dice) slice() *discoveryv1.EndpointSlice {
	o := &discoveryv1.EndpointSlice{ObjectMeta: d.meta(), AddressType: discoveryv1.AddressType(d.text("IPv4", "IPv6", "FQDN"))}
	o.Namespace, o.Labels[discoveryv1.LabelServiceName] = d.text("web", "dns"), d.name()
	o.Endpoints = several(d, func() discoveryv1.Endpoint {
		e := discoveryv1.Endpoint{Addresses: several(d, d.addr), Conditions: discoveryv1.EndpointConditions{Ready: d.bit(), Serving: d.bit(), Terminating: d.bit()}}
		if d.yes(2) {
			e.NodeName = new("n1")
		}
		return e
	})
	return o
}

// input returns the objects of a cluster. Of one kind no two have one name, as at an
// API server.
func (d *dice) input() *Input {
	in := &Input{Node: d.node(), Config: &v1alpha1.OnlinkConfig{}, Draining: d.yes(4), Broken: map[Object]string{}}
	if d.yes(2) {
		in.Node.Name = "n1"
	}
	in.Password = func(k v1alpha1.SecretKey) ([]byte, error) {
		if k.Name == "a" {
			return nil, errors.New("not found")
		}
		return []byte("secret"), nil
	}
	s := &in.Config.Spec
	s.ASN, s.Metrics = d.pick(0, 64512, 65001, 23456), d.text("", ":9179", "off", "0.0.0.0:9179", "127.0.0.1:9180", "x")
	s.Reflection = v1alpha1.Reflection{Mesh: v1alpha1.MeshMode(d.text("", "Auto", "Off")), Clients: several(d, d.cidr), PasswordSecretRef: d.secret(), HoldTime: d.duration(), BFD: d.bfd()}
	s.IPAM = v1alpha1.IPAM{Cooldown: d.duration(), Sticky: d.duration(), Assert: d.duration()}
	s.Tunnel = v1alpha1.Tunnel{MTU: int32(d.pick(0, 576, 1400, 70000)), Guard: d.text("", "auto", "x")} //nolint:gosec // small
	s.FIB = v1alpha1.FIB{Metric: d.number(), Resync: d.duration()}
	s.CNI = v1alpha1.CNI{BinDir: d.text("", "/opt/cni/bin", "x"), ConfDir: d.text("", "/etc/cni/net.d", "x"), Plugins: several(d, d.name), Sysctls: several(d, func() string { return d.text("net.ipv4.x", "net.[", "x") })}
	in.Nodes, in.Reflectors = unique(d, d.node), unique(d, d.node)
	in.Peers, in.Filters, in.Pools = unique(d, d.peer), unique(d, d.filter), unique(d, d.pool)
	in.Advertisements, in.Services, in.Slices = unique(d, d.advertisement), unique(d, d.service), unique(d, d.slice)
	in.Namespaces = unique(d, func() *metav1.PartialObjectMetadata { return &metav1.PartialObjectMetadata{ObjectMeta: d.meta()} })
	if d.yes(3) {
		in.Broken[Object{d.text(kindPeer, kindPool, kindConfig, kindFilter, kindAdvertisement), d.text("a", "default")}] = "no"
	}
	return in
}

// unique returns objects of different names.
func unique[T metav1.Object](d *dice, one func() T) (list []T) {
	for range d.n(6) {
		o := one()
		if !slices.ContainsFunc(list, func(p T) bool { return p.GetName() == o.GetName() && p.GetNamespace() == o.GetNamespace() }) {
			list = append(list, o)
		}
	}
	return list
}

// shuffle changes the order of all objects.
func (d *dice) shuffle(in *Input) {
	slices.Reverse(in.Nodes)
	slices.Reverse(in.Reflectors)
	slices.Reverse(in.Peers)
	slices.Reverse(in.Filters)
	slices.Reverse(in.Pools)
	slices.Reverse(in.Advertisements)
	slices.Reverse(in.Services)
	slices.Reverse(in.Slices)
	slices.Reverse(in.Namespaces)
}
