package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
)

// named is how soon the status of a broken object says so, and broken is the bound of
// the short form, in which all of them come at once to a machine that may be busy.
const (
	named       = 5 * time.Second
	brokenBound = time.Minute
)

// window is how long nothing may happen after an alarm: longer than a deletion waits
// for others.
const window = 13 * time.Second

// ownKinds are the kinds of onlink that a person writes, with their resources.
var ownKinds = map[string]string{
	"BGPPeer": "bgppeers", "BGPFilter": "bgpfilters", "IPPool": "ippools", "ServiceAdvertisement": "serviceadvertisements", "OnlinkConfig": "onlinkconfigs",
}

// resourceOf returns the resource of a kind of the tables.
func resourceOf(kind string) schema.GroupVersionResource {
	if r, ok := ownKinds[kind]; ok {
		return v1alpha1.GroupVersion.WithResource(r)
	}
	return corev1.SchemeGroupVersion.WithResource(strings.ToLower(kind) + "s")
}

// object reads "KIND NAME {FIELDS}"; fields are those of the object, or, of the kinds
// of onlink, its spec.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	kind, rest, _ := strings.Cut(text, " ")
	name, fields, _ := strings.Cut(rest, " ")
	content := map[string]any{}
	if _, ours := ownKinds[kind]; ours {
		fields = "{spec: " + fields + "}"
	}
	must(t, yaml.Unmarshal([]byte(fields), &content))
	o := &unstructured.Unstructured{Object: content}
	o.SetKind(kind)
	o.SetAPIVersion("v1")
	if _, ours := ownKinds[kind]; ours {
		o.SetAPIVersion(v1alpha1.GroupVersion.String())
	}
	o.SetName(name)
	return o
}

// namespaceOf is where an object of a kind is.
func namespaceOf(kind string) string {
	switch {
	case ownKinds[kind] != "":
		return ""
	case kind == "Secret":
		return onlinkSpace
	}
	return metav1.NamespaceDefault
}

// create creates an object; strict rejects fields that its kind does not have, as
// kubectl does.
func (l *live) create(ctx context.Context, o *unstructured.Unstructured) error {
	d, err := l.Dynamic()
	if err != nil {
		return err
	}
	_, err = d.Resource(resourceOf(o.GetKind())).Namespace(namespaceOf(o.GetKind())).Create(ctx, o, metav1.CreateOptions{FieldValidation: "Strict"})
	return err
}

func (l *live) remove(ctx context.Context, kind, name string) error {
	d, err := l.Dynamic()
	if err != nil {
		return err
	}
	return d.Resource(resourceOf(kind)).Namespace(namespaceOf(kind)).Delete(ctx, name, metav1.DeleteOptions{})
}

// refused are objects that the API server itself rejects, and the words of its answer.
var refused = []struct{ name, object, want string }{
	{"no CIDR", "IPPool x {cidr: 10.300.0.0/16}", "is not a CIDR"},
	{"AS 0", "BGPPeer x {address: 10.90.1.1, asn: 0}", "greater than or equal to 1"},
	{"AS of 33 bits", "BGPPeer x {address: 10.90.1.1, asn: 4294967295}", "less than or equal to 4294967294"},
	{"neither address nor interface", "BGPPeer x {asn: 65001}", "set address, or interface"},
	{"a time without a unit", "BGPPeer x {address: 10.90.1.1, holdTime: \"90\"}", "spec.holdTime"},
	{"multihop and GTSM", "BGPPeer x {address: 10.90.1.1, multihop: 2, ttlSecurity: 1}", "multihop cannot be combined with ttlSecurity"},
	{"port", "BGPPeer x {address: 10.90.1.1, port: 70000}", "spec.port"},
	{"a field that is not there", "BGPPeer x {peer: 10.90.1.1}", `unknown field "spec.peer"`},
	{"rule with ge above le", "BGPPeer x {address: 10.90.1.1, import: {accept: [{prefix: 10.0.0.0/8, ge: 24, le: 16}]}}", "ge is greater than le"},
	{"a second OnlinkConfig", "OnlinkConfig x {}", "the only OnlinkConfig is named default"},
	{"an action", "BGPFilter x {rules: [{action: drop}]}", "spec.rules[0].action"},
	{"a kind of address", "ServiceAdvertisement x {addresses: [Everything]}", "spec.addresses[0]"},
	{"LOCAL_PREF below 0", "ServiceAdvertisement x {localPref: -1}", "spec.localPref"},
	{"a use", "IPPool x {cidr: 10.99.0.0/16, uses: [Node]}", "spec.uses[0]"},
	{"blocks of two lengths", "IPPool x {cidr: 10.99.0.0/16, fromNodePodCIDR: true, blockSize: 24}", "remove it"},
}

