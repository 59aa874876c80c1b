package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"onlink/integration/bed"
	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/screen"
)

// Where the story finds what make image made, and what a user applies.
const (
	imageFile    = "bin/onlink-image.tar"
	manifestFile = "deploy/kubernetes/onlink.yaml"
)

// demoTime bounds each thing that the story waits for.
const demoTime = 2 * time.Minute

// services is the range of the demonstration's load balancer addresses.
var services = netip.MustParsePrefix("192.0.2.0/24")

// demo tells the story from a bare cluster on.
func demo() *cobra.Command {
	return &cobra.Command{
		Use: "demo", Short: "the story: a bare cluster, one apply, pods, a service behind a ToR, drain", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			if err := bed.Install(ctx, os.Stdout, bed.NeedKube, bed.NeedLab); err != nil {
				return err
			}
			bin, err := programs(ctx, "")
			if err != nil {
				return err
			}
			return tell(ctx, bin, screen.New(os.Stdout))
		},
	}
}

// story is one telling.
type story struct {
	*screen.Screen

	c       *cluster.Cluster
	tor     *lab.ToR
	address netip.Addr // the service's
}

// tell starts the cluster, plays every chapter and ends the cluster. The first thing
// that is not true ends the story, with the evidence.
func tell(ctx context.Context, bin string, out *screen.Screen) error {
	out.Title("a bare cluster: control plane, two nodes, a ToR; no network")
	c, err := cluster.Start(ctx, cluster.Options{Name: "kubedemo", Bin: bin, Images: []string{imageFile}, Progress: out.Say})
	if err != nil {
		return err
	}
	s := &story{Screen: out, c: c, tor: c.Lab.ToRs()[0]}
	for _, chapter := range []func(context.Context) error{s.apply, s.pods, s.service, s.drain, s.policy} {
		if err := chapter(ctx); err != nil {
			out.Say("NOT TRUE: %v", err)
			out.Block(c.PodLogs(context.WithoutCancel(ctx), 20))
			return errors.Join(err, c.Stop())
		}
	}
	if err := c.Stop(); err != nil {
		return err
	}
	out.Checked("clean-up", "namespaces, devices and processes of the cluster are gone")
	out.Summary()
	out.Say("all of it is true")
	return nil
}

// show prints what kubectl prints.
func (s *story) show(ctx context.Context, args ...string) error {
	text, err := s.c.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	s.Say("kubectl %s", strings.Join(args, " "))
	s.Block(text)
	return nil
}

