package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
)

// tainter puts the taint onlink.io/agent-not-ready on a Node that joins, so that no
// pod is scheduled before onlink serves it; onlink's node process takes it off. A
// Node that was there for a minute when this leader began is not new: a taint would
// stop pods on a node that serves. One that the selector does not match would keep
// the taint for ever: no process of onlink runs there.
type tainter struct {
	c     *controller
	nodes labels.Selector // the Nodes that onlink runs on
	seen  map[types.UID]bool
}

func newTainter(c *controller, nodes labels.Selector) *tainter { return &tainter{c: c, nodes: nodes} }

func (t *tainter) turn(ctx context.Context) error {
	var all error
	for _, n := range t.joined(list[*corev1.Node](t.c.w.nodes)) {
		if err := t.taint(ctx, n); err != nil {
			delete(t.seen, n.UID) // the next turn tries again
			all = errors.Join(all, err)
		}
	}
	return all
}

// joined returns the Nodes that are new among those that onlink runs on, once each. A
// Node that gets its labels later joins with them.
func (t *tainter) joined(nodes []*corev1.Node) []*corev1.Node {
	var out []*corev1.Node
	seen := map[types.UID]bool{}
	for _, n := range nodes {
		if !t.nodes.Matches(labels.Set(n.Labels)) {
			continue
		}
		seen[n.UID] = true
		if old := t.seen == nil && time.Since(n.CreationTimestamp.Time) > time.Minute; !old && !t.seen[n.UID] {
			out = append(out, n)
		}
	}
	t.seen = seen
	return out
}

func (t *tainter) taint(ctx context.Context, n *corev1.Node) error {
	if os := n.Labels[corev1.LabelOSStable]; os != "" && os != "linux" {
		return nil
	}
	if o, ok := get[*v1alpha1.OnlinkNode](t.c.w.onNodes, n.Name); ok && meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionReady) {
		return nil
	}
	if slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == v1alpha1.NotReadyTaint }) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": n.ResourceVersion, "uid": n.UID},
		"spec":     map[string]any{"taints": append(slices.Clone(n.Spec.Taints), corev1.Taint{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule})},
	})
	if err != nil {
		return fmt.Errorf("taint Node %s: %w", n.Name, err)
	}
	_, err = t.c.client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return fmt.Errorf("taint Node %s: it changed meanwhile: %w", n.Name, err)
	case err != nil:
		return fmt.Errorf("taint Node %s: %w", n.Name, err)
	}
	t.c.log.Info("tainted a new node until onlink serves it", "node", n.Name)
	return nil
}
