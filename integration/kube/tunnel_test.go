package kube

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestTunnelled: in a cluster of two racks, pods reach each other through the ipip
// tunnel, and no packet between pods passes a ToR outside it, which knows no pod.
func TestTunnelled(t *testing.T) {
	labtest.NeedIPIP(t)
	// The kernel of user-mode Linux has iptables' own tables, and no nf_tables for
	// IPv4 and IPv6: kube-proxy works, and onlink cannot translate addresses.
	ctx, c := startOnlink(t, cluster.Options{Name: "ipip", Racks: 2, NodesPerRack: 1, Proxy: cluster.ProxyIPTables})
	var captures []*lab.Capture
	for _, tor := range c.Lab.ToRs() {
		capture, err := lab.StartCapture(tor.NS, "core")
		labtest.Must(t, err)
		captures = append(captures, capture)
	}
	checkWays(ctx, t, c, true)
	pods := c.Options.Pods[0]
	between := func(a, b netip.Addr) bool { return a.IsValid() && pods.Contains(a) && pods.Contains(b) }
	for i, capture := range captures {
		labtest.Must(t, capture.Stop())
		inside := capture.Count(func(p lab.Packet) bool { return p.Proto == unix.IPPROTO_IPIP && between(p.InnerSrc, p.InnerDst) })
		plain := capture.Count(func(p lab.Packet) bool { return between(p.Src, p.Dst) })
		t.Logf("%s forwarded %d packets between pods in protocol 4, %d plain", c.Lab.ToRs()[i].Name, inside, plain)
		if inside == 0 || plain > 0 {
			t.Errorf("%s forwarded %d packets between pods in protocol 4 and %d plain, want only the former", c.Lab.ToRs()[i].Name, inside, plain)
		}
	}
}
