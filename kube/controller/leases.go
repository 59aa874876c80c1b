package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/registry"
)

// leaseLook is how often the Leases of nodes are listed: there is no watch of them,
// because each changes with every assert.
const leaseLook = time.Minute

// leases deletes the Leases of deleted nodes that own no block: those of nodes that
// released all before they left, as a drain does. With the last block of another goes
// its Lease, see [reaper.free].
type leases struct {
	c    *controller
	next time.Time
	seen map[string]sighting
}

// turn lists the Leases when that is due, and deletes those that did not change for
// two of their periods and have neither Node nor Block.
func (l *leases) turn(ctx context.Context, owned map[string][]*v1alpha1.Block, present func(node string) bool) error {
	if time.Now().Before(l.next) {
		return nil
	}
	l.next = time.Now().Add(min(leaseLook, l.c.opt.BlockAge))
	list, err := l.c.client.CoordinationV1().Leases(l.c.opt.Namespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel})
	if err != nil {
		return fmt.Errorf("list Leases: %w", err)
	}
	seen := map[string]sighting{}
	var all error
	for i := range list.Items {
		lease := &list.Items[i]
		node := registry.NodeOf(lease)
		if node == "" || present(node) || len(owned[node]) > 0 {
			continue
		}
		at, ok := l.seen[lease.Name]
		if !ok || at.version != lease.ResourceVersion {
			at = sighting{lease.ResourceVersion, time.Now()}
		}
		seen[lease.Name] = at
		if time.Since(at.at) > patienceOf(lease) {
			all = errors.Join(all, l.remove(ctx, node, lease))
		}
	}
	l.seen = seen
	return all
}

// remove deletes a Lease after a last look at the Node and the Blocks, which the
// caches may lack. The version is that of which all was seen.
func (l *leases) remove(ctx context.Context, node string, lease *coordinationv1.Lease) error {
	_, err := l.c.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err == nil {
		return nil
	}
	if !gone(err) {
		return fmt.Errorf("read Node %s: %w", node, err)
	}
	blocks, err := l.c.client.Blocks.List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel + "=" + registry.LabelValue(node), Limit: 1})
	if err != nil {
		return fmt.Errorf("list Blocks of node %s: %w", node, err)
	}
	if len(blocks.Items) > 0 {
		return nil
	}
	uid, version := lease.UID, lease.ResourceVersion
	err = l.c.client.CoordinationV1().Leases(l.c.opt.Namespace).Delete(ctx, lease.Name,
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if err != nil && !gone(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete Lease of node %s: %w", node, err)
	}
	return nil
}
