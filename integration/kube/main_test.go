// Package kube holds the tests of onlink in a real Kubernetes cluster, which make
// test-kube runs; package cluster has the cluster.
//
//go:debug multipathtcp=0
package kube

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"onlink/integration/kube/cluster"
	"onlink/integration/labtest"
)

// limit bounds the short form of one test.
var limit = cluster.Slow(8 * time.Minute)

// TestMain runs nothing without Kubernetes' programs: building them is a matter of
// make test-kube, and minutes too long for make test.
func TestMain(m *testing.M) {
	if os.Getenv(cluster.BinVariable) == "" {
		fmt.Println("make test-kube runs these tests; $" + cluster.BinVariable + " names no programs")
		os.Exit(0)
	}
	os.Exit(labtest.Main(m))
}

// start starts a cluster for a test, and ends it with the test. The logs of a
// failed test are shown.
func start(t *testing.T, o cluster.Options) (context.Context, *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit*time.Duration(labtest.Times(1, 4)))
	t.Cleanup(cancel)
	o.Name = fmt.Sprintf("k%d-%s", os.Getpid(), o.Name)
	o.Progress = t.Logf
	c, err := cluster.Start(ctx, o)
	labtest.Must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.PodLogs(context.WithoutCancel(ctx), 30))
			t.Log(c.Logs(30))
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return ctx, c
}
