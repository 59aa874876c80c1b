package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// TestNodeComesUp: from a Node and the objects to a node that serves pods, with the
// init process waiting for what is not there yet.
func TestNodeComesUp(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- b.nodes[0].init(ctx, t) }()
	select {
	case err := <-waiting:
		t.Fatalf("init ended without an OnlinkConfig: %v", err)
	case <-time.After(2 * time.Second):
	}
	b.configure(t)
	must(t, <-waiting)
	cancel()
	b.up(t)
	for _, n := range b.nodes {
		eventually(t, n.Name+": taint and condition", func() error {
			o, err := b.Client.CoreV1().Nodes().Get(t.Context(), n.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			var keys []string
			for _, t := range o.Spec.Taints {
				keys = append(keys, t.Key)
			}
			if slices.Contains(keys, v1alpha1.NotReadyTaint) || !slices.Contains(keys, "example.com/other") {
				return fmt.Errorf("taints are %v", keys)
			}
			for _, c := range o.Status.Conditions {
				if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionFalse && c.Reason == "OnlinkReady" {
					return nil
				}
			}
			return fmt.Errorf("conditions are %v", o.Status.Conditions)
		})
		n.wait(t, "one block and one session", func(s *v1alpha1.OnlinkNodeStatus) error {
			if len(s.Blocks.CIDRs) != 1 || s.Sessions.Summary != "1/1" || s.Addresses[0] != n.Addr.String() || s.ConfigGeneration != 1 {
				return fmt.Errorf("status %+v", s)
			}
			return condition(s, v1alpha1.ConditionAccepted, metav1.ConditionTrue)
		})
	}
	own, err := b.Client.Nodes.Get(t.Context(), b.nodes[0].Name, metav1.GetOptions{})
	must(t, err)
	if len(own.OwnerReferences) != 1 || own.OwnerReferences[0].Kind != "Node" {
		t.Errorf("the OnlinkNode does not go with its Node: %v", own.OwnerReferences)
	}
	eventually(t, "Event on the Node", func() error {
		list, err := b.Client.CoreV1().Events(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=OnlinkReady"})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("none")
		}
		return err
	})
}

