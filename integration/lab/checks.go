package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	onlinkv1 "onlink/proto/v1"
)

// routeProtocol is the kernel's route protocol of everything onlink installs.
const routeProtocol = 179

// ReplyTime bounds one echo. The first packet between two hosts waits for
// neighbour resolution on every segment.
const ReplyTime = 10 * time.Second

// EachPair calls f for every ordered pair of different pods.
func (l *Lab) EachPair(f func(from, to *Pod) error) (pairs int, err error) {
	pods := l.Pods()
	for _, from := range pods {
		for _, to := range pods {
			if from == to {
				continue
			}
			if err := f(from, to); err != nil {
				return pairs, fmt.Errorf("%s to %s: %w", from, to, err)
			}
			pairs++
		}
	}
	return pairs, nil
}

// String names the pod for people.
func (p *Pod) String() string { return fmt.Sprintf("%s (%s)", p.Name, p.Addr()) }

// PingPods pings from every pod to every address of every other pod, count
// times.
func (l *Lab) PingPods(ctx context.Context, count int) (pairs int, err error) {
	return l.EachPair(func(from, to *Pod) error {
		for _, a := range to.Addrs {
			if _, err := from.NS.Ping(ctx, a, count, ReplyTime); err != nil {
				return err
			}
		}
		return nil
	})
}

// TransferPods sends size bytes by TCP from every pod to every other one.
func (l *Lab) TransferPods(ctx context.Context, size int64) (pairs int, err error) {
	return l.EachPair(func(from, to *Pod) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err := Transfer(ctx, from.NS, to.NS, to.Addr(), size)
		return err
	})
}

// PingFromNodes pings every pod of another node from every worker: its own
// address must have a way back.
func (l *Lab) PingFromNodes(ctx context.Context) (pairs int, err error) {
	for _, n := range l.Workers() {
		for _, p := range l.Pods() {
			if p.Node == n {
				continue
			}
			if _, err := n.NS.Ping(ctx, p.Addr(), 1, ReplyTime); err != nil {
				return pairs, fmt.Errorf("host %s to %s: %w", n.Name, p, err)
			}
			pairs++
		}
	}
	return pairs, nil
}

// PingFromToRs waits until every router has learned every pod's block, then
// pings every pod from it.
func (l *Lab) PingFromToRs(ctx context.Context) (pairs int, err error) {
	for _, t := range l.ToRs() {
		for _, n := range l.Workers() {
			blocks, err := n.Blocks(ctx)
			if err != nil {
				return pairs, err
			}
			for _, b := range blocks {
				if p, err := netip.ParsePrefix(b.GetCidr()); err != nil || p.Addr().Is6() {
					continue
				} else if err := t.WaitRoute(ctx, p); err != nil {
					return pairs, err
				}
			}
		}
		for _, p := range l.Pods() {
			if _, err := t.NS.Ping(ctx, p.Addr(), 1, ReplyTime); err != nil {
				return pairs, fmt.Errorf("%s to %s: %w", t.Name, p, err)
			}
			pairs++
		}
	}
	return pairs, nil
}

// Wiretap is one capture on the wire of every worker, and what was seen there.
type Wiretap struct {
	lab      *Lab
	captures map[*Node]*Capture
	pods     map[netip.Addr]int // pod address to rack
	nodes    map[netip.Addr]int // node address to rack
}

// Tap starts the captures; the pods must exist already.
func (l *Lab) Tap() (*Wiretap, error) {
	w := &Wiretap{lab: l, captures: map[*Node]*Capture{}, pods: map[netip.Addr]int{}, nodes: map[netip.Addr]int{}}
	for _, p := range l.Pods() {
		for _, a := range p.Addrs {
			w.pods[a] = p.Node.Rack
		}
	}
	for _, n := range l.Nodes() {
		w.nodes[n.Addr] = n.Rack
		if n.Addr6.IsValid() {
			w.nodes[n.Addr6] = n.Rack
		}
	}
	for _, n := range l.Workers() {
		c, err := StartCapture(n.NS, "eth0")
		if err != nil {
			return nil, err
		}
		w.captures[n] = c
	}
	return w, nil
}

// Seen is what one node's wire carried between pods.
type Seen struct {
	Node        string
	PlainInRack int // packets between pods of the rack, as they are: wanted
	TunnelCross int // packets between pods inside a tunnel between racks: wanted
	PlainCross  int // packets between pods of two racks, as they are: none may be
	TunnelIn    int // tunnels between nodes of one rack: none may be
}

// Proved says what is wrong with the numbers, nil when they show direct
// routes inside the rack and the tunnel across.
func (s Seen) Proved() error {
	switch {
	case s.TunnelIn > 0:
		return fmt.Errorf("%s: %d tunnelled packets inside the rack, want none", s.Node, s.TunnelIn)
	case s.PlainCross > 0:
		return fmt.Errorf("%s: %d plain pod packets across racks, want none", s.Node, s.PlainCross)
	case s.PlainInRack == 0:
		return fmt.Errorf("%s: no plain pod packet inside the rack", s.Node)
	case s.TunnelCross == 0:
		return fmt.Errorf("%s: no tunnelled pod packet across racks", s.Node)
	}
	return nil
}

