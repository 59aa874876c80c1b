package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// role is what the neighbour is to us.
type role string

const (
	ibgp   role = "iBGP"
	ebgp   role = "eBGP"
	client role = "reflector client"
)

func (r role) shows() string {
	switch r {
	case ibgp:
		return "routes both ways and their withdrawal; LOCAL_PREF 100, empty AS path, next hop the node"
	case ebgp:
		return "routes both ways and their withdrawal; our AS in the path, next hop the node, import only as configured"
	case client:
	}
	return "as iBGP; a second client gets the first one's route with its next hop, ORIGINATOR_ID and CLUSTER_LIST, and loses it"
}

// families are those the neighbour offers.
type families struct{ v4, v6 bool }

func (f families) String() string {
	switch {
	case f.v4 && f.v6:
		return "IPv4 and IPv6"
	case f.v6:
		return "IPv6"
	}
	return "IPv4"
}

// checkRole exchanges routes with a neighbour in one role.
func checkRole(ctx context.Context, r *rig, as role, f families) {
	asn, v4, v6 := uint32(lab.NodeASN), pooled4, pooled6
	if as == ebgp {
		asn, v4, v6 = torASN, foreign4, foreign6
	}
	setup := func(n *neighbour) interop.Setup {
		s := r.setup(n, asn)
		s.IPv4, s.IPv6 = f.v4, f.v6
		if !f.v4 {
			s.Local, s.Remote = n.addr6, r.n.Addr6
		}
		return s
	}
	sa, sb := setup(r.a), setup(r.b)
	if f.v4 {
		sa.Announce = append(sa.Announce, v4)
	}
	if as == ebgp && f.v4 {
		sa.Announce = append([]netip.Prefix{unlisted}, sa.Announce...)
	}
	if f.v6 {
		sa.Announce = append(sa.Announce, v6)
	}
	must(r.t, r.a.Start(ctx, sa))
	if as == client {
		must(r.t, r.b.Start(ctx, sb))
		client := func(p *conf.Peer) { p.Client = true }
		r.start(ctx, r.peer(r.a, sa).With(client), r.peer(r.b, sb).With(client))
	} else {
		r.start(ctx, r.peer(r.a, sa))
	}
	own4, own6 := r.blocks(ctx)
	path, pref := "", uint32(100)
	if as == ebgp {
		path, pref = strconv.Itoa(lab.NodeASN), 0
	}
	if f.v4 {
		r.learns(ctx, r.a, own4, wantRoute(r.n.Addr, path, pref))
		r.installs(ctx, v4, r.a.addr)
	}
	if f.v6 {
		r.learns(ctx, r.a, own6, wantRoute(r.n.Addr6, path, pref))
		r.installs(ctx, v6, r.a.addr6)
	}
	must(r.t, labtest.ThroughHops(r.n, unlisted))
	if as == client {
		r.checkReflected(ctx, f)
	}
	must(r.t, r.a.Withdraw(ctx))
	for _, p := range sa.Announce { // the kernel has none any more
		r.installs(ctx, p)
		if as == client {
			r.loses(ctx, r.b, p)
		}
	}
}

// checkReflected looks at what the second client has of the first.
func (r *rig) checkReflected(ctx context.Context, f families) {
	r.t.Helper()
	want := func(hop netip.Addr) func(interop.Route) error {
		return func(got interop.Route) error {
			if got.Originator != r.a.addr || !slices.Equal(got.Clusters, []netip.Addr{r.n.Addr}) {
				return fmt.Errorf("got %+v, want originator %s and cluster list %s", got, r.a.addr, r.n.Addr)
			}
			return wantRoute(hop, "", 100)(got)
		}
	}
	if f.v4 {
		r.learns(ctx, r.b, pooled4, want(r.a.addr))
	}
	if f.v6 {
		r.learns(ctx, r.b, pooled6, want(r.a.addr6))
	}
}

// tcpCounter reads one of the kernel's TcpExt counters of the node.
func (r *rig) tcpCounter(name string) (count uint64, err error) {
	err = r.n.NS.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			if j := slices.Index(names, name); j >= 0 && names[0] == "TcpExt:" {
				count, err = strconv.ParseUint(values[j], 10, 64)
				return err
			}
		}
		return fmt.Errorf("the kernel has no counter %s", name)
	})
	return count, err
}

