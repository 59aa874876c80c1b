package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/cni/pod"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// backedUp is a node with two families of few addresses, which are used again
// at once, and a copy of its database that is older than its pods.
type backedUp struct {
	t    *testing.T
	ctx  context.Context
	lab  *lab.Lab
	n    *lab.Node
	file string // the database
	copy string // and the copy
	made int    // pods by fill
}

func newBackedUp(t *testing.T, name string) *backedUp {
	t.Helper()
	spec := labtest.Alone(name)
	spec.DualStack = true
	ctx, l := labtest.Build(t, spec)
	b := &backedUp{t: t, ctx: ctx, lab: l, n: l.Node("r1n1")}
	b.file, b.copy = filepath.Join(b.n.StateDir(), "onlink.db"), filepath.Join(t.TempDir(), "copy.db")
	b.n.Edit = func(c *conf.Config) {
		c.IPAM.Cooldown = "0s"
		c.IPAM.Registry.Assert = "1s" // an older registry waits twice as long
		c.Pools = []conf.Pool{
			{Name: "four", CIDR: "10.244.0.0/28", BlockSize: 30, Tunnel: "none"},
			{Name: "six", CIDR: "fd00:244::/124", BlockSize: 126, Tunnel: "none"},
		}
	}
	must(t, l.StartToRs(ctx)) // without its peer an agent waits a while
	b.start()
	return b
}

func (b *backedUp) start() {
	b.t.Helper()
	labtest.StartNode(b.ctx, b.t, b.n)
}

func (b *backedUp) add(name string) *lab.Pod {
	b.t.Helper()
	p, err := b.n.AddPod(b.ctx, name)
	must(b.t, err)
	return p
}

// restart kills the agent, has change done to its database, and starts it.
func (b *backedUp) restart(change func()) {
	b.t.Helper()
	must(b.t, b.n.Kill())
	change()
	b.start()
}

func (b *backedUp) restore() {
	b.t.Helper()
	text, err := os.ReadFile(b.copy)
	must(b.t, err)
	must(b.t, os.WriteFile(b.file, text, 0o600))
}

// fill starts pods until there is no address left, and wants every pod to have
// its own and to answer.
func (b *backedUp) fill(name string) {
	b.t.Helper()
	must(b.t, lab.Eventually(b.ctx, labtest.SettleLimit, "the pools are empty", func() error {
		for i := range 20 {
			b.made++
			_, err := b.n.AddPod(b.ctx, fmt.Sprintf("%s%d", name, b.made))
			switch {
			case err == nil:
			case strings.Contains(err.Error(), "no address left"):
				return nil
			default: // the registry waits
				return fmt.Errorf("after %d pods: %w", i, err)
			}
		}
		b.t.Fatal("20 pods have got one of 16 addresses")
		return nil
	}))
	b.unique()
}

// unique wants every address of every pod to be its own, and to answer.
func (b *backedUp) unique() {
	b.t.Helper()
	seen := map[netip.Addr]string{}
	for _, p := range b.lab.Pods() {
		for _, addr := range p.Addrs {
			if o := seen[addr]; o != "" {
				b.t.Errorf("%v is %s's and %s's", addr, o, p.Name)
			}
			seen[addr] = p.Name
			if _, err := b.n.NS.Ping(b.ctx, addr, 1, labtest.Back); err != nil {
				b.t.Errorf("%s: %v", p.Name, err)
			}
		}
	}
}

