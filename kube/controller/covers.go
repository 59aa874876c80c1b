package controller

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// reasonCovers is the reason of the condition Accepted of an object by which the address
// of a Node may be announced. Where there are reflectors no node but the controller knows
// all Nodes, so that none can refuse it.
const reasonCovers = "CoversNodes"

// machine is an address of a Node.
type machine struct {
	addr netip.Addr
	node string
}

// machines returns the addresses of all Nodes, in order.
func (c *controller) machines() []machine {
	var out []machine
	for _, n := range list[*corev1.Node](c.w.nodes) {
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				out = append(out, machine{addr.Unmap(), n.Name})
			}
		}
	}
	slices.SortFunc(out, func(x, y machine) int { return x.addr.Compare(y.addr) })
	return out
}

// within names the Nodes with an address in one of the ranges; "": there is none.
func within(nodes []machine, ranges ...netip.Prefix) string {
	first, names := "", map[string]bool{}
	for _, m := range nodes {
		at := slices.IndexFunc(ranges, func(p netip.Prefix) bool { return p.Contains(m.addr) })
		if at < 0 {
			continue
		}
		if names[m.node] = true; first == "" {
			first = fmt.Sprintf("%s has the address %s of Node %s", ranges[at], m.addr, m.node)
		}
	}
	if more := len(names) - 1; more > 0 {
		first += fmt.Sprintf(", and those of %d more", more)
	}
	return first
}

// covers says of an accepted object that it covers Nodes; what: within, and remedy.
func covers(s *v1alpha1.Status, what, remedy string) {
	cond := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAccepted)
	if what != "" && cond != nil && cond.Status == metav1.ConditionTrue {
		cond.Reason, cond.Message = reasonCovers, what+": "+remedy
	}
}

// poolCovers says of a pool that it covers Nodes. The controller gives no Service such an
// address; a user may write one into externalIPs, and a node may claim a block with it.
func poolCovers(o *v1alpha1.IPPool, s *v1alpha1.Status, nodes []machine) {
	cidr, err := netip.ParsePrefix(string(o.Spec.CIDR))
	if err != nil {
		return
	}
	what := within(nodes, cidr.Masked())
	if what != "" {
		what = "spec.cidr: " + what
	}
	if forPods(o) {
		covers(s, what, "nodes that do not know the Node give it to a pod; delete this pool, and make one of a range of its own")
		return
	}
	covers(s, what, "no Service is given that one, but what has it in spec.externalIPs takes the Node's packets; make pools of ranges apart from the Nodes, such as parts of this one")
}

// aggregateCovers says of an advertisement that its aggregates cover Nodes. Nodes that
// know the Node announce the addresses one by one in their place. states: see announced.
func (c *controller) aggregateCovers(o *v1alpha1.ServiceAdvertisement, s *v1alpha1.Status, states map[string]bool, nodes []machine) {
	var addrs []netip.Addr
	for text, aggregated := range states {
		if a, err := netip.ParseAddr(text); err == nil && aggregated {
			addrs = append(addrs, a)
		}
	}
	what := within(nodes, c.aggregatesOf(o.Spec.Aggregate, addrs)...)
	if what != "" {
		what = "spec.aggregate: " + what
	}
	covers(s, what, "nodes that do not know the Node may announce it, and take its packets; use a longer prefix")
}

// aggregatesOf returns the prefixes that nodes announce in place of addresses for an
// advertisement. addrs are those addresses.
func (c *controller) aggregatesOf(g *v1alpha1.ServiceAggregate, addrs []netip.Addr) []netip.Prefix {
	if g == nil {
		return nil
	}
	var pools []netip.Prefix
	if g.Pool {
		for _, p := range list[*v1alpha1.IPPool](c.w.pools) {
			if cidr, err := netip.ParsePrefix(string(p.Spec.CIDR)); err == nil && !forPods(p) {
				pools = append(pools, cidr.Masked())
			}
		}
	}
	seen := map[netip.Prefix]bool{}
	for _, a := range addrs {
		bits := int(g.IPv6)
		if a.Is4() {
			bits = int(g.IPv4)
		}
		if at := slices.IndexFunc(pools, func(p netip.Prefix) bool { return p.Contains(a) }); at >= 0 {
			seen[pools[at]] = true
		} else if p, err := a.Prefix(bits); err == nil && bits > 0 {
			seen[p] = true
		}
	}
	out := make([]netip.Prefix, 0, len(seen))
	for p := range seen {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
