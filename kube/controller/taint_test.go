package controller

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// TestJoined: a Node is tainted once, when it is new and onlink runs on it: one that
// the DaemonSet does not select would keep the taint for ever.
func TestJoined(t *testing.T) {
	node := func(name string, age time.Duration, set labels.Set) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: set, CreationTimestamp: metav1.NewTime(time.Now().Add(-age))}}
	}
	linux, virtual := labels.Set{"kubernetes.io/os": "linux", "network": "onlink"}, labels.Set{"kubernetes.io/os": "linux", "type": "virtual-kubelet"}
	mine := newTainter(nil, labels.SelectorFromSet(labels.Set{"network": "onlink"}))
	every := newTainter(nil, labels.Everything())
	for _, tt := range []struct {
		name  string
		t     *tainter
		nodes []*corev1.Node
		want  string
	}{
		{"the first turn", mine, []*corev1.Node{node("old", time.Hour, linux), node("new", time.Second, linux), node("virtual", time.Second, virtual)}, "new"},
		{"the same", mine, []*corev1.Node{node("old", time.Hour, linux), node("new", time.Second, linux), node("virtual", time.Second, virtual)}, ""},
		{"more", mine, []*corev1.Node{node("new", time.Second, linux), node("newer", time.Second, linux), node("another", time.Second, virtual)}, "newer"},
		{"labels that come later", mine, []*corev1.Node{node("new", time.Second, linux), node("another", time.Hour, linux)}, "another"},
		{"without a selector", every, []*corev1.Node{node("old", time.Hour, nil), node("virtual", time.Second, virtual)}, "virtual"},
	} {
		var names []string
		for _, n := range tt.t.joined(tt.nodes) {
			names = append(names, n.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: new are %q, want %q", tt.name, got, tt.want)
		}
	}
}