// TestOlderBackup puts an older database back under running pods. One of them
// has an address that the database gives to a pod that is gone; others lie in
// blocks that it does not know. All keep their addresses and routes, and none
// is given out again.
func TestOlderBackup(t *testing.T) {
	b := newBackedUp(t, "older")
	gone := b.add("gone")
	labtest.WantCtl(b.ctx, t, b.n, 0, "bytes", "ipam", "backup", b.copy)
	addrs := gone.Addrs
	must(t, gone.Delete(b.ctx))
	var heir *lab.Pod
	for i := range 9 { // the first block has four addresses, of which this one was used last
		if p := b.add(fmt.Sprintf("now%d", i)); p.Addr() == addrs[0] {
			heir = p
		}
	}
	if heir == nil {
		t.Fatalf("no pod has got %v, which was free", addrs)
	}
	routes := b.podRoutes()
	b.restart(b.restore)
	labtest.WantCtl(b.ctx, t, b.n, 0, " 0 problems", "ipam", "check")
	b.unique()
	if got := b.podRoutes(); got != routes {
		t.Errorf("pod routes:\n%s\nbefore:\n%s", got, routes)
	}
	b.fill("later")
	// A DEL that comes late, of the pod that is gone, takes nothing from its heir.
	must(t, gone.Detach(b.ctx))
	must(t, heir.Check(b.ctx))
	b.unique()
	labtest.WantCtl(b.ctx, t, b.n, 0, " 0 problems", "ipam", "check")
}

// podRoutes renders the node's host routes to pods.
func (b *backedUp) podRoutes() string {
	b.t.Helper()
	routes, err := b.n.NS.Routes(labtest.RouteProtocol)
	must(b.t, err)
	var out strings.Builder
	for _, r := range routes {
		if r.Prefix.IsSingleIP() {
			fmt.Fprintln(&out, r)
		}
	}
	return out.String()
}

// TestDatabaseLostAmidTrouble loses the database while the kernel says odd
// things of the pods: one's host end is down, so that it has no routes, and one
// has a route more than addresses. What is not clear is kept out of use and
// named, until the pod has ended.
func TestDatabaseLostAmidTrouble(t *testing.T) {
	b := newBackedUp(t, "amid")
	down, odd := b.add("down"), b.add("odd")
	extra := netip.MustParseAddr("10.244.0.14")
	b.restart(func() {
		must(t, os.Remove(b.file))
		must(t, b.n.NS.SetLink(pod.HostDevice(down.ContainerID, "eth0"), false))
		link := b.n.NS.Link
		dev, err := link.LinkByName(pod.HostDevice(odd.ContainerID, "eth0"))
		must(t, err)
		must(t, link.RouteAdd(&netlink.Route{
			Dst: netlink.NewIPNet(extra.AsSlice()), LinkIndex: dev.Attrs().Index, Protocol: labtest.RouteProtocol, Scope: netlink.SCOPE_LINK,
		}))
	})
	must(t, labtest.Problem(b.ctx, b.n, extra.String()+" of the running pod lab/odd"))
	labtest.WantCtl(b.ctx, t, b.n, 1, extra.String()+" of the running pod lab/odd", "ipam", "check")
	must(t, labtest.HasRoute(b.n, netip.PrefixFrom(extra, 32), labtest.RouteProtocol))
	must(t, b.n.NS.SetLink(pod.HostDevice(down.ContainerID, "eth0"), true))
	for _, addr := range down.Addrs { // the agent puts the routes back
		must(t, lab.Eventually(b.ctx, labtest.SettleLimit, "route to "+addr.String(), func() error {
			return labtest.HasRoute(b.n, netip.PrefixFrom(addr, addr.BitLen()), labtest.RouteProtocol)
		}))
	}
	b.fill("later")
	for _, p := range b.lab.Pods() {
		if p.Addr() == extra {
			t.Errorf("%s has %v, which is kept out of use", p.Name, extra)
		}
	}
	must(t, odd.Delete(b.ctx))
	must(t, lab.Eventually(b.ctx, labtest.SettleLimit, "the quarantine ends", func() error {
		if err := labtest.Problem(b.ctx, b.n, extra.String()); err == nil {
			return fmt.Errorf("status names %v still", extra)
		}
		return nil
	}))
	b.fill("last")
	if !hasPod(b.lab, extra) {
		t.Errorf("nobody has %v, which is free again", extra)
	}
	labtest.WantCtl(b.ctx, t, b.n, 0, " 0 problems", "ipam", "check")
}

func hasPod(l *lab.Lab, addr netip.Addr) bool {
	for _, p := range l.Pods() {
		if slices.Contains(p.Addrs, addr) {
			return true
		}
	}
	return false
}
