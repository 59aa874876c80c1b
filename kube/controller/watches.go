package controller

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
)

// Kinds of objects, by what their events begin.
const (
	kindService       = "Service"
	kindPool          = "IPPool"
	kindNamespace     = "Namespace"
	kindNode          = "Node"
	kindConfig        = "OnlinkConfig"
	kindPeer          = "BGPPeer"
	kindFilter        = "BGPFilter"
	kindAdvertisement = "ServiceAdvertisement"
	kindOnNode        = "OnlinkNode"
	kindBlock         = "Block"
	kindRequest       = "CertificateSigningRequest"
)

// watches are the caches of the leader.
type watches struct {
	services, namespaces, nodes, pools, configs, peers, filters, advertisements, onNodes, blocks, requests cache.SharedIndexInformer

	all map[cache.SharedIndexInformer]string
}

// health knows which lists and watches fail. Without it a missing CRD or right is
// silent: a part waits for the whole list before its first turn.
type health struct {
	log *slog.Logger
	m   *metrics

	mu      sync.Mutex
	failing map[string]bool // by deed and kind; guarded by mu
}

// note logs the first failure of a deed and its end.
func (h *health) note(ctx context.Context, deed, kind string, err error) {
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.failing[deed+kind]
	switch {
	case err != nil:
		h.failing[deed+kind] = true
		h.m.watchErrors.WithLabelValues(kind).Inc()
		if !was {
			h.log.Warn("failed to receive objects, tries again: is the CRD applied, and the ClusterRole of onlink-controller?", "call", deed, "kind", kind, "err", err)
		}
	case was:
		delete(h.failing, deed+kind)
		h.log.Info("receives objects again", "call", deed, "kind", kind)
	}
	h.m.alarm("watch_failed", len(h.failing) > 0)
}

// lister is a typed client.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// ofSigner is the requests of certificates that are ours to judge.
type ofSigner struct {
	all lister[*certificatesv1.CertificateSigningRequestList]
}

const signerField = "spec.signerName=" + certificate.Signer

// List implements lister.
func (o ofSigner) List(ctx context.Context, opts metav1.ListOptions) (*certificatesv1.CertificateSigningRequestList, error) {
	opts.FieldSelector = signerField
	return o.all.List(ctx, opts)
}

// Watch implements lister.
func (o ofSigner) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.FieldSelector = signerField
	return o.all.Watch(ctx, opts)
}

func informer[L runtime.Object](h *health, kind string, c lister[L], o runtime.Object) cache.SharedIndexInformer {
	i := cache.NewSharedIndexInformerWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			l, err := c.List(ctx, opts)
			h.note(ctx, "list", kind, err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			w, err := c.Watch(ctx, opts)
			h.note(ctx, "watch", kind, err)
			return w, err
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

func newWatches(opt Options, m *metrics) *watches {
	c := opt.Client
	h := &health{log: opt.Log, m: m, failing: map[string]bool{}}
	w := &watches{
		services:       informer(h, kindService, c.CoreV1().Services(""), &corev1.Service{}),
		namespaces:     informer(h, kindNamespace, c.CoreV1().Namespaces(), &corev1.Namespace{}),
		nodes:          informer(h, kindNode, c.CoreV1().Nodes(), &corev1.Node{}),
		pools:          informer(h, kindPool, c.Pools, &v1alpha1.IPPool{}),
		configs:        informer(h, kindConfig, c.Configs, &v1alpha1.OnlinkConfig{}),
		peers:          informer(h, kindPeer, c.Peers, &v1alpha1.BGPPeer{}),
		filters:        informer(h, kindFilter, c.Filters, &v1alpha1.BGPFilter{}),
		advertisements: informer(h, kindAdvertisement, c.Advertisements, &v1alpha1.ServiceAdvertisement{}),
		onNodes:        informer(h, kindOnNode, c.Nodes, &v1alpha1.OnlinkNode{}),
		blocks:         informer(h, kindBlock, c.Blocks, &v1alpha1.Block{}),
		requests:       informer(h, kindRequest, ofSigner{c.CertificatesV1().Requests()}, &certificatesv1.CertificateSigningRequest{}),
	}
	w.all = map[cache.SharedIndexInformer]string{
		w.services: kindService, w.namespaces: kindNamespace, w.nodes: kindNode, w.pools: kindPool, w.configs: kindConfig,
		w.peers: kindPeer, w.filters: kindFilter, w.advertisements: kindAdvertisement, w.onNodes: kindOnNode, w.blocks: kindBlock, w.requests: kindRequest,
	}
	return w
}

// notify calls f with the kind of every object that changes. Renewals of a Node's
// status are no change: kubelet writes one every five minutes, of 5,000 nodes 17 a
// second.
func (w *watches) notify(f func(kind string)) {
	for i, kind := range w.all {
		_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{ // it fails only for a stopped informer
			AddFunc: func(any) { f(kind) },
			UpdateFunc: func(before, after any) {
				if !renewed(before, after) {
					f(kind)
				}
			},
			DeleteFunc: func(any) { f(kind) },
		})
	}
}

// renewed reports whether two objects are one Node that changed nothing that the parts
// read.
func renewed(before, after any) bool {
	a, ok := before.(*corev1.Node)
	b, same := after.(*corev1.Node)
	return ok && same && a.UID == b.UID && alive(a) == alive(b) && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Spec, b.Spec) && slices.Equal(a.Status.Addresses, b.Status.Addresses)
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
		if len(w.missing()) == 0 {
			return true
		}
		if !wait(ctx, 50*time.Millisecond) {
			return false
		}
	}
}

// missing are the kinds of which there is no whole list yet. Requests of certificates keep
// no other part waiting: a ClusterRole of a former version does not permit their list.
func (w *watches) missing() []string {
	var out []string
	for i, kind := range w.all {
		if kind != kindRequest && !i.HasSynced() {
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return out
}

// patience is how long the first lists may take before the log names those that lack.
const patience = 10 * time.Second

// report logs which kinds keep every part waiting.
func (w *watches) report(ctx context.Context, log *slog.Logger) {
	if !wait(ctx, patience) {
		return
	}
	if kinds := w.missing(); len(kinds) > 0 {
		log.Error("does nothing yet: the API server has not listed all objects: apply the CRDs and the ClusterRole of onlink-controller", "missing", kinds)
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
