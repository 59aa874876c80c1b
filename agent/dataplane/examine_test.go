package dataplane

import (
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/nft"
)

// TestExamine: what is in the way of a packet in a namespace, and how certainly.
func TestExamine(t *testing.T) {
	p4 := Passage{From: netip.MustParseAddr("10.244.1.5"), To: netip.MustParseAddr("10.244.2.7"), In: "onl0", Out: "eth0"}
	p6 := Passage{From: netip.MustParseAddr("fd44::5"), To: netip.MustParseAddr("fd44:2::7"), In: "onl0", Out: "eth0"}
	tunnelled := p4
	tunnelled.Tunnel, tunnelled.Node = true, netip.MustParseAddr("10.57.2.11")
	arriving := p4 // through the tunnel
	arriving.Node = tunnelled.Node
	for _, p := range []*Passage{&tunnelled, &arriving} {
		p.Protocol, p.Port = unix.IPPROTO_UDP, 4789
	}
	for _, c := range []struct {
		name     string
		commands string
		passage  Passage
		want     []string // KIND certain|maybe
	}{
		{"nothing", "", p4, nil},
		{"nothing, IPv6", "", p6, nil},
		{"forwarding off", "sysctl -qw net.ipv4.conf.onl0.forwarding=0", p4, []string{"0 true"}},
		{"the uplink's", "sysctl -qw net.ipv4.conf.eth0.forwarding=0", p4, []string{"0 false"}},
		{"IPv6 forwarding off", "sysctl -qw net.ipv6.conf.all.forwarding=0", p6, []string{"0 true"}},
		{"IPv6 off on a device", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1", p6, []string{"2 true"}},
		{"IPv6 off, and a packet of IPv4", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1", p4, nil},
		{"a strict reverse path", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1", p4, []string{"1 false"}},
		{"a chain", "nft add table inet op\nnft add chain inet op c {type filter hook forward priority 0; policy drop;}", p4, []string{"3 true"}},
		{"a masquerade", "nft add table ip op\nnft add chain ip op c {type nat hook postrouting priority 50;}\nnft add rule ip op c oifname eth0 masquerade", p4, []string{"4 false"}},
		{"a chain of the tunnel's packets", "nft add table inet op\nnft add chain inet op c {type filter hook input priority 0;}\nnft add rule inet op c udp dport 4789 drop", tunnelled, []string{"3 true", "5 true"}},
		{"a chain that may drop the tunnel's packets", "nft add table inet op\nnft add chain inet op c {type filter hook input priority 0; policy drop;}\nnft add rule inet op c ct mark 7 accept", tunnelled, []string{"5 true"}},
		{"the guard", "", tunnelled, []string{"5 true"}},
		{"the guard, of a packet that arrives", "", arriving, []string{"5 true"}},
		{"a strict reverse path of the tunnel", "sysctl -qw net.ipv4.conf.onl0.rp_filter=1", arriving, []string{"1 false", "5 true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread() // never unlocked: the thread ends with the test
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Fatalf("unshare network namespace (are we root?): %v", err)
			}
			commands := "ip link add eth0 type veth peer name far0\nip link add onl0 type veth peer name pod0\nsysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0\n"
			for line := range strings.Lines(commands + c.commands) {
				w := strings.Fields(line)
				if out, err := exec.Command(w[0], w[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", line, err, out)
				}
			}
			if c.passage.Node.IsValid() {
				if err := nft.New(nil).Apply(nft.State{Guard: true, Nodes: []netip.Addr{own4}}); err != nil {
					t.Skipf("needs kernel feature: nftables (%v)", err)
				}
			}
			h := newHost(map[string]string{}, "10.244.0.0/16", "fd44::/48")
			h.uplinks, h.loose, h.strict = func() []string { return []string{"eth0"} }, true, strictReversePath
			var got []string
			for _, f := range h.Examine(c.passage) {
				got = append(got, fmt.Sprintf("%d %t", f.Kind, f.Certain))
				if f.Text == "" || f.Fix == "" {
					t.Errorf("%+v has no text or fix", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
