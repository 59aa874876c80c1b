package dataplane

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"onlink/agent/state"
	"onlink/fib"
	"onlink/nft"
)

// Filter is the nftables side of the plane: the nodes that may send tunnelled
// packets to this one, and the pools whose packets leave with the node's address.
// It belongs to the learn loop.
type Filter struct {
	// Senders is the table of the pods' MAC addresses, which cni writes; nil:
	// this kernel has none.
	Senders *nft.Senders

	table *nft.Table // nil: this kernel has none
	state nft.State
	kept  []netip.Addr // senders known from the routes of a previous run, until in sync
}

// Open prepares the tables that want describes, as far as this kernel supports
// them, and returns the supported features. Without nftables the agent continues,
// unless the guard is required.
func (f *Filter) Open(log *slog.Logger, want nft.State, required bool) ([]state.Feature, error) {
	var out []state.Feature
	err := nft.Supported()
	if err == nil {
		spoof := nft.SupportsAntiSpoof()
		want.AntiSpoof = spoof == nil
		out = append(out, state.Feature{
			Name: "anti-spoofing", Available: spoof == nil,
			Without: "pods can send from foreign IPv6 addresses, and where net.ipv4.conf.all.rp_filter is 2 from foreign IPv4 ones",
		})
		senders := nft.SupportsSenders()
		out = append(out, state.Feature{Name: "MAC anti-spoofing", Available: senders == nil, Without: "pods can send from foreign MAC addresses"})
		if senders == nil {
			var err error
			if f.Senders, err = nft.NewSenders(log); err != nil {
				return out, fmt.Errorf("nftables: %w", err)
			}
		}
	}
	out = append(out, state.Feature{
		Name: "nftables", Available: err == nil, Without: "no masquerading (natOutgoing), tunnelled packets are accepted from any host",
	})
	switch {
	case err == nil:
		f.table, f.state = nft.New(log), want
	case required:
		return out, fmt.Errorf("tunnel.guard is required: %w; set it to auto, or load nf_tables", err)
	case !errors.Is(err, nft.ErrUnsupported):
		return out, fmt.Errorf("nftables: %w", err)
	}
	return out, nil
}

// Keep admits the nodes of a previous run's routes until the peers have announced
// theirs again: a restart must not lose a packet. The kernel does not record
// whether a gateway is a node, so these are left out: the next hops of routes
// outside the pools, addresses inside them, and the routers.
func (f *Filter) Keep(routes []fib.KernelRoute, routers []netip.Addr) {
	routes = slices.DeleteFunc(slices.Clone(routes), func(r fib.KernelRoute) bool { return !within(f.state.Pools, r.Prefix) })
	f.kept = slices.DeleteFunc(Gateways(routes), func(a netip.Addr) bool {
		return a.IsLinkLocalUnicast() || within(f.state.Pools, netip.PrefixFrom(a, a.BitLen())) || slices.Contains(routers, a)
	})
}

// Gateways returns those of the routes.
func Gateways(routes []fib.KernelRoute) []netip.Addr {
	var out []netip.Addr
	for _, r := range routes {
		for _, h := range r.Hops {
			if h.Via.IsValid() {
				out = append(out, h.Via)
			}
		}
	}
	return out
}

// within reports whether p is one of the networks or a part of one.
func within(networks []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) })
}

// Writes reports whether this kernel has the tables, so that they are written.
func (f *Filter) Writes() bool { return f.table != nil }

// Pools returns all pools.
func (f *Filter) Pools() []netip.Prefix { return f.state.Pools }

// SetPools changes the pools, and the masqueraded ones among them, with the next
// Admit.
func (f *Filter) SetPools(all, masqueraded []netip.Prefix) {
	f.state.Pools, f.state.MasqueradeFrom = all, masqueraded
}

// update brings the table to the present nodes, and to the devices that have a
// choice of uplinks. A device that had one once stays among them: an uplink that
// comes and goes must not have the table written each time.
func (f *Filter) update(nodes []netip.Addr, spread []string) error {
	if f.table == nil {
		return nil
	}
	f.state.Nodes = nodes
	for _, dev := range spread {
		if !slices.Contains(f.state.Spread, dev) {
			f.state.Spread = append(f.state.Spread, dev)
		}
	}
	err := f.table.Apply(f.state)
	if f.Senders != nil {
		err = errors.Join(err, f.Senders.Repair())
	}
	return err
}
