package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// object names a configuration object.
type object struct{ kind, name string }

// rejection is why nodes leave an object out.
type rejection struct {
	nodes  []string
	reason string // of the first node
}

// Counts change with every node that writes its OnlinkNode, and each write of one is an
// event on every node: that of a pool waits for countPace since the last one, that of
// the nodes that agree for agreePace unless all do.
const (
	countPace = 30 * time.Second
	agreePace = 5 * time.Second
)

// pace is when the counts of objects were written last.
type pace map[object]time.Time

// due reports whether counts that changed are to be written now, and notes it.
func (p pace) due(o object, every time.Duration) bool {
	if time.Since(p[o]) < every {
		return false
	}
	p[o] = time.Now()
	return true
}

// writeStatus writes what the nodes say of every configuration object.
func (c *controller) writeStatus(ctx context.Context) error {
	nodes := c.livingOnNodes()
	rejected, machines := rejections(nodes), c.machines()
	var all error
	for _, o := range list[*v1alpha1.BGPFilter](c.w.filters) {
		next := o.DeepCopy()
		judge(&next.Status, object{"BGPFilter", o.Name}, o.Generation, rejected)
		all = errors.Join(all, write(ctx, c.client.Filters, o, next, &o.Status, &next.Status))
	}
	for _, o := range list[*v1alpha1.BGPPeer](c.w.peers) {
		next := o.DeepCopy()
		judge(&next.Status.Status, object{"BGPPeer", o.Name}, o.Generation, rejected)
		next.Status.Established, next.Status.Nodes = sessionsOf(o.Name, nodes), c.selected(o.Spec.NodeSelector)
		c.effect(&next.Status.Status, o.Spec.NodeSelector)
		all = errors.Join(all, write(ctx, c.client.Peers, o, next, &o.Status, &next.Status))
	}
	for _, o := range list[*v1alpha1.ServiceAdvertisement](c.w.advertisements) {
		next := o.DeepCopy()
		judge(&next.Status.Status, object{"ServiceAdvertisement", o.Name}, o.Generation, rejected)
		services, states := c.announced(o, nodes)
		next.Status.Services, next.Status.Prefixes = services, int32(len(states)) //nolint:gosec // below the number of Services
		c.effect(&next.Status.Status, o.Spec.NodeSelector)
		c.aggregateCovers(o, &next.Status.Status, states, machines)
		all = errors.Join(all, write(ctx, c.client.Advertisements, o, next, &o.Status, &next.Status))
	}
	all = errors.Join(all, c.writePools(ctx, nodes, rejected, machines))
	return errors.Join(all, c.writeConfigStatus(ctx))
}

// livingOnNodes returns the OnlinkNodes of Nodes that exist, by name.
func (c *controller) livingOnNodes() []*v1alpha1.OnlinkNode {
	out := slices.DeleteFunc(list[*v1alpha1.OnlinkNode](c.w.onNodes), func(o *v1alpha1.OnlinkNode) bool {
		_, ok := get[*corev1.Node](c.w.nodes, o.Name)
		return !ok
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// generation is an object as of one edit.
type generation struct {
	object
	number int64
}

// rejections gathers the objects that nodes leave out.
func rejections(nodes []*v1alpha1.OnlinkNode) map[generation]*rejection {
	out := map[generation]*rejection{}
	for _, n := range nodes {
		for _, r := range n.Status.Rejected {
			key := generation{object{r.Kind, r.Name}, r.Generation}
			if out[key] == nil {
				out[key] = &rejection{reason: r.Reason}
			}
			out[key].nodes = append(out[key].nodes, n.Name)
		}
	}
	return out
}

// judge sets the condition Accepted of an object. A rejection of a former generation
// counts no more: the nodes judge the new one.
func judge(s *v1alpha1.Status, o object, number int64, rejected map[generation]*rejection) {
	cond := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "no node rejects it", ObservedGeneration: number,
	}
	if r := rejected[generation{o, number}]; r != nil {
		cond.Status, cond.Reason = metav1.ConditionFalse, "Rejected"
		cond.Message = r.reason + " (node " + r.nodes[0]
		if more := len(r.nodes) - 1; more > 0 {
			cond.Message += fmt.Sprintf(" and %d more", more)
		}
		cond.Message += "); what was in force of it stays"
	}
	meta.SetStatusCondition(&s.Conditions, cond)
	s.ObservedGeneration = number
}

// effect says of an accepted object when its selector matches no Node: no node reads
// more of it than that.
func (c *controller) effect(s *v1alpha1.Status, nodes *metav1.LabelSelector) {
	cond := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAccepted)
	if cond != nil && cond.Status == metav1.ConditionTrue && c.selected(nodes) == 0 {
		cond.Reason, cond.Message = "NoNode", "spec.nodeSelector matches no Node, so the object has no effect; correct it, or label Nodes"
	}
}

// writer is a typed client.
type writer[T any] interface {
	UpdateStatus(ctx context.Context, o T, opts metav1.UpdateOptions) (T, error)
}

// write writes a status that changed. Of two writers the later reads again: the
// event of the other write begins the next turn.
func write[T metav1.Object](ctx context.Context, w writer[T], old, next T, was, is any) error {
	if equality.Semantic.DeepEqual(was, is) {
		return nil
	}
	_, err := w.UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write status of %T %s: %w", old, old.GetName(), err)
	}
	return nil
}

