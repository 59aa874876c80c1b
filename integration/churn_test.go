package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
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
	ctx, l := labtest.Build(t, labtest.Alone("churn"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
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
	must(t, lab.Eventually(ctx, 30*time.Second, "nothing is left of the pods", func() error { return labtest.Leftovers(ctx, n) }))
	for _, p := range pods {
		must(t, p.Delete(ctx))
	}
	must(t, labtest.Leftovers(ctx, n))
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
