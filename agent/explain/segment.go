package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"onlink/probe"
)

// Probes sends packets.
type Probes interface {
	// Echo sends an echo request and returns what answers it.
	Echo(ctx context.Context, e probe.Echo) probe.Outcome
	// Connect tries a TCP connection.
	Connect(ctx context.Context, e probe.Echo) probe.Outcome
	// Wire sends an echo request past this node's routes and chains to a next hop.
	Wire(ctx context.Context, dev string, mac string, e probe.Echo) probe.Outcome
}

// segmenter finds where the packets of a path are lost.
type segmenter struct {
	registry Registry
	kernel   Kernel
	probes   Probes
}

// segments are the probes beside a path whose own probe stays without an answer.
type segments struct {
	far     netip.Addr    // the far node; the zero Addr: not known
	tunnel  way           // the first tunnelled next hop; without a device: none
	tcp     probe.Outcome // the address itself, by TCP
	beside  probe.Outcome // the far node, from this node
	through probe.Outcome // the far node, from this node through the tunnel
	wire    probe.Outcome // the far node, with the source address of the pod
}

// silent finds the segment in which packets are lost: inside this node, on the
// wire, in the tunnel, or on the far node.
func (l segmenter) silent(ctx context.Context, t *trail, e probe.Echo, out probe.Outcome) {
	s := l.segments(ctx, t, e)
	who := sender(t, e)
	node, its := t.owner, "its node "+t.owner
	if node == "" {
		node, its = "the far node", "its node"
	}
	there := fmt.Sprintf("run `onlinkctl explain %s` on %s", t.To, node)
	const mine = "look for what drops packets silently here: a chain in nftables of the family netdev or bridge, tc filters, XDP, an eBPF program, a NetworkPolicy agent"
	switch {
	case s.tcp.Kind == probe.Answered:
		t.probed = e.Netns != ""
		t.ok("probe", "%s %s, %s", t.To, s.tcp.Detail, who)
		t.good += fmt.Sprintf("; %s %s", t.To, s.tcp.Detail)
	case out.Seen.Watched && !out.Seen.Left.IsValid():
		t.broken("probe", ProbeHere, mine, "a probe %s to %s does not leave this node through %s: it is dropped here", who, t.To, strings.Join(e.Watch, ", "))
	case out.Seen.Returned:
		t.broken("probe", ProbeHere, mine, "the answer of %s to a probe %s comes back to this node through %s and does not reach the pod: it is dropped here", t.To, who, strings.Join(e.Watch, ", "))
	case out.Seen.Left.IsValid() && out.Seen.Left != e.From:
		t.broken("probe", HostRewrite, "see the chains of the hook postrouting (`nft list ruleset`, `iptables -t nat -L POSTROUTING`): packets between pods must keep their source",
			"a probe %s to %s leaves this node with the source address %s, and has no answer: a chain of another program rewrites it", who, t.To, out.Seen.Left)
	case t.place == outside || !l.registry.InPool(t.To):
		t.ok("probe", "%s does not answer a probe %s: many machines outside the pools do not", t.To, who)
	case t.place == here:
		t.broken("probe", ProbeLost, "look into the pod: has it a firewall of its own, or another interface that its answers leave through?", "the pod does not answer a probe %s: nothing that this node sees explains it", who)
	case !s.far.IsValid():
		t.suspect("probe", ProbeLost, there, "%s does not answer a probe %s", t.To, who)
	case s.beside.Kind == probe.Skipped:
		t.broken("probe", ProbeLost, there, "%s does not answer a probe %s; to %s (%s) a probe was %s", t.To, who, its, s.far, s.beside.Detail)
	case s.beside.Kind != probe.Answered:
		t.broken("probe", ProbeWire, fmt.Sprintf("see whether %s is up, and the network to it (`ping %s`, `traceroute %s`)", node, s.far, s.far),
			"%s does not answer, and %s (%s) does not answer this node either (%s): the node is down, or the network in between drops", t.To, its, s.far, s.beside.Detail)
	case s.tunnel.dev != "" && s.through.Kind != probe.Answered && s.through.Kind != probe.Skipped:
		t.broken("probe", TunnelSilent, "compare `tunnel` in the configuration of both nodes (VNI, port), let the network pass the tunnel's packets (UDP port, IP protocol 4 or 41), and see the guard and `status` on "+node,
			"%s (%s) answers beside the tunnel and does not answer through %s (%s): the network drops the tunnel's packets, or the far tunnel has another VNI or UDP port, or its guard drops them", strings.TrimPrefix(its, "its "), s.far, s.tunnel.dev, strings.Join(t.tunnels, ", "))
	case s.wire.Kind == probe.Silent:
		t.broken("probe", ProbeWire, "let switches and routers pass the addresses of pods (port security, source address checks of a cloud, unicast RPF)",
			"%s (%s) answers this node, and not packets with the source address of a pod (%s): the wire drops them or the answers to them, or %s has no route back to the pod", strings.TrimPrefix(its, "its "), s.far, t.from, node)
	case e.Netns == "":
		t.suspect("probe", ProbeFar, there, "%s does not answer a probe %s, though %s (%s) does; there is no pod on this node to probe from", t.To, who, its, s.far)
	default:
		t.broken("probe", ProbeFar, there, "%s does not answer a probe %s, though %s (%s) does%s: the packets reach %s and are lost there (a chain of the hook forward, a setting, the pod itself), or the pod's answers are lost on the wire",
			t.To, who, its, s.far, throughText(s.tunnel), node)
	}
}

// segments sends the probes beside the path, at the same time.
func (l segmenter) segments(ctx context.Context, t *trail, e probe.Echo) *segments {
	s := &segments{wire: probe.Outcome{Kind: probe.Skipped}}
	if t.place == elsewhere && t.far != t.To {
		s.far, s.tunnel = t.far, tunnelHop(t)
	}
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.tcp = l.probes.Connect(ctx, e) })
	if !s.far.IsValid() {
		return s
	}
	all.Go(func() { s.beside = l.probes.Echo(ctx, probe.Echo{To: s.far}) })
	if s.tunnel.dev != "" {
		inner := probe.Echo{To: s.tunnel.via, Device: s.tunnel.dev}
		if got, err := l.kernel.Source(s.tunnel.via); err == nil {
			inner.From = got.Src
		}
		all.Go(func() { s.through = l.probes.Echo(ctx, inner) })
	} else if len(t.answering) > 0 && e.Netns != "" && s.far.Is4() == t.To.Is4() {
		hop := t.answering[0]
		all.Go(func() { s.wire = l.probes.Wire(ctx, hop.dev, hop.mac, probe.Echo{From: t.from, To: s.far}) })
	}
	return s
}

func throughText(tunnel way) string {
	if tunnel.dev == "" {
		return ""
	}
	return ", also through " + tunnel.dev
}

// tunnelHop returns the first tunnelled next hop; without a device: none.
func tunnelHop(t *trail) way {
	for _, h := range t.hops {
		if h.tunnel {
			return h
		}
	}
	return way{}
}

// devices returns the devices that the packets leave through.
func devices(t *trail) []string {
	if t.place == here {
		return []string{t.pod.HostDevice}
	}
	var out []string
	for _, h := range t.hops {
		if !slices.Contains(out, h.dev) {
			out = append(out, h.dev)
		}
	}
	return out
}

// sender names the sender of a probe.
func sender(t *trail, e probe.Echo) string {
	if e.Netns == "" {
		return "from this node"
	}
	return fmt.Sprintf("from the pod %s (%s)", podName(t), t.from)
}
