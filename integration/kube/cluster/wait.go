package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"onlink/integration/lab"
)

// Resources that tests wait for.
var (
	Nodes          = corev1.SchemeGroupVersion.WithResource("nodes")
	Pods           = corev1.SchemeGroupVersion.WithResource("pods")
	ServiceObjects = corev1.SchemeGroupVersion.WithResource("services")
	Events         = corev1.SchemeGroupVersion.WithResource("events")
	Deployments    = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	DaemonSets     = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	EndpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
)

// Objects names what [WaitFor] watches.
type Objects struct {
	Resource  schema.GroupVersionResource
	Namespace string // empty: all
	Name      string // empty: all
	Labels    string // a selector; empty: all
}

func (o Objects) String() string {
	return strings.Join(strings.Fields(fmt.Sprint(o.Resource.Resource, " ", o.Namespace, " ", o.Name, " ", o.Labels)), " ")
}

func (o Objects) options() metav1.ListOptions {
	options := metav1.ListOptions{LabelSelector: o.Labels}
	if o.Name != "" {
		options.FieldSelector = "metadata.name=" + o.Name
	}
	return options
}

// WaitFor watches objects until check returns nil for all that exist, or the time
// is over; the last reason is part of the error. T is the objects' type, such as
// corev1.Pod, or unstructured.Unstructured.
func WaitFor[T any](ctx context.Context, c *Cluster, o Objects, limit time.Duration, check func([]T) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w := &wait{objects: o, cluster: c, check: func(items map[string]*unstructured.Unstructured) error {
		list := make([]T, 0, len(items))
		for _, item := range items {
			var value T
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &value); err != nil {
				return fmt.Errorf("read %s: %w", item.GetName(), err)
			}
			list = append(list, value)
		}
		return check(list)
	}}
	for {
		done, err := w.run(ctx)
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w: %w", o, lab.ErrTimeout, errors.Join(w.reason, err))
		}
		if err != nil {
			w.reason = err
		}
		// The server ended the watch, or serves nothing at present.
		retry := time.NewTimer(retryTime)
		select {
		case <-ctx.Done():
			retry.Stop()
		case <-retry.C:
		}
	}
}

// retryTime lies between a watch that failed and the next.
const retryTime = 200 * time.Millisecond

// wait is one call of WaitFor.
type wait struct {
	objects Objects
	cluster *Cluster
	check   func(map[string]*unstructured.Unstructured) error
	reason  error // that the check gave last
}

// run lists and watches until the check is content or the watch ends.
func (w *wait) run(ctx context.Context) (done bool, err error) {
	client, err := w.cluster.Dynamic()
	if err != nil {
		return false, err
	}
	resource := client.Resource(w.objects.Resource).Namespace(w.objects.Namespace)
	list, err := resource.List(ctx, w.objects.options())
	if err != nil {
		return false, err
	}
	items := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		items[key(&list.Items[i])] = &list.Items[i]
	}
	if w.reason = w.check(items); w.reason == nil {
		return true, nil
	}
	options := w.objects.options()
	options.ResourceVersion = list.GetResourceVersion()
	events, err := resource.Watch(ctx, options)
	if err != nil {
		return false, err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		item, ok := event.Object.(*unstructured.Unstructured)
		switch {
		case !ok || event.Type == watch.Error:
			return false, fmt.Errorf("watch ended: %v", event.Object)
		case event.Type == watch.Deleted:
			delete(items, key(item))
		default:
			items[key(item)] = item
		}
		if w.reason = w.check(items); w.reason == nil {
			return true, nil
		}
	}
	return false, nil
}

func key(item *unstructured.Unstructured) string { return item.GetNamespace() + "/" + item.GetName() }

// waitNodes waits until every node has registered, and is Ready where the cluster
// has a network.
func (c *Cluster) waitNodes(ctx context.Context) error {
	if c.Options.CNI == CNINone {
		return WaitFor(ctx, c, Objects{Resource: Nodes}, startTime, func(nodes []corev1.Node) error {
			if len(nodes) < len(c.Nodes) {
				return fmt.Errorf("%d of %d nodes have registered", len(nodes), len(c.Nodes))
			}
			return nil
		})
	}
	return c.WaitReady(ctx, startTime)
}

// WaitReady waits until every node is Ready.
func (c *Cluster) WaitReady(ctx context.Context, limit time.Duration) error {
	return WaitFor(ctx, c, Objects{Resource: Nodes}, limit, func(nodes []corev1.Node) error {
		var missing []string
		for _, n := range c.Nodes {
			if reason := unready(nodes, n.Name); reason != "" {
				missing = append(missing, n.Name+": "+reason)
			}
		}
		if len(missing) > 0 {
			return errors.New(strings.Join(missing, "; "))
		}
		return nil
	})
}

// WaitUntainted waits until no node has a taint, which would keep pods away.
func (c *Cluster) WaitUntainted(ctx context.Context, limit time.Duration) error {
	return WaitFor(ctx, c, Objects{Resource: Nodes}, limit, func(nodes []corev1.Node) error {
		var missing []string
		for _, n := range nodes {
			for _, taint := range n.Spec.Taints {
				missing = append(missing, fmt.Sprintf("%s has the taint %s", n.Name, taint.ToString()))
			}
		}
		if len(missing) > 0 {
			return errors.New(strings.Join(missing, "; "))
		}
		return nil
	})
}

// unready says why a node is not Ready, nothing when it is.
func unready(nodes []corev1.Node, name string) string {
	for _, n := range nodes {
		if n.Name != name {
			continue
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				if condition.Status == corev1.ConditionTrue {
					return ""
				}
				return condition.Message
			}
		}
	}
	return "not registered"
}

// WaitPods waits until exactly count pods with the labels exist, and each is Ready,
// and returns them. With 0 it waits for their end.
func (c *Cluster) WaitPods(ctx context.Context, namespace, labels string, count int, limit time.Duration) (ready []corev1.Pod, err error) {
	err = WaitFor(ctx, c, Objects{Resource: Pods, Namespace: namespace, Labels: labels}, limit, func(pods []corev1.Pod) error {
		ready = pods
		if len(pods) != count {
			return fmt.Errorf("%d pods exist, want %d", len(pods), count)
		}
		for _, p := range pods {
			if !podReady(&p) {
				return fmt.Errorf("pod %s on %q is not ready: %s %v", p.Name, p.Spec.NodeName, p.Status.Phase, waiting(&p))
			}
		}
		return nil
	})
	return ready, err
}

func podReady(p *corev1.Pod) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// waiting returns the reasons of containers that do not run.
func waiting(p *corev1.Pod) (reasons []string) {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		switch {
		case s.State.Waiting != nil:
			reasons = append(reasons, s.Name+": "+s.State.Waiting.Reason+" "+s.State.Waiting.Message)
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			reasons = append(reasons, fmt.Sprintf("%s: exit code %d", s.Name, s.State.Terminated.ExitCode))
		}
	}
	return reasons
}
