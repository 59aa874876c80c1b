package integration

import (
	"net/netip"
	"os"
	"syscall"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestPoolsAtRunTime adds, reserves, disables and removes pools of running
// agents with SIGHUP. A file with a mistake changes nothing.
func TestPoolsAtRunTime(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.InRack("pools"))
	labtest.StartAll(ctx, t, l)
	n := l.Node("r1n1")
	old, err := n.AddPod(ctx, "old")
	must(t, err)

	first := n.Config().Pools[0]
	closed := first
	closed.Disabled = true
	second := conf.Pool{Name: "second", CIDR: "10.250.0.0/24", BlockSize: 28, Tunnel: "none", NodeSelector: map[string]string{"rack": "r1"}}
	for _, node := range l.Nodes() {
		labtest.ReloadPools(ctx, t, node, closed, second)
	}
	p, err := n.AddPod(ctx, "second")
	must(t, err)
	if !netip.MustParsePrefix("10.250.0.0/24").Contains(p.Addr()) {
		t.Errorf("the new pod has %v, want one of the added pool", p.Addr())
	}
	far, err := l.Node("r1n2").AddPod(ctx, "far")
	must(t, err)
	must(t, lab.Eventually(ctx, labtest.Back, "a pod of the added pool is reached", func() error {
		_, err := p.NS.Ping(ctx, far.Addr(), 1, labtest.Back)
		return err
	}))
	_, err = old.NS.Ping(ctx, p.Addr(), 1, labtest.Back)
	must(t, err)

	t.Run("a mistake changes nothing", func(t *testing.T) {
		text, err := os.ReadFile(n.ConfigFile())
		must(t, err)
		must(t, os.WriteFile(n.ConfigFile(), append(text, "\nnonsense: true\n"...), 0o600))
		must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
		must(t, lab.Eventually(ctx, labtest.Back, "status tells of the mistake", func() error { return labtest.Problem(ctx, n, "nonsense") }))
		must(t, os.WriteFile(n.ConfigFile(), text, 0o600))
	})
	t.Run("a pool in use stays", func(t *testing.T) {
		labtest.WritePools(t, n, second)
		must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
		must(t, lab.Eventually(ctx, labtest.Back, "the change is held", func() error { return labtest.Problem(ctx, n, "is held because it would remove") }))
		if out, err := n.Ctl(ctx, "config", "reload", "--confirm"); err != nil || out.Code == 0 {
			t.Errorf("a pool in use was removed: %v, %s", err, out.Stdout)
		}
		must(t, lab.Eventually(ctx, labtest.Back, "status tells that the pool is in use", func() error { return labtest.Problem(ctx, n, "in use") }))
		_, err := old.NS.Ping(ctx, p.Addr(), 1, labtest.Back)
		must(t, err)
	})
	t.Run("a node that is not selected", func(t *testing.T) {
		third := conf.Pool{Name: "third", CIDR: "10.251.0.0/24", Tunnel: "none", NodeSelector: map[string]string{"rack": "r9"}}
		labtest.ReloadPools(ctx, t, n, first, third, second)
		p, err := n.AddPod(ctx, "third")
		must(t, err)
		if netip.MustParsePrefix("10.251.0.0/24").Contains(p.Addr()) {
			t.Errorf("the pod has %v, of a pool for other nodes", p.Addr())
		}
	})
}
