package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/controller/addresses"
	"onlink/kube/render"
)

// conditionAddresses is on a Service: False with what it lacks, True with the
// addresses that onlink gave it, Unknown when onlink does not assign them any more.
const conditionAddresses = "onlink.io/AddressesAssigned"

// Reasons of conditionAddresses.
const (
	reasonAssigned = "Assigned"
	reasonLacks    = "AddressLacks"
	reasonAlone    = "LeftAlone"
)

// assignAddresses gives every Service of type LoadBalancer its addresses. The map of
// what is taken is their status: a leader has it when it has listed them once.
func (c *controller) assignAddresses(ctx context.Context) error {
	pools, podRanges := c.addressPools()
	decided, others := decide(c.patched.apply(list[*corev1.Service](c.w.services)), pools, podRanges, c.taken())
	lacking := 0
	var all error
	for _, d := range decided {
		if d.result.Problem != "" {
			lacking++
		}
		all = errors.Join(all, c.writeService(ctx, d.service, d.result))
	}
	for _, s := range others {
		all = errors.Join(all, c.disclaim(ctx, s))
	}
	c.m.services.WithLabelValues("complete").Set(float64(len(decided) - lacking))
	c.m.services.WithLabelValues("lacking").Set(float64(lacking))
	return all
}

// decision is the addresses of one Service.
type decision struct {
	service *corev1.Service
	result  addresses.Result
}

// patches are the Services that this leader wrote last, by UID: a turn that comes before
// the event of a write would give the address to another Service.
type patches map[types.UID]patch

// patch is a Service as the API server answered, and the versions that it was before.
type patch struct {
	before []string
	now    *corev1.Service
}

// note remembers a write.
func (p patches) note(before, now *corev1.Service) {
	versions := []string{before.ResourceVersion}
	if old, ok := p[before.UID]; ok && old.now.ResourceVersion == before.ResourceVersion {
		versions = append(old.before, versions...)
	}
	p[before.UID] = patch{versions, now}
}

// apply puts what was written in the place of what a cache still has from before, and
// forgets the rest.
func (p patches) apply(cached []*corev1.Service) []*corev1.Service {
	out := slices.Clone(cached)
	lagging := patches{}
	for i, s := range out {
		if w, ok := p[s.UID]; ok && slices.Contains(w.before, s.ResourceVersion) {
			out[i], lagging[s.UID] = w.now, w
		}
	}
	clear(p)
	maps.Copy(p, lagging)
	return out
}

// decide returns the addresses of the Services that onlink assigns them to, and the
// Services of type LoadBalancer that it leaves alone. taken has the addresses of others,
// with what they are. A Service that terminates keeps its addresses until it is gone.
func decide(services []*corev1.Service, pools []addresses.Pool, pods []podRange, taken map[netip.Addr]string) (decided []decision, others []*corev1.Service) {
	byKey := map[string]*corev1.Service{}
	faults := map[string]string{}
	var wanted []addresses.Service
	theirs := map[netip.Addr]string{}
	for _, s := range services {
		key := s.Namespace + "/" + s.Name
		w, fault := wish(s)
		balances, ends := s.Spec.Type == corev1.ServiceTypeLoadBalancer, s.DeletionTimestamp != nil
		switch {
		case !balances || !ours(s, pools):
			noteTheirs(theirs, s, w.Have)
			if balances && !ends {
				others = append(others, s)
			}
		case !ends:
			byKey[key], faults[key] = s, fault
			wanted = append(wanted, w)
		case len(w.Have) > 0:
			w.Wanted = w.Have
			wanted = append(wanted, w)
		}
	}
	for key, r := range addresses.Assign(pools, wanted, inUse(taken, pods, theirs)) {
		if byKey[key] == nil {
			continue // it terminates
		}
		if faults[key] != "" {
			r.Problem = strings.TrimPrefix(r.Problem+"; "+faults[key], "; ")
		}
		decided = append(decided, decision{byKey[key], r})
	}
	return decided, others
}