// sessionsOf counts the established sessions of a BGPPeer.
func sessionsOf(name string, nodes []*v1alpha1.OnlinkNode) int32 {
	up := int32(0)
	for _, n := range nodes {
		for _, s := range n.Status.Sessions.Peers {
			if s.Name == name && s.State == "Established" {
				up++
			}
		}
	}
	return up
}

// selected counts the Nodes of a selector; a nil one selects all.
func (c *controller) selected(sel *metav1.LabelSelector) int32 {
	match, ok := selector(sel)
	if !ok {
		return 0
	}
	count := int32(0)
	for _, n := range list[*corev1.Node](c.w.nodes) {
		if match.Matches(labels.Set(n.Labels)) {
			count++
		}
	}
	return count
}

// selector reads a selector; false for a malformed one, which nodes reject.
func selector(sel *metav1.LabelSelector) (labels.Selector, bool) {
	if sel == nil {
		return labels.Everything(), true
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	return s, err == nil
}

// announced counts the Services of an advertisement, and returns the addresses of them
// that nodes announce: true for those of which a node announces an aggregate.
func (c *controller) announced(o *v1alpha1.ServiceAdvertisement, nodes []*v1alpha1.OnlinkNode) (services int32, prefixes map[string]bool) {
	match, ok := selector(o.Spec.ServiceSelector)
	inside, nsOK := selector(o.Spec.NamespaceSelector)
	if !ok || !nsOK {
		return 0, nil
	}
	mine := map[string]bool{}
	for _, s := range list[*corev1.Service](c.w.services) {
		ns, found := get[*corev1.Namespace](c.w.namespaces, s.Namespace)
		if match.Matches(labels.Set(s.Labels)) && found && inside.Matches(labels.Set(ns.Labels)) && hasAddress(o.Spec.Addresses, s) {
			mine[s.Namespace+"/"+s.Name] = true
		}
	}
	seen := map[string]bool{}
	for _, n := range nodes {
		for _, s := range n.Status.Services {
			if mine[s.Service] && (s.State == "announced" || s.State == "graceful-shutdown" || s.State == "aggregated") {
				seen[s.Address] = seen[s.Address] || s.State == "aggregated"
			}
		}
	}
	return int32(len(mine)), seen //nolint:gosec // below the number of Services
}

// hasAddress reports whether a Service has an address of one of the kinds.
func hasAddress(kinds []v1alpha1.ServiceAddress, s *corev1.Service) bool {
	for _, k := range kinds {
		switch k {
		case v1alpha1.AddressLoadBalancer:
			if len(s.Status.LoadBalancer.Ingress) > 0 {
				return true
			}
		case v1alpha1.AddressExternal:
			if len(s.Spec.ExternalIPs) > 0 {
				return true
			}
		case v1alpha1.AddressCluster:
			if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone {
				return true
			}
		}
	}
	return false
}

// writePools writes the use of the pools. Which pool the addresses in a node's
// count are of is in no object: with one pool for pods they are that one's.
func (c *controller) writePools(ctx context.Context, nodes []*v1alpha1.OnlinkNode, rejected map[generation]*rejection, machines []machine) error {
	blocks := map[string]int32{}
	for _, b := range list[*v1alpha1.Block](c.w.blocks) {
		if b.Spec.Node != "" {
			blocks[b.Spec.Pool]++
		}
	}
	given := givenTo(list[*corev1.Service](c.w.services))
	used := int64(0)
	for _, n := range nodes {
		used += n.Status.Blocks.Used
	}
	pods := 0
	pools := list[*v1alpha1.IPPool](c.w.pools)
	for _, p := range pools {
		if forPods(p) {
			pods++
		}
	}
	var all error
	for _, o := range pools {
		next := o.DeepCopy()
		judge(&next.Status.Status, object{"IPPool", o.Name}, o.Generation, rejected)
		c.effect(&next.Status.Status, o.Spec.NodeSelector)
		poolCovers(o, &next.Status.Status, machines)
		next.Status.Blocks, next.Status.Used = blocks[o.Name], 0
		if cidr, err := netip.ParsePrefix(string(o.Spec.CIDR)); err == nil {
			next.Status.Total, next.Status.Used = total(cidr), inside(cidr, given)
		}
		if forPods(o) && pods == 1 {
			next.Status.Used = used
		}
		was := &o.Status
		if (next.Status.Blocks != was.Blocks || next.Status.Used != was.Used) && !c.counts.due(object{kindPool, o.Name}, countPace) {
			next.Status.Blocks, next.Status.Used = was.Blocks, was.Used
		}
		all = errors.Join(all, write(ctx, c.client.Pools, o, next, &o.Status, &next.Status))
	}
	return all
}

// forPods reports whether pods have addresses of a pool.
func forPods(p *v1alpha1.IPPool) bool {
	return len(p.Spec.Uses) == 0 || slices.Contains(p.Spec.Uses, v1alpha1.UsePod)
}

// givenTo returns the addresses of load balancers, each once.
func givenTo(services []*corev1.Service) map[netip.Addr]bool {
	given := map[netip.Addr]bool{}
	for _, s := range services {
		for _, i := range s.Status.LoadBalancer.Ingress {
			if a, err := netip.ParseAddr(i.IP); err == nil {
				given[a] = true
			}
		}
	}
	return given
}

// inside returns how many of the addresses are in a range.
func inside(p netip.Prefix, addrs map[netip.Addr]bool) (n int64) {
	for a := range addrs {
		if p.Contains(a) {
			n++
		}
	}
	return n
}

// total returns how many addresses a range has, of large ones as a power of two.
func total(p netip.Prefix) string {
	bits := p.Addr().BitLen() - p.Bits()
	if bits > 32 {
		return "2^" + strconv.Itoa(bits)
	}
	return strconv.FormatUint(1<<bits, 10)
}

// writeConfigStatus writes the status of the OnlinkConfig.
func (c *controller) writeConfigStatus(ctx context.Context) error {
	o, ok := get[*v1alpha1.OnlinkConfig](c.w.configs, v1alpha1.ConfigName)
	if !ok {
		return nil // firstObjects has the alarm
	}
	nodes := c.livingOnNodes()
	next := o.DeepCopy()
	judge(&next.Status.Status, object{"OnlinkConfig", o.Name}, o.Generation, rejections(nodes))
	next.Status.Nodes, next.Status.Agree = int32(len(nodes)), 0 //nolint:gosec // nodes
	held := metav1.Condition{Type: v1alpha1.ConditionHeld, Status: metav1.ConditionFalse, Reason: "NothingHeld", ObservedGeneration: o.Generation}
	waiting := 0
	for _, n := range nodes {
		if n.Status.ConfigGeneration == o.Generation {
			next.Status.Agree++
		}
		if h := n.Status.Held; h != nil {
			if waiting++; waiting == 1 {
				held.Message = fmt.Sprintf("node %s: %s (digest %s)", n.Name, h.Reason, h.Digest)
			}
		}
	}
	was := &o.Status
	if changed := next.Status.Nodes != was.Nodes || next.Status.Agree != was.Agree; changed && next.Status.Agree != next.Status.Nodes &&
		!c.counts.due(object{kindConfig, o.Name}, agreePace) {
		next.Status.Nodes, next.Status.Agree = was.Nodes, was.Agree
	}
	if waiting > 0 {
		held.Status, held.Reason = metav1.ConditionTrue, "WaitsForConfirmation"
		held.Message = fmt.Sprintf("%d nodes hold a change; %s", waiting, held.Message)
	}
	meta.SetStatusCondition(&next.Status.Conditions, held)
	if p := c.policy.Load(); p != nil {
		p := *p
		p.ObservedGeneration = o.Generation
		meta.SetStatusCondition(&next.Status.Conditions, p)
	}
	return write(ctx, c.client.Configs, o, next, &o.Status, &next.Status)
}
