package nft

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// TestObstacles: what iptables, in both its kinds, and nft(8) write into chains
// of the hook forward, and which pools' packets end there.
func TestObstacles(t *testing.T) {
	pools := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}
	const s, d = "iptables -A FORWARD -s 10.244.0.0/16 -j ACCEPT", "iptables -A FORWARD -d 10.244.0.0/16 -j ACCEPT"
	for _, c := range []struct {
		name     string
		commands string
		want     []string // POOL policy or rule, before CHAIN
	}{
		{"nothing", "", nil},
		{"policy accept", "iptables -P FORWARD ACCEPT", nil},
		{"policy drop", "iptables -P FORWARD DROP", []string{"10.244.0.0/16 policy before FORWARD"}},
		{"policy drop of IPv6", "ip6tables -P FORWARD DROP", []string{"fd00:244::/48 policy before FORWARD"}},
		{"by source and destination", "iptables -P FORWARD DROP\n" + s + "\n" + d, nil},
		{"by source alone, which is that of all pods", "iptables -P FORWARD DROP\n" + s, nil},
		{"wider", "iptables -P FORWARD DROP\niptables -A FORWARD -s 10.0.0.0/8 -m comment --comment pods -j ACCEPT", nil},
		{"narrower", "iptables -P FORWARD DROP\niptables -A FORWARD -s 10.244.0.0/17 -j ACCEPT", []string{"10.244.0.0/16 policy before FORWARD"}},
		{"odd length", "iptables -P FORWARD DROP\niptables -A FORWARD -s 10.240.0.0/12 -j ACCEPT", nil},
		{"some packets of it", "iptables -P FORWARD DROP\niptables -A FORWARD -p tcp -s 10.244.0.0/16 -j ACCEPT", []string{"10.244.0.0/16 policy before FORWARD"}},
		{"all but others", "iptables -P FORWARD DROP\niptables -A FORWARD ! -s 192.168.0.0/16 -j ACCEPT", nil},
		{"pods' devices", "iptables -P FORWARD DROP\niptables -A FORWARD -i onl+ -j ACCEPT\niptables -A FORWARD -o onl+ -j ACCEPT", nil},
		{"pods' devices one way", "iptables -P FORWARD DROP\niptables -A FORWARD -i onl+ -j ACCEPT", []string{"10.244.0.0/16 policy before FORWARD"}},
		{"another device", "iptables -P FORWARD DROP\niptables -A FORWARD -i docker0 -j ACCEPT", []string{"10.244.0.0/16 policy before FORWARD"}},
		{"a rule that rejects", "iptables -A FORWARD -j REJECT", []string{"10.244.0.0/16 rule before FORWARD"}},
		{"a rule that drops others", "iptables -A FORWARD -s 192.168.0.0/16 -j DROP", nil},
		{"accepted behind a drop", "iptables -A FORWARD -j DROP\n" + s, []string{"10.244.0.0/16 rule before FORWARD"}},
		{
			"another chain, as Docker has it",
			"iptables -P FORWARD DROP\niptables -N DOCKER-USER\niptables -A FORWARD -j DOCKER-USER\niptables -A DOCKER-USER -j RETURN",
			[]string{"10.244.0.0/16 policy before DOCKER-USER"},
		},
		{"accepted in another chain", "iptables -P FORWARD DROP\niptables -N MINE\niptables -A FORWARD -j MINE\niptables -A MINE -s 10.244.0.0/16 -j ACCEPT", nil},
		{"dropped in another chain", "iptables -N MINE\niptables -A FORWARD -s 10.0.0.0/8 -j MINE\niptables -A MINE -j DROP", []string{"10.244.0.0/16 rule before FORWARD"}},
		{"another hook", "iptables -P INPUT DROP", nil},
	} {
		for kind, obstacles := range map[string]func([]netip.Prefix) ([]Obstacle, error){"nft": Obstacles, "legacy": LegacyObstacles} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				h := newHost(t)
				needIPTables(t, h, kind)
				h.do(func() error {
					for line := range strings.Lines(c.commands) {
						w := strings.Fields(line)
						w[0] = strings.Replace(w[0], "tables", "tables-"+kind, 1)
						if text, err := exec.Command(w[0], w[1:]...).CombinedOutput(); err != nil {
							return fmt.Errorf("%s: %w: %s", line, err, text)
						}
					}
					got, err := obstacles(pools)
					var lines []string
					for _, o := range got {
						how := "rule"
						if o.Policy {
							how = "policy"
						}
						before := o.Before
						if kind == "legacy" && strings.Contains(c.commands, "DOCKER-USER") && before == "FORWARD" {
							before = "DOCKER-USER" // not looked for there
						}
						lines = append(lines, fmt.Sprintf("%s %s before %s", o.Pool, how, before))
					}
					if diff := cmp.Diff(c.want, lines); diff != "" {
						t.Error(diff)
					}
					return err
				})
			})
		}
	}
}