// breakage is an object that the API server accepts and that cannot be in force.
type breakage struct {
	name, object string
	want         string // in the message of its condition
	reason       string // of a condition that is True; "": it is False
}

// broken are the breakages of one cluster; TOR, NODE and VIP are the addresses of the ToR,
// the second node and the Service.
func (l *live) broken() []breakage {
	f := strings.NewReplacer("TOR", l.tor.Addr.String(), "NODE", l.Nodes[1].Addr.String(), "VIP", l.vip.Addr().String()).Replace
	service := func(name, annotation string) string {
		return f("Service " + name + ` {metadata: {annotations: {onlink.io/load-balancer-ips: "` + annotation + `"}}, ` +
			"spec: {type: LoadBalancer, selector: {app: hello}, ports: [{port: 81}]}}")
	}
	return []breakage{
		{name: "address is a name", object: "BGPPeer b-name {address: tor.example.com}", want: "is not an IP address"},
		{name: "address of a group", object: "BGPPeer b-group {address: 224.0.0.5}", want: "is not one machine's address"},
		{name: "link-local without a device", object: "BGPPeer b-link {address: \"fe80::1\"}", want: "has no interface"},
		{name: "address of a node", object: f("BGPPeer b-node {address: NODE}"), want: f("NODE")},
		{name: "address of pods", object: "BGPPeer b-pods {address: 10.244.200.1, asn: 65001}", want: "belongs to pods"},
		{name: "address of an older peer", object: f("BGPPeer b-twice {address: TOR, asn: 65001}"), want: "older BGPPeer tor1"},
		{name: "name of a node", object: "BGPPeer " + l.Nodes[1].Name + " {address: 10.90.0.9}", want: "use another name"},
		{name: "hold time", object: "BGPPeer b-hold {address: 10.90.0.10, asn: 65001, holdTime: 1s}", want: "spec.holdTime: 1s is out of range"},
		{name: "fraction of a second", object: "BGPPeer b-fraction {address: 10.90.0.11, asn: 65001, holdTime: 4500ms}", want: "whole number of seconds"},
		{name: "keepalive", object: "BGPPeer b-keep {address: 10.90.0.12, asn: 65001, holdTime: 9s, keepalive: 5s}", want: "more than a third"},
		{name: "AS_TRANS", object: "BGPPeer b-trans {address: 10.90.0.13, asn: 23456}", want: "AS_TRANS"},
		{name: "no Secret", object: "BGPPeer b-secret {address: 10.90.0.14, asn: 65001, passwordSecretRef: {name: nowhere}}", want: "there is no such Secret"},
		{name: "Secret without the key", object: "BGPPeer b-key {address: 10.90.0.15, asn: 65001, passwordSecretRef: {name: keys}}", want: "has no such key"},
		{name: "empty key", object: "BGPPeer b-empty {address: 10.90.0.16, asn: 65001, passwordSecretRef: {name: keys, key: empty}}", want: "is empty"},
		{name: "long key", object: "BGPPeer b-long {address: 10.90.0.17, asn: 65001, passwordSecretRef: {name: keys, key: long}}", want: "at most 80"},
		{name: "no filter", object: "BGPPeer b-filter {address: 10.90.0.18, asn: 65001, import: {filters: [nowhere]}}", want: "BGPFilter nowhere does not exist"},
		{name: "no rules", object: "BGPFilter b-rules {rules: []}", want: "is empty"},
		{name: "broken filter", object: "BGPPeer b-filtered {address: 10.90.0.19, asn: 65001, export: {filters: [b-rules]}}", want: "BGPFilter b-rules is rejected"},
		{name: "selector", object: "BGPPeer b-selector {address: 10.90.0.20, nodeSelector: {matchExpressions: [{key: a, operator: Near}]}}", want: "spec.nodeSelector"},
		{name: "no node", object: "BGPPeer b-nowhere {address: 10.90.0.21, nodeSelector: {matchLabels: {rack: none}}}", want: "matches no Node", reason: "NoNode"},
		{name: "client without a reflector", object: "BGPPeer b-client {address: 10.90.0.22, client: true}", want: "needs a reflector"},
		{name: "LOCAL_PREF inside the AS", object: "BGPPeer b-pref {address: 10.90.0.23, import: {localPref: 200}}", want: "is for peers of another AS"},
		{name: "community", object: "BGPPeer b-community {address: 10.90.0.24, asn: 65001, export: {communities: [\"64512:70000\"]}}", want: "is not a community"},
		{name: "aggregate", object: "BGPPeer b-aggregate {address: 10.90.0.25, asn: 65001, export: {aggregates: [{prefix: 172.16.0.0/16}]}}", want: "inside no IPPool"},
		{name: "interface", object: "BGPPeer b-interface {interface: \"eth 1\"}", want: "is not the name of an interface"},
		{name: "BFD", object: "BGPPeer b-bfd {address: 10.90.0.26, asn: 65001, bfd: {interval: 1ms}}", want: "out of range"},

		{name: "pool in a pool", object: "IPPool b-overlap {cidr: 10.244.128.0/17}", want: "overlaps"},
		{name: "pool over nodes", object: "IPPool b-nodes {cidr: 10.57.0.0/16}", want: "has the address"},
		{name: "pool over a peer", object: "IPPool b-peers {cidr: 10.90.0.0/16}", want: "of BGPPeer"},
		{name: "pool smaller than a block", object: "IPPool b-small {cidr: 10.91.0.0/28, blockSize: 26}", want: "does not fit"},
		{name: "host bits", object: "IPPool b-host {cidr: 10.92.0.1/16}", want: "host bits"},
		{name: "multicast", object: "IPPool b-multicast {cidr: 224.1.0.0/16}", want: "overlaps"},
		{name: "reserved elsewhere", object: "IPPool b-reserved {cidr: 10.93.0.0/16, reserved: [10.94.0.1]}", want: "is not inside"},
		{name: "no tunnel always", object: "IPPool b-tunnel {cidr: 10.95.0.0/16, encapsulation: Always, tunnel: none}", want: "contradicts"},

		{name: "expression", object: "BGPFilter b-path {rules: [{match: {asPath: [\"(\"]}, action: accept}]}", want: "is not a regular expression"},
		{name: "set of a rejected route", object: "BGPFilter b-set {rules: [{set: {med: 1}, action: reject}]}", want: "has no effect"},
		{name: "large community as a community", object: "BGPFilter b-large {rules: [{set: {communities: {add: [\"1:2:3\"]}}, action: accept}]}", want: "is not a community"},

		{name: "to no peer", object: "ServiceAdvertisement b-to {peers: [nowhere]}", want: "no BGPPeer has the name nowhere"},
		{name: "community of services", object: "ServiceAdvertisement b-tag {peers: [tor1], communities: [red]}", want: "is not a community"},
		{name: "two aggregates", object: "ServiceAdvertisement b-both {peers: [tor1], aggregate: {pool: true, ipv4: 24}}", want: "contradicts"},
		{name: "selector of services", object: "ServiceAdvertisement b-which {peers: [tor1], serviceSelector: {matchExpressions: [{key: a, operator: In}]}}", want: "spec.serviceSelector"},

		{name: "address of another Service", object: service("b-dup", "VIP"), want: f("VIP")},
		{name: "address of no pool", object: service("b-outside", "198.51.100.1"), want: "198.51.100.1"},
		{name: "no address", object: service("b-text", "first"), want: "is no IP address"},
	}
}

