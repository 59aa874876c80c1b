package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
)

// jitter bounds the delay of the watches whose lists are long, so that the nodes
// of a cluster that starts do not list at once.
const jitter = 5 * time.Second

// The Nodes of two watches, as kinds of their own.
const (
	kindReflector = "Reflector"
	kindOther     = "Node of others"
)

// retries is how a watch that failed is tried again: all nodes agree with an API
// server that is back within half a minute.
var retries = wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 15 * time.Second}

// objects are the watches of one process. What needs long lists is watched only
// while it is needed: see require.
type objects struct {
	client    *client.Client
	log       *slog.Logger
	node      string
	namespace string
	bells     []bell
	forget    func(deletion) // called for every deletion

	self           *store[*corev1.Node]
	own            *store[*v1alpha1.OnlinkNode]
	configs        *store[*v1alpha1.OnlinkConfig]
	peers          *store[*v1alpha1.BGPPeer]
	filters        *store[*v1alpha1.BGPFilter]
	pools          *store[*v1alpha1.IPPool]
	advertisements *store[*v1alpha1.ServiceAdvertisement]
	reflectors     *store[*corev1.Node]
	namespaces     *store[*metav1.PartialObjectMetadata]

	settle  *settling // of the configuration objects
	running sync.WaitGroup

	mu       sync.Mutex // guards all below
	nodes    *part[*corev1.Node]
	services *part[*corev1.Service]
	slices   *part[*discoveryv1.EndpointSlice]
	secrets  map[string]*part[*corev1.Secret]
	failures map[string]error // of watches that fail at present, by kind
	failed   int              // times a watch failed
}

// part is a watch that runs only at times.
type part[T metav1.Object] struct {
	*store[T]

	stop context.CancelFunc
}

// newObjects returns the watches of one node; nothing runs yet.
func newObjects(c *client.Client, log *slog.Logger, node, namespace string, forget func(deletion), bells ...bell) *objects {
	o := &objects{
		client: c, log: log, node: node, namespace: namespace, bells: bells, forget: forget,
		secrets: map[string]*part[*corev1.Secret]{}, failures: map[string]error{},
	}
	o.settle = &settling{ring: func() { o.changed(deletion{}) }}
	o.self = newStore("Node", trimOwnNode, o.changed)
	o.own = newStore[*v1alpha1.OnlinkNode]("OnlinkNode", nil, o.changed)
	o.configs = newStore("OnlinkConfig", trimConfig, o.changed)
	o.peers = newStore("BGPPeer", trimPeer, o.changed)
	o.filters = newStore("BGPFilter", trimFilter, o.changed)
	o.pools = newStore("IPPool", trimPool, o.changed)
	o.advertisements = newStore("ServiceAdvertisement", trimAdvertisement, o.changed)
	o.reflectors = newStore(kindReflector, trimNode, o.changed)
	o.namespaces = newStore("Namespace", trimNamespace, o.changed)
	return o
}

// changed is called by the stores.
func (o *objects) changed(d deletion) {
	if len(d.names) > 0 {
		o.log.Info("objects deleted", "kind", d.kind, "count", len(d.names), "first", d.names[0], "seen", d.seen)
		o.forget(d)
	}
	for _, b := range o.bells {
		b.ring()
	}
}

// start begins the watches that every node has. They end with ctx; wait waits for
// that.
func (o *objects) start(ctx context.Context) {
	settle(ctx, o, o.configs, o.client.Configs)
	settle(ctx, o, o.peers, o.client.Peers)
	settle(ctx, o, o.filters, o.client.Filters)
	settle(ctx, o, o.pools, o.client.Pools)
	settle(ctx, o, o.advertisements, o.client.Advertisements)
	named := func(l *metav1.ListOptions) { l.FieldSelector = "metadata.name=" + o.node }
	watchStore(ctx, o, o.self, &corev1.Node{}, source(o.client.CoreV1().Nodes(), named), 0)
	watchStore(ctx, o, o.own, &v1alpha1.OnlinkNode{}, source(o.client.Nodes, named), 0)
	watchStore(ctx, o, o.configs, &v1alpha1.OnlinkConfig{}, source(o.client.Configs, nil), 0)
	watchStore(ctx, o, o.peers, &v1alpha1.BGPPeer{}, source(o.client.Peers, nil), 0)
	watchStore(ctx, o, o.filters, &v1alpha1.BGPFilter{}, source(o.client.Filters, nil), 0)
	watchStore(ctx, o, o.pools, &v1alpha1.IPPool{}, source(o.client.Pools, nil), 0)
	watchStore(ctx, o, o.advertisements, &v1alpha1.ServiceAdvertisement{}, source(o.client.Advertisements, nil), 0)
	labelled := func(l *metav1.ListOptions) { l.LabelSelector = v1alpha1.ReflectorLabel }
	watchStore(ctx, o, o.reflectors, &corev1.Node{}, source(o.client.CoreV1().Nodes(), labelled), 0)
	spaces := o.client.Metadata.Resource(corev1.SchemeGroupVersion.WithResource("namespaces"))
	watchStore(ctx, o, o.namespaces, &metav1.PartialObjectMetadata{}, source(spaces, nil), 0)
}