// refused waits until the kernel refused a packet of the session, and wants
// that none is up.
func (r *rig) refused(ctx context.Context, counter string) {
	r.t.Helper()
	must(r.t, lab.Eventually(ctx, labtest.Patience, counter+" grows", func() error {
		count, err := r.tcpCounter(counter)
		if err == nil && count == 0 {
			err = errors.New("still 0")
		}
		return err
	}))
	if up := labtest.Sessions(ctx, r.t, r.n); len(up) > 0 {
		r.t.Errorf("a session is up: %v", up)
	}
}

// up waits for the node's sessions.
func (r *rig) up(ctx context.Context, want int) {
	r.t.Helper()
	must(r.t, lab.Eventually(ctx, labtest.Patience, "sessions", func() error {
		if up := labtest.Sessions(ctx, r.t, r.n); len(up) != want {
			return fmt.Errorf("%d are up, want %d", len(up), want)
		}
		return nil
	}))
}

// checkMD5: the key is needed on both sides.
func checkMD5(ctx context.Context, r *rig) {
	const key = "secret4711"
	file := filepath.Join(r.t.TempDir(), "key")
	must(r.t, os.WriteFile(file, []byte(key+"\n"), 0o600))
	s := r.setup(r.a, torASN)
	s.Announce = []netip.Prefix{foreign4}
	must(r.t, r.a.Start(ctx, s)) // without
	r.start(ctx, r.peer(r.a, s).With(func(p *conf.Peer) { p.PasswordFile = file }))
	must(r.t, r.n.WaitReady(ctx))
	r.refused(ctx, "TCPMD5NotFound")
	must(r.t, r.a.Kill())
	s.Password = key
	must(r.t, r.a.Start(ctx, s))
	r.installs(ctx, foreign4, r.a.addr)
	own, _ := r.blocks(ctx)
	r.learns(ctx, r.a, own, wantRoute(r.n.Addr, strconv.Itoa(lab.NodeASN), 0))
}

// checkGTSM: packets that may have come from farther away are refused.
func checkGTSM(ctx context.Context, r *rig) {
	s := r.setup(r.a, torASN)
	s.Announce, s.TTLSecurity = []netip.Prefix{foreign4}, true
	must(r.t, r.a.Start(ctx, s))
	r.start(ctx, r.peer(r.a, s).With(func(p *conf.Peer) { p.TTLSecurity = 1 }))
	r.installs(ctx, foreign4, r.a.addr)
	own, _ := r.blocks(ctx)
	r.learns(ctx, r.a, own, wantRoute(r.n.Addr, strconv.Itoa(lab.NodeASN), 0))
	if count, err := r.tcpCounter("TCPMinTTLDrop"); err != nil || count > 0 {
		r.t.Errorf("%d packets of the good session were refused, %v", count, err)
	}
	must(r.t, r.a.Kill())
	r.up(ctx, 0)
	s.TTLSecurity = false
	must(r.t, r.a.Start(ctx, s))
	r.refused(ctx, "TCPMinTTLDrop")
}

// restartable is a session with graceful restart on both sides.
func (r *rig) restartable(ctx context.Context) (s interop.Setup, own netip.Prefix) {
	r.t.Helper()
	s = r.setup(r.a, torASN)
	s.Announce, s.Restart = []netip.Prefix{foreign4}, true
	must(r.t, r.a.Start(ctx, s))
	r.start(ctx, r.peer(r.a, s))
	r.installs(ctx, foreign4, r.a.addr)
	own, _ = r.blocks(ctx)
	r.learns(ctx, r.a, own, wantRoute(r.n.Addr, strconv.Itoa(lab.NodeASN), 0))
	must(r.t, r.n.WaitReady(ctx))
	return s, own
}

// checkOurRestart kills the agent and starts it again.
func checkOurRestart(ctx context.Context, r *rig) {
	_, own := r.restartable(ctx)
	before := labtest.Sessions(ctx, r.t, r.n)[r.a.Name].Since
	w := r.watch(ctx, own)
	must(r.t, r.n.Kill())
	w.look(ctx, 10) // without an agent
	labtest.StartNode(ctx, r.t, r.n)
	r.up(ctx, 1)
	if since := labtest.Sessions(ctx, r.t, r.n)[r.a.Name].Since; !since.After(before) {
		r.t.Errorf("the session is the one of before: since %s", since)
	}
	r.installs(ctx, foreign4, r.a.addr)
	w.look(ctx, 10) // after End-of-RIB
	w.stop()
}

