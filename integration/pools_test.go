package integration

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"onlink/integration/lab"
	onlinkv1 "onlink/proto/v1"
)

// TestPoolsAtRunTime adds, reserves, disables and removes pools of running
// agents with SIGHUP. A file with a mistake changes nothing.
func TestPoolsAtRunTime(t *testing.T) {
	ctx, l := build(t, inRack("pools"))
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	must(t, l.WaitConverged(ctx))
	n := l.Node("r1n1")
	old, err := n.AddPod(ctx, "old")
	must(t, err)

	first := func(extra map[string]any) any { return poolOfLab(n, 0, extra) }
	second := map[string]any{"name": "second", "cidr": "10.250.0.0/24", "blockSize": 28, "tunnel": "none", "nodeSelector": map[string]any{"rack": "r1"}}
	for _, node := range l.Nodes() {
		reloadPools(ctx, t, node, first(map[string]any{"disabled": true}), second)
	}
	p, err := n.AddPod(ctx, "second")
	must(t, err)
	if !netip.MustParsePrefix("10.250.0.0/24").Contains(p.Addr()) {
		t.Errorf("the new pod has %v, want one of the added pool", p.Addr())
	}
	far, err := l.Node("r1n2").AddPod(ctx, "far")
	must(t, err)
	must(t, lab.Eventually(ctx, back, "a pod of the added pool is reached", func() error {
		_, err := p.NS.Ping(ctx, far.Addr(), 1, back)
		return err
	}))
	_, err = old.NS.Ping(ctx, p.Addr(), 1, back)
	must(t, err)

	t.Run("a mistake changes nothing", func(t *testing.T) {
		text, err := os.ReadFile(n.ConfigFile())
		must(t, err)
		must(t, os.WriteFile(n.ConfigFile(), append(text, "\nnonsense: true\n"...), 0o600))
		must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
		must(t, lab.Eventually(ctx, back, "status tells of the mistake", func() error { return problem(ctx, n, "nonsense") }))
		must(t, os.WriteFile(n.ConfigFile(), text, 0o600))
	})
	t.Run("a pool in use stays", func(t *testing.T) {
		writePools(t, n, second)
		must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
		must(t, lab.Eventually(ctx, back, "status tells that the pool is in use", func() error { return problem(ctx, n, "in use") }))
		_, err := old.NS.Ping(ctx, p.Addr(), 1, back)
		must(t, err)
	})
	t.Run("a node that is not selected", func(t *testing.T) {
		third := map[string]any{"name": "third", "cidr": "10.251.0.0/24", "tunnel": "none", "nodeSelector": map[string]any{"rack": "r9"}}
		reloadPools(ctx, t, n, first(nil), third, second)
		p, err := n.AddPod(ctx, "third")
		must(t, err)
		if netip.MustParsePrefix("10.251.0.0/24").Contains(p.Addr()) {
			t.Errorf("the pod has %v, of a pool for other nodes", p.Addr())
		}
	})
}

// poolOfLab is a pool of the node's own configuration with some keys changed.
func poolOfLab(n *lab.Node, i int, extra map[string]any) map[string]any {
	out := maps.Clone(n.Config()["pools"].([]any)[i].(map[string]any))
	maps.Copy(out, extra)
	return out
}

func writePools(t *testing.T, n *lab.Node, pools ...any) {
	t.Helper()
	c := n.Config()
	c["pools"] = pools
	text, err := yaml.Marshal(map[string]any(c))
	must(t, err)
	must(t, os.WriteFile(n.ConfigFile(), text, 0o600))
}

// reloadPools gives a running agent other pools and waits until they are in
// force.
func reloadPools(ctx context.Context, t *testing.T, n *lab.Node, pools ...any) {
	t.Helper()
	writePools(t, n, pools...)
	must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
	must(t, lab.Eventually(ctx, back, "pools of "+n.Name, func() error {
		admin, err := n.Admin()
		if err != nil {
			return err
		}
		reply, err := admin.ListPools(ctx, &onlinkv1.ListPoolsRequest{})
		if err != nil {
			return err
		}
		if len(reply.GetPools()) != len(pools) {
			return fmt.Errorf("%d pools, want %d", len(reply.GetPools()), len(pools))
		}
		return nil
	}))
}

// problem returns nil when the status of a node names a word.
func problem(ctx context.Context, n *lab.Node, word string) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	for _, p := range st.GetProblems() {
		if strings.Contains(p, word) {
			return nil
		}
	}
	return fmt.Errorf("no problem with %q in %q", word, st.GetProblems())
}
