package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// podTime bounds the start and the end of a few pods.
var podTime = cluster.Slow(90 * time.Second)

// checks asks hello pods in every way that a network and kube-proxy must make
// work, in one family.
type checks struct {
	t     *testing.T
	c     *cluster.Cluster
	v6    bool
	hello *cluster.Hello // a pod on every node
	alone *cluster.Hello // one pod
	// inside leaves out what needs packets of pods to leave the cluster with the address
	// of their node.
	inside bool
}

// checkAll deploys pods, checks every way in each family, deletes them, and checks
// that the nodes have the links that they had before.
func checkAll(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	checkWays(ctx, t, c, false)
}

// checkWays is checkAll; inside leaves out the ways out of the cluster, which a kernel
// without nf_tables has none of.
func checkWays(ctx context.Context, t *testing.T, c *cluster.Cluster, inside bool) {
	t.Helper()
	before := links(t, c)
	outside, err := cluster.Serve(ctx, c.Client.NS)
	labtest.Must(t, err)
	defer outside.Close()
	hello := &cluster.Hello{Replicas: len(c.Nodes)}
	alone := &cluster.Hello{Name: "alone", Replicas: 1}
	began := time.Now()
	labtest.Must(t, c.Deploy(ctx, hello, podTime))
	labtest.Must(t, c.Deploy(ctx, alone, podTime))
	t.Logf("%d pods ready after %s", len(hello.Pods)+1, time.Since(began).Round(100*time.Millisecond))
	nodes := map[string]bool{}
	for _, p := range hello.Pods {
		nodes[p.Spec.NodeName] = true
	}
	if len(nodes) != len(c.Nodes) {
		t.Fatalf("the pods run on %v, want one on each of %d nodes", nodes, len(c.Nodes))
	}
	for _, v6 := range []bool{false, true} {
		if v6 && !c.Options.DualStack {
			continue
		}
		k := checks{t, c, v6, hello, alone, inside}
		name := map[bool]string{false: "IPv4", true: "IPv6"}[v6]
		t.Run(name, func(t *testing.T) {
			k.t = t
			k.all(ctx)
		})
	}
	if text, err := c.Kubectl(ctx, "logs", "deployment/hello"); err != nil || !strings.Contains(text, "request from") {
		t.Errorf("log through the API server: %q, %v", text, err)
	}
	began = time.Now()
	labtest.Must(t, c.Undeploy(ctx, hello, podTime))
	labtest.Must(t, c.Undeploy(ctx, alone, podTime))
	t.Logf("pods gone after %s", time.Since(began).Round(100*time.Millisecond))
	labtest.Must(t, lab.Eventually(ctx, labtest.Patience, "links as before", func() error {
		if after := links(t, c); !slices.Equal(before, after) {
			return fmt.Errorf("before %v, after %v", before, after)
		}
		return nil
	}))
}

// links returns the number of each node's links.
func links(t *testing.T, c *cluster.Cluster) (counts []int) {
	t.Helper()
	for _, n := range c.Nodes {
		list, err := n.NS.Link.LinkList()
		labtest.Must(t, err)
		counts = append(counts, len(list))
	}
	return counts
}

// service is the address of a service in the family.
func (k checks) service(h *cluster.Hello) netip.Addr {
	k.t.Helper()
	for _, a := range h.Addresses {
		if a.Is6() == k.v6 {
			return a
		}
	}
	k.t.Fatalf("service %s has the addresses %v, none of the family", h.Name, h.Addresses)
	return netip.Addr{}
}

// pods are the addresses of the pods in the family.
func (k checks) pods(h *cluster.Hello) (list []netip.Addr) {
	k.t.Helper()
	for _, p := range h.Pods {
		a, err := cluster.PodAddr(p, k.v6)
		labtest.Must(k.t, err)
		list = append(list, a)
	}
	return list
}

// of chooses the address of the family.
func (k checks) of(v4, v6 netip.Addr) netip.Addr {
	if k.v6 {
		return v6
	}
	return v4
}

// answered requests a URL until it is answered, and returns the answer.
func (k checks) answered(ctx context.Context, what string, ns *lab.NS, url string) string {
	k.t.Helper()
	text, err := cluster.WaitAnswer(ctx, ns, url)
	if err != nil {
		k.t.Errorf("%s: %v", what, err)
		return ""
	}
	k.t.Logf("%s: %s", what, strings.TrimSpace(text))
	return text
}

// from checks the address that the far end saw.
func (k checks) from(what, answer string, want netip.Addr) {
	k.t.Helper()
	if answer == "" {
		return // reported already
	}
	if a, err := cluster.Source(answer); err != nil || a != want {
		k.t.Errorf("%s: the far end saw %s (%v), want %s", what, a, err, want)
	}
}

func (k checks) all(ctx context.Context) {
	pods, alone := k.pods(k.hello), k.pods(k.alone)[0]
	first, last := pods[0], pods[len(pods)-1]
	for _, n := range k.c.Nodes {
		for _, p := range pods {
			k.answered(ctx, n.Name+" to pod", n.NS, cluster.At(p, cluster.HelloPort))
		}
	}
	if k.t.Failed() {
		return // what follows needs it
	}
	near, far := k.c.Node(k.hello.Pods[0].Spec.NodeName).NS, k.c.Node(k.hello.Pods[len(pods)-1].Spec.NodeName).NS
	k.from("pod to pod", k.answered(ctx, "pod to pod", near, cluster.Through(first, cluster.At(last, cluster.HelloPort))), first)
	k.from("pod to pod, back", k.answered(ctx, "pod to pod, back", far, cluster.Through(last, cluster.At(first, cluster.HelloPort))), last)
	if k.c.Options.Proxy == cluster.ProxyNone {
		return
	}
	service := k.service(k.hello)
	k.answered(ctx, "node to service", near, cluster.At(service, 80))
	k.answered(ctx, "pod to service", near, cluster.Through(first, cluster.At(service, 80)))
	k.answered(ctx, "hairpin", near, cluster.Through(alone, cluster.At(k.service(k.alone), 80)))
	k.answered(ctx, "pod to UDP service", near, cluster.ThroughUDP(first, netip.AddrPortFrom(service, 53)))
	k.udp(ctx, near, netip.AddrPortFrom(service, 53))
	for _, n := range k.c.Nodes {
		k.answered(ctx, "outside to node port of "+n.Name, k.c.Client.NS, cluster.At(k.of(n.Addr, n.Addr6), k.hello.NodePort))
	}
	if k.inside {
		return
	}
	outside := k.of(k.c.Client.Addr, k.c.Client.Addr6)
	k.answered(ctx, "pod to outside", near, cluster.Through(first, cluster.At(outside, cluster.HelloPort)))
	if !k.v6 { // the service kubernetes has the family of the API server's address
		answer := k.answered(ctx, "pod to API server", near, cluster.Through(first, "https://"+cluster.Services.Addr().Next().String()+"/api"))
		if !strings.Contains(answer, "APIVersions") {
			k.t.Errorf("pod to API server: %q is no answer of its", answer)
		}
	}
}

// udp sends datagrams from a node until one is answered.
func (k checks) udp(ctx context.Context, ns *lab.NS, to netip.AddrPort) {
	k.t.Helper()
	err := lab.Eventually(ctx, podTime, "node to UDP service", func() error {
		text, err := cluster.SendUDP(ctx, ns, to)
		if err == nil && !strings.HasPrefix(text, "hello from ") {
			err = errors.New(text)
		}
		return err
	})
	if err != nil {
		k.t.Error(err)
	}
}