// TestNodeBrokenObject: an object that the agent rejects is named in the status
// within five seconds, and the others are in force.
func TestNodeBrokenObject(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	b.up(t)
	n := b.nodes[0]
	began := time.Now()
	b.addPeer(t, "tor-bad", "10.9.9.9", func(p *v1alpha1.BGPPeer) { p.Spec.HoldTime = "1s" })
	b.addPeer(t, "tor-good", "10.9.9.8", nil)
	n.wait(t, "the object is named", func(s *v1alpha1.OnlinkNodeStatus) error {
		if len(s.Rejected) != 1 || s.Rejected[0].Kind != "BGPPeer" || s.Rejected[0].Name != "tor-bad" || !strings.Contains(s.Rejected[0].Reason, "holdTime") {
			return fmt.Errorf("rejected %+v", s.Rejected)
		}
		return nil
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	eventually(t, "the other is in force", func() error { return n.hasPeers(t, "tor-good") })

	p, err := b.Client.Peers.Get(t.Context(), "tor-bad", metav1.GetOptions{})
	must(t, err)
	p.Spec.HoldTime = "9s"
	_, err = b.Client.Peers.Update(t.Context(), p, metav1.UpdateOptions{})
	must(t, err)
	eventually(t, "the repaired one is in force", func() error { return n.hasPeers(t, "tor-bad", "tor-good") })
	n.wait(t, "no object is rejected", func(s *v1alpha1.OnlinkNodeStatus) error {
		return condition(s, v1alpha1.ConditionAccepted, metav1.ConditionTrue)
	})
}

// TestNodeDeletions: what a person deletes, one by one, goes; what vanishes
// otherwise is held until it is confirmed.
func TestNodeDeletions(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	for i := range 3 {
		b.addPeer(t, fmt.Sprintf("tor%d", i), fmt.Sprintf("10.9.9.%d", i+1), nil)
	}
	n := b.nodes[0]
	n.start(t)
	eventually(t, "all peers", func() error { return n.hasPeers(t, "tor0", "tor1", "tor2") })
	peers := b.Client.Peers

	must(t, peers.Delete(t.Context(), "tor0", metav1.DeleteOptions{}))
	eventually(t, "one that was deleted is gone", func() error { return n.hasPeers(t, "tor1", "tor2") })
	must(t, peers.Delete(t.Context(), "tor1", metav1.DeleteOptions{}))
	eventually(t, "one of two is gone, confirmed by its deletion", func() error { return n.hasPeers(t, "tor2") })

	for i := range 2 {
		b.addPeer(t, fmt.Sprintf("tor%d", i), fmt.Sprintf("10.9.9.%d", i+1), nil)
	}
	eventually(t, "all peers again", func() error { return n.hasPeers(t, "tor0", "tor1", "tor2") })
	must(t, peers.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	var digest string
	n.wait(t, "the deletion of all is held", func(s *v1alpha1.OnlinkNodeStatus) error {
		if s.Held == nil {
			return errors.New("nothing is held")
		}
		digest = s.Held.Digest
		return condition(s, v1alpha1.ConditionHeld, metav1.ConditionTrue)
	})
	must(t, n.hasPeers(t, "tor0", "tor1", "tor2"))

	_, err := b.Client.Nodes.Patch(t.Context(), n.Name, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ConfirmAnnotation, digest), metav1.PatchOptions{})
	must(t, err)
	eventually(t, "confirmed, all are gone", func() error { return n.hasPeers(t) })
	n.wait(t, "nothing is held", func(s *v1alpha1.OnlinkNodeStatus) error {
		return condition(s, v1alpha1.ConditionHeld, metav1.ConditionFalse)
	})
}

// TestNodeNoCRD: without a kind, and with an empty list of it afterwards, what was
// in force stays, and the status has the reason.
func TestNodeNoCRD(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	for i := range 2 {
		b.addPeer(t, fmt.Sprintf("tor%d", i), fmt.Sprintf("10.9.9.%d", i+1), nil)
	}
	n := b.nodes[0]
	n.start(t)
	eventually(t, "all peers", func() error { return n.hasPeers(t, "tor0", "tor1") })
	must(t, b.DeleteCRD(t.Context(), "bgppeers"))
	n.wait(t, "the kind is missing", func(s *v1alpha1.OnlinkNodeStatus) error {
		if !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, "no kind BGPPeer") }) && s.Held == nil {
			return fmt.Errorf("problems %q", s.Problems)
		}
		return nil
	})
	must(t, n.hasPeers(t, "tor0", "tor1"))
	must(t, b.RestoreCRD(t.Context(), "bgppeers"))
	n.wait(t, "the empty list is held", func(s *v1alpha1.OnlinkNodeStatus) error {
		return condition(s, v1alpha1.ConditionHeld, metav1.ConditionTrue)
	})
	must(t, n.hasPeers(t, "tor0", "tor1"))
	for i := range 2 {
		b.addPeer(t, fmt.Sprintf("tor%d", i), fmt.Sprintf("10.9.9.%d", i+1), nil)
	}
	n.wait(t, "with the objects back nothing is held", func(s *v1alpha1.OnlinkNodeStatus) error {
		return condition(s, v1alpha1.ConditionHeld, metav1.ConditionFalse)
	})
	must(t, n.hasPeers(t, "tor0", "tor1"))
}

// TestNodeWithoutAPIServer: a node that boots while the API server answers nothing
// starts with the last good file; with the server back all agrees.
func TestNodeWithoutAPIServer(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	b.addPeer(t, "tor0", "10.9.9.1", nil)
	n := b.nodes[0]
	n.start(t)
	eventually(t, "the peer", func() error { return n.hasPeers(t, "tor0") })
	file := filepath.Join(n.dir, "state", "onlinkd.yaml")
	before, err := os.ReadFile(file)
	must(t, err)

	must(t, b.Pause())
	paused := true
	t.Cleanup(func() {
		if paused {
			must(t, b.Continue())
		}
	})
	n.stop()
	n.stopAgent(t)
	began := time.Now()
	must(t, n.init(t.Context(), t))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("init took %s without an API server", took)
	}
	n.startProcess(t)
	n.startAgent(t)
	eventually(t, "the peer of the last good file", func() error { return n.hasPeers(t, "tor0") })
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the last good file was changed: %v", err)
	}

	must(t, b.Continue())
	paused = false
	b.addPeer(t, "tor1", "10.9.9.2", nil)
	resumed := time.Now()
	eventually(t, "a peer made since", func() error { return n.hasPeers(t, "tor0", "tor1") })
	if took := time.Since(resumed); took > 30*time.Second {
		t.Errorf("it took %s until all agreed", took)
	}
}

