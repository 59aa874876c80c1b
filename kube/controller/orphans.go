package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// adopter makes OnlinkNodes go with their Nodes. One that a backup or a person made has
// no owner, or a former one, and would stay for ever.
type adopter struct {
	c      *controller
	absent map[string]time.Time // since when an OnlinkNode has no Node, by name
}

func newAdopter(c *controller) *adopter { return &adopter{c: c, absent: map[string]time.Time{}} }

func (a *adopter) turn(ctx context.Context) error {
	if len(list[*corev1.Node](a.c.w.nodes)) == 0 {
		clear(a.absent)
		return nil // Nodes that vanished are an alarm of the reaper, and no desire
	}
	var all error
	absent := map[string]time.Time{}
	for _, o := range list[*v1alpha1.OnlinkNode](a.c.w.onNodes) {
		if n, ok := get[*corev1.Node](a.c.w.nodes, o.Name); ok {
			all = errors.Join(all, a.adopt(ctx, o, n))
			continue
		}
		since, known := a.absent[o.Name]
		if !known {
			since = time.Now()
		}
		absent[o.Name] = since
		if time.Since(since) >= a.c.opt.OrphanAge {
			all = errors.Join(all, a.remove(ctx, o))
		}
	}
	a.absent = absent
	return all
}

// adopt makes a Node the owner of its OnlinkNode.
func (a *adopter) adopt(ctx context.Context, o *v1alpha1.OnlinkNode, n *corev1.Node) error {
	isNode := func(r metav1.OwnerReference) bool { return r.APIVersion == "v1" && r.Kind == "Node" }
	if slices.ContainsFunc(o.OwnerReferences, func(r metav1.OwnerReference) bool { return isNode(r) && r.UID == n.UID }) {
		return nil
	}
	next := o.DeepCopy()
	next.OwnerReferences = append(slices.DeleteFunc(next.OwnerReferences, isNode), metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID})
	_, err := a.c.client.Nodes.Update(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsConflict(err) && !gone(err) {
		return fmt.Errorf("make Node %s the owner of its OnlinkNode: %w", n.Name, err)
	}
	return nil
}

// remove deletes an OnlinkNode after a live look at its Node.
func (a *adopter) remove(ctx context.Context, o *v1alpha1.OnlinkNode) error {
	_, err := a.c.client.CoreV1().Nodes().Get(ctx, o.Name, metav1.GetOptions{})
	if err == nil {
		return nil // the cache lags
	}
	if !gone(err) {
		return fmt.Errorf("read Node %s: %w", o.Name, err)
	}
	uid, version := o.UID, o.ResourceVersion
	err = a.c.client.Nodes.Delete(ctx, o.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	switch {
	case gone(err) || apierrors.IsConflict(err):
		return nil
	case err != nil:
		return fmt.Errorf("delete OnlinkNode %s, which has no Node: %w", o.Name, err)
	}
	a.c.log.Info("deleted the OnlinkNode of a Node that is gone", "node", o.Name)
	return nil
}
