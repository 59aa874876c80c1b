package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"onlink/nft"
)

// Passage is a packet through the node.
type Passage struct {
	From, To netip.Addr // the zero Addr: not known
	In, Out  string     // devices; "": not known
	Tunnel   bool       // Out is a tunnel device
	Node     netip.Addr // the far node of the tunnel that the packet leaves or comes through; the zero Addr: none
	Protocol uint8      // of the tunnel's own packets; 0: not known
	Port     uint16     // UDP port of the tunnel's own packets; 0: none
}

// Obstruction is what kind of thing is in the way of packets.
type Obstruction uint8

// The kinds of obstructions.
const (
	ForwardingOff Obstruction = iota
	ReversePath
	IPv6Off
	ChainDrops
	ChainRewrites
	GuardLacks
	ConntrackFull
)

// Hindrance is a setting or a chain in the way of packets.
type Hindrance struct {
	Kind    Obstruction
	Text    string
	Fix     string
	Certain bool // it stops every such packet; else it may stop some
}

// Examine returns what the settings and chains of the host do to a packet. It reads
// them now, changes nothing, and may be called by any goroutine.
func (h *Host) Examine(p Passage) []Hindrance {
	out := h.settings(p)
	out = append(out, h.chainsFor(p)...)
	out = append(out, chainsOfTunnel(p)...)
	return append(out, tables(p)...)
}

// settings looks at the sysctls that a packet depends on.
func (h *Host) settings(p Passage) []Hindrance {
	if p.To.Is6() {
		return settings6(p)
	}
	out := forwards(nil, "net/ipv4/ip_forward", true)
	for _, dev := range h.devices(p) {
		out = forwards(out, "net/ipv4/conf/"+dev+"/forwarding", dev == p.In)
	}
	for _, dev := range h.uplinks() {
		if h.loose && h.strict(dev) {
			out = append(out, Hindrance{
				Kind: ReversePath, Text: fmt.Sprintf("rp_filter is strict (1) on %s: packets that come back by another way than they left are dropped", dev),
				Fix: fmt.Sprintf("set net.ipv4.conf.%s.rp_filter=2", dev),
			})
		}
	}
	dev := p.In
	if p.Tunnel {
		dev = p.Out
	}
	if p.Node.IsValid() && h.strict(dev) {
		out = append(out, Hindrance{
			Kind: ReversePath, Text: fmt.Sprintf("rp_filter is strict (1) on %s: packets of other nodes to pods are dropped", dev),
			Fix: fmt.Sprintf("set net.ipv4.conf.%s.rp_filter=2 (the agent does, within seconds)", dev),
		})
	}
	return out
}

func settings6(p Passage) []Hindrance {
	out := forwards(nil, "net/ipv6/conf/all/forwarding", true)
	for _, dev := range []string{p.In, p.Out} {
		if name := "net/ipv6/conf/" + dev + "/disable_ipv6"; dev != "" && value(name) == "1" {
			out = append(out, Hindrance{Kind: IPv6Off, Certain: true, Text: fmt.Sprintf("%s is 1: %s takes no IPv6 packet", dotted(name), dev), Fix: "set it to 0, and find the program that sets it"})
		}
	}
	return out
}

// forwards adds a setting of forwarding that is off.
func forwards(out []Hindrance, name string, certain bool) []Hindrance {
	if value(name) != "0" {
		return out
	}
	return append(out, Hindrance{
		Kind: ForwardingOff, Certain: certain,
		Text: dotted(name) + " is 0: this node does not forward",
		Fix:  fmt.Sprintf("set %s=1 (the agent does, within seconds), and find the program that turns it off (sysctl.d, a firewall)", dotted(name)),
	})
}

// devices returns the devices that the packet, or its answer, comes in through.
func (h *Host) devices(p Passage) []string {
	list := h.uplinks()
	if p.In != "" {
		list = append([]string{p.In}, list...)
	}
	return list
}

