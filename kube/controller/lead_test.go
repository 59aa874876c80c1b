package controller

import (
	"strings"
	"testing"

	"onlink/kube/registry"
)

// TestLeaseOfNoNode: no Node has the Lease by which a replica is elected. That node
// would never get its name, or the controller never the lead.
func TestLeaseOfNoNode(t *testing.T) {
	for _, node := range []string{"controller", "n1", "onlink", "onlink.io", LeaseName, strings.TrimPrefix(LeaseName, "onlink-"), strings.Repeat("n", 253)} {
		lease := registry.LeaseName(node)
		if lease == LeaseName {
			t.Errorf("Node %s and the controller have one Lease, %s", node, LeaseName)
		}
		if !strings.HasPrefix(lease, "onlink-") || strings.HasPrefix(LeaseName, "onlink-") {
			t.Errorf("the Lease of Node %s is %s, the controller's %s: only nodes' begin with onlink-", node, lease, LeaseName)
		}
	}
}
