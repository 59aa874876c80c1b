package explain

import (
	"context"
	"fmt"
	"net/netip"
)

// Host is the network of the host: its settings and chains, of this program and of
// others. It is read, and never changed.
type Host interface {
	// Examine returns what is in the way of a packet.
	Examine(ctx context.Context, p Passage) []Hindrance
	// Recent returns what another program changed a moment ago and the agent set
	// again, one line each.
	Recent(v6 bool) []string
}

// Passage is the way of a packet through the node.
type Passage struct {
	From, To netip.Addr // the zero Addr: not known
	In, Out  string     // devices; "": not known
	// Tunnel says that Out is a tunnel device.
	Tunnel bool
	// Node is the far node of the tunnel that the packet leaves or comes through.
	Node netip.Addr
}

// Hindrance is a setting or chain in the way of packets.
type Hindrance struct {
	Cause   Cause
	Detail  string
	Fix     string
	Certain bool // it stops every packet; else it may stop some
}

// hostLink looks at the switches on the way through this node.
type hostLink struct {
	registry Registry
	kernel   Kernel
	host     Host
}

func (l hostLink) check(ctx context.Context, t *trail) {
	if t.lost || t.place == outside && !t.from.IsValid() {
		return
	}
	for _, text := range l.host.Recent(t.To.Is6()) {
		t.ok("host", "%s", text)
	}
	seen := map[string]bool{}
	for _, p := range l.passages(t) {
		for _, h := range l.host.Examine(ctx, p) {
			switch {
			case seen[h.Detail]:
			case h.Certain && l.registry.InPool(t.To):
				t.broken("host", h.Cause, h.Fix, "%s", h.Detail)
			default:
				t.suspect("host", h.Cause, h.Fix, "%s", h.Detail)
			}
			seen[h.Detail] = true
		}
		l.width(t, p)
	}
}

// passages returns the ways of the packets through this node.
func (l hostLink) passages(t *trail) []Passage {
	base := Passage{From: t.from, To: t.To}
	if t.from.IsValid() {
		base.In = t.source.HostDevice
	}
	if t.place == here {
		base.Out, base.Node = t.pod.HostDevice, t.outer
		if t.From.IsValid() && !t.from.IsValid() {
			base.From = t.From
			if got, err := l.kernel.Source(t.From); err == nil && !got.Self {
				base.In = got.Dev
			}
		}
		return []Passage{base}
	}
	var out []Passage
	for _, h := range t.hops {
		p := base
		if p.Out, p.Tunnel = h.dev, h.tunnel; h.tunnel {
			p.Node = h.via
		}
		out = append(out, p)
	}
	return out
}

// width compares the MTU of the device that packets leave through with that of
// the pod's device: a narrower one drops large packets, unless their sender
// follows the ICMP error.
func (l hostLink) width(t *trail, p Passage) {
	if !t.from.IsValid() || t.place == here {
		return
	}
	pod, err := l.kernel.Device(p.In)
	if err != nil {
		return
	}
	out, err := l.kernel.Device(p.Out)
	if err != nil || out.MTU >= pod.MTU {
		return
	}
	t.suspect("host", HostMTU, fmt.Sprintf("give %s the MTU %d, or set `cni.mtu` to %d at most", p.Out, pod.MTU, out.MTU),
		"%s has an MTU of %d, and the pod's device %s one of %d: larger packets do not fit", p.Out, out.MTU, p.In, pod.MTU)
}
