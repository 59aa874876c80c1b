package nft

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"onlink/internal/ours"
)

// Passage is a packet of a new connection.
type Passage struct {
	From, To netip.Addr // the zero Addr: not known
	In, Out  string     // devices; "": not known
	Way      Way
	Protocol uint8  // 0: any
	Port     uint16 // destination, of a protocol with ports; 0: any
}

// Way is how a packet passes the node.
type Way uint8

// The ways of a packet.
const (
	Forwarded Way = iota
	Received      // for the node itself
	Sent          // by the node itself
)

// packet is the passage as rules match it.
func (p Passage) packet() packet {
	out := packet{in: device{name: p.In, exact: true}, out: device{name: p.Out, exact: true}, protocol: p.Protocol, port: p.Port}
	if p.From.IsValid() {
		out.src = netip.PrefixFrom(p.From, p.From.BitLen())
	}
	if p.To.IsValid() {
		out.dst = netip.PrefixFrom(p.To, p.To.BitLen())
	}
	return out
}

// Hindrance is a chain of another program that drops a packet, or rewrites its
// source.
type Hindrance struct {
	Family, Table, Chain, Hook string
	Policy                     bool   // the chain's policy drops, else a rule
	Rewrites                   string // how a rule rewrites the source; "": the packet is dropped
	// Certain is false when an earlier rule may take the packet out of the chain.
	Certain bool
}

// String names the chain and its effect.
func (h Hindrance) String() string {
	where := fmt.Sprintf("chain %s of table %s %s (hook %s)", h.Chain, h.Family, h.Table, h.Hook)
	switch {
	case h.Rewrites != "":
		return fmt.Sprintf("%s %s packets between pods: one of its rules matches them", where, h.Rewrites)
	case h.Policy:
		return where + " drops the packets: its policy is drop, and no earlier rule certainly accepts them"
	}
	return where + " drops the packets by one of its rules"
}

// Fix returns the command with which an operator lets packets to addresses through.
func (h Hindrance) Fix(pool netip.Prefix) string {
	o := Obstacle{Family: h.Family, Table: h.Table, Before: h.Chain, Pool: pool}
	if h.Hook == "forward" {
		return o.Fix()
	}
	family := "ip"
	if pool.Addr().Is6() {
		family = "ip6"
	}
	if h.Family == "inet" {
		return fmt.Sprintf("nft insert rule inet %s %s %s daddr %s accept", h.Table, h.Chain, family, pool)
	}
	tables := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[h.Family]
	return fmt.Sprintf("%s -t %s -I %s -d %s -j ACCEPT", tables, strings.TrimSuffix(h.Table, " (iptables-legacy)"), h.Chain, pool)
}

// Admit returns the command with which an operator lets the packets of a passage
// through that is of a protocol.
func (h Hindrance) Admit(p Passage) string {
	far, source := p.From, true
	if !far.IsValid() {
		far, source = p.To, false
	}
	family := "ip"
	if far.Is6() {
		family = "ip6"
	}
	if h.Family != "inet" {
		match, protocol := "-d", fmt.Sprintf("-p %d", p.Protocol)
		if source {
			match = "-s"
		}
		if p.Port != 0 {
			protocol += fmt.Sprintf(" --dport %d", p.Port)
		}
		return fmt.Sprintf("%stables -t %s -I %s %s %s %s -j ACCEPT", family, h.Table, h.Chain, match, far, protocol)
	}
	match, protocol := "daddr", fmt.Sprintf("meta l4proto %d", p.Protocol)
	if source {
		match = "saddr"
	}
	if p.Port != 0 {
		protocol += fmt.Sprintf(" th dport %d", p.Port)
	}
	return fmt.Sprintf("nft insert rule inet %s %s %s %s %s %s accept", h.Table, h.Chain, family, match, far, protocol)
}

// hooks are those that a packet passes.
var hooks = map[Way]map[nftables.ChainHook]string{
	Forwarded: {*nftables.ChainHookPrerouting: "prerouting", *nftables.ChainHookForward: "forward", *nftables.ChainHookPostrouting: "postrouting"},
	Received:  {*nftables.ChainHookPrerouting: "prerouting", *nftables.ChainHookInput: "input"},
	Sent:      {*nftables.ChainHookOutput: "output", *nftables.ChainHookPostrouting: "postrouting"},
}