// watcher looks at a neighbour's route all the time.
type watcher struct {
	r     *rig
	count chan struct{} // one for each look; unbuffered, a look that nobody counts is dropped
	end   context.CancelFunc
	done  chan error // the first miss; sent once by the looker
}

// watch begins to look whether a neighbour has a prefix.
func (r *rig) watch(ctx context.Context, p netip.Prefix) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{r: r, count: make(chan struct{}), end: cancel, done: make(chan error, 1)}
	go func() {
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for {
			if _, err := r.a.learned(ctx, p); err != nil && ctx.Err() == nil {
				w.done <- err
				return
			}
			select {
			case w.count <- struct{}{}:
			case <-again.C: // nobody counts now
			case <-ctx.Done():
				w.done <- nil
				return
			}
		}
	}()
	r.t.Cleanup(cancel)
	return w
}

// look waits until the route was there n more times.
func (w *watcher) look(ctx context.Context, n int) {
	w.r.t.Helper()
	for range n {
		select {
		case <-w.count:
		case err := <-w.done:
			w.r.t.Fatalf("the route was lost: %v", err)
		case <-ctx.Done():
			w.r.t.Fatal(ctx.Err())
		}
	}
}

// stop ends the looking.
func (w *watcher) stop() {
	w.r.t.Helper()
	w.end()
	if err := <-w.done; err != nil {
		w.r.t.Errorf("the route was lost: %v", err)
	}
}

// checkPeerRestart kills the neighbour and starts it again.
func checkPeerRestart(ctx context.Context, r *rig) {
	s, _ := r.restartable(ctx)
	before := labtest.Sessions(ctx, r.t, r.n)[r.a.Name].Since
	m, err := r.n.NS.MonitorRoutes(ctx, filepath.Join(r.l.Dir, "monitor"))
	must(r.t, err)
	must(r.t, r.a.KillSpeaker())
	r.up(ctx, 0)
	must(r.t, labtest.ThroughHops(r.n, foreign4, r.a.addr))
	s.Restarted = true
	must(r.t, r.a.Start(ctx, s))
	r.up(ctx, 1)
	if since := labtest.Sessions(ctx, r.t, r.n)[r.a.Name].Since; !since.After(before) {
		r.t.Errorf("the session is the one of before: since %s", since)
	}
	// Its End-of-RIB ends what we kept: what it does not announce any more goes.
	must(r.t, r.a.Withdraw(ctx))
	r.installs(ctx, foreign4)
	changes, err := m.Stop(ctx)
	must(r.t, err)
	if len(changes) != 1 || !strings.HasPrefix(changes[0], "Deleted "+foreign4.String()) {
		r.t.Errorf("routes changed: %q, want the last withdrawal alone", changes)
	}
}

// checkBFD freezes one side, then the other. The hold time is 90 s, so what
// is lost before is lost because of BFD.
func checkBFD(ctx context.Context, r *rig) {
	s := r.setup(r.a, torASN)
	s.Announce, s.BFD = []netip.Prefix{foreign4}, true
	must(r.t, r.a.Start(ctx, s))
	r.start(ctx, r.peer(r.a, s).With(func(p *conf.Peer) { p.BFD = &conf.BFD{Interval: "100ms"} }))
	r.installs(ctx, foreign4, r.a.addr)
	must(r.t, labtest.WaitBFD(ctx, r.n, 1))
	own, _ := r.blocks(ctx)
	r.learns(ctx, r.a, own, wantRoute(r.n.Addr, strconv.Itoa(lab.NodeASN), 0))

	begin := time.Now()
	must(r.t, r.a.Freeze())
	r.gone(ctx, begin, func() error { return labtest.ThroughHops(r.n, foreign4) })
	must(r.t, r.a.Thaw())
	r.installs(ctx, foreign4, r.a.addr)
	must(r.t, labtest.WaitBFD(ctx, r.n, 1))
	r.learns(ctx, r.a, own, wantRoute(r.n.Addr, strconv.Itoa(lab.NodeASN), 0))

	begin = time.Now()
	must(r.t, r.n.NS.SetLink("eth0", false)) // BFD is a process of its own: only this stops all
	r.gone(ctx, begin, func() error {
		_, err := r.a.learned(ctx, own)
		if errors.Is(err, labtest.ErrNotLearned) {
			return nil
		}
		return fmt.Errorf("%s is still there: %w", own, err)
	})
}

