package nft

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestHindrances: which chains of others drop a packet between two pods, or rewrite
// its source, and how certainly.
func TestHindrances(t *testing.T) {
	const drop, established = "iptables -P FORWARD DROP\n", "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
	masquerade := func(match string) string { return "iptables -t nat -A POSTROUTING " + match + " -j MASQUERADE\n" }
	// As kube-proxy has the addresses of services.
	set := func(elements string) string {
		return "nft add table ip fw\nnft add chain ip fw c {type filter hook forward priority -110;}\nnft add set ip fw some {type ipv4_addr;}\n" +
			"nft add element ip fw some {" + elements + "}\nnft add rule ip fw c ct state new ip daddr @some "
	}
	maps := func(rule string) string {
		return "nft add table ip fw\nnft add map ip fw none {type ipv4_addr:verdict;}\nnft add chain ip fw c {type filter hook forward priority 0; policy drop;}\nnft add rule ip fw c " + rule
	}
	for _, c := range []struct {
		name     string
		commands string
		want     []string // FAMILY TABLE CHAIN HOOK EFFECT
	}{
		{"nothing", "", nil},
		{"policy drop", drop, []string{"ip filter FORWARD forward policy certain"}},
		{"policy drop of IPv6", "ip6tables -P FORWARD DROP", nil},
		{"established connections alone", drop + established, []string{"ip filter FORWARD forward policy certain"}},
		{"new connections too", drop + "iptables -A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", nil},
		{"accepted by source", drop + "iptables -A FORWARD -s 10.244.1.0/24 -j ACCEPT", nil},
		{"accepted by destination of others", drop + "iptables -A FORWARD -d 10.244.9.0/24 -j ACCEPT", []string{"ip filter FORWARD forward policy certain"}},
		{"accepted by device", drop + "iptables -A FORWARD -i onl+ -j ACCEPT", nil},
		{"accepted out of the uplink", drop + "iptables -A FORWARD -o eth0 -j ACCEPT", nil},
		{"accepted out of another", drop + "iptables -A FORWARD -o eth1 -j ACCEPT", []string{"ip filter FORWARD forward policy certain"}},
		{"accepted out of all but one", drop + "iptables -A FORWARD ! -o docker0 -j ACCEPT", nil},
		{"accepted by mark, as kube-proxy does", drop + "iptables -A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT", []string{"ip filter FORWARD forward policy certain"}},
		{"some accepted", drop + "iptables -A FORWARD -p tcp -j ACCEPT", []string{"ip filter FORWARD forward policy maybe"}},
		{"one pod rejected", "iptables -A FORWARD -d 10.244.2.7 -j REJECT", []string{"ip filter FORWARD forward rule certain"}},
		{"another pod rejected", "iptables -A FORWARD -d 10.244.2.8 -j REJECT", nil},
		{"some packets dropped", "iptables -A FORWARD -p tcp --dport 25 -j DROP", nil},
		{"prerouting", "nft add table inet fw\nnft add chain inet fw pre {type filter hook prerouting priority -150;}\nnft add rule inet fw pre ip saddr 10.244.0.0/16 drop", []string{"inet fw pre prerouting rule certain"}},
		{"postrouting", "nft add table inet fw\nnft add chain inet fw post {type filter hook postrouting priority 0;}\nnft add rule inet fw post oifname eth0 ip saddr 10.244.0.0/16 drop", []string{"inet fw post postrouting rule certain"}},
		{"a set of others on both sides of the address", set("10.96.0.1,10.250.0.1") + "reject", nil},
		{"a set with the address", set("10.96.0.1,10.244.2.7") + "reject", []string{"ip fw c forward rule certain"}},
		{"a map of connections that are known", maps("ct state vmap { established : accept, invalid : drop }"), []string{"ip fw c forward policy certain"}},
		{"a map of new connections, too", maps("ct state vmap { established : accept, new : accept }"), []string{"ip fw c forward policy maybe"}},
		{"a map of addresses and ports", maps("ip daddr . meta l4proto . th dport vmap { 10.96.0.1 . tcp . 80 : accept }"), []string{"ip fw c forward policy maybe"}},
		{"an empty map", maps("ip daddr vmap @none"), []string{"ip fw c forward policy certain"}},
		{"input", "nft add table inet fw\nnft add chain inet fw in {type filter hook input priority 0; policy drop;}", nil},
		{"masquerade", masquerade("-o eth0"), []string{"ip nat POSTROUTING postrouting masquerades certain"}},
		{"masquerade by nft", "nft add table ip n\nnft add chain ip n post {type nat hook postrouting priority 100;}\nnft add rule ip n post oifname eth0 masquerade", []string{"ip n post postrouting masquerades certain"}},
		{"snat", "iptables -t nat -A POSTROUTING -s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1", []string{"ip nat POSTROUTING postrouting rewrites the source (SNAT) of certain"}},
		{"masquerade of Docker's network", masquerade("-s 172.17.0.0/16 ! -o docker0"), nil},
		{"masquerade out of others", masquerade("-o eth1"), nil},
		{"masquerade of all but pods", "iptables -t nat -A POSTROUTING -d 10.244.0.0/16 -j ACCEPT\n" + masquerade("-o eth0"), nil},
		{
			"masquerade of marked packets, as kube-proxy has it",
			"iptables -t nat -N KUBE-POSTROUTING\niptables -t nat -A POSTROUTING -j KUBE-POSTROUTING\niptables -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n" +
				"iptables -t nat -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\niptables -t nat -A KUBE-POSTROUTING -j MASQUERADE", nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			needIPTables(t, h, "nft")
			h.do(func() error {
				if err := script(c.commands); err != nil {
					return err
				}
				got, err := Hindrances(Passage{From: netip.MustParseAddr("10.244.1.5"), To: netip.MustParseAddr("10.244.2.7"), In: "onl00000000001", Out: "eth0"})
				var lines []string
				for _, h := range got {
					lines = append(lines, strings.Join([]string{h.Family, h.Table, h.Chain, h.Hook, effect(h)}, " "))
					if h.String() == "" || !strings.Contains(h.Fix(netip.MustParsePrefix("10.244.0.0/16")), "10.244.0.0/16") {
						t.Errorf("%s; fix: %s", h, h.Fix(netip.MustParsePrefix("10.244.0.0/16")))
					}
				}
				if diff := cmp.Diff(c.want, lines); diff != "" {
					t.Error(diff)
				}
				return err
			})
		})
	}
}

