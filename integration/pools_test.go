package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	onlinkv1 "onlink/proto/v1"
)

// TestPoolsAtRunTime adds, reserves, disables and removes pools of running
// agents with SIGHUP. A file with a mistake changes nothing.
func TestPoolsAtRunTime(t *testing.T) {
	ctx, l := build(t, inRack("pools"))
	upAll(ctx, t, l)
	n := l.Node("r1n1")
	old, err := n.AddPod(ctx, "old")
	must(t, err)

	first := n.Config().Pools[0]
	closed := first
	closed.Disabled = true
	second := conf.Pool{Name: "second", CIDR: "10.250.0.0/24", BlockSize: 28, Tunnel: "none", NodeSelector: map[string]string{"rack": "r1"}}
	for _, node := range l.Nodes() {
		reloadPools(ctx, t, node, closed, second)
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
		third := conf.Pool{Name: "third", CIDR: "10.251.0.0/24", Tunnel: "none", NodeSelector: map[string]string{"rack": "r9"}}
		reloadPools(ctx, t, n, first, third, second)
		p, err := n.AddPod(ctx, "third")
		must(t, err)
		if netip.MustParsePrefix("10.251.0.0/24").Contains(p.Addr()) {
			t.Errorf("the pod has %v, of a pool for other nodes", p.Addr())
		}
	})
}

func writePools(t *testing.T, n *lab.Node, pools ...conf.Pool) {
	t.Helper()
	c := n.Config()
	c.Pools = pools
	_, err := n.WriteConfig("onlinkd.yaml", c)
	must(t, err)
}

// reloadPools gives a running agent other pools and waits until they are in
// force.
func reloadPools(ctx context.Context, t *testing.T, n *lab.Node, pools ...conf.Pool) {
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
