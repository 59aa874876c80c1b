package explain

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Tunnels are the tunnel devices of this node.
type Tunnels interface {
	// Tunnel compares a device, and its entries for a far node, with those that
	// they should be.
	Tunnel(ctx context.Context, dev string, node netip.Addr) (TunnelState, error)
}

// TunnelState is what differs of a tunnel.
type TunnelState struct {
	Text    string   // kind, local address, and for VXLAN VNI and port
	Format  string   // of the tunnel's packets, which both ends must agree on: kind, VNI and port
	Device  []string // differences of the device, one line each
	Entries []string // differences of the entries for the far node
}

// tunnelLink looks at the tunnel devices that the route leads through.
type tunnelLink struct {
	tunnels Tunnels
	format  string // of the far node's packets; "": not known
}

func (l tunnelLink) check(ctx context.Context, t *trail) {
	if t.lost || t.place != elsewhere {
		return
	}
	for _, h := range t.hops {
		if !h.tunnel {
			continue
		}
		s, err := l.tunnels.Tunnel(ctx, h.dev, h.via)
		again := fmt.Sprintf("the agent repairs it within 10 s; find the program that changes it (`ip monitor dev %s`)", h.dev)
		switch {
		case err != nil:
			t.suspect("tunnel", TunnelDevice, "see the error", "%s cannot be read: %v", h.dev, err)
		case len(s.Device) > 0:
			t.broken("tunnel", TunnelDevice, again, "the tunnel device %s is not as it should be: %s", h.dev, strings.Join(s.Device, "; "))
		case len(s.Entries) > 0:
			t.broken("tunnel", TunnelEntries, again, "the entries of %s for the far node %s are not as they should be: %s", h.dev, h.via, strings.Join(s.Entries, "; "))
		case l.format != "" && s.Format != l.format:
			t.broken("tunnel", TunnelMismatch, "give both nodes the same `tunnel` of their pools, and the same `tunnel.vxlan`; the agent takes them when it starts",
				"the tunnel %s is %s on this node, and %s on the other: neither takes the other's packets", h.dev, s.Format, l.format)
		default:
			t.tunnels, t.format = append(t.tunnels, s.Text), s.Format
			t.ok("tunnel", "%s to %s: %s", h.dev, h.via, s.Text)
		}
	}
}