// settle makes the deletions of a kind take effect together with those of others.
func settle[T metav1.Object, L runtime.Object](ctx context.Context, o *objects, s *store[T], c lister[L]) {
	s.settle = o.settle
	o.settle.add(settled{
		kind:  s.kind,
		waits: s.waits,
		ends:  s.ends,
		serves: func() error {
			ctx, cancel := context.WithTimeout(ctx, writeTime)
			defer cancel()
			_, err := c.List(ctx, metav1.ListOptions{Limit: 1, ResourceVersion: "0"})
			return err
		},
		take: s.expire,
	})
}

// wait waits for the end of all watches.
func (o *objects) wait() { o.running.Wait() }

// lister is a client of one resource.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// source is a resource as a reflector reads it.
func source[L runtime.Object](c lister[L], narrow func(*metav1.ListOptions)) *cache.ListWatch {
	if narrow == nil {
		narrow = func(*metav1.ListOptions) {}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			narrow(&opts)
			return c.List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			narrow(&opts)
			return c.Watch(ctx, opts)
		},
	}
}

// watchStore fills a store until ctx ends, after a random part of delay.
func watchStore[T metav1.Object](ctx context.Context, o *objects, s *store[T], example any, from *cache.ListWatch, delay time.Duration) {
	backoff := retries
	list, open := from.ListWithContextFunc, from.WatchFuncWithContext
	from.ListWithContextFunc = func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		l, err := list(ctx, opts)
		o.note(s.kind, err)
		return l, err
	}
	from.WatchFuncWithContext = func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
		w, err := open(ctx, opts)
		o.note(s.kind, err)
		return w, err
	}
	r := cache.NewReflectorWithOptions(from, example, s, cache.ReflectorOptions{Name: s.kind, Backoff: &backoff})
	o.running.Go(func() {
		if delay > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(rand.N(delay)): //nolint:gosec // it spreads load, and keeps no secret
			}
		}
		r.RunWithContext(ctx)
	})
}

// note keeps the outcome of a request of a watch. Only a first failure and the
// recovery are logged: without an API server there is one every few seconds.
func (o *objects) note(kind string, err error) {
	if errors.Is(err, context.Canceled) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	o.mu.Lock()
	last := o.failures[kind]
	if err != nil {
		o.failures[kind] = err
		o.failed++
	} else {
		delete(o.failures, kind)
	}
	o.mu.Unlock()
	switch {
	case err != nil && last == nil:
		o.log.Warn("failed to watch objects, the last ones stay in force", "kind", kind, "err", err)
	case err == nil && last != nil:
		o.log.Info("watch works again", "kind", kind)
	default:
		return
	}
	for _, b := range o.bells {
		b.ring()
	}
}

// troubles returns one line for each watch that fails and the failure is not that
// of the API server as a whole, and whether the API server is away.
func (o *objects) troubles() (lines []string, away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for kind, err := range o.failures {
		var refused *net.OpError
		if errors.As(err, &refused) || apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
			away = true
			continue
		}
		line := fmt.Sprintf("the API server rejects the watch of %s, the last ones stay in force: %v", kind, err)
		if apierrors.IsNotFound(err) {
			line = fmt.Sprintf("the API server has no kind %s, the last ones stay in force: apply onlink's CustomResourceDefinitions again", kind)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines, away
}

// failedWatches returns how often a request of a watch failed.
func (o *objects) failedWatches() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// synced returns the kinds that every node watches and that have not been listed
// yet.
func (o *objects) unsynced() (kinds []string) {
	note := func(kind string, done bool) {
		if !done {
			kinds = append(kinds, kind)
		}
	}
	note(o.self.kind, o.self.synced())
	note(o.configs.kind, o.configs.synced())
	note(o.peers.kind, o.peers.synced())
	note(o.filters.kind, o.filters.synced())
	note(o.pools.kind, o.pools.synced())
	note(o.advertisements.kind, o.advertisements.synced())
	note(o.reflectors.kind, o.reflectors.synced())
	note(o.namespaces.kind, o.namespaces.synced())
	return kinds
}

// requireNodes begins or ends the watch of all Nodes. It reports whether the
// watch, if it is required, has listed.
func (o *objects) requireNodes(ctx context.Context, required bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return require(ctx, o, &o.nodes, required, func() (*store[*corev1.Node], any, *cache.ListWatch) {
		return newStore(kindOther, trimNode, o.changed), &corev1.Node{}, source(o.client.CoreV1().Nodes(), nil)
	}, jitter)
}

// moreNodes reports whether the cluster has more than n Nodes. It reads the metadata of
// at most one more.
func (o *objects) moreNodes(ctx context.Context, n int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	list, err := o.client.Metadata.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).List(ctx, metav1.ListOptions{Limit: int64(n) + 1})
	if err != nil {
		return false, fmt.Errorf("count Nodes: %w", err)
	}
	return len(list.Items) > n, nil
}

