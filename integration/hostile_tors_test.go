package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/bgp/hostile"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

const (
	strangeASN = 65099 // of the ToRs that attack
	tors       = 34    // of each innocent node: addresses 10.57.1.61 and up, and 220 and up
)

// torHosts are the host numbers of the ToRs of an innocent node.
func torHosts(node int) []int {
	list := make([]int, tors)
	for i := range list {
		list[i] = [...]int{suspect + 1, 220}[node] + i
	}
	return list
}

func hosts() []int {
	list := make([]int, attackers)
	for i := range list {
		list[i] = 100 + i
	}
	return list
}

// external plays every nth attack from ToRs of the innocent nodes, which may
// tell of 10.0.0.0/8. Not all of it is as wrong there, and some more is, so how
// it ends does not count; the kernels of all stay as they were, but for routes
// outside the pools.
func (a *arena) external(nth int) {
	a.Helper()
	must(a.T, lab.Eventually(a.ctx, labtest.Patience, "what clients announced is gone", func() error { return a.undisturbed(func(netip.Prefix) bool { return false }) }))
	outside := func(p netip.Prefix) bool {
		within := func(s string) bool {
			w := netip.MustParsePrefix(s)
			return w.Bits() <= p.Bits() && w.Contains(p.Addr())
		}
		return within("10.0.0.0/8") && !within("10.244.0.0/16") && !within("10.57.1.0/24")
	}
	var group errgroup.Group
	group.SetLimit(len(a.innocent) * tors)
	free := make(chan int, len(a.innocent)*tors)
	for host := range cap(free) {
		free <- host
	}
	for i := 0; i < len(hostile.Set{}.All()); i += nth {
		group.Go(func() error {
			slot := <-free
			defer func() { free <- slot }()
			n, local := a.innocent[slot/tors], attacker(torHosts(slot / tors)[slot%tors])
			s := hostile.Set{Self: n.Addr, Hop: local, AS: strangeASN, External: true}
			attack := s.All()[i]
			marker := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}), 32)
			err := a.playExternal(n, s, attack, local, marker)
			if err == nil {
				err = lab.Eventually(a.ctx, calm, "kernels as before", func() error { return a.undisturbed(outside) })
			}
			if err != nil {
				a.Errorf("%s from a ToR of %s: %v", attack.Name, n.Name, err)
			}
			return nil
		})
	}
	must(a.T, group.Wait())
}

// playExternal plays one attack from another AS, and a route behind it that the
// node may use: when that has arrived, or the session has ended, the attack has
// been dealt with.
func (a *arena) playExternal(n *lab.Node, s hostile.Set, attack hostile.Attack, local netip.Addr, marker netip.Prefix) error {
	p, err := a.connectTo(n, s, local, attack.Open)
	if err != nil {
		return err
	}
	defer p.Conn.Close()
	if attack.Run != nil {
		attack.Run(p)
	} else {
		p.Send(attack.Type, attack.Body)
	}
	if attack.Open {
		return nil // it is no session yet
	}
	p.Send(2, s.Announce(hostile.Claim{Prefix: marker, NextHop: local}))
	ended := p.Stay(30 * time.Second)
	return lab.Eventually(a.ctx, labtest.Patience, marker.String()+" is in the kernel, or the session is over", func() error {
		select {
		case <-ended:
			return nil
		default:
			return labtest.HasRoute(n, marker, labtest.RouteProtocol)
		}
	})
}

// undisturbed wants the kernels of all as they were, but for some routes.
func (a *arena) undisturbed(but func(netip.Prefix) bool) error {
	for _, n := range a.nodes() {
		now, err := lookAt(n, nil, nil)
		if err != nil {
			return err
		}
		was := a.calm[n.Name]
		now.Routes = slices.DeleteFunc(now.Routes, func(line string) bool {
			p, err := netip.ParsePrefix(strings.Fields(line)[0])
			return err == nil && but(p)
		})
		if !now.equal(was) {
			return fmt.Errorf("%s has %+v, had %+v", n.Name, now, was)
		}
	}
	return nil
}