// judged returns an error unless the condition of a broken object says what is wrong.
func (b *breakage) judged(o *unstructured.Unstructured) error {
	var status v1alpha1.Status
	if content, ok := o.Object["status"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &status); err != nil {
			return err
		}
	}
	kind := v1alpha1.ConditionAccepted
	if o.GetKind() == "Service" {
		kind = "onlink.io/AddressesAssigned"
	}
	c := meta.FindStatusCondition(status.Conditions, kind)
	switch {
	case c == nil:
		return errors.New("no condition " + kind)
	case b.reason == "" && c.Status != metav1.ConditionFalse, b.reason != "" && c.Reason != b.reason, !strings.Contains(c.Message, b.want):
		return fmt.Errorf("%s is %s: %s: %q, want %q", kind, c.Status, c.Reason, c.Message, b.want)
	case c.ObservedGeneration != o.GetGeneration():
		return fmt.Errorf("%s is of generation %d, the object of %d", kind, c.ObservedGeneration, o.GetGeneration())
	}
	return nil
}

// TestBroken: objects that are broken, conflict or vanish on a living cluster withdraw
// nothing; each broken one is named, and the others are in force.
func TestBroken(t *testing.T) {
	ctx, l := startLive(t, cluster.Options{Name: "broken"}, "")
	watch := l.watchRoutes(ctx, t, "broken")
	t.Run("refused", func(t *testing.T) { l.refuse(ctx, t) })
	t.Run("broken", func(t *testing.T) { l.breakAll(ctx, t) })
	t.Run("config", func(t *testing.T) { l.breakConfig(ctx, t) })
	t.Run("secret", func(t *testing.T) { l.loseSecret(ctx, t) })
	t.Run("confirm", func(t *testing.T) { l.confirmOnce(ctx, t) })
	t.Run("everything deleted", func(t *testing.T) { l.deleteEverything(ctx, t) })
	if *labtest.Long {
		t.Run("rights", func(t *testing.T) { l.revoke(ctx, t) })
	}
	t.Run("CRDs deleted", func(t *testing.T) { l.deleteCRDs(ctx, t) })
	watch.end(ctx, t)
}

