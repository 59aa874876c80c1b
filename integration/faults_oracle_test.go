package integration

import (
	"fmt"
	"net/netip"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// agreed pauses the runtimes, and wants everything to be as it should within
// the promised time.
func (f *faultSite) agreed(after string) {
	f.t.Helper()
	begin := time.Now()
	f.gate.Lock()
	f.pause.Lock()
	defer f.gate.Unlock()
	defer f.pause.Unlock()
	paused := time.Now()
	err := lab.Eventually(f.ctx, faultLimit, "after "+after+" all agree", f.check)
	f.t.Logf("%v: paused after %v, agreed after %v", after, paused.Sub(begin).Round(time.Millisecond), time.Since(paused).Round(time.Millisecond))
	if err == nil {
		return
	}
	for _, n := range f.lab.Nodes() {
		if f.running[n] != nil {
			f.t.Logf("%s:\n%s", n.Name, n.Logs(12))
		}
	}
	f.t.Fatal(err)
}

// check compares what the runtimes know with databases and kernels.
func (f *faultSite) check() error {
	pods := map[*lab.Node]map[string]*crashPod{}
	for _, n := range f.workers {
		pods[n] = map[string]*crashPod{}
	}
	for i, w := range f.all {
		for _, p := range w.pods {
			pods[f.workers[i/faultRuntimes]][p.id] = p
		}
	}
	blocks := map[netip.Prefix]*lab.Node{}
	for _, n := range f.workers {
		if err := f.crash[n].agree(f.ctx, pods[n]); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if err := f.inOwnBlocks(n, pods[n]); err != nil {
			return err
		}
	}
	for _, n := range f.agents() {
		for cidr := range f.announced(f.ctx, n) {
			p := netip.MustParsePrefix(cidr)
			if o := blocks[p]; o != nil {
				return fmt.Errorf("%v is announced by %s and by %s", p, o.Name, n.Name)
			}
			blocks[p] = n
		}
	}
	for _, n := range f.agents() {
		if err := f.routesAre(n, blocks); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return f.reached(pods)
}

// agents are the nodes that run one all the time.
func (f *faultSite) agents() []*lab.Node { return append(f.lab.Reflectors(), f.workers...) }

// routesAre wants a node's kernel to have a route to every block, to its owner,
// and to no other.
func (f *faultSite) routesAre(n *lab.Node, blocks map[netip.Prefix]*lab.Node) error {
	routes, err := n.NS.Routes(labtest.RouteProtocol)
	if err != nil {
		return err
	}
	seen := 0
	for _, r := range routes {
		if r.Prefix.IsSingleIP() {
			continue // a pod: agree has looked at it
		}
		owner := blocks[r.Prefix]
		switch {
		case owner == nil:
			return fmt.Errorf("route %v to a block that nobody has", r)
		case owner == n && r.Type != "blackhole":
			return fmt.Errorf("route %v to a block of its own", r)
		case owner != n && (len(r.Hops) != 1 || r.Hops[0].Via != owner.Addr):
			return fmt.Errorf("route %v to a block of %s", r, owner.Name)
		}
		seen++
	}
	if seen != len(blocks) {
		return fmt.Errorf("routes to %d blocks, want %d: %v", seen, len(blocks), routes)
	}
	return nil
}

// reached wants one pod of every node to answer every node.
func (f *faultSite) reached(pods map[*lab.Node]map[string]*crashPod) error {
	for _, to := range f.workers {
		for _, p := range pods[to] {
			for _, from := range f.agents() {
				if _, err := from.NS.Ping(f.ctx, p.addrs[0], 1, time.Second); err != nil {
					return fmt.Errorf("%v on %s from %s: %w", p.addrs[0], to.Name, from.Name, err)
				}
			}
			break
		}
	}
	return nil
}