// apply installs onlink as a user does.
func (s *story) apply(ctx context.Context) error {
	s.Title("kubectl apply -f " + manifestFile + ", without an edit")
	text, err := os.ReadFile(manifestFile)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	if err := s.show(ctx, "get", "nodes"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.c.Apply(ctx, string(text)); err != nil {
		return err
	}
	if err := errors.Join(s.c.WaitReady(ctx, demoTime), s.c.WaitUntainted(ctx, demoTime)); err != nil {
		return err
	}
	s.Checked("apply", "%d nodes Ready, and without taint, %.1f s after it", len(s.c.Nodes), time.Since(began).Seconds())
	return s.show(ctx, "get", "nodes,onlinknodes,blocks.onlink.io,ippools")
}

// pods shows that pods reach each other with their own addresses.
func (s *story) pods(ctx context.Context) error {
	s.Title("pods on both nodes")
	hello := &cluster.Hello{}
	if err := s.c.Deploy(ctx, hello, demoTime); err != nil {
		return err
	}
	if err := s.show(ctx, "get", "pods", "-o", "wide"); err != nil {
		return err
	}
	first, last := hello.Pods[0], hello.Pods[len(hello.Pods)-1]
	for _, pair := range [][2]corev1.Pod{{first, last}, {last, first}} {
		from, err := cluster.PodAddr(pair[0], false)
		if err != nil {
			return err
		}
		to, err := cluster.PodAddr(pair[1], false)
		if err != nil {
			return err
		}
		ns := s.c.Node(pair[0].Spec.NodeName).NS
		text, err := cluster.WaitAnswer(ctx, ns, cluster.Through(from, cluster.At(to, cluster.HelloPort)))
		if err != nil {
			return err
		}
		if seen, err := cluster.Source(text); err != nil || seen != from {
			return fmt.Errorf("pod %s saw a request come from %s, not from %s: %w", to, seen, from, err)
		}
		s.Checked("pod on "+pair[0].Spec.NodeName+" to pod on "+pair[1].Spec.NodeName, "%s", strings.TrimSpace(text))
	}
	return nil
}

// service announces a service to the ToR and requests it from outside.
func (s *story) service(ctx context.Context) error {
	s.Title("a service of type LoadBalancer, announced to the ToR (BIRD)")
	s.tor.Accept = []netip.Prefix{services}
	err := errors.Join(s.c.Lab.StartToRs(ctx), s.c.Client.Through(services, s.tor))
	if err != nil {
		return err
	}
	objects := fmt.Sprintf(`apiVersion: onlink.io/v1alpha1
kind: BGPPeer
metadata: {name: %s}
spec: {address: %s, asn: %d}
---
apiVersion: onlink.io/v1alpha1
kind: IPPool
metadata: {name: services}
spec: {cidr: %s, uses: [LoadBalancer]}
---
apiVersion: onlink.io/v1alpha1
kind: ServiceAdvertisement
metadata: {name: public}
spec: {addresses: [LoadBalancer], peers: [%[1]s]}
---
apiVersion: v1
kind: Service
metadata: {name: public}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: hello}, ports: [{port: 80, targetPort: %[5]d}]}
`, s.tor.Name, s.tor.Addr, s.tor.ASN, services, cluster.HelloPort)
	s.Say("kubectl apply -f -")
	s.Block(objects)
	if err := s.c.Apply(ctx, objects); err != nil {
		return err
	}
	err = cluster.WaitFor(ctx, s.c, cluster.Objects{Resource: cluster.ServiceObjects, Namespace: "default", Name: "public"}, demoTime, func(list []corev1.Service) error {
		for _, service := range list {
			for _, ingress := range service.Status.LoadBalancer.Ingress {
				s.address, err = netip.ParseAddr(ingress.IP)
				return err
			}
		}
		return errors.New("the service has no address yet")
	})
	if err != nil {
		return err
	}
	s.Checked("address", "the service has %s of pool services", s.address)
	if err := s.announced(ctx, s.c.Nodes...); err != nil {
		return err
	}
	text, err := cluster.WaitAnswer(ctx, s.c.Client.NS, cluster.At(s.address, 80))
	if err != nil {
		return err
	}
	s.Checked("request from outside, through the ToR", "%s", strings.TrimSpace(text))
	return nil
}

// announced waits until the ToR has the service from these nodes and no other, and
// prints its route.
func (s *story) announced(ctx context.Context, nodes ...*cluster.Node) error {
	var want, reply string
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	want = strings.Join(names, " and ")
	command := "show route for " + s.address.String()
	err := lab.Eventually(ctx, demoTime, s.tor.Name+" has the service from "+want, func() (err error) {
		if reply, err = s.tor.BIRD(command); err != nil {
			return err
		}
		for _, n := range s.c.Nodes {
			if has := strings.Contains(reply, n.Addr.String()+" "); has != slices.Contains(nodes, n) {
				return fmt.Errorf("birdc %s: %s", command, reply)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Say("birdc %s", command)
	s.Block(reply)
	s.Checked("announced", "%s has %s from %s", s.tor.Name, s.address, want)
	return nil
}

// drain takes a node out while requests from outside go on.
func (s *story) drain(ctx context.Context) error {
	drained, other := s.c.Nodes[0], s.c.Nodes[1]
	s.Title("drain " + drained.Name + " while requests come from outside")
	asking, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	answers := 0
	go func() {
		for asking.Err() == nil {
			if _, err := cluster.Get(ctx, s.c.Client.NS, cluster.At(s.address, 80)); err != nil {
				ended <- err
				return
			}
			answers++
		}
		ended <- nil
	}()
	err := s.show(ctx, "annotate", "node", drained.Name, "onlink.io/drain=")
	if err == nil {
		err = s.announced(ctx, other)
	}
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	s.Checked("drain", "%d requests from outside meanwhile, each answered", answers)
	if err := s.show(ctx, "annotate", "node", drained.Name, "onlink.io/drain-"); err != nil {
		return err
	}
	return s.announced(ctx, s.c.Nodes...)
}

// policy shows that a NetworkPolicy which nothing enforces does not pass unseen.
func (s *story) policy(ctx context.Context) error {
	s.Title("a NetworkPolicy, and nothing that enforces it")
	err := s.c.Apply(ctx, `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: default}
spec: {podSelector: {}, policyTypes: [Ingress]}
`)
	if err != nil {
		return err
	}
	configs := schema.GroupVersionResource{Group: "onlink.io", Version: "v1alpha1", Resource: "onlinkconfigs"}
	var message string
	err = cluster.WaitFor(ctx, s.c, cluster.Objects{Resource: configs, Name: "default"}, demoTime, func(list []unstructured.Unstructured) error {
		for i := range list {
			conditions, _, err := unstructured.NestedSlice(list[i].Object, "status", "conditions")
			if err != nil {
				return fmt.Errorf("read conditions: %w", err)
			}
			for _, item := range conditions {
				condition, _ := item.(map[string]any)
				if condition["type"] == "PolicyEnforced" && condition["status"] == "False" {
					message, _ = condition["message"].(string)
					return nil
				}
			}
		}
		return errors.New("the OnlinkConfig has no condition PolicyEnforced=False")
	})
	if err != nil {
		return err
	}
	s.Checked("sign", "PolicyEnforced=False: %s", message)
	return nil
}
