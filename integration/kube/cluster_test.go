package kube

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"onlink/integration/kube/cluster"
	"onlink/integration/labtest"
)

// TestCluster proves the cluster itself, with the reference plugins as its network:
// what fails here is not onlink's.
func TestCluster(t *testing.T) {
	ctx, c := start(t, cluster.Options{Name: "ptp", CNI: cluster.CNIPTP, DualStack: true})
	checkAll(ctx, t, c)
	t.Run("pause", func(t *testing.T) {
		labtest.Must(t, c.Pause(cluster.APIServer, cluster.Etcd))
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if text, err := c.Kubectl(short, "get", "--raw", "/version"); err == nil {
			t.Errorf("a paused API server answers: %s", text)
		}
		labtest.Must(t, c.Resume(cluster.APIServer, cluster.Etcd))
		_, err := c.Kubectl(ctx, "get", "--raw", "/version")
		labtest.Must(t, err)
	})
	t.Run("power", func(t *testing.T) {
		n := c.Nodes[1]
		before := bootID(ctx, t, c, n, "")
		labtest.Must(t, n.Cut())
		labtest.Must(t, n.Boot(ctx))
		bootID(ctx, t, c, n, before)
		checkAll(ctx, t, c)
	})
}

// bootID waits until a node is Ready with another boot ID than the former one, and
// returns it.
func bootID(ctx context.Context, t *testing.T, c *cluster.Cluster, n *cluster.Node, former string) (id string) {
	t.Helper()
	labtest.Must(t, cluster.WaitFor(ctx, c, cluster.Objects{Resource: cluster.Nodes, Name: n.Name}, podTime, func(nodes []corev1.Node) error {
		for _, node := range nodes {
			id = node.Status.NodeInfo.BootID
		}
		if id == "" || id == former {
			return fmt.Errorf("boot ID %q", id)
		}
		return nil
	}))
	labtest.Must(t, c.WaitReady(ctx, podTime))
	return id
}