// TestNodeRestartsAgent: a change that needs a restart of the agent is made.
func TestNodeRestartsAgent(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2)
	b.configure(t)
	b.up(t)
	n := b.nodes[0]
	before, err := n.admin.GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
	must(t, err)
	_, err = b.Client.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"labels":{%q:""}}}`, v1alpha1.ReflectorLabel), metav1.PatchOptions{})
	must(t, err)
	eventually(t, "the agent is a reflector", func() error {
		s, err := n.admin.GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
		if err == nil && !s.GetReflector() {
			err = errors.New("it is none")
		}
		if err == nil && !s.GetStarted().AsTime().After(before.GetStarted().AsTime()) {
			err = errors.New("it did not begin anew")
		}
		return err
	})
	n.wait(t, "the status shows it", func(s *v1alpha1.OnlinkNodeStatus) error {
		if !s.Reflector {
			return errors.New("it does not")
		}
		return condition(s, v1alpha1.ConditionReady, metav1.ConditionTrue)
	})
}

// TestNodeServices: addresses are announced while a Service has an endpoint, and no
// guard keeps those without one; what vanishes with its objects is held.
func TestNodeServices(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	b.up(t)
	n := b.nodes[0]
	ctx := t.Context()
	advertiseExternal(t, b.Client)
	services, slices := b.Client.CoreV1().Services(metav1.NamespaceDefault), b.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	var want []netip.Prefix
	for _, name := range []string{"a", "b"} {
		address := fmt.Sprintf("192.0.2.%d", len(want)+1)
		want = append(want, netip.MustParsePrefix(address+"/32"))
		_, err := services.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, ExternalIPs: []string{address}, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				Ports: []corev1.ServicePort{{Port: 80}},
			},
		}, metav1.CreateOptions{})
		must(t, err)
		_, err = slices.Create(ctx, endpoints(name, n.Name, true), metav1.CreateOptions{})
		must(t, err)
	}
	eventually(t, "both", func() error { return n.announces(t, want...) })

	began := time.Now()
	_, err := slices.Update(ctx, endpoints("a", n.Name, false), metav1.UpdateOptions{})
	must(t, err)
	eventually(t, "the one with an endpoint", func() error { return n.announces(t, want[1]) })
	t.Logf("withdrawn %s after its endpoint was not ready", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s: its withdrawal was held", took)
	}
	n.wait(t, "the reasons", func(s *v1alpha1.OnlinkNodeStatus) error {
		if len(s.Services) != 2 || s.Services[0].State != "not-announced" || s.Services[1].State != "announced" || s.Services[0].Why == "" {
			return fmt.Errorf("services %+v", s.Services)
		}
		return nil
	})
	_, err = slices.Update(ctx, endpoints("a", n.Name, true), metav1.UpdateOptions{})
	must(t, err)
	eventually(t, "both again", func() error { return n.announces(t, want...) })

	must(t, b.Client.Advertisements.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	eventually(t, "a deletion of one object is confirmed by itself", func() error { return n.announces(t) })
}

// endpoints is an EndpointSlice of a Service with one endpoint on a node.
func endpoints(service, node string, ready bool) *discoveryv1.EndpointSlice {
	no := false
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.244.7.7"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: &no},
		}},
	}
}

// TestNodeDrain: the Node's annotation drains the agent, and its removal ends that.
func TestNodeDrain(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	b.up(t)
	n := b.nodes[0]
	phase := func(want string) func() error {
		return func() error {
			s, err := n.admin.GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
			if err != nil {
				return err
			}
			o, err := b.Client.CoreV1().Nodes().Get(t.Context(), n.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			shown := o.Annotations[v1alpha1.DrainedAnnotation]
			if s.GetDrain() != want || want == "serving" && shown != "" || want != "serving" && shown != want {
				return fmt.Errorf("the agent is %s, the Node shows %q", s.GetDrain(), shown)
			}
			return nil
		}
	}
	yes := "true"
	n.annotate(t, v1alpha1.DrainAnnotation, &yes)
	eventually(t, "drained", phase("drained"))
	n.stop() // another process takes the drain up, and ends it
	n.startProcess(t)
	n.annotate(t, v1alpha1.DrainAnnotation, nil)
	eventually(t, "serving", phase("serving"))

	_, err := n.admin.Drain(t.Context(), &onlinkv1.DrainRequest{})
	must(t, err)
	n.annotate(t, "example.com/unrelated", &yes)
	n.wait(t, "an operator's drain is shown", func(s *v1alpha1.OnlinkNodeStatus) error {
		if s.Drain != "drained" {
			return fmt.Errorf("drain is %s", s.Drain)
		}
		return nil
	})
	s, err := n.admin.GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
	must(t, err)
	if s.GetDrain() != "drained" {
		t.Errorf("an operator's drain was ended: %s", s.GetDrain())
	}
}