// requireServices begins or ends the watches of Services and EndpointSlices.
func (o *objects) requireServices(ctx context.Context, required bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	services := require(ctx, o, &o.services, required, func() (*store[*corev1.Service], any, *cache.ListWatch) {
		return newStore("Service", trimService, o.changed), &corev1.Service{}, source(o.client.CoreV1().Services(""), nil)
	}, jitter)
	slices := require(ctx, o, &o.slices, required, func() (*store[*discoveryv1.EndpointSlice], any, *cache.ListWatch) {
		s := newStore("EndpointSlice", trimSlice, o.changed)
		s.deferred = lastSlice
		return s, &discoveryv1.EndpointSlice{}, source(o.client.DiscoveryV1().EndpointSlices(""), nil)
	}, jitter)
	return services && slices
}

// require begins or ends one watch. The caller holds o.mu.
func require[T metav1.Object](ctx context.Context, o *objects, p **part[T], required bool, source func() (*store[T], any, *cache.ListWatch), delay time.Duration) bool {
	switch {
	case required && *p == nil:
		s, example, from := source()
		ctx, stop := context.WithCancel(ctx)
		*p = &part[T]{s, stop}
		watchStore(ctx, o, s, example, from, delay)
	case !required && *p != nil:
		(*p).stop()
		delete(o.failures, (*p).kind)
		*p = nil
	}
	return *p == nil || (*p).synced()
}

// requireSecrets watches exactly the Secrets of these names in the namespace of
// onlink. It returns the names that have not been listed yet.
func (o *objects) requireSecrets(ctx context.Context, names []string) (missing []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, p := range o.secrets {
		if !slices.Contains(names, name) {
			p.stop()
			delete(o.failures, p.kind)
			delete(o.secrets, name)
		}
	}
	for _, name := range names {
		p := o.secrets[name]
		named := func(l *metav1.ListOptions) { l.FieldSelector = "metadata.name=" + name }
		if !require(ctx, o, &p, true, func() (*store[*corev1.Secret], any, *cache.ListWatch) {
			return newStore("Secret "+name, func(s *corev1.Secret) { trimMeta(s) }, o.changed), &corev1.Secret{}, source(o.client.CoreV1().Secrets(o.namespace), named)
		}, 0) {
			missing = append(missing, name)
		}
		o.secrets[name] = p
	}
	return missing
}

// errors of password.
var (
	errNoSecret = errors.New("there is no such Secret")
	errNoKey    = errors.New("the Secret has no such key")
)

// password returns a key of a Secret.
func (o *objects) password(k v1alpha1.SecretKey) ([]byte, error) {
	o.mu.Lock()
	p := o.secrets[k.Name]
	o.mu.Unlock()
	if p == nil || !p.synced() {
		return nil, fmt.Errorf("read Secret %s/%s: it is not received yet", o.namespace, k.Name)
	}
	s, ok := p.get(o.namespace + "/" + k.Name)
	if !ok {
		return nil, fmt.Errorf("read Secret %s/%s: %w", o.namespace, k.Name, errNoSecret)
	}
	name := k.Key
	if name == "" {
		name = "password"
	}
	value, ok := s.Data[name]
	if !ok {
		return nil, fmt.Errorf("read key %s of Secret %s/%s: %w", name, o.namespace, k.Name, errNoKey)
	}
	return []byte(strings.TrimRight(string(value), "\r\n")), nil
}

// allServices returns the objects of two watches that have listed.
func (o *objects) allServices() ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.services.list(), o.slices.list()
}

// allNodes returns the Nodes of a watch that has listed.
func (o *objects) allNodes() []*corev1.Node {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.nodes.list()
}

// confirmations returns the digests that annotations confirm, that of the OnlinkNode
// and that of the OnlinkConfig, and the one of the latter that was used.
func (o *objects) confirmations() (own, shared, done string) {
	if n, ok := o.own.get(o.node); ok {
		own, done = n.Annotations[v1alpha1.ConfirmAnnotation], n.Annotations[v1alpha1.ConfirmedAnnotation]
	}
	if c, ok := o.configs.get(v1alpha1.ConfigName); ok {
		shared = c.Annotations[v1alpha1.ConfirmAnnotation]
	}
	return own, shared, done
}

// relists returns how often the watches of configuration objects had to list
// again.
func (o *objects) relists() int {
	return o.self.relists() + o.own.relists() + o.configs.relists() + o.peers.relists() + o.filters.relists() + o.pools.relists() +
		o.advertisements.relists() + o.reflectors.relists() + o.namespaces.relists()
}

// errUnlisted means that the first list of a kind is not received yet.
var errUnlisted = errors.New("is not received yet, wait for the API server")

// pool returns an IPPool; nil: there is none of that name.
func (o *objects) pool(name string) (*v1alpha1.IPPool, error) {
	if !o.pools.synced() {
		return nil, fmt.Errorf("IPPool %s %w", name, errUnlisted)
	}
	p, _ := o.pools.get(name)
	return p, nil
}

// podCIDRs returns Node.spec.podCIDRs of this node.
func (o *objects) podCIDRs() ([]string, error) {
	self, ok := o.self.get(o.node)
	if !ok {
		return nil, fmt.Errorf("own Node %s %w", o.node, errUnlisted)
	}
	return self.Spec.PodCIDRs, nil
}