// Recent returns the settings of forwarding that another program changed within
// the last minute, and that the agent set again: one line each. It may be called by
// any goroutine.
func (h *Host) Recent(v6 bool) []string {
	family := "net.ipv4."
	if v6 {
		family = "net.ipv6."
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for name, at := range h.changed {
		age := time.Since(at).Round(time.Second)
		if age > resetsTime || !strings.HasPrefix(name, family) || !strings.Contains(name, "forward") {
			continue
		}
		out = append(out, fmt.Sprintf("%s was changed by another program, and set again %v ago: packets were lost until then", name, age))
	}
	slices.Sort(out)
	return out
}

// chainsFor looks at the chains of other programs.
func (h *Host) chainsFor(p Passage) []Hindrance {
	found, err := nft.Hindrances(nft.Passage{From: p.From, To: p.To, In: p.In, Out: p.Out})
	if err != nil {
		return []Hindrance{{Kind: ChainDrops, Text: fmt.Sprintf("the chains of the host cannot be read: %v", err), Fix: "see the error"}}
	}
	around := netip.PrefixFrom(p.To, p.To.BitLen())
	for _, pool := range h.pools() {
		if pool.Contains(p.To) {
			around = pool
		}
	}
	var out []Hindrance
	for _, c := range found {
		kind := ChainDrops
		if c.Rewrites != "" {
			kind = ChainRewrites
		}
		out = append(out, Hindrance{Kind: kind, Text: c.String(), Fix: c.Fix(around), Certain: c.Certain && kind == ChainDrops})
	}
	return out
}

// chainsOfTunnel looks at the chains of other programs that the tunnel's own packets
// pass, to the far node and from it: they are the node's, and no chain of the hook
// forward sees them. A chain that only may drop them is left out, because another
// cause of a silent tunnel is as likely.
func chainsOfTunnel(p Passage) []Hindrance {
	if !p.Node.IsValid() || p.Protocol == 0 {
		return nil
	}
	var out []Hindrance
	for _, one := range []nft.Passage{{To: p.Node, Way: nft.Sent}, {From: p.Node, Way: nft.Received}} {
		one.Protocol, one.Port = p.Protocol, p.Port
		found, err := nft.Hindrances(one)
		if err != nil {
			return nil // chainsFor has the error
		}
		way := "to"
		if one.Way == nft.Received {
			way = "from"
		}
		for _, c := range found {
			if c.Certain && c.Rewrites == "" {
				text := fmt.Sprintf("the tunnel's own packets %s %s are dropped: %s", way, p.Node, c)
				out = append(out, Hindrance{Kind: ChainDrops, Certain: true, Text: text, Fix: c.Admit(one)})
			}
		}
	}
	return out
}

// tables looks at the tables of onlink itself and that of the connections.
func tables(p Passage) []Hindrance {
	var out []Hindrance
	if p.Node.IsValid() {
		if accepted, on, err := nft.Guarded(p.Node); err == nil && on && !accepted {
			out = append(out, Hindrance{
				Kind: GuardLacks, Certain: true, Text: fmt.Sprintf("the guard of this node does not accept tunnelled packets from %s: it is not in the set of nodes of table inet onlink", p.Node),
				Fix: "the agent writes the set again within 10 s; find the program that changes the table (`nft monitor`)",
			})
		}
	}
	const dir = "net/netfilter/"
	count, err := strconv.Atoi(value(dir + "nf_conntrack_count"))
	most, err2 := strconv.Atoi(value(dir + "nf_conntrack_max"))
	if err == nil && err2 == nil && most > 0 && count >= most {
		out = append(out, Hindrance{Kind: ConntrackFull, Text: fmt.Sprintf("the table of connections is full (%d of %d): packets of new connections are dropped", count, most), Fix: "raise net.netfilter.nf_conntrack_max, or find the flood (`conntrack -L`)"})
	}
	return out
}
