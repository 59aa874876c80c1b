package render

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// candidate is the claim of a Service to one of its addresses.
type candidate struct {
	svc    *corev1.Service
	kind   v1alpha1.ServiceAddress
	local  bool // only nodes with an endpoint announce
	counts *endpoints
	// chosen are the advertisements that select the Service and the kind, the
	// oldest first.
	chosen []*advertisement
	never  string // why the address is announced in no case; "": it may be
	waits  bool   // the service proxy of this node does not forward yet
}

func (c *candidate) name() string { return c.svc.Namespace + "/" + c.svc.Name }

func (c *candidate) selected() bool { return len(c.chosen) > 0 }

// assigned reports whether the API server or a controller gave the Service the address;
// otherwise a user wrote it into externalIPs.
func (c *candidate) assigned() bool { return c.kind != v1alpha1.AddressExternal }

// policy names the traffic policy that decides.
func (c *candidate) policy() string {
	if c.kind == v1alpha1.AddressCluster {
		return "internalTrafficPolicy"
	}
	return "externalTrafficPolicy"
}

// verdict is what a candidate wants for its address.
type verdict int

const (
	withdraw verdict = iota
	lastResort
	announce
)

// judge returns the verdict and why, in words. kube-proxy forwards to endpoints that
// terminate and still serve while there is no ready one (KEP-1669), so a node with
// those alone keeps the address as the last resort: new connections go elsewhere,
// and the present ones are not moved to a node without their state.
func (c *candidate) judge() (verdict, string) {
	n := c.counts
	switch {
	case c.waits && c.local:
		return withdraw, counted(n.readyHere, "ready endpoint") + " on this node, and its kube-proxy does not forward to it yet"
	case c.waits:
		return withdraw, "kube-proxy of this node does not forward yet"
	case c.local && n.readyHere > 0:
		return announce, counted(n.readyHere, "ready endpoint") + " on this node"
	case c.local && n.servingHere > 0:
		return lastResort, counted(n.servingHere, "endpoint") + " on this node, terminating and still serving"
	case c.local && n.here > 0:
		return withdraw, fmt.Sprintf("%s Local and no ready endpoint on this node (%s not ready)", c.policy(), counted(n.here, "endpoint"))
	case c.local:
		return withdraw, c.policy() + " Local and no endpoint on this node"
	case n.ready > 0:
		return announce, counted(n.ready, "ready endpoint") + " in the cluster"
	case n.serving > 0:
		return lastResort, counted(n.serving, "endpoint") + " in the cluster, terminating and still serving"
	case slices.ContainsFunc(c.chosen, func(a *advertisement) bool { return a.withoutEndpoints }):
		return announce, "no ready endpoint in the cluster, and the ServiceAdvertisement has withoutEndpoints"
	}
	return withdraw, "no ready endpoint in the cluster"
}

