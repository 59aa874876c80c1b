package node

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// TestFormers: a reflector that vanishes or loses its label is a former one until it is one
// again, or no session of it is in force any more.
func TestFormers(t *testing.T) {
	t.Parallel()
	node := func(name, label string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.ReflectorLabel: label}}}
	}
	a, b, off := node("a", ""), node("b", ""), node("b", "false")
	f := formers{}
	for i, step := range []struct {
		now  []*corev1.Node
		want string
		stay string // in force
	}{
		{[]*corev1.Node{a, b}, "", ""},
		{[]*corev1.Node{a, off}, "b", "b"},
		{nil, "a b", "a b"},
		{[]*corev1.Node{a}, "b", "b"},
		{[]*corev1.Node{a}, "b", ""},
		{[]*corev1.Node{a}, "", ""},
		{[]*corev1.Node{b}, "a", "a"},
		{[]*corev1.Node{a, b}, "", ""},
	} {
		got := f.see(step.now)
		if want := strings.Fields(step.want); !slices.Equal(got, want) {
			t.Errorf("step %d: %v, want %v", i, got, want)
		}
		f.stay(strings.Fields(step.stay))
	}
}