// Hindrances returns the chains of other programs that drop a packet or rewrite its
// source, in the network namespace of the calling thread. Of the tables of
// iptables-legacy only those of a forwarded packet are read.
func Hindrances(p Passage) ([]Hindrance, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	found, err := settled(0, func() (out []Hindrance, err error) {
		family := struct {
			family nftables.TableFamily
			name   string
		}{nftables.TableFamilyIPv4, "ip"}
		if !p.packet().is4() {
			family.family, family.name = nftables.TableFamilyIPv6, "ip6"
		}
		for name, f := range map[string]nftables.TableFamily{family.name: family.family, "inet": nftables.TableFamilyINet} {
			chains, err := conn.ListChainsOfTableFamily(f)
			if err != nil {
				return nil, fmt.Errorf("list chains: %w", err)
			}
			one, err := hindrancesAmong(conn, name, chains, p)
			if err != nil {
				return nil, err
			}
			out = append(out, one...)
		}
		return out, nil
	})
	if err != nil && Supported() != nil {
		err = nil // this kernel has no such tables
	}
	legacy := legacyHindrances(p)
	slices.SortFunc(found, func(a, b Hindrance) int { return strings.Compare(a.String(), b.String()) })
	return append(found, legacy...), err
}

// hindrancesAmong searches the base chains of one family.
func hindrancesAmong(conn *nftables.Conn, family string, chains []*nftables.Chain, p Passage) ([]Hindrance, error) {
	var out []Hindrance
	for _, c := range chains {
		mine := c.Table.Name == ours.FilterTable || c.Table.Name == ours.SendersTable
		if c.Hooknum == nil || hooks[p.Way][*c.Hooknum] == "" || family == "inet" && mine {
			continue
		}
		seen := p.packet()
		if *c.Hooknum == *nftables.ChainHookPrerouting {
			seen.out = device{} // the packet is not routed yet
		}
		w := walk{conn: conn, chains: chains, rules: map[string][]*nftables.Rule{}}
		end, err := w.follow(c.Table, c.Name, seen, 0)
		if err != nil {
			return nil, err
		}
		h := Hindrance{Family: family, Table: c.Table.Name, Chain: c.Name, Hook: hooks[p.Way][*c.Hooknum], Rewrites: w.rewrite, Certain: !w.unsure}
		drops := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		switch {
		case end == expr.VerdictDrop || w.rewrite != "":
			out = append(out, h)
		case end == expr.VerdictContinue && drops:
			h.Policy = true
			out = append(out, h)
		}
	}
	return out, nil
}

// legacyHindrances is the same for the chain FORWARD of iptables-legacy.
func legacyHindrances(p Passage) []Hindrance {
	l := legacy4
	if p.To.Is6() {
		l = legacy6
	}
	names, err := os.ReadFile(l.names)
	if err != nil || p.Way != Forwarded || !slices.Contains(strings.Fields(string(names)), "filter") {
		return nil // no such table, or a kernel without
	}
	table, err := l.read()
	if err != nil {
		return nil // it was there a moment ago; status shows the error when it lasts
	}
	through, policy := table.follow(p.packet())
	if through {
		return nil
	}
	return []Hindrance{{Family: l.family, Table: "filter (iptables-legacy)", Chain: "FORWARD", Hook: "forward", Policy: policy}}
}

// Guarded reports whether the guard of this node accepts tunnelled packets from an
// address; on is false when the table has no guard.
func Guarded(node netip.Addr) (accepted, on bool, err error) {
	conn, err := dial()
	if err != nil {
		return false, false, err
	}
	name := setNodes + "4"
	if node.Is6() {
		name = setNodes + "6"
	}
	elements, err := elementsOf(conn, ours.FilterTable, name)
	if err != nil || elements == nil {
		return false, false, err
	}
	for _, e := range elements {
		if a, ok := netip.AddrFromSlice(e.Key); ok && a == node {
			return true, true, nil
		}
	}
	return false, true, nil
}

// SenderOf returns the MAC address that a pod's device may send from; nil: none. on
// is false when there is no such table.
func SenderOf(dev string) (mac net.HardwareAddr, on bool, err error) {
	conn, err := dial()
	if err != nil {
		return nil, false, err
	}
	elements, err := elementsOf(conn, ours.SendersTable, ours.SendersSet)
	if err != nil || elements == nil {
		return nil, false, err
	}
	want := sender(dev, string(make([]byte, 6))).Key
	const name = 16 // bytes of a device's name in a key
	for _, e := range elements {
		if len(e.Key) >= name+6 && bytes.Equal(e.Key[:name], want[:name]) {
			return bytes.Clone(e.Key[name : name+6]), true, nil
		}
	}
	return nil, true, nil
}

// elementsOf lists the elements of a set in a table of onlink's; nil when there is
// none.
func elementsOf(conn *nftables.Conn, table, set string) ([]nftables.SetElement, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == table })
	if i < 0 {
		return nil, nil
	}
	sets, err := conn.GetSets(tables[i])
	if err != nil {
		return nil, fmt.Errorf("list sets of table inet %s: %w", table, err)
	}
	j := slices.IndexFunc(sets, func(s *nftables.Set) bool { return s.Name == set })
	if j < 0 {
		return nil, nil
	}
	elements, err := conn.GetSetElements(sets[j])
	if err != nil {
		return nil, fmt.Errorf("list elements of set %s: %w", set, err)
	}
	return append([]nftables.SetElement{}, elements...), nil
}