// noteTheirs notes the addresses of a Service to which onlink assigns none.
func noteTheirs(theirs map[netip.Addr]string, s *corev1.Service, have []netip.Addr) {
	key := s.Namespace + "/" + s.Name
	for _, a := range have {
		theirs[a] = "an address of Service " + key + ", to which another controller gave it"
	}
	for _, t := range s.Spec.ExternalIPs {
		if a, err := netip.ParseAddr(t); err == nil {
			theirs[a.Unmap()] = "in externalIPs of Service " + key
		}
	}
}

// inUse returns a function that says what an address is used for, "": nothing, and the
// range around it that is used for the same.
func inUse(taken map[netip.Addr]string, pods []podRange, theirs map[netip.Addr]string) func(netip.Addr) (string, netip.Prefix) {
	return func(a netip.Addr) (string, netip.Prefix) {
		one := netip.PrefixFrom(a, a.BitLen())
		if what, ok := taken[a]; ok {
			return what, one
		}
		for _, p := range pods {
			if p.cidr.Contains(a) {
				return "in IPPool " + p.name + ", which pods use", p.cidr
			}
		}
		return theirs[a], one
	}
}

// ours reports whether onlink assigns the addresses of a Service of type LoadBalancer.
// One of our class is ours. One without a class may be another controller's, whose
// addresses must not be taken from it: it is ours when it names pools or addresses of
// onlink, has addresses of ours, or while there is a pool that is for Services which
// name none; and in no case with an address that onlink did not give.
func ours(s *corev1.Service, pools []addresses.Pool) bool {
	if class := s.Spec.LoadBalancerClass; class != nil {
		return *class == v1alpha1.LoadBalancerClass
	}
	gave := given(s)
	asks := s.Annotations[v1alpha1.PoolsAnnotation] != "" || s.Annotations[v1alpha1.AddressesAnnotation] != ""
	for _, i := range s.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(i.IP)
		if err != nil || i.Hostname != "" || i.IPMode != nil && *i.IPMode == corev1.LoadBalancerIPModeProxy {
			return false
		}
		addr = addr.Unmap()
		if !gave[addr] && !slices.ContainsFunc(pools, func(p addresses.Pool) bool { return p.CIDR.Contains(addr) }) {
			return false
		}
	}
	return asks || len(gave) > 0 || len(s.Status.LoadBalancer.Ingress) > 0 ||
		slices.ContainsFunc(pools, func(p addresses.Pool) bool { return !p.Manual })
}

// given returns the addresses that onlink gave a Service, as its condition names
// them. One that lacks an address has none here: those of pools are ours all the same.
func given(s *corev1.Service) map[netip.Addr]bool {
	cond := meta.FindStatusCondition(s.Status.Conditions, conditionAddresses)
	if cond == nil || cond.Reason != reasonAssigned {
		return nil
	}
	out := map[netip.Addr]bool{}
	for _, text := range words(cond.Message) {
		if a, err := netip.ParseAddr(text); err == nil {
			out[a] = true
		}
	}
	return out
}

// podRange is the range of a pool that pods use.
type podRange struct {
	name string
	cidr netip.Prefix
}

// addressPools returns the pools for Services, and the ranges of those for pods. A
// range that nodes reject stays the pods': an agent may have it in force.
func (c *controller) addressPools() (pools []addresses.Pool, pods []podRange) {
	all := list[*v1alpha1.IPPool](c.w.pools)
	rejected := render.RejectedPools(all) // before a node has said so in a status
	for _, p := range all {
		cidr, err := netip.ParsePrefix(string(p.Spec.CIDR))
		if err != nil {
			continue // the API server's schema rejects it
		}
		cidr = cidr.Masked()
		if forPods(p) {
			pods = append(pods, podRange{p.Name, cidr})
			continue // a pool for both gives Services nothing: nodes claim its blocks
		}
		pools = append(pools, addresses.Pool{
			Name: p.Name, CIDR: cidr, Reserved: ranges(p.Spec.Reserved), Disabled: p.Spec.Disabled, Manual: p.Spec.Manual,
			Rejected: cmp.Or(rejected[p.Name], rejectedBy(p)), Serves: c.namespacesOf(p),
		})
	}
	return pools, pods
}