// TestHindrancesOfNode: which chains drop the packets of a tunnel that the node itself
// sends and receives.
func TestHindrancesOfNode(t *testing.T) {
	far := netip.MustParseAddr("10.57.2.11")
	vxlan := Passage{From: far, Way: Received, Protocol: unix.IPPROTO_UDP, Port: 4789}
	sent := Passage{To: far, Way: Sent, Protocol: unix.IPPROTO_UDP, Port: 4789}
	ipip := Passage{From: far, Way: Received, Protocol: unix.IPPROTO_IPIP}
	six := Passage{From: netip.MustParseAddr("fd57:2::11"), Way: Received, Protocol: unix.IPPROTO_UDP, Port: 4789}
	nft := func(hook, rule string) string {
		return "nft add table inet fw\nnft add chain inet fw c {type filter hook " + hook + " priority 0;}\nnft add rule inet fw c " + rule
	}
	const drop = "iptables -P INPUT DROP\n"
	for _, c := range []struct {
		name     string
		commands string
		passage  Passage
		want     []string // TABLE CHAIN HOOK EFFECT, and the command that admits the packets
	}{
		{"a port", nft("input", "udp dport 4789 drop"), vxlan, []string{"fw c input rule certain", "nft insert rule inet fw c ip saddr 10.57.2.11 meta l4proto 17 th dport 4789 accept"}},
		{"another port", nft("input", "udp dport 8472 drop"), vxlan, nil},
		{"a port of another protocol", nft("input", "tcp dport 4789 drop"), vxlan, nil},
		{"a port, of another node", nft("input", "ip saddr 10.57.2.12 udp dport 4789 drop"), vxlan, nil},
		{"a port, IPv6", nft("input", "udp dport 4789 drop"), six, []string{"fw c input rule certain", "nft insert rule inet fw c ip6 saddr fd57:2::11 meta l4proto 17 th dport 4789 accept"}},
		{"a protocol", nft("input", "ip protocol 4 drop"), ipip, []string{"fw c input rule certain", "nft insert rule inet fw c ip saddr 10.57.2.11 meta l4proto 4 accept"}},
		{"another protocol", nft("input", "meta l4proto 41 drop"), ipip, nil},
		{"output", nft("output", "udp dport 4789 drop"), sent, []string{"fw c output rule certain", "nft insert rule inet fw c ip daddr 10.57.2.11 meta l4proto 17 th dport 4789 accept"}},
		{"output, and a packet that comes in", nft("output", "udp dport 4789 drop"), vxlan, nil},
		{"forward", nft("forward", "udp dport 4789 drop"), vxlan, nil},
		{"a policy", drop, vxlan, []string{"filter INPUT input policy certain", "iptables -t filter -I INPUT -s 10.57.2.11 -p 17 --dport 4789 -j ACCEPT"}},
		{"a policy, and the port accepted", drop + "iptables -A INPUT -p udp --dport 4789 -j ACCEPT", vxlan, nil},
		{"a policy, and another port accepted", drop + "iptables -A INPUT -p udp --dport 53 -j ACCEPT", vxlan, []string{"filter INPUT input policy certain", "iptables -t filter -I INPUT -s 10.57.2.11 -p 17 --dport 4789 -j ACCEPT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			needIPTables(t, h, "nft")
			h.do(func() error {
				if err := script(c.commands); err != nil {
					return err
				}
				got, err := Hindrances(c.passage)
				var lines []string
				for _, h := range got {
					lines = append(lines, strings.Join([]string{h.Table, h.Chain, h.Hook, effect(h)}, " "), h.Admit(c.passage))
				}
				if diff := cmp.Diff(c.want, lines); diff != "" {
					t.Error(diff)
				}
				return err
			})
		})
	}
}

