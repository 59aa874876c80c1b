package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"onlink/integration/lab"
)

// Hello is a Deployment of hello pods, and a Service of type NodePort before them,
// which have its name: TCP port 80 and UDP port 53 lead to [HelloPort].
type Hello struct {
	Namespace string // default "default"
	Name      string // default "hello"
	Replicas  int    // default 2; spread over the nodes
	// Pod and Service are more fields of the pods' and the service's spec, as YAML
	// flow: `hostNetwork: true`.
	Pod, Service string

	// Pods are those that are ready, by their node's name; set by Deploy.
	Pods []corev1.Pod
	// Addresses are the service's, and NodePort its TCP port on every node.
	Addresses []netip.Addr
	NodePort  int
}

// Manifest returns the objects as YAML.
func (h *Hello) Manifest() string {
	more := func(fields string) string {
		if fields == "" {
			return ""
		}
		return ", " + fields
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {
      terminationGracePeriodSeconds: 1,
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: %[1]s}}}],
      containers: [{name: hello, image: "%[4]s", imagePullPolicy: Never, readinessProbe: {httpGet: {path: /, port: %[5]d}, periodSeconds: 1}}]%[6]s}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec: {
  type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {app: %[1]s},
  ports: [{name: http, port: 80, targetPort: %[5]d}, {name: dns, protocol: UDP, port: 53, targetPort: %[5]d}]%[7]s}
`, h.Name, h.Namespace, h.Replicas, HelloImage, HelloPort, more(h.Pod), more(h.Service))
}

// Deploy applies the objects and waits until every pod is ready; it fills the
// fields that say what there is.
func (c *Cluster) Deploy(ctx context.Context, h *Hello, limit time.Duration) error {
	def(&h.Namespace, "default")
	def(&h.Name, "hello")
	def(&h.Replicas, 2)
	if err := c.Apply(ctx, h.Manifest()); err != nil {
		return err
	}
	pods, err := c.WaitPods(ctx, h.Namespace, "app="+h.Name, h.Replicas, limit)
	if err != nil {
		return err
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return strings.Compare(a.Spec.NodeName+a.Name, b.Spec.NodeName+b.Name)
	})
	h.Pods = pods
	return WaitFor(ctx, c, Objects{Resource: ServiceObjects, Namespace: h.Namespace, Name: h.Name}, limit, func(list []corev1.Service) error {
		if len(list) == 0 {
			return errors.New("no service")
		}
		h.Addresses = nil
		for _, text := range list[0].Spec.ClusterIPs {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("read clusterIPs: %w", err)
			}
			h.Addresses = append(h.Addresses, a)
		}
		h.NodePort = int(list[0].Spec.Ports[0].NodePort)
		return nil
	})
}

// Undeploy deletes the objects and waits for the end of the pods.
func (c *Cluster) Undeploy(ctx context.Context, h *Hello, limit time.Duration) error {
	if err := c.Delete(ctx, h.Manifest()); err != nil {
		return err
	}
	_, err := c.WaitPods(ctx, h.Namespace, "app="+h.Name, 0, limit)
	return err
}

// PodAddr returns the pod's address of a family.
func PodAddr(p corev1.Pod, v6 bool) (netip.Addr, error) {
	for _, ip := range p.Status.PodIPs {
		a, err := netip.ParseAddr(ip.IP)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("read address of %s: %w", p.Name, err)
		}
		if a.Is6() == v6 {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod %s has the addresses %v, none of the family", p.Name, p.Status.PodIPs)
}

// Serve answers HTTP requests as the hello pods do, in a network namespace, until it
// is closed.
func Serve(ctx context.Context, ns *lab.NS) (io.Closer, error) {
	var listener net.Listener
	err := ns.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		listener, err = lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", HelloPort))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("serve in %s: %w", ns.Name, err)
	}
	server := &http.Server{
		ReadHeaderTimeout: answerTime,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello from %s to %s\n", ns.Name, r.RemoteAddr)
		}),
	}
	go func() { _ = server.Serve(listener) }() // until Close
	return server, nil
}