// rejectedBy returns what the condition of a pool has of the nodes that reject it as it
// is now; "": none does.
func rejectedBy(p *v1alpha1.IPPool) string {
	cond := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
	if cond == nil || cond.Status != metav1.ConditionFalse || cond.ObservedGeneration != p.Generation {
		return ""
	}
	return cond.Message
}

// ranges reads addresses and prefixes; the API server does not check them.
func ranges(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			out = append(out, p.Masked())
		} else if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// namespacesOf returns whether a namespace's Services use a pool.
func (c *controller) namespacesOf(p *v1alpha1.IPPool) func(string) bool {
	if p.Spec.NamespaceSelector == nil {
		return func(string) bool { return true }
	}
	sel, err := metav1.LabelSelectorAsSelector(p.Spec.NamespaceSelector)
	if err != nil {
		return func(string) bool { return false } // the nodes name the fault
	}
	return func(name string) bool {
		ns, ok := get[*corev1.Namespace](c.w.namespaces, name)
		return ok && sel.Matches(labels.Set(ns.Labels))
	}
}

// taken returns the addresses of all Nodes and of the routers that they peer with.
func (c *controller) taken() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, p := range list[*v1alpha1.BGPPeer](c.w.peers) {
		if addr, err := netip.ParseAddr(p.Spec.Address); err == nil {
			out[addr.Unmap()] = "the address of BGPPeer " + p.Name
		}
	}
	for _, n := range list[*corev1.Node](c.w.nodes) {
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				out[addr.Unmap()] = "an address of Node " + n.Name
			}
		}
	}
	return out
}

// wish reads what a Service wants, and what is wrong with it.
func wish(s *corev1.Service) (w addresses.Service, fault string) {
	w = addresses.Service{
		Namespace: s.Namespace, Name: s.Name, Created: s.CreationTimestamp.Unix(), Sharing: s.Annotations[v1alpha1.SharingAnnotation],
		IPv4: slices.Contains(s.Spec.IPFamilies, corev1.IPv4Protocol), IPv6: slices.Contains(s.Spec.IPFamilies, corev1.IPv6Protocol),
		All:   s.Spec.IPFamilyPolicy == nil || *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyPreferDualStack,
		Pools: words(s.Annotations[v1alpha1.PoolsAnnotation]),
	}
	texts := words(s.Annotations[v1alpha1.AddressesAnnotation])
	if len(texts) == 0 && s.Spec.LoadBalancerIP != "" {
		texts = []string{s.Spec.LoadBalancerIP}
	}
	for _, t := range texts {
		addr, err := netip.ParseAddr(t)
		if err != nil {
			fault = fmt.Sprintf("%s: %q is no IP address", v1alpha1.AddressesAnnotation, t)
			continue
		}
		w.Wanted = append(w.Wanted, addr.Unmap())
	}
	for _, p := range s.Spec.Ports {
		w.Ports = append(w.Ports, addresses.Port{Protocol: string(p.Protocol), Port: p.Port})
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		w.Selector = "local " + labels.Set(s.Spec.Selector).String()
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(i.IP); err == nil {
			w.Have = append(w.Have, addr.Unmap())
		}
	}
	if fault != "" && len(w.Wanted) == 0 { // not an address of the controller's choice in place of the misspelt one
		w.Wanted = w.Have
		if len(w.Have) == 0 {
			w.IPv4, w.IPv6 = false, false
		}
	}
	return w, fault
}