// gone waits until something is gone because of BFD.
func (r *rig) gone(ctx context.Context, begin time.Time, check func() error) {
	r.t.Helper()
	const hold = 90 * time.Second
	must(r.t, lab.Eventually(ctx, hold/3, "routes of the dead go", check))
	r.t.Logf("gone after %s, detection time 300 ms", time.Since(begin).Round(time.Millisecond))
}

// checkGSHUT: both ways of a graceful shutdown. The route that two neighbours
// announce is outside the pools: inside, a prefix has one node.
func checkGSHUT(ctx context.Context, r *rig) {
	sa, sb := r.setup(r.a, lab.NodeASN), r.setup(r.b, lab.NodeASN)
	sa.Announce, sb.Announce = []netip.Prefix{foreign4}, []netip.Prefix{foreign4}
	must(r.t, r.a.Start(ctx, sa))
	must(r.t, r.b.Start(ctx, sb))
	accept := func(p *conf.Peer) { p.Import.Accept = conf.Rules(foreign4) }
	r.start(ctx, r.peer(r.a, sa).With(accept), r.peer(r.b, sb).With(accept))
	r.installs(ctx, foreign4, r.a.addr, r.b.addr)
	must(r.t, r.a.Kill())
	sa.Communities = []string{"65535:0"}
	must(r.t, r.a.Start(ctx, sa))
	r.up(ctx, 2)
	r.installs(ctx, foreign4, r.b.addr)
	must(r.t, r.b.Withdraw(ctx))
	r.installs(ctx, foreign4, r.a.addr) // better than nothing

	own, _ := r.blocks(ctx)
	r.learns(ctx, r.b, own, wantRoute(r.n.Addr, "", 100))
	drained := make(chan error, 1)
	go func() {
		_, err := r.n.Ctl(ctx, "drain", "--wait", "8s")
		drained <- err
	}()
	r.learns(ctx, r.b, own, func(got interop.Route) error {
		if !got.Has("65535:0") || got.LocalPref != 0 {
			return fmt.Errorf("got %+v, want GRACEFUL_SHUTDOWN and local-pref 0", got)
		}
		return nil
	})
	must(r.t, <-drained)
	r.loses(ctx, r.b, own)
	if len(labtest.Sessions(ctx, r.t, r.n)) != 2 {
		r.t.Error("drain ended a session")
	}
}

// checkLarge: large communities through a reflector.
func checkLarge(ctx context.Context, r *rig) {
	list := []string{"64512:100", "64512:4200000001:7", "4200000000:0:4294967295"}
	sa, sb := r.setup(r.a, lab.NodeASN), r.setup(r.b, lab.NodeASN)
	sa.Announce, sa.Communities = []netip.Prefix{pooled4}, list
	must(r.t, r.a.Start(ctx, sa))
	must(r.t, r.b.Start(ctx, sb))
	client := func(p *conf.Peer) { p.Client = true }
	r.start(ctx, r.peer(r.a, sa).With(client), r.peer(r.b, sb).With(client))
	r.installs(ctx, pooled4, r.a.addr)
	r.learns(ctx, r.b, pooled4, func(got interop.Route) error {
		if have := slices.Sorted(slices.Values(got.Communities)); !slices.Equal(have, slices.Sorted(slices.Values(list))) {
			return fmt.Errorf("communities %v, want %v", have, list)
		}
		return nil
	})
	out, err := r.n.Ctl(ctx, "explain", pooled4.Addr().Next().String(), "-o", "json")
	must(r.t, err)
	for _, c := range list {
		if !strings.Contains(out.Stdout, c) {
			r.t.Errorf("explain does not show %s:\n%s", c, out.Stdout)
		}
	}
}

// checkExtendedHop: IPv4 prefixes over a session and through a next hop of
// IPv6.
func checkExtendedHop(ctx context.Context, r *rig) {
	s := r.setup(r.a, torASN)
	s.Local, s.Remote, s.HopIPv4, s.ExtendedHop, s.IPv6 = r.a.addr6, r.n.Addr6, r.a.addr6, true, true
	s.Announce = []netip.Prefix{foreign4, foreign6}
	must(r.t, r.a.Start(ctx, s))
	r.start(ctx, r.peer(r.a, s))
	r.installs(ctx, foreign4, r.a.addr6)
	r.installs(ctx, foreign6, r.a.addr6)
	own4, own6 := r.blocks(ctx)
	path := strconv.Itoa(lab.NodeASN)
	r.learns(ctx, r.a, own4, wantRoute(r.n.Addr, path, 0))
	r.learns(ctx, r.a, own6, wantRoute(r.n.Addr6, path, 0))
}
