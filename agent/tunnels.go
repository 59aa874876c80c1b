package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/agent/config"
	"onlink/agent/state"
	"onlink/tunnel"
)

// tunnelsWanted lists the devices that the pools ask for and the node's
// addresses allow; their underlay MTU is filled in when they are made.
func tunnelsWanted(cfg *config.Config, id identity) []tunnel.Desired {
	asked := map[config.TunnelKind]bool{}
	for _, p := range cfg.Pools {
		asked[p.Tunnel] = asked[p.Tunnel] || p.Encapsulation != config.EncapNever
	}
	var want []tunnel.Desired
	for _, d := range []struct {
		pools config.TunnelKind
		name  string
		kind  tunnel.Kind
		from  netip.Addr
	}{
		{config.TunnelIPIP, tunnel.NameIPIP, tunnel.IPIP, id.Address},
		{config.TunnelIPIP, tunnel.NameIP6, tunnel.IP6, id.Address6},
		{config.TunnelVXLAN, tunnel.NameVXLAN, tunnel.VXLAN, id.Address},
		{config.TunnelVXLAN, tunnel.NameVXLAN6, tunnel.VXLAN, id.Address6},
	} {
		if asked[d.pools] && d.from.IsValid() {
			want = append(want, tunnel.Desired{
				Name: d.name, Kind: d.kind, Local: d.from, MTU: cfg.Tunnel.MTU,
				VNI: cfg.Tunnel.VXLAN.VNI, Port: cfg.Tunnel.VXLAN.Port,
			})
		}
	}
	return want
}

// tunnelsUnwanted names the devices that another configuration may have left.
func tunnelsUnwanted(wanted []tunnel.Desired) []string {
	return slices.DeleteFunc([]string{tunnel.NameIPIP, tunnel.NameIP6, tunnel.NameVXLAN, tunnel.NameVXLAN6}, func(name string) bool {
		return slices.ContainsFunc(wanted, func(d tunnel.Desired) bool { return d.Name == name })
	})
}

// ensureTunnels makes the tunnel devices as they should be and reports whether
// one was made anew: the kernel dropped the routes of the old one.
func (l *learn) ensureTunnels(ctx context.Context) (full bool) {
	for i := range l.wanted {
		// While an address moves from one device to another the tunnel stays.
		if _, mtu := l.watch.LinkFor(l.wanted[i].Local); mtu > 0 {
			l.wanted[i].UnderlayMTU = mtu
		}
	}
	devices, err := l.tunnels.Ensure(ctx, l.wanted)
	if err != nil && (l.tunnelErr == nil || err.Error() != l.tunnelErr.Error()) {
		l.log.Error("tunnel device not as it should be", "err", err)
	}
	l.tunnelErr = err
	l.fib.Avoid(l.tunnels.Foreign())
	var renewed []string
	for _, d := range devices {
		if d.Reset {
			renewed = append(renewed, d.Name)
		}
	}
	if len(renewed) > 0 {
		l.nodes.checkAt = time.Time{} // entries went with the device
	}
	l.followMTU()
	l.fib.LinkChanged(renewed...)
	return len(renewed) > 0
}

// tunnelFeatures says which of the wanted devices this kernel can have.
func (l *learn) tunnelFeatures() []state.Feature {
	var out []state.Feature
	for _, d := range l.wanted {
		text := ""
		if l.tunnelErr != nil {
			text = l.tunnelErr.Error()
		}
		lacks := strings.Contains(text, "tunnel "+d.Name+":")
		out = append(out, state.Feature{Name: featureName(d), Available: !lacks, Without: "routes through " + d.Name + " are not installed: " + text})
	}
	return out
}

// featureName is the kernel's name of the device's kind; the two VXLAN devices
// are told apart.
func featureName(d tunnel.Desired) string {
	if d.Name == tunnel.NameVXLAN6 {
		return "vxlan6"
	}
	return d.Kind.String()
}

// wantedLocal is the IPv4 address that tunnels send from, or the zero Addr.
func (l *learn) wantedLocal() netip.Addr {
	for _, d := range l.wanted {
		if d.Local.Is4() {
			return d.Local
		}
	}
	return netip.Addr{}
}
