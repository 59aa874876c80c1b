package controller

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"onlink/kube/api/v1alpha1"
)

// Kinds of objects, by what their events begin.
const (
	kindService   = "Service"
	kindPool      = "IPPool"
	kindNamespace = "Namespace"
	kindNode      = "Node"
	kindConfig    = "OnlinkConfig"
	kindOnNode    = "OnlinkNode"
	kindBlock     = "Block"
	kindOther     = "other"
)

// watches are the caches of the leader.
type watches struct {
	services, namespaces, nodes, pools, configs, peers, filters, advertisements, onNodes, blocks cache.SharedIndexInformer

	all map[cache.SharedIndexInformer]string
}

// lister is a typed client.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

func informer[L runtime.Object](c lister[L], o runtime.Object) cache.SharedIndexInformer {
	i := cache.NewSharedIndexInformerWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) { return c.List(ctx, opts) },
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, opts)
		},
	}, o, cache.SharedIndexInformerOptions{})
	// Managed fields, and the images of a Node, are most of an object's bytes. It
	// fails only for an informer that runs.
	_ = i.SetTransform(func(o any) (any, error) {
		if m, ok := o.(metav1.Object); ok {
			m.SetManagedFields(nil)
		}
		if n, ok := o.(*corev1.Node); ok {
			n.Status.Images, n.Status.VolumesAttached, n.Status.VolumesInUse = nil, nil, nil
		}
		return o, nil
	})
	return i
}

func newWatches(opt Options) *watches {
	c := opt.Client
	w := &watches{
		services:       informer(c.CoreV1().Services(""), &corev1.Service{}),
		namespaces:     informer(c.CoreV1().Namespaces(), &corev1.Namespace{}),
		nodes:          informer(c.CoreV1().Nodes(), &corev1.Node{}),
		pools:          informer(c.Pools, &v1alpha1.IPPool{}),
		configs:        informer(c.Configs, &v1alpha1.OnlinkConfig{}),
		peers:          informer(c.Peers, &v1alpha1.BGPPeer{}),
		filters:        informer(c.Filters, &v1alpha1.BGPFilter{}),
		advertisements: informer(c.Advertisements, &v1alpha1.ServiceAdvertisement{}),
		onNodes:        informer(c.Nodes, &v1alpha1.OnlinkNode{}),
		blocks:         informer(c.Blocks, &v1alpha1.Block{}),
	}
	w.all = map[cache.SharedIndexInformer]string{
		w.services: kindService, w.namespaces: kindNamespace, w.nodes: kindNode, w.pools: kindPool, w.configs: kindConfig,
		w.peers: kindOther, w.filters: kindOther, w.advertisements: kindOther, w.onNodes: kindOnNode, w.blocks: kindBlock,
	}
	return w
}

// notify calls f with the kind of every object that changes. Renewals of a Node's
// status are none: kubelet writes one every five minutes for nothing.
func (w *watches) notify(f func(kind string)) {
	for i, kind := range w.all {
		_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{ // it fails only for a stopped informer
			AddFunc:    func(any) { f(kind) },
			UpdateFunc: func(any, any) { f(kind) },
			DeleteFunc: func(any) { f(kind) },
		})
	}
}

func (w *watches) start(ctx context.Context, g *errgroup.Group) {
	for i := range w.all {
		g.Go(func() error {
			i.RunWithContext(ctx)
			return nil
		})
	}
}

// synced waits until every cache had one whole list; false: ctx ended.
func (w *watches) synced(ctx context.Context) bool {
	for {
		all := true
		for i := range w.all {
			all = all && i.HasSynced()
		}
		if all {
			return true
		}
		if !wait(ctx, 50*time.Millisecond) {
			return false
		}
	}
}

// list returns the objects of a cache. They are shared: nothing writes to them.
func list[T any](i cache.SharedIndexInformer) []T {
	all := i.GetStore().List()
	out := make([]T, 0, len(all))
	for _, o := range all {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// get returns an object of a cache by its key.
func get[T any](i cache.SharedIndexInformer, key string) (T, bool) {
	o, found, err := i.GetStore().GetByKey(key)
	t, ok := o.(T)
	return t, ok && found && err == nil
}
