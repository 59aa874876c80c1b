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
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
)

// tainter puts the taint onlink.io/agent-not-ready on a Node that joins, so that no
// pod is scheduled before onlink serves it; onlink's node process takes it off. A
// Node that was there for a minute when this leader began is not new: a taint would
// stop pods on a node that serves.
type tainter struct {
	c    *controller
	seen map[types.UID]bool
}

func newTainter(c *controller) *tainter { return &tainter{c: c} }

func (t *tainter) turn(ctx context.Context) error {
	first := t.seen == nil
	present := map[types.UID]bool{}
	var all error
	for _, n := range list[*corev1.Node](t.c.w.nodes) {
		known := t.seen[n.UID] || first && time.Since(n.CreationTimestamp.Time) > time.Minute
		if !known {
			if err := t.taint(ctx, n); err != nil {
				all = errors.Join(all, err)
				continue
			}
		}
		present[n.UID] = true
	}
	t.seen = present
	return all
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