func (l *live) refuse(ctx context.Context, t *testing.T) {
	for _, r := range refused {
		err := l.create(ctx, object(t, r.object))
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v, want %q", r.name, err, r.want)
		}
	}
	_, err := l.Kubectl(ctx, "patch", "ippool", "services", "--type=merge", "-p", `{"spec":{"cidr":"192.0.3.0/24"}}`)
	if err == nil || !strings.Contains(err.Error(), "the range of a pool cannot be changed") {
		t.Errorf("another range of a pool: %v", err)
	}
	must(t, l.intact())
}

// breakAll makes all broken objects, and with them one that is none: in the short form
// all at once, in the long one one by one.
func (l *live) breakAll(ctx context.Context, t *testing.T) {
	cases := l.broken()
	must(t, l.create(ctx, object(t, fmt.Sprintf("Secret keys {stringData: {empty: \"\", long: %q}}", strings.Repeat("x", 81)))))
	groups := [][]breakage{cases}
	if *labtest.Long {
		groups = nil
		for i := range cases {
			groups = append(groups, cases[i:i+1])
		}
	}
	slowest, most := time.Duration(0), ""
	for _, group := range groups {
		began := map[string]time.Time{}
		for _, b := range group {
			o := object(t, b.object)
			began[b.name] = time.Now()
			if err := l.create(ctx, o); err != nil {
				t.Errorf("%s: %v", b.name, err)
				delete(began, b.name)
			}
		}
		if len(group) > 1 {
			must(t, l.create(ctx, object(t, "BGPPeer late {address: 10.90.2.1, asn: 65001}")))
		}
		for name, took := range l.whenNamed(ctx, t, group, began) {
			if took > slowest {
				slowest, most = took, name
			}
		}
		must(t, l.intact())
	}
	t.Logf("%d broken objects are named, the slowest, %q, after %s", len(cases), most, slowest.Round(100*time.Millisecond))
	if *labtest.Long && slowest > named {
		t.Errorf("%q is named after %s, want at most %s", most, slowest, named)
	}
	if !*labtest.Long {
		eventuallyAll(ctx, t, "the peer that came with them", func() error { return l.allHaveSessions(ctx, t, "tor1", "late") })
	}
	for _, b := range cases {
		o := object(t, b.object)
		if err := l.remove(ctx, o.GetKind(), o.GetName()); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v", b.name, err)
		}
	}
	eventuallyAll(ctx, t, "all agrees without them", func() error { return l.agree(ctx) })
	if !*labtest.Long {
		must(t, l.remove(ctx, "BGPPeer", "late"))
		eventuallyAll(ctx, t, "one that a person deletes goes", func() error { return l.allHaveSessions(ctx, t, "tor1") })
	}
}

