package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onlink/integration/lab"
	"onlink/nft"
)

// churnPods and churnKill are how long TestPodsUnderKills runs; 500 pods take
// some 20 seconds:
//
//	go test ./integration -run TestPodsUnderKills -args -churn.pods=5000 -churn.kill=300ms
var (
	churnPods = flag.Int("churn.pods", 500, "pods of TestPodsUnderKills")
	churnKill = flag.Duration("churn.kill", 2*time.Second, "interval of its kills")
)

// churnWorkers is how many pods come and go at once.
const churnWorkers = 32

// TestPodsUnderKills attaches and detaches pods while the agent is killed
// again and again, and then looks for anything that is left.
func TestPodsUnderKills(t *testing.T) {
	count, every := *churnPods, *churnKill
	ctx, l := build(t, alone("churn"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx))
	up(ctx, t, n)
	pods := make([]*lab.Pod, count)
	for i := range pods {
		p, err := n.NewPod(fmt.Sprintf("p%d", i))
		must(t, err)
		pods[i] = p
	}
	stop := killEvery(ctx, t, n, every)
	each(t, pods, func(p *lab.Pod) error { return attachAtLast(ctx, p) })
	killed := stop()
	must(t, n.WaitReady(ctx))
	checkAttached(ctx, t, pods)

	stop = killEvery(ctx, t, n, every)
	each(t, pods, func(p *lab.Pod) error {
		return errors.Join(detachAtLast(ctx, p), detachAtLast(ctx, p))
	})
	killed += stop()
	must(t, n.WaitReady(ctx))
	must(t, lab.Eventually(ctx, 30*time.Second, "nothing is left of the pods", func() error { return leftovers(ctx, n) }))
	for _, p := range pods {
		must(t, p.Delete(ctx))
	}
	must(t, leftovers(ctx, n))
	t.Logf("%d pods, the agent was killed %d times", count, killed)
	if killed == 0 {
		t.Error("the agent was never killed")
	}
}

// killEvery kills and starts the agent until stop is called, which returns how
// often it did.
func killEvery(ctx context.Context, t *testing.T, n *lab.Node, every time.Duration) (stop func() int) {
	t.Helper()
	end, done := make(chan struct{}), make(chan int)
	go func() {
		kills := 0
		defer func() { done <- kills }()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if err := errors.Join(n.Kill(), n.Start(ctx)); err != nil {
				t.Errorf("restart agent: %v", err)
				return
			}
			kills++
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() int { close(end); return <-done }
}

// each calls f for every pod, churnWorkers at a time.
func each(t *testing.T, pods []*lab.Pod, f func(*lab.Pod) error) {
	t.Helper()
	work := make(chan *lab.Pod)
	var workers sync.WaitGroup
	for range churnWorkers {
		workers.Go(func() {
			for p := range work {
				if err := f(p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, p := range pods {
		work <- p
	}
	close(work)
	workers.Wait()
}

// attachAtLast attaches a pod as a runtime does: an ADD that failed is taken
// back with DEL before the next one.
func attachAtLast(ctx context.Context, p *lab.Pod) error {
	return lab.Eventually(ctx, time.Minute, "attach "+p.Name, func() error {
		err := p.Attach(ctx)
		if err == nil {
			return nil
		}
		return errors.Join(err, detachAtLast(ctx, p))
	})
}

func detachAtLast(ctx context.Context, p *lab.Pod) error {
	return lab.Eventually(ctx, time.Minute, "detach "+p.Name, func() error { return p.Detach(ctx) })
}

// checkAttached wants every pod whole, reachable, and with an address of its
// own.
func checkAttached(ctx context.Context, t *testing.T, pods []*lab.Pod) {
	t.Helper()
	owner := map[netip.Addr]string{}
	for _, p := range pods {
		if other, taken := owner[p.Addr()]; taken {
			t.Errorf("%s and %s have %s", other, p.Name, p.Addr())
		}
		owner[p.Addr()] = p.Name
		if err := p.Check(ctx); err != nil {
			t.Error(err)
		}
		if _, err := p.Node.NS.Ping(ctx, p.Addr(), 1, 5*time.Second); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

// leftovers says what is left of pods on a node without any: veths, routes,
// addresses, or namespaces that the agent holds open.
func leftovers(ctx context.Context, n *lab.Node) error {
	if err := traces(ctx, n); err != nil {
		return err
	}
	return openNamespaces(n.Process().Pid())
}

// traces wants neither address nor interface nor route nor nftables element of
// a pod to be left.
func traces(ctx context.Context, n *lab.Node) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if used := st.GetAddressesUsed(); used != 0 {
		return fmt.Errorf("%d addresses are assigned", used)
	}
	links, err := n.NS.Link.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Alias, "onlink lab/") || link.Attrs().Group >= 0x4f4c0000 {
			return fmt.Errorf("interface %s is left", link.Attrs().Name)
		}
	}
	routes, err := n.NS.Link.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: 179}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if ones, bits := r.Dst.Mask.Size(); ones == bits {
			return fmt.Errorf("route %v is left", r)
		}
	}
	return n.NS.Do(func() error {
		senders, err := nft.CountSenders()
		if errors.Is(nft.SupportsSenders(), nft.ErrUnsupported) {
			return nil
		}
		if err == nil && senders != 0 {
			err = fmt.Errorf("%w: %d MAC addresses may send", errRules, senders)
		}
		return err
	})
}

// openNamespaces wants a process to hold no network namespace open but its
// own.
func openNamespaces(pid int) error {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	for _, pattern := range []string{"/proc/%d/fd/*", "/proc/%d/task/*/ns/net"} {
		paths, err := filepath.Glob(fmt.Sprintf(pattern, pid))
		if err != nil {
			return err
		}
		for _, path := range paths {
			// A descriptor may be closed meanwhile.
			if to, err := os.Readlink(path); err == nil && strings.HasPrefix(to, "net:[") && to != own {
				return fmt.Errorf("%s is %s, the agent's own is %s", path, to, own)
			}
		}
	}
	return nil
}
