package controller

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// TestRenewed: the renewal of a Node's status begins no turn, a change that a part reads
// does.
func TestRenewed(t *testing.T) {
	t.Parallel()
	node := func() *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "1", Labels: map[string]string{"a": "b"}}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		return n
	}
	for name, tt := range map[string]struct {
		edit func(*corev1.Node)
		want bool
	}{
		"renewal":    {func(n *corev1.Node) { n.ResourceVersion, n.Status.Conditions[0].LastHeartbeatTime = "2", metav1.Now() }, true},
		"label":      {func(n *corev1.Node) { n.Labels["a"] = "c" }, false},
		"annotation": {func(n *corev1.Node) { n.Annotations = map[string]string{"a": "c"} }, false},
		"taint":      {func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k"}} }, false},
		"address":    {func(n *corev1.Node) { n.Status.Addresses[0].Address = "192.0.2.2" }, false},
		"readiness":  {func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, false},
		"another":    {func(n *corev1.Node) { n.UID = "2" }, false},
	} {
		after := node()
		tt.edit(after)
		if got := renewed(node(), after); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	if renewed(&corev1.Service{}, &corev1.Service{}) {
		t.Error("an event of a Service is none")
	}
}

// TestMissing: a ClusterRole of a former version, which does not permit to list requests of
// certificates, keeps no other part waiting.
func TestMissing(t *testing.T) {
	t.Parallel()
	w := &watches{all: map[cache.SharedIndexInformer]string{
		cached(&certificatesv1.CertificateSigningRequest{}): kindRequest, cached(&corev1.Node{}): kindNode,
	}}
	if got := w.missing(); !slices.Equal(got, []string{kindNode}) {
		t.Errorf("waits for %q", got)
	}
}

// TestWatchHealth: a list or watch that fails is logged once, and its end too; all are
// counted.
func TestWatchHealth(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	m := newMetrics("")
	h := &health{log: slog.New(slog.NewTextHandler(&text, nil)), m: m, failing: map[string]bool{}}
	fault := errors.New("the server could not find the requested resource")
	for range 3 {
		h.note(t.Context(), "list", kindBlock, fault)
	}
	h.note(t.Context(), "list", kindNode, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	h.note(ended, "watch", kindNode, fault) // the replica ends
	if got := text.String(); strings.Count(got, "failed to receive objects") != 1 || strings.Count(got, "\n") != 1 || !strings.Contains(got, "kind=Block") {
		t.Fatalf("log: %s", got)
	}
	if n := sum(t, m, "onlink_controller_watch_errors_total"); n != 3 {
		t.Errorf("%v errors are counted, want 3", n)
	}
	if on := sum(t, m, "onlink_controller_alarm"); on != 1 {
		t.Error("there is no alarm")
	}
	h.note(t.Context(), "list", kindBlock, nil)
	h.note(t.Context(), "list", kindBlock, nil)
	if got := text.String(); strings.Count(got, "receives objects again") != 1 || sum(t, m, "onlink_controller_alarm") != 0 {
		t.Fatalf("the end: %s", got)
	}
}

// sum adds the values of a metric.
func sum(t *testing.T, m *metrics, name string) (total float64) {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			if f.GetName() == name {
				total += x.GetCounter().GetValue() + x.GetGauge().GetValue()
			}
		}
	}
	return total
}

// TestPace: the first change of a count is written at once, the others at their pace.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, o, written := pace{}, object{kindPool, "p"}, 0
		for range 120 {
			if p.due(o, countPace) {
				written++
			}
			time.Sleep(time.Second)
		}
		if written != 4 || !p.due(object{kindPool, "other"}, countPace) {
			t.Errorf("%d writes in two minutes, want 4", written)
		}
	})
}