// script runs commands, those of iptables with its nftables variant.
func script(commands string) error {
	for line := range strings.Lines(commands) {
		w := strings.Fields(line)
		w[0] = strings.Replace(w[0], "tables", "tables-nft", 1)
		if text, err := exec.Command(w[0], w[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, text)
		}
	}
	return nil
}

// effect names what a chain does to the packet, and how certainly.
func effect(h Hindrance) string {
	what := "rule"
	switch {
	case h.Rewrites != "":
		what = h.Rewrites
	case h.Policy:
		what = "policy"
	}
	if !h.Certain {
		return what + " maybe"
	}
	return what + " certain"
}

// TestHindrancesLegacy: the same packet in chains of iptables-legacy.
func TestHindrancesLegacy(t *testing.T) {
	h := newHost(t)
	needIPTables(t, h, "legacy")
	run := func(command string) error {
		w := strings.Fields(command)
		out, err := exec.Command(w[0], w[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
		return nil
	}
	h.do(func() error {
		p := Passage{From: netip.MustParseAddr("10.244.1.5"), To: netip.MustParseAddr("10.244.2.7"), In: "onl00000000001", Out: "eth0"}
		for _, step := range []struct {
			command string
			want    int
		}{{"iptables-legacy -P FORWARD DROP", 1}, {"iptables-legacy -A FORWARD -i eth0 -j ACCEPT", 1}, {"iptables-legacy -A FORWARD -i onl+ -o eth0 -j ACCEPT", 0}} {
			if err := run(step.command); err != nil {
				return err
			}
			if got, err := Hindrances(p); err != nil || len(got) != step.want {
				t.Errorf("%s: %v, %v; want %d", step.command, got, err, step.want)
			}
		}
		return nil
	})
}

// TestOwnEntries: the node that the guard accepts, and the MAC address of a pod's
// device, are read back; without the tables there is none.
func TestOwnEntries(t *testing.T) {
	h := newHost(t)
	needNFTables(t, h)
	s := senders(t, h)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	h.do(func() error {
		if _, on, err := Guarded(netip.MustParseAddr("192.0.2.1")); err != nil || on {
			t.Errorf("a guard (%t) before the table: %v", on, err)
		}
		if _, on, err := SenderOf("onl00000000001"); err != nil || on {
			t.Errorf("a sender (%t) before the table: %v", on, err)
		}
		return New(nil).Apply(State{Guard: true, Nodes: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")}})
	})
	if err := s.Replace(map[string]net.HardwareAddr{"onl00000000001": mac, "onl00000000002": {2, 0, 0, 0, 0, 8}}); err != nil {
		t.Fatal(err)
	}
	h.do(func() error {
		for node, want := range map[string]bool{"192.0.2.1": true, "192.0.2.2": false, "fd00::1": true, "fd00::2": false} {
			if accepted, on, err := Guarded(netip.MustParseAddr(node)); err != nil || !on || accepted != want {
				t.Errorf("%s: accepted %t, on %t, %v; want %t", node, accepted, on, err, want)
			}
		}
		if got, on, err := SenderOf("onl00000000001"); err != nil || !on || got.String() != mac.String() {
			t.Errorf("sender %s, on %t, %v; want %s", got, on, err, mac)
		}
		if got, on, err := SenderOf("onl00000000003"); err != nil || !on || got != nil {
			t.Errorf("sender %s, on %t, %v; want none", got, on, err)
		}
		return nil
	})
}