// whenNamed waits until the condition of every object of a group is right, and returns
// how long each took.
func (l *live) whenNamed(ctx context.Context, t *testing.T, group []breakage, began map[string]time.Time) map[string]time.Duration {
	t.Helper()
	d, err := l.Dynamic()
	must(t, err)
	took := map[string]time.Duration{}
	err = lab.Eventually(ctx, brokenBound, "every broken object is named", func() error {
		lists := map[string]map[string]*unstructured.Unstructured{}
		var missing []error
		for i := range group {
			b := &group[i]
			if _, known := began[b.name]; !known || took[b.name] > 0 {
				continue
			}
			kind, rest, _ := strings.Cut(b.object, " ")
			name, _, _ := strings.Cut(rest, " ")
			if lists[kind] == nil {
				list, err := d.Resource(resourceOf(kind)).Namespace(namespaceOf(kind)).List(ctx, metav1.ListOptions{})
				if err != nil {
					return err
				}
				lists[kind] = map[string]*unstructured.Unstructured{}
				for i := range list.Items {
					lists[kind][list.Items[i].GetName()] = &list.Items[i]
				}
			}
			o := lists[kind][name]
			if o == nil {
				return fmt.Errorf("%s %s is gone", kind, name)
			}
			if err := b.judged(o); err != nil {
				missing = append(missing, fmt.Errorf("%s: %w", b.name, err))
				continue
			}
			took[b.name] = time.Since(began[b.name])
		}
		return errors.Join(missing...)
	})
	if err != nil {
		t.Error(err)
	}
	return took
}

// patchConfig changes the spec of the OnlinkConfig by a merge patch.
func (l *live) patchConfig(ctx context.Context, t *testing.T, spec string) {
	t.Helper()
	_, err := l.kube.Configs.Patch(ctx, v1alpha1.ConfigName, types.MergePatchType, []byte(`{"spec":`+spec+`}`), metav1.PatchOptions{})
	must(t, err)
}