// words splits a list of an annotation.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// writeService makes the status of a Service show its addresses.
func (c *controller) writeService(ctx context.Context, s *corev1.Service, r addresses.Result) error {
	ingress := []corev1.LoadBalancerIngress{}
	vip := corev1.LoadBalancerIPModeVIP
	var texts []string
	for _, a := range r.Addresses {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &vip})
		texts = append(texts, a.String())
	}
	same := slices.EqualFunc(ingress, s.Status.LoadBalancer.Ingress, func(x, y corev1.LoadBalancerIngress) bool { return x.IP == y.IP })
	cond := addressCondition(s, r, same)
	if same && cond == nil {
		return nil
	}
	status := map[string]any{}
	if !same { // or a mode or ports of another writer stay
		status["loadBalancer"] = map[string]any{"ingress": ingress}
	}
	if written, err := c.patchService(ctx, s, status, cond); err != nil || !written {
		return err
	}
	if !same {
		c.log.Info("assigned addresses", "service", s.Namespace+"/"+s.Name, "addresses", texts)
		c.events.Record(serviceReference(s), corev1.EventTypeNormal, "AddressesAssigned", "addresses: "+strings.Join(texts, ", "))
	}
	if cond != nil && cond.Status == metav1.ConditionFalse {
		c.events.Record(serviceReference(s), corev1.EventTypeWarning, cond.Reason, cond.Message)
	}
	return nil
}

// patchService writes a part of the status of a Service, and a condition; false: it
// changed meanwhile, and its event begins the next turn.
func (c *controller) patchService(ctx context.Context, s *corev1.Service, status map[string]any, cond *metav1.Condition) (bool, error) {
	if cond != nil {
		status["conditions"] = []metav1.Condition{*cond}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": s.ResourceVersion, "uid": s.UID}, "status": status})
	if err != nil {
		return false, fmt.Errorf("write status of Service %s/%s: %w", s.Namespace, s.Name, err)
	}
	now, err := c.client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("write status of Service %s/%s: %w", s.Namespace, s.Name, err)
	}
	c.patched.note(s, now)
	return true, nil
}

// disclaim ends what onlink said of a Service that it leaves alone: the last word
// would be for ever that an address lacks, also after another controller gave one.
func (c *controller) disclaim(ctx context.Context, s *corev1.Service) error {
	old := meta.FindStatusCondition(s.Status.Conditions, conditionAddresses)
	if old == nil || old.Reason == reasonAlone {
		return nil
	}
	_, err := c.patchService(ctx, s, map[string]any{}, changed(old, metav1.Condition{
		Type: conditionAddresses, Status: metav1.ConditionUnknown, Reason: reasonAlone, ObservedGeneration: s.Generation,
		Message: "onlink does not assign the addresses of this Service: another controller gave it one, or there is no IPPool with uses: [LoadBalancer]",
	}))
	return err
}

// serviceReference names a Service in an Event.
func serviceReference(s *corev1.Service) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.UID}
}

// addressCondition returns the condition to write; nil: it is written, or needless.
// same is that the Service has the addresses: without a condition they are of a pool,
// and a condition now would be one write for each Service of the cluster.
func addressCondition(s *corev1.Service, r addresses.Result, same bool) *metav1.Condition {
	old := meta.FindStatusCondition(s.Status.Conditions, conditionAddresses)
	next := metav1.Condition{Type: conditionAddresses, Status: metav1.ConditionTrue, Reason: reasonAssigned, ObservedGeneration: s.Generation}
	texts := make([]string, len(r.Addresses))
	for i, a := range r.Addresses {
		texts[i] = a.String()
	}
	next.Message = strings.Join(texts, ", ")
	if r.Problem != "" {
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, reasonLacks, r.Problem
	}
	if old == nil && r.Problem == "" && same {
		return nil
	}
	return changed(old, next)
}

// changed returns the condition as it is to be written; nil: the old one says the same.
func changed(old *metav1.Condition, next metav1.Condition) *metav1.Condition {
	next.LastTransitionTime = metav1.NewTime(time.Now())
	switch {
	case old == nil:
	case old.Status == next.Status && old.Reason == next.Reason && old.Message == next.Message:
		return nil
	case old.Status == next.Status:
		next.LastTransitionTime = old.LastTransitionTime
	}
	return &next
}
