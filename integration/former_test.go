package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// formerRun is one node with a ToR, whose file changes between two runs.
func formerRun(t *testing.T, name string) *backedUp {
	t.Helper()
	ctx, l := labtest.Build(t, labtest.Alone(name))
	b := &backedUp{t: t, ctx: ctx, lab: l, n: l.Node("r1n1")}
	must(t, l.StartToRs(ctx)) // without its peer an agent waits a while
	return b
}

// again starts the agent with another file.
func (b *backedUp) again(edit func(*conf.Config)) {
	b.t.Helper()
	must(b.t, b.n.Stop())
	b.n.Edit = edit
	b.start()
}

// TestFormerMTU changes what fits into the tunnel while no agent runs: pods
// that run get the MTU of new ones, but for one whose MTU somebody chose.
func TestFormerMTU(t *testing.T) {
	b := formerRun(t, "mtu")
	tunnelled := func(mtu int) func(*conf.Config) {
		return func(c *conf.Config) {
			c.Pools = []conf.Pool{{Name: "default", CIDR: "10.244.0.0/16", Tunnel: "vxlan"}}
			if mtu != 0 {
				c.Tunnel.MTU = strconv.Itoa(mtu)
			}
		}
	}
	b.n.Edit = tunnelled(0)
	b.start()
	pod, chosen := b.add("pod"), b.add("chosen")
	must(t, chosen.NS.SetMTU("eth0", 1400))
	for _, step := range []struct {
		link, mtu, want int
	}{
		{1500, 0, 1450},
		{1500, 1300, 1300},
		{1500, 0, 1450}, // back to what a run before had
		{1420, 0, 1370}, // the underlay has changed
	} {
		must(t, b.n.Stop())
		must(t, b.n.NS.SetMTU("eth0", step.link))
		b.again(tunnelled(step.mtu))
		must(t, lab.Eventually(b.ctx, labtest.SettleLimit, fmt.Sprintf("%+v", step), func() error {
			return errors.Join(labtest.HasMTU(pod.NS, "eth0", step.want), labtest.HasMTU(b.n.NS, "onlink-vxlan", step.want), labtest.HasMTU(chosen.NS, "eth0", 1400))
		}))
		must(t, pod.Check(b.ctx))
	}
}

// TestFormerTable gives onlink's routes another table between two runs: nothing
// is left in the one of before, of pods, blocks or other nodes.
func TestFormerTable(t *testing.T) {
	b := formerRun(t, "table")
	b.start()
	pod := b.add("pod")
	addr := netip.PrefixFrom(pod.Addr(), 32)
	must(t, labtest.HasRoute(b.n, addr, labtest.RouteProtocol))
	rule := netlink.NewRule()
	rule.Table, rule.Priority = 100, 100
	must(t, b.n.NS.Link.RuleAdd(rule))
	b.again(func(c *conf.Config) { c.FIB.Table = 100 })
	must(t, lab.Eventually(b.ctx, labtest.SettleLimit, "table main has no route of ours", func() error { return emptyTable(b, 254) }))
	if err := emptyTable(b, 100); err == nil {
		t.Error("table 100 has no route of ours")
	}
	if _, err := b.n.NS.Ping(b.ctx, pod.Addr(), 1, labtest.Back); err != nil {
		t.Error(err)
	}
	b.again(nil) // and back
	must(t, lab.Eventually(b.ctx, labtest.SettleLimit, "table 100 has no route of ours", func() error { return emptyTable(b, 100) }))
	must(t, labtest.HasRoute(b.n, addr, labtest.RouteProtocol))
}

// TestFormerPool removes a pool from the file between two runs, while a pod has
// an address of it, and renames the other: the pods keep addresses and routes,
// status names what is not as the file says, and DEL works.
func TestFormerPool(t *testing.T) {
	b := formerRun(t, "pool")
	pools := func(list ...string) func(*conf.Config) {
		return func(c *conf.Config) {
			c.Pools = nil
			for _, p := range list {
				name, cidr, _ := strings.Cut(p, " ")
				c.Pools = append(c.Pools, conf.Pool{Name: name, CIDR: cidr, Tunnel: "none"})
			}
			c.IPAM.Registry.Assert = "1s"
		}
	}
	b.n.Edit = pools("old 10.244.0.0/24")
	b.start()
	pod := b.add("pod")
	b.again(pools("new 10.245.0.0/24"))
	must(t, labtest.Problem(b.ctx, b.n, "its pool old is no longer in the file"))
	must(t, labtest.HasRoute(b.n, netip.PrefixFrom(pod.Addr(), 32), labtest.RouteProtocol))
	if next := b.add("next"); !netip.MustParsePrefix("10.245.0.0/24").Contains(next.Addr()) {
		t.Errorf("a new pod has %v, want one of the pool that is there", next.Addr())
	}
	b.unique()
	must(t, pod.Delete(b.ctx))
	must(t, lab.Eventually(b.ctx, labtest.SettleLimit, "the block of the pool that is gone is given back", func() error {
		if err := labtest.Problem(b.ctx, b.n, "its pool old"); err == nil {
			return errors.New("status names it still")
		}
		return nil
	}))
	b.again(pools("renamed 10.245.0.0/24"))
	b.add("third")
	b.unique()
}

// emptyTable wants no route of onlink's, of either family, in a table.
func emptyTable(b *backedUp, table int) error {
	filter := &netlink.Route{Table: table, Protocol: labtest.RouteProtocol}
	routes, err := b.n.NS.Link.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return err
	}
	if len(routes) > 0 {
		return fmt.Errorf("table %d has %v", table, routes)
	}
	return nil
}
