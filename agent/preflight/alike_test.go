package preflight

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/fib/underlay"
)

// files is how many random files TestAlike judges.
const files = 600

// pieces are values of the keys that a running agent takes: good ones, those that suit no
// machine, and those that suit the bed alone.
var pieces = map[string][]string{
	"peers": {
		"{name: tor, address: 10.57.0.1, asn: 65001}", "{name: rr, address: 10.57.0.2}", "{address: 10.57.0.3, passive: true}",
		"{address: 10.57.0.4, asn: 65535}", "{address: 10.57.0.5, asn: 65001, localASN: 65100}", "{address: '2001:db8::1', asn: 65001}",
		"{address: 127.0.0.1, asn: 65001}", "{address: 10.57.0.11}", "{address: 255.255.255.255}", "{address: 10.57.0.6, localAddress: 127.0.0.1}",
		"{interface: eth1, asn: 65001}", "{interface: absent, asn: 65001}", "{interface: lo, asn: 65001}", "{address: fe80::1%eth0, asn: 65001}",
		"{address: fe80::1%eth1, asn: 65001}", "{address: 10.57.0.7, passwordFile: DIR/key}", "{address: 10.57.0.8, passwordFile: DIR/absent}",
		"{address: 10.57.0.9, asn: 65001, export: {aggregates: [{prefix: 10.244.0.0/16}]}}", "{address: 10.57.0.10, import: {filters: [some]}}",
		"{address: 10.57.0.12, asn: 65001, import: {accept: [0.0.0.0/0], maxPrefixes: 5}, multihop: 3}", "{address: 10.57.0.13, holdTime: 9s, bfd: {}}",
		"{address: 10.57.0.14, nodeSelector: {rack: r9}, asn: 4294967295}", "{address: 192.0.2.1, asn: 65001, export: {own: false}}",
	},
	"originate": {
		"192.0.2.0/24", "198.51.100.7", "0.0.0.0/0", "'::/0'", "10.57.0.0/24", "10.57.0.11/32", "10.57.0.1/32", "10.0.0.0/8", "10.244.1.0/26", "10.244.0.0/16",
		"224.0.0.0/4", "127.0.0.1/32", "'2001:db8:1::/48'", "'fe80::/64'", "0.0.0.0/8", "240.0.0.0/4", "128.0.0.0/1",
	},
	"pools": {
		"{name: main, cidr: 10.244.0.0/16}", "{name: other, cidr: 10.245.0.0/16, disabled: true}", "{name: six, cidr: 'fd44::/48'}",
		"{name: uplink, cidr: 10.57.0.0/16}", "{name: full, cidr: 10.246.0.0/24, reserved: [10.246.0.0/24]}", "{name: hand, cidr: 10.247.0.0/16, manual: true}",
		"{name: always, cidr: 10.248.0.0/16, encapsulation: Always}", "{name: never, cidr: 10.249.0.0/16, encapsulation: Never, natOutgoing: false}",
	},
	"rest": {
		"log: {level: debug}", "reload: watch", "cni: {sysctls: [net.ipv4.ip_unprivileged_port_start=0]}",
		"cni: {sysctls: []}",
	},
}

// draw returns some of the pieces of a kind, at most so many, in any order.
func draw(r *rand.Rand, kind string, most int) string {
	list := slices.Clone(pieces[kind])
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return strings.Join(list[:r.IntN(most+1)], ", ")
}

// random returns the text of a file.
func random(r *rand.Rand) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node: {name: r1n1}\npaths: {state: DIR/state, run: DIR/run}\nbgp:\n  peers: [%s]\n  originate: [%s]\n", draw(r, "peers", 4), draw(r, "originate", 2))
	b.WriteString("  filters: [{name: some, rules: [{action: accept}]}]\n")
	if r.IntN(8) == 0 {
		b.WriteString("  mesh: {nodes: [10.57.0.21, 10.57.0." + []string{"11", "22"}[r.IntN(2)] + "]}\n")
	}
	fmt.Fprintf(&b, "pools: [%s]\n", draw(r, "pools", 3))
	if i := r.IntN(2 * len(pieces["rest"])); i < len(pieces["rest"]) {
		b.WriteString(pieces["rest"][i] + "\n")
	}
	return b.String()
}

// taken returns why a running agent would not take a file: what a reload judges before it
// changes anything.
func (b *bed) taken(c *config.Config) error {
	watch := underlay.New(slog.New(slog.DiscardHandler), func(underlay.Device) bool { return false })
	b.did(watch.Load())
	id, err := node.IdentifySoon(b.t.Context(), c, watch)
	if err != nil {
		return err
	}
	facts := node.Surroundings{Host: watch, ID: id}.Facts()
	facts.Routers = node.RoutersNow(c.BGP.Peers)
	next, err := config.Resolve(c, facts)
	if err == nil {
		_, err = sessions(b.t.Context(), next, id)
	}
	return err
}

// TestAlike: a file that a running agent takes also starts one, so that no reload leaves a
// file behind with which the next start fails. What --check-config rejects beyond is of a
// session, or a line of status. And a file that --check-config passes is taken.
func TestAlike(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var took, passed, refused int
	onMachine(t, func(b *bed) {
		b.put("key", "secret\n")
		for range files {
			text := random(r)
			c, err := config.Parse("onlinkd.yaml", []byte(strings.ReplaceAll(text, "DIR", b.dir)))
			if err != nil {
				refused++ // by all three, with one text
				continue
			}
			err = b.taken(c)
			setup := Setup{OwnDevice: func(underlay.Device) bool { return false }, Database: filepath.Join(c.Paths.State, "onlink.db")}
			mistakes, failed := Machine(b.t.Context(), c, setup)
			b.did(failed)
			switch {
			case err != nil && len(mistakes) == 0:
				b.t.Errorf("--check-config passes what a reload rejects (%v):\n%s", err, text)
			case err != nil:
				refused++
				continue
			}
			took++
			if len(mistakes) == 0 {
				passed++
			}
			listed := Running(c, nil)
			for _, m := range mistakes {
				inStatus := slices.ContainsFunc(listed, func(l *config.Error) bool { return l.Field == m.Field && l.Text == m.Text })
				if !inStatus && !strings.HasPrefix(m.Field, "bgp.peers[") {
					b.t.Errorf("a reload takes what --check-config rejects: %s: %s\n%s", m.Field, m.Text, text)
				}
			}
		}
	})
	t.Logf("%d files: %d rejected by a reload, %d taken, %d of them passed by --check-config", files, refused, took, passed)
	if took < files/20 || refused < files/20 || passed < files/50 {
		t.Error("the files are too much alike to prove anything")
	}
}
