package node

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// peers is a store of BGPPeers and what it reported.
type peersBed struct {
	*store[*v1alpha1.BGPPeer]

	mu      sync.Mutex // deletions are reported by a timer
	changed int
	deleted []deletion
}

func (b *peersBed) changes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *peersBed) gone() []deletion {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.deleted)
}

func newPeersBed() *peersBed {
	b := &peersBed{}
	b.store = newStore[*v1alpha1.BGPPeer]("BGPPeer", nil, func(d deletion) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changed++
		if len(d.names) > 0 {
			b.deleted = append(b.deleted, d)
		}
	})
	return b
}

func peer(name, address string) *v1alpha1.BGPPeer {
	return &v1alpha1.BGPPeer{
		ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "7", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}},
		Spec:       v1alpha1.BGPPeerSpec{Address: address},
	}
}

func (b *peersBed) names() (names []string) {
	for _, p := range b.list() {
		names = append(names, p.Name)
	}
	return names
}

func (b *peersBed) do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStoreDeletions: deletions take effect together, once none has come for a
// while, so that the guard judges a mass deletion as one change.
func TestStoreDeletions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newPeersBed()
		if b.synced() {
			t.Fatal("it is synced before the first list")
		}
		b.do(t, b.Replace([]any{peer("a", "1"), peer("b", "2"), peer("c", "3"), peer("d", "4")}, "1"))
		if !b.synced() || b.relists() != 0 {
			t.Fatal("the first list is not seen as such")
		}
		b.do(t, b.Delete(peer("a", "1")))
		time.Sleep(quiet / 2)
		b.do(t, b.Delete(peer("b", "2")))
		time.Sleep(quiet / 2)
		b.do(t, b.Delete(peer("c", "3")))
		b.do(t, b.Add(peer("c", "5"))) // made anew
		synctest.Wait()
		if got := b.names(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Fatalf("objects go one by one: %v are left", got)
		}
		time.Sleep(quiet)
		synctest.Wait()
		if got := b.names(); !slices.Equal(got, []string{"c", "d"}) {
			t.Errorf("%v are left, want c and d", got)
		}
		if len(b.gone()) != 1 || !slices.Equal(b.gone()[0].names, []string{"a", "b"}) || !b.gone()[0].seen {
			t.Errorf("reported deletions: %+v, want a and b at once", b.gone())
		}
	})
}

// TestStoreEndlessDeletions: objects that are deleted without a pause are not
// kept for ever.
func TestStoreEndlessDeletions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newPeersBed()
		b.do(t, b.Replace([]any{peer("a", "1")}, "1"))
		b.do(t, b.Delete(peer("a", "1")))
		for range 20 {
			time.Sleep(time.Second)
			b.do(t, b.Add(peer("b", "1")))
			b.do(t, b.Delete(peer("b", "1")))
			if len(b.gone()) > 0 {
				break
			}
		}
		synctest.Wait()
		if _, ok := b.get("a"); ok {
			t.Error("a is there after 20 s of deletions")
		}
	})
}

// TestStoreRelist: what a list no longer has is reported as not seen, and a change
// of what is not read as none.
func TestStoreRelist(t *testing.T) {
	t.Parallel()
	b := newPeersBed()
	b.do(t, b.Replace([]any{peer("a", "1"), peer("b", "2")}, "1"))
	before := b.changes()
	same := peer("a", "1")
	same.ResourceVersion = "8"
	b.do(t, b.Update(same))
	if b.changes() != before {
		t.Error("another resource version is reported as a change")
	}
	b.do(t, b.Update(peer("a", "9")))
	if b.changes() != before+1 {
		t.Error("another address is not reported as a change")
	}
	b.do(t, b.Replace(nil, "9"))
	if len(b.gone()) != 1 || b.gone()[0].seen || len(b.gone()[0].names) != 2 {
		t.Errorf("an empty list is reported as %+v", b.gone())
	}
	if b.relists() != 1 {
		t.Errorf("%d relists, want 1", b.relists())
	}
	if err := b.Add(&corev1.Node{}); err == nil {
		t.Error("a Node among BGPPeers is no error")
	}
}

// TestStoreSlices: an EndpointSlice that is one of several goes at once, because
// its endpoints have moved; the last of a Service goes as objects do.
func TestStoreSlices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("EndpointSlice", trimSlice, func(deletion) {})
		s.deferred = lastSlice
		slice := func(name string) *discoveryv1.EndpointSlice {
			return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}}
		}
		if err := s.Replace([]any{slice("a"), slice("b")}, "1"); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(slice("a")); err != nil {
			t.Fatal(err)
		}
		if n := len(s.list()); n != 1 {
			t.Errorf("%d slices after one of two was deleted", n)
		}
		if err := s.Delete(slice("b")); err != nil {
			t.Fatal(err)
		}
		if n := len(s.list()); n != 1 {
			t.Errorf("%d slices right after the last was deleted", n)
		}
		time.Sleep(2 * quiet)
		synctest.Wait()
		if n := len(s.list()); n != 0 {
			t.Errorf("%d slices are left", n)
		}
	})
}

// TestTrim: what is removed is not read, and onlink's own annotations are.
func TestTrim(t *testing.T) {
	t.Parallel()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "n1", Labels: map[string]string{"rack": "r1"}, Annotations: map[string]string{v1alpha1.DrainAnnotation: "true", "kubectl": "copy"},
		},
		Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}, Taints: []corev1.Taint{{Key: "x"}}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}, Images: []corev1.ContainerImage{{SizeBytes: 1}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}},
		},
	}
	own := n.DeepCopy()
	trimOwnNode(own)
	if len(own.Status.Images) != 0 || !own.Status.Conditions[0].LastHeartbeatTime.IsZero() || len(own.Spec.Taints) != 1 ||
		own.Annotations[v1alpha1.DrainAnnotation] != "true" || own.Annotations["kubectl"] != "" {
		t.Errorf("own Node: %+v", own)
	}
	trimNode(n)
	if len(n.Spec.Taints) != 0 || len(n.Status.Conditions) != 0 || n.Labels["rack"] != "r1" || len(n.Status.Addresses) != 1 || len(n.Spec.PodCIDRs) != 1 {
		t.Errorf("another Node: %+v", n)
	}
}

// TestTrimSlice: an endpoint keeps the address by which it is counted once where a
// Service has several slices, as one of both families has.
func TestTrimSlice(t *testing.T) {
	t.Parallel()
	node, yes := "n1", true
	s := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{
		{Addresses: []string{"10.244.1.1", "10.244.1.2"}, NodeName: &node, Zone: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
		{},
	}}
	trimSlice(s)
	e := s.Endpoints[0]
	if len(e.Addresses) != 1 || e.Addresses[0] != "10.244.1.1" || *e.NodeName != node || !*e.Conditions.Ready || e.Zone != nil {
		t.Errorf("left %+v", e)
	}
}