// TestObstacleFix: the commands that an obstacle names remove it.
func TestObstacleFix(t *testing.T) {
	h := newHost(t)
	pools := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}
	needIPTables(t, h, "nft")
	h.do(func() error {
		for _, command := range []string{"iptables-nft", "ip6tables-nft"} {
			if text, err := exec.Command(command, "-P", "FORWARD", "DROP").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, text)
			}
		}
		before, err := Obstacles(pools)
		if err != nil || len(before) != 2 {
			t.Fatalf("%v, %v", before, err)
		}
		for _, o := range before {
			for command := range strings.SplitSeq(o.Fix(), "; ") {
				w := strings.Fields(command)
				if text, err := exec.Command(w[0]+"-nft", w[1:]...).CombinedOutput(); err != nil {
					return fmt.Errorf("%s: %w: %s", command, err, text)
				}
			}
		}
		after, err := Obstacles(pools)
		if len(after) > 0 {
			t.Errorf("still there: %v", after)
		}
		return err
	})
}

// TestObstaclesOfNFT: a table as nft(8) makes it, of both families, with a set.
func TestObstaclesOfNFT(t *testing.T) {
	pools := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}
	for _, c := range []struct {
		name     string
		accepted []netip.Prefix
		want     []string
	}{
		{"nothing accepted", nil, []string{"10.244.0.0/16", "fd00:244::/48"}},
		{"one family", prefixes("10.0.0.0/8"), []string{"fd00:244::/48"}},
		{"a part", prefixes("10.244.0.0/17", "10.244.128.0/18", "192.168.0.0/16"), []string{"10.244.0.0/16", "fd00:244::/48"}},
		{"something before", prefixes("10.0.0.0/16"), []string{"10.244.0.0/16", "fd00:244::/48"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			needNFTables(t, h)
			h.do(func() error {
				conn, err := dial()
				if err != nil {
					return err
				}
				drop := nftables.ChainPolicyDrop
				table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyINet})
				chain := conn.AddChain(&nftables.Chain{
					Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
					Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
				})
				set := &nftables.Set{Table: table, Name: "ok", KeyType: nftables.TypeIPAddr, Interval: true}
				var elements []nftables.SetElement
				for _, i := range intervals(disjoint(c.accepted), true) {
					elements = append(elements, nftables.SetElement{Key: i.first.AsSlice()}, nftables.SetElement{Key: i.last.Next().AsSlice(), IntervalEnd: true})
				}
				if err := conn.AddSet(set, elements); err != nil {
					return err
				}
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
					&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{2}},
					&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
					&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
					&expr.Verdict{Kind: expr.VerdictAccept},
				}})
				if err := conn.Flush(); err != nil {
					return err
				}
				got, err := Obstacles(pools)
				var lines []string
				for _, o := range got {
					lines = append(lines, o.Pool.String())
				}
				if diff := cmp.Diff(c.want, lines); diff != "" {
					t.Error(diff)
				}
				return err
			})
		})
	}
}

// needIPTables skips without the program or the kernel's part of it.
func needIPTables(t *testing.T, h *host, kind string) {
	t.Helper()
	lacks := ""
	h.do(func() error {
		for _, name := range []string{"iptables", "ip6tables"} {
			if text, err := exec.Command(name+"-"+kind, "-L", "FORWARD").CombinedOutput(); err != nil {
				lacks = string(bytes.TrimSpace(text)) + err.Error()
			}
		}
		if _, err := os.Stat(legacy4.names); kind == "legacy" && err != nil {
			lacks = err.Error()
		}
		return nil
	})
	if lacks != "" {
		t.Skip("needs kernel feature: iptables-" + kind + " " + lacks)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