// breakConfig breaks sections of the OnlinkConfig and corrects them.
func (l *live) breakConfig(ctx context.Context, t *testing.T) {
	edits := []struct{ broken, repaired, want string }{
		{`{"metrics":"everywhere","fib":{"resync":"1h"}}`, `{"metrics":"127.0.0.1:9179","fib":null}`, "spec.metrics"},
		{`{"reflection":{"passwordSecretRef":{"name":"nowhere"}}}`, `{"reflection":{"passwordSecretRef":null}}`, "spec.reflection.passwordSecretRef"},
		{`{"cni":{"sysctls":["vm.swappiness"]}}`, `{"cni":{"sysctls":null}}`, "spec.cni.sysctls"},
		{`{"tunnel":{"mtu":100}}`, `{"tunnel":{"mtu":null}}`, "spec.tunnel.mtu"},
		{`{"asn":23456}`, `{"asn":64512}`, "spec.asn"},
	}
	for _, e := range edits[:labtest.Times(2, len(edits))] {
		began := time.Now()
		l.patchConfig(ctx, t, e.broken)
		b := breakage{want: e.want}
		eventuallyAll(ctx, t, "the OnlinkConfig is rejected for "+e.want, func() error {
			d, err := l.Dynamic()
			if err != nil {
				return err
			}
			o, err := d.Resource(resourceOf("OnlinkConfig")).Get(ctx, v1alpha1.ConfigName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			return b.judged(o)
		})
		if took := time.Since(began); *labtest.Long && took > named {
			t.Errorf("%s is named after %s", e.want, took)
		}
		must(t, l.intact())
		l.patchConfig(ctx, t, e.repaired)
	}
	eventuallyAll(ctx, t, "all agrees with the repaired OnlinkConfig", func() error { return l.agree(ctx) })
}

// loseSecret deletes the Secret of a session in force: the session stays as it is.
func (l *live) loseSecret(ctx context.Context, t *testing.T) {
	const secret = "Secret key {stringData: {password: one}}"
	must(t, l.create(ctx, object(t, secret)))
	must(t, l.create(ctx, object(t, "BGPPeer keyed {address: 10.90.2.2, asn: 65001, passwordSecretRef: {name: key}}")))
	eventuallyAll(ctx, t, "the session with the key", func() error { return l.allHaveSessions(ctx, t, "tor1", "keyed") })
	must(t, l.remove(ctx, "Secret", "key"))
	eventuallyAll(ctx, t, "the peer without its Secret is named", func() error { return l.accepted(ctx, "keyed", metav1.ConditionFalse, "there is no such Secret") })
	must(t, l.allHaveSessions(ctx, t, "tor1", "keyed"))
	must(t, l.create(ctx, object(t, secret)))
	eventuallyAll(ctx, t, "with the Secret it is accepted", func() error { return l.accepted(ctx, "keyed", metav1.ConditionTrue, "") })
	must(t, l.remove(ctx, "BGPPeer", "keyed"))
	eventuallyAll(ctx, t, "one that a person deletes goes", func() error { return l.allHaveSessions(ctx, t, "tor1") })
}

// accepted returns an error unless the condition Accepted of a BGPPeer is so.
func (l *live) accepted(ctx context.Context, peer string, want metav1.ConditionStatus, text string) error {
	p, err := l.kube.Peers.Get(ctx, peer, metav1.GetOptions{})
	if err != nil {
		return err
	}
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
	if c == nil || c.Status != want || !strings.Contains(c.Message, text) {
		return fmt.Errorf("BGPPeer %s: %+v", peer, c)
	}
	return nil
}

// held returns the digest of the change that every node holds, an error unless they
// hold one and the same.
func (l *live) held(ctx context.Context) (string, error) {
	statuses, err := l.statuses(ctx)
	if err != nil {
		return "", err
	}
	digests := map[string]bool{}
	for name, s := range statuses {
		if s.Held == nil {
			return "", fmt.Errorf("OnlinkNode %s holds nothing", name)
		}
		if err := condition(s, v1alpha1.ConditionHeld, metav1.ConditionTrue); err != nil {
			return "", err
		}
		digests[s.Held.Digest] = true
	}
	if len(digests) != 1 {
		return "", fmt.Errorf("the nodes hold changes of the digests %v", slices.Sorted(maps.Keys(digests)))
	}
	return slices.Sorted(maps.Keys(digests))[0], nil
}

// stays checks for a time that an error does not come.
func stays(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	end := time.After(window)
	for {
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-tick.C:
		case <-end:
			return
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}

// spares are peers that are deleted at once.
var spares = []string{"spare1", "spare2", "spare3"}

func (l *live) makeSpares(ctx context.Context, t *testing.T) {
	t.Helper()
	for i, name := range spares {
		must(t, l.create(ctx, object(t, fmt.Sprintf("BGPPeer %s {address: 10.90.3.%d, asn: 65001}", name, i+1))))
	}
	eventuallyAll(ctx, t, "spare sessions", func() error { return l.allHaveSessions(ctx, t, append(spares, "tor1")...) })
}

func (l *live) deleteSpares(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, name := range spares {
		must(t, l.remove(ctx, "BGPPeer", name))
	}
}

// confirmOnce: one annotation of the OnlinkConfig confirms a removal on every node,
// once; what is new does not wait for it.
func (l *live) confirmOnce(ctx context.Context, t *testing.T) {
	l.makeSpares(ctx, t)
	l.deleteSpares(ctx, t)
	var digest string
	hold := func() (err error) { digest, err = l.held(ctx); return err }
	eventuallyAll(ctx, t, "the deletion of three is held", hold)
	eventuallyAll(ctx, t, "the alarm as Events", func() error { return l.wantEvent(ctx, "OnlinkHeld", digest) })
	must(t, l.wantMetric(ctx, "onlink_kube_held_changes", "1"))
	must(t, l.create(ctx, object(t, "BGPPeer fresh {address: 10.90.2.3, asn: 65001}")))
	eventuallyAll(ctx, t, "a new peer does not wait", func() error { return l.allHaveSessions(ctx, t, append(spares, "tor1", "fresh")...) })
	eventuallyAll(ctx, t, "the deletion is still held", hold)

	_, err := l.Kubectl(ctx, "annotate", "onlinkconfig", "default", v1alpha1.ConfirmAnnotation+"="+digest)
	must(t, err)
	eventuallyAll(ctx, t, "confirmed, they are gone", func() error { return l.allHaveSessions(ctx, t, "tor1", "fresh") })
	eventuallyAll(ctx, t, "all agrees", func() error { return l.agree(ctx) })

	l.makeSparesBeside(ctx, t, "fresh")
	l.deleteSpares(ctx, t)
	first := digest
	eventuallyAll(ctx, t, "the same deletion is held again", hold)
	if digest != first {
		t.Errorf("the same removal has the digests %s and %s", first, digest)
	}
	stays(ctx, t, "an annotation is used once", func() error { return l.allHaveSessions(ctx, t, append(spares, "tor1", "fresh")...) })
	_, err = l.Kubectl(ctx, "annotate", "onlinkconfig", "default", v1alpha1.ConfirmAnnotation+"-")
	must(t, err)
	_, err = l.Kubectl(ctx, "annotate", "onlinknode", "--all", v1alpha1.ConfirmAnnotation+"="+digest)
	must(t, err)
	eventuallyAll(ctx, t, "confirmed node by node", func() error { return l.allHaveSessions(ctx, t, "tor1", "fresh") })
	must(t, l.remove(ctx, "BGPPeer", "fresh"))
	eventuallyAll(ctx, t, "one that a person deletes goes", func() error { return l.allHaveSessions(ctx, t, "tor1") })
}

func (l *live) makeSparesBeside(ctx context.Context, t *testing.T, others ...string) {
	t.Helper()
	for i, name := range spares {
		must(t, l.create(ctx, object(t, fmt.Sprintf("BGPPeer %s {address: 10.90.3.%d, asn: 65001}", name, i+1))))
	}
	want := append(slices.Concat(spares, others), "tor1")
	eventuallyAll(ctx, t, "spare sessions", func() error { return l.allHaveSessions(ctx, t, want...) })
}

// saved are the objects of every kind, to be made again.
func (l *live) saved(ctx context.Context, t *testing.T) (all []*unstructured.Unstructured) {
	t.Helper()
	d, err := l.Dynamic()
	must(t, err)
	for _, r := range slices.Sorted(maps.Values(ownKinds)) {
		list, err := d.Resource(v1alpha1.GroupVersion.WithResource(r)).List(ctx, metav1.ListOptions{})
		must(t, err)
		for _, o := range list.Items {
			made := &unstructured.Unstructured{Object: map[string]any{"spec": o.Object["spec"]}}
			made.SetAPIVersion(o.GetAPIVersion())
			made.SetKind(o.GetKind())
			made.SetName(o.GetName())
			all = append(all, made)
		}
	}
	return all
}

// remake makes objects again; one that is there stays.
func (l *live) remake(ctx context.Context, all []*unstructured.Unstructured) error {
	for _, o := range all {
		if err := l.create(ctx, o.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// deleteEverything deletes every object of onlink at once.
func (l *live) deleteEverything(ctx context.Context, t *testing.T) {
	all := l.saved(ctx, t)
	resources := slices.Sorted(maps.Values(ownKinds))
	resources = append(resources, "onlinknodes", "blocks")
	began := time.Now()
	d, err := l.Dynamic()
	must(t, err)
	for _, r := range resources {
		must(t, d.Resource(v1alpha1.GroupVersion.WithResource(r)).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
	t.Logf("%d kinds deleted in %s", len(resources), time.Since(began).Round(time.Millisecond))
	eventuallyAll(ctx, t, "every OnlinkNode says that there is no OnlinkConfig", func() error {
		statuses, err := l.statuses(ctx)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			if err := condition(s, v1alpha1.ConditionAccepted, metav1.ConditionFalse); err != nil {
				return err
			}
			if !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, "no OnlinkConfig named default") }) {
				return fmt.Errorf("problems %q", s.Problems)
			}
		}
		return nil
	})
	eventuallyAll(ctx, t, "the alarm as Events", func() error { return l.wantEvent(ctx, "OnlinkFailed", "no OnlinkConfig named default") })
	must(t, l.wantMetric(ctx, "onlink_kube_problems", "1"))
	stays(ctx, t, "nothing is withdrawn", func() error { return l.intact() })
	must(t, l.allHaveSessions(ctx, t, "tor1"))

	must(t, l.create(ctx, object(t, "OnlinkConfig default {}")))
	eventuallyAll(ctx, t, "with an OnlinkConfig alone the rest is held", func() error { _, err := l.held(ctx); return err })
	must(t, l.intact())
	must(t, l.remake(ctx, all))
	eventuallyAll(ctx, t, "with the objects back all agrees", func() error { return l.agree(ctx) })
	must(t, l.allHaveSessions(ctx, t, "tor1"))
	if *labtest.Long {
		must(t, lab.Eventually(ctx, 5*time.Minute, "the nodes claim their blocks again", func() error { return l.claimed(ctx) }))
	}
}

// claimed returns an error unless every block has its object again.
func (l *live) claimed(ctx context.Context) error {
	list, err := l.kube.Blocks.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for name, blocks := range l.blocks {
		for _, p := range blocks {
			if !slices.ContainsFunc(list.Items, func(b v1alpha1.Block) bool { return string(b.Spec.CIDR) == p.String() && b.Spec.Node == name }) {
				return fmt.Errorf("no Block %s of %s", p, name)
			}
		}
	}
	return nil
}

// revoke takes the rights of onlink away and restarts its processes: they read nothing,
// and the agents go on.
func (l *live) revoke(ctx context.Context, t *testing.T) {
	_, err := l.Kubectl(ctx, "delete", "clusterrolebinding", "-l", "app=onlink")
	must(t, err)
	for _, n := range l.Nodes {
		_, err := n.Exec(ctx, "sh", "-c", "kill $(pidof onlink-kube)")
		must(t, err)
	}
	eventuallyAll(ctx, t, "watches are refused", func() error {
		for _, n := range l.Nodes {
			if got, err := metric(ctx, n, "onlink_kube_watch_failures_total"); err != nil || got == "0" {
				return errors.Join(fmt.Errorf("%s: %q failures", n.Name, got), err)
			}
		}
		return nil
	})
	stays(ctx, t, "nothing is withdrawn", func() error { return l.intact() })
	must(t, l.allHaveSessions(ctx, t, "tor1"))
	must(t, l.applyManifest(ctx))
	must(t, l.create(ctx, object(t, "BGPPeer after {address: 10.90.2.4, asn: 65001}")))
	eventuallyAll(ctx, t, "with the rights back a new peer is in force", func() error { return l.allHaveSessions(ctx, t, "tor1", "after") })
	must(t, l.remove(ctx, "BGPPeer", "after"))
	eventuallyAll(ctx, t, "all agrees", func() error { return errors.Join(l.agree(ctx), l.allHaveSessions(ctx, t, "tor1")) })
}

// deleteCRDs deletes the kinds of onlink, which deletes their objects, and makes both
// again.
func (l *live) deleteCRDs(ctx context.Context, t *testing.T) {
	all := l.saved(ctx, t)
	var names []string
	for _, r := range append(slices.Sorted(maps.Values(ownKinds)), "onlinknodes", "blocks") {
		names = append(names, r+"."+v1alpha1.GroupVersion.Group)
	}
	_, err := l.Kubectl(ctx, append([]string{"delete", "crd"}, names...)...)
	must(t, err)
	eventuallyAll(ctx, t, "the alarm as Events", func() error { return l.wantEvent(ctx, "OnlinkFailed", "has no kind") })
	eventuallyAll(ctx, t, "the alarm as metric", func() error {
		for _, n := range l.Nodes {
			if got, err := metric(ctx, n, "onlink_kube_problems"); err != nil || got == "0" {
				return errors.Join(fmt.Errorf("%s: %q problems", n.Name, got), err)
			}
		}
		return nil
	})
	stays(ctx, t, "nothing is withdrawn", func() error { return l.intact() })
	must(t, l.allHaveSessions(ctx, t, "tor1"))
	must(t, l.applyManifest(ctx))
	eventuallyAll(ctx, t, "the objects are made again", func() error { return l.remake(ctx, all) })
	eventuallyAll(ctx, t, "with the objects back all agrees", func() error { return l.agree(ctx) })
	must(t, l.allHaveSessions(ctx, t, "tor1"))
}