// Stop ends the captures and returns the count of every worker's wire.
func (w *Wiretap) Stop() ([]Seen, error) {
	var out []Seen
	for _, n := range w.lab.Workers() {
		c := w.captures[n]
		if err := c.Stop(); err != nil {
			return nil, fmt.Errorf("wire of %s: %w", n.Name, err)
		}
		out = append(out, Seen{
			Node:        n.Name,
			PlainInRack: c.Count(func(p Packet) bool { in, ok := w.between(w.pods, p.Src, p.Dst); return ok && in }),
			PlainCross:  c.Count(func(p Packet) bool { in, ok := w.between(w.pods, p.Src, p.Dst); return ok && !in }),
			TunnelCross: c.Count(func(p Packet) bool {
				in, ok := w.between(w.nodes, p.Src, p.Dst)
				_, pods := w.between(w.pods, p.InnerSrc, p.InnerDst)
				return tunnelled(p) && ok && !in && pods
			}),
			TunnelIn: c.Count(func(p Packet) bool {
				in, ok := w.between(w.nodes, p.Src, p.Dst)
				return tunnelled(p) && (in || !ok)
			}),
		})
	}
	return out, nil
}

// between reports whether both addresses are known, and if so whether they are
// in one rack.
func (w *Wiretap) between(racks map[netip.Addr]int, a, b netip.Addr) (sameRack, ok bool) {
	ra, okA := racks[a]
	rb, okB := racks[b]
	return ra == rb && okA && okB, okA && okB
}

func tunnelled(p Packet) bool {
	return p.Proto == unix.IPPROTO_IPIP || p.Proto == unix.IPPROTO_IPV6 || p.Proto == unix.IPPROTO_UDP && p.InnerDst.IsValid()
}

// CompareRoutes compares the agent's installed routes with the kernel's ones
// of protocol 179, and returns how many there are.
func (n *Node) CompareRoutes(ctx context.Context) (int, error) {
	decided, err := n.Routes(ctx)
	if err != nil {
		return 0, err
	}
	kernel, err := n.NS.Routes(routeProtocol)
	if err != nil {
		return 0, err
	}
	inKernel := map[string]string{}
	for _, r := range kernel {
		inKernel[r.Prefix.String()] = kernelKey(r)
	}
	count := 0
	for _, r := range decided {
		if !r.GetInstalled() {
			continue
		}
		count++
		if got, want := inKernel[r.GetPrefix()], decidedKey(r); got != want {
			return count, fmt.Errorf("%s: agent says %q, kernel has %q", n.Name, want, got)
		}
		delete(inKernel, r.GetPrefix())
	}
	for prefix, route := range inKernel {
		return count, fmt.Errorf("%s: kernel has %s (%s) with protocol 179, the agent does not list it", n.Name, prefix, route)
	}
	return count, nil
}

// kernelKey and decidedKey render what both sides say of a route.
func kernelKey(r KernelRoute) string {
	if r.Type != "unicast" {
		return r.Type
	}
	var hops []string
	for _, h := range r.Hops {
		via := ""
		if h.Via.IsValid() {
			via = h.Via.String()
		}
		hops = append(hops, via+"@"+h.Dev)
	}
	return strings.Join(hops, " ")
}

func decidedKey(r *onlinkv1.Route) string {
	if r.GetKind() == "blackhole" {
		return "blackhole"
	}
	var hops []string
	for _, h := range r.GetHops() {
		hops = append(hops, h.GetVia()+"@"+h.GetDev())
	}
	return strings.Join(hops, " ")
}

// WaitClean waits until nothing of deleted pods is left on the node: no pod
// device, no pod route, no address in use.
func (n *Node) WaitClean(ctx context.Context) error {
	return Eventually(ctx, time.Minute, "pods' traces leave "+n.Name, func() error {
		devices, err := n.NS.Devices("onl")
		if err != nil {
			return err
		}
		for _, d := range devices {
			if !strings.HasPrefix(d, "onlink-") {
				return fmt.Errorf("device %s is left", d)
			}
		}
		routes, err := n.NS.Routes(routeProtocol)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Prefix.IsSingleIP() {
				return fmt.Errorf("route %s is left", r)
			}
		}
		admin, err := n.Admin()
		if err != nil {
			return err
		}
		held, err := admin.ShowIPAM(ctx, &onlinkv1.ShowIPAMRequest{})
		if err != nil {
			return fmt.Errorf("show addresses: %w", err)
		}
		if a := held.GetAssignments(); len(a) > 0 {
			return fmt.Errorf("address %s is still assigned", a[0].GetAddress())
		}
		return nil
	})
}
