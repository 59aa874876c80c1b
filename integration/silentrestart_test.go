package integration

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestSilentRestart: a ToR (BIRD) loses its power and comes back before the node
// has noticed: no FIN and no reset came. Its new session is let in at once, not
// when the hold time of 90 s is over, and no route changes meanwhile.
func TestSilentRestart(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Mesh("silent", 1))
	n, tor := l.Node("r1n1"), l.ToRs()[0]
	announced := netip.MustParsePrefix("198.18.9.0/24")
	s := labtest.SetupOf(tor, n)
	s.Announce, s.Restart = []netip.Prefix{announced}, true
	r := labtest.StartRouter(ctx, t, l, interop.BIRD, tor, s)
	peer := tor.Peer()
	peer.Import.Accept = conf.Rules(announced)
	labtest.Wire(l, map[string]conf.BGP{n.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{peer}}})
	must(t, l.StartNodes(ctx))
	must(t, labtest.WaitBlocks(ctx, l))
	must(t, lab.Eventually(ctx, labtest.Patience, "the ToR's route", func() error { return labtest.ThroughHops(n, announced, tor.Addr) }))
	name := peer.Name
	before := labtest.Sessions(ctx, t, n)[name]
	m, err := n.NS.MonitorRoutes(ctx, filepath.Join(l.Dir, "monitor"))
	must(t, err)

	// What the dying ToR says to the node is lost: its kernel says FIN for a dead
	// program. Not with the cable out: BIRD would notice that and say a
	// NOTIFICATION, which ARP keeps and sends once the cable is back.
	must(t, tor.NS.Sysctl("net/ipv4/tcp_orphan_retries", "1"))
	must(t, tor.NS.SetNeighbour("rack", n.Addr, net.HardwareAddr{2, 0, 0, 0, 0, 1}))
	must(t, r.KillSpeaker())
	must(t, lab.Eventually(ctx, labtest.Patience, "the connection is forgotten", func() error { return forgotten(tor.NS) }))
	must(t, tor.NS.DeleteNeighbour("rack", n.Addr))
	if now, up := labtest.Sessions(ctx, t, n)[name]; !up || now.Flaps != before.Flaps {
		t.Fatalf("the node noticed: up %t, %d losses", up, now.Flaps)
	}
	s.Restarted = true
	must(t, r.Start(ctx, s))
	must(t, lab.Eventually(ctx, 10*time.Second, "a session anew", func() error {
		if now, up := labtest.Sessions(ctx, t, n)[name]; !up || now.Flaps != before.Flaps+1 {
			return fmt.Errorf("up %t, %d losses", up, now.Flaps)
		}
		return nil
	}))
	must(t, labtest.ThroughHops(n, announced, tor.Addr))
	must(t, r.Withdraw(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "the withdrawal", func() error { return labtest.ThroughHops(n, announced) }))
	changes, err := m.Stop(ctx)
	must(t, err)
	if len(changes) != 1 || !strings.HasPrefix(changes[0], "Deleted "+announced.String()) {
		t.Errorf("routes changed: %q, want the last withdrawal alone", changes)
	}
}

// forgotten reports TCP connections of a namespace.
func forgotten(ns *lab.NS) error {
	return ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			if f := strings.Fields(line); len(f) > 3 && f[3] != "0A" { // LISTEN
				return fmt.Errorf("connection %s %s in state %s", f[1], f[2], f[3])
			}
		}
		return nil
	})
}
