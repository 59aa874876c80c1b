package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"onlink/integration/kube/cluster"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
)

// readyTime bounds how long nodes may take from the apply to Ready.
var readyTime = cluster.Slow(2 * time.Minute)

// manifest is the file that a user applies.
var manifest = filepath.Join("..", "..", "deploy", "kubernetes", "onlink.yaml")

// TestApply: on a bare cluster the manifest needs no edit. Nodes become Ready and keep
// no taint, and pods and services work in every way, in both families and in both
// modes of kube-proxy that are in use. In one form kubelet registers the nodes with
// onlink's own taint, which goes as the others do. Nodes get certificates, so that explain
// names a cause on another node.
func TestApply(t *testing.T) {
	for _, o := range []cluster.Options{
		{Name: "nft", Proxy: cluster.ProxyNFTables, DualStack: true},
		{Name: "ipt", Proxy: cluster.ProxyIPTables, Taints: []string{v1alpha1.NotReadyTaint + ":" + string(corev1.TaintEffectNoSchedule)}},
		{Name: "ipt6", Proxy: cluster.ProxyIPTables, DualStack: true},
	} {
		name := string(o.Proxy)
		if o.DualStack {
			name += ", dual stack"
		}
		t.Run(name, func(t *testing.T) {
			ctx, c := startOnlink(t, o)
			t.Run("explain between nodes", func(t *testing.T) { checkCertificates(ctx, t, c) })
			checkAll(ctx, t, c)
		})
	}
}

// startOnlink starts a bare cluster and applies the manifest as it is.
func startOnlink(t *testing.T, o cluster.Options) (context.Context, *cluster.Cluster) {
	t.Helper()
	o.Images = append(o.Images, filepath.Join(labtest.Bin(), "onlink-image.tar"))
	ctx, c := start(t, o)
	if len(o.Taints) > 0 {
		labtest.Must(t, cluster.WaitFor(ctx, c, cluster.Objects{Resource: cluster.Nodes}, readyTime, func(nodes []corev1.Node) error { return tainted(nodes, o.Taints) }))
	}
	text, err := os.ReadFile(manifest)
	labtest.Must(t, err)
	began := time.Now()
	labtest.Must(t, c.Apply(ctx, string(text)))
	labtest.Must(t, c.WaitReady(ctx, readyTime))
	labtest.Must(t, c.WaitUntainted(ctx, readyTime))
	t.Logf("%d nodes Ready, and without taint, %s after the apply", len(c.Nodes), time.Since(began).Round(100*time.Millisecond))
	return ctx, c
}

// tainted returns an error while a node lacks a taint that its kubelet registers it
// with.
func tainted(nodes []corev1.Node, taints []string) error {
	for _, n := range nodes {
		for _, want := range taints {
			if !slices.ContainsFunc(n.Spec.Taints, func(has corev1.Taint) bool { return has.ToString() == want }) {
				return fmt.Errorf("%s lacks the taint %s, it has %v", n.Name, want, n.Spec.Taints)
			}
		}
	}
	return nil
}
