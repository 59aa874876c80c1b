package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// TestToRLoss counts what flows between two racks lose when one of two ToRs
// goes silent, with all its cables, and when it returns. Every session has BFD,
// 300 ms x 3: the death is over when it is noticed and the routes are changed,
// here and at the other ToRs, and the return costs nothing.
func TestToRLoss(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "torloss", Racks: 2, NodesPerRack: 1, ToRsPerRack: 2, Reflectors: -1, Pool: lab.Pool{Tunnel: "none", Encap: "Never"},
	})
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		asn[n.Name] = uint32(64601 + i)
		p := conf.BGP{ASN: asn[n.Name]}
		for _, tor := range l.Racks[n.Rack-1].ToRs {
			p.Peers = append(p.Peers, labtest.FabricPeer(tor).With(func(p *conf.Peer) { p.BFD = &conf.BFD{Hops: "single"} }))
		}
		plans[n.Name] = p
	}
	labtest.Wire(l, plans)
	for _, tor := range l.ToRs() {
		tor.BFD = true
	}
	labtest.StartFabric(ctx, t, l, asn)
	labtest.ReachEverybody(ctx, t, l)
	n, far, dying := l.Node("r1n1"), l.Node("r2n1"), l.Racks[0].ToRs[0]
	both := func() { shared(ctx, t, l, n, far) }
	both()
	for range labtest.Times(1, 10) {
		for _, w := range l.Workers() {
			must(t, labtest.WaitBFD(ctx, w, 2))
		}
		for _, tor := range l.ToRs() {
			must(t, lab.Eventually(ctx, labtest.Patience, "BFD of "+tor.Name, func() error { return torWatches(tor, 4) }))
		}
		flows := manyFlows(ctx, t, l)
		for _, dev := range []string{"rack", "core"} {
			must(t, dying.NS.SetLink(dev, false))
		}
		must(t, lab.Eventually(ctx, labtest.Patience, "the node sends to the other ToR alone", func() error {
			return labtest.ThroughHops(n, labtest.BlockOf(ctx, t, far), l.Racks[0].ToRs[1].Addr)
		}))
		must(t, flows[0].WaitFor(ctx, 200))
		wantShortOutage(ctx, t, flows)

		comesBack(ctx, t, l, dying, both)
	}
}

// comesBack wants nothing lost when a ToR returns. The other ToRs watch with
// BFD at ordinary priority: when this machine starves one of them, a session
// goes down that has nothing to do with it, and what is lost then is not
// counted; the return is repeated.
func comesBack(ctx context.Context, t *testing.T, l *lab.Lab, tor *lab.ToR, both func()) {
	t.Helper()
	for range 5 {
		downs := bfdDowns(ctx, t, l)
		flows := manyFlows(ctx, t, l)
		for _, dev := range []string{"core", "rack"} {
			must(t, tor.NS.SetLink(dev, true))
		}
		both()
		must(t, flows[0].WaitFor(ctx, 200))
		reports := stopAll(ctx, t, flows)
		var sent, lost uint64
		for _, report := range reports {
			sent, lost = sent+report.Sent, lost+report.Lost
		}
		t.Logf("return: %d of %d packets lost", lost, sent)
		if lost == 0 {
			return
		}
		if bfdDowns(ctx, t, l) == downs {
			t.Errorf("the return lost %d packets: %v", lost, reports)
			return
		}
		for _, dev := range []string{"rack", "core"} {
			must(t, tor.NS.SetLink(dev, false))
		}
		must(t, lab.Eventually(ctx, labtest.Patience, "the ToR to be dead again", func() error { return torWatches(tor, 0) }))
		labtest.EveryFlowPasses(ctx, t, l, false)
	}
	t.Error("this machine is too slow for 300 ms x 3: BFD fails all the time")
}

// bfdDowns counts how often BFD sessions of the nodes went down.
func bfdDowns(ctx context.Context, t *testing.T, l *lab.Lab) (n uint64) {
	t.Helper()
	for _, w := range l.Workers() {
		admin, err := w.Admin()
		must(t, err)
		list, err := admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
		must(t, err)
		for _, p := range list.GetPeers() {
			n += p.GetBfd().GetDowns()
		}
	}
	return n
}

// torWatches wants that many BFD sessions of a ToR to be up.
func torWatches(tor *lab.ToR, want int) error {
	text, err := tor.BIRD("show bfd sessions")
	if up := strings.Count(text, " Up "); err == nil && up != want {
		err = fmt.Errorf("%d of %d sessions up:\n%s", up, want, text)
	}
	return err
}

// shared waits until both ends send to both their ToRs.
func shared(ctx context.Context, t *testing.T, l *lab.Lab, ends ...*lab.Node) {
	t.Helper()
	for i, n := range ends {
		tors := l.Racks[n.Rack-1].ToRs
		block := labtest.BlockOf(ctx, t, ends[1-i])
		must(t, lab.Eventually(ctx, labtest.Patience, n.Name+" sends to both ToRs", func() error {
			return labtest.ThroughHops(n, block, tors[0].Addr, tors[1].Addr)
		}))
	}
}

// manyFlows starts flows between the pods of two racks, enough for every
// choice of ToRs.
func manyFlows(ctx context.Context, t *testing.T, l *lab.Lab) []*lab.PingFlow {
	t.Helper()
	a, b := labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1")
	flows := make([]*lab.PingFlow, 12)
	for i := range flows {
		var err error
		flows[i], err = lab.StartPingFlow(a.NS, b.NS, b.Addr(), 100)
		must(t, err)
	}
	for _, flow := range flows {
		must(t, flow.WaitFor(ctx, 10))
	}
	return flows
}

// wantShortOutage wants flows that were interrupted by BFD's detection time and
// little more; without BFD it would be the hold time, a minute and more.
func wantShortOutage(ctx context.Context, t *testing.T, flows []*lab.PingFlow) {
	t.Helper()
	const limit = 5 * time.Second // of a loaded machine
	var longest time.Duration
	var sent, lost uint64
	hit := 0
	for _, report := range stopAll(ctx, t, flows) {
		longest = max(longest, report.Outage)
		sent, lost = sent+report.Sent, lost+report.Lost
		if report.Lost > 0 {
			hit++
		}
	}
	t.Logf("death: %d of %d flows hit, %d of %d packets lost, longest gap %s, detection time 900ms",
		hit, len(flows), lost, sent, longest.Round(time.Millisecond))
	if hit == 0 {
		t.Error("the dead ToR carried nothing: nothing was measured")
	}
	if longest > limit {
		t.Errorf("a flow was interrupted for %s, want at most %s", longest, limit)
	}
}

// stopAll ends flows side by side: each waits for replies that may not come.
func stopAll(ctx context.Context, t *testing.T, flows []*lab.PingFlow) []lab.FlowReport {
	t.Helper()
	reports, failed := make([]lab.FlowReport, len(flows)), make([]error, len(flows))
	var all sync.WaitGroup
	for i, flow := range flows {
		all.Go(func() { reports[i], failed[i] = flow.Stop(ctx) })
	}
	all.Wait()
	must(t, errors.Join(failed...))
	return reports
}