// wanting returns the advertisements that want the address announced, of a candidate
// that is: without an endpoint those that have withoutEndpoints, and the peers of no
// other.
func (c *candidate) wanting() []*advertisement {
	if c.local || c.counts.ready+c.counts.serving > 0 {
		return c.chosen
	}
	return slices.DeleteFunc(slices.Clone(c.chosen), func(a *advertisement) bool { return !a.withoutEndpoints })
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// candidates returns the claims to each address, of the oldest Service first.
func candidates(in *Input, advs []*advertisement, node string) map[netip.Addr][]candidate {
	counts := countEndpoints(in.Slices, node)
	names := make(map[string]labels.Set, len(in.Namespaces))
	for _, ns := range in.Namespaces {
		names[ns.Name] = ns.Labels
	}
	out := make(map[netip.Addr][]candidate, len(in.Services))
	for _, svc := range byAge(in.Services, serviceMeta) {
		if svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		selected := selecting(advs, names[svc.Namespace], svc.Labels)
		f := counts[serviceKey{svc.Namespace, svc.Name}]
		if f == nil {
			f = &families{}
		}
		addresses(svc, func(addr netip.Addr, c candidate) {
			c.counts = &f[1]
			if addr.Is4() {
				c.counts = &f[0]
			}
			for _, a := range selected {
				if slices.Contains(a.kinds, c.kind) {
					c.chosen = append(c.chosen, a)
				}
			}
			out[addr] = append(out[addr], c)
		})
	}
	return out
}

// selecting returns the advertisements that select a Service.
func selecting(advs []*advertisement, namespace, service labels.Set) (out []*advertisement) {
	for _, a := range advs {
		if a.namespaces.Matches(namespace) && a.services.Matches(service) {
			out = append(out, a)
		}
	}
	return out
}

// addresses calls add with every address of a Service.
func addresses(svc *corev1.Service, add func(netip.Addr, candidate)) {
	one := func(text string, c candidate) {
		if addr, err := netip.ParseAddr(text); err == nil { // "None", or the name of a load balancer
			add(addr.Unmap(), c)
		}
	}
	external := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			one(in.IP, candidate{svc: svc, kind: v1alpha1.AddressLoadBalancer, local: external, never: foreign(svc, &in)})
		}
	}
	for _, text := range svc.Spec.ExternalIPs {
		one(text, candidate{svc: svc, kind: v1alpha1.AddressExternal, local: external})
	}
	internal := svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	for _, text := range ips {
		one(text, candidate{svc: svc, kind: v1alpha1.AddressCluster, local: internal})
	}
}

// headless reports whether a Service has no cluster IP by its own wish: kube-proxy
// ignores it, with its externalIPs.
func headless(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP == corev1.ClusterIPNone || slices.Contains(svc.Spec.ClusterIPs, corev1.ClusterIPNone)
}

// foreign returns why the address of a load balancer is not ours to announce; "":
// it is.
func foreign(svc *corev1.Service, in *corev1.LoadBalancerIngress) string {
	switch class := svc.Spec.LoadBalancerClass; {
	case class != nil && *class != v1alpha1.LoadBalancerClass:
		return fmt.Sprintf("loadBalancerClass %s belongs to another controller", *class)
	case in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy:
		return "ipMode Proxy: the load balancer is a proxy in front of the nodes, and has the address itself"
	}
	return ""
}

// rivalOf returns the first of those that have the address with which the Service must
// not have it too, and why; nil: it may.
func (c *candidate) rivalOf(holders []*candidate) (*candidate, string) {
	for _, h := range holders {
		if text := rival(c, h); text != "" {
			return h, text
		}
	}
	return nil, ""
}

// rival returns why a Service must not have the address that another one has; "":
// it may, by their sharing key.
func rival(c, first *candidate) string {
	if c.svc == first.svc {
		return ""
	}
	key := c.svc.Annotations[v1alpha1.SharingAnnotation]
	shares := key != "" && key == first.svc.Annotations[v1alpha1.SharingAnnotation]
	switch {
	case first.assigned() && !c.assigned() && (!shares || c.svc.Namespace != first.svc.Namespace):
		return fmt.Sprintf("is assigned to Service %s, from which externalIPs do not take it: remove it from spec.externalIPs", first.name())
	case !shares:
		return fmt.Sprintf("is the address of the older Service %s: give one of them another, or both one annotation %s", first.name(), v1alpha1.SharingAnnotation)
	case c.svc.Namespace != first.svc.Namespace:
		return fmt.Sprintf("is the address of the older Service %s, and Services of two namespaces cannot share one: give one of them another", first.name())
	}
	for _, p := range c.svc.Spec.Ports {
		for _, q := range first.svc.Spec.Ports {
			if p.Port == q.Port && protocol(p.Protocol) == protocol(q.Protocol) {
				return fmt.Sprintf("has port %d/%s with Service %s too, which comes first: use another port, or another address", p.Port, protocol(p.Protocol), first.name())
			}
		}
	}
	return ""
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}
