package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"onlink/agent/config"
	"onlink/agent/state"
	"onlink/cni"
	"onlink/fib"
	"onlink/nft"
	"onlink/tunnel"
)

// filter is the nftables side of the learn flow: who may send us tunnelled
// packets, and whose packets leave with the node's address. It belongs to the
// learn loop.
type filter struct {
	table *nft.Table // nil: this kernel has none, or nothing is asked of it
	state nft.State
	// senders is the table of the pods' MAC addresses, which cni writes; nil:
	// this kernel has none.
	senders *nft.Senders
	kept    []netip.Addr // senders known from the routes of a previous run, until in sync
}

// openFilter prepares the table that the configuration asks for. Without
// nftables the agent runs on, unless the guard is required.
func (a *agent) openFilter() error {
	// The rules know pods by their group, which those of an earlier agent lack.
	if err := cni.Adopt(addresses{a.alloc}.Attachments()); err != nil {
		return fmt.Errorf("mark the devices of running pods: %w", err)
	}
	cfg := a.current()
	want := nft.State{Guard: cfg.Tunnel.Guard != config.ModeOff && len(a.learn.wanted) > 0}
	if slices.ContainsFunc(a.learn.wanted, func(d tunnel.Desired) bool { return d.Kind == tunnel.VXLAN }) {
		want.VXLANPort = cfg.Tunnel.VXLAN.Port
	}
	want.Pools, want.MasqueradeFrom = poolRanges(cfg.Pools)
	want.Registry = registryEndpoints(cfg.IPAM.Registry)
	err := nft.Supported()
	if err == nil {
		spoof := nft.SupportsAntiSpoof()
		want.AntiSpoof = spoof == nil
		a.features = append(a.features, state.Feature{Name: "anti-spoofing", Available: spoof == nil, Without: "pods can send from foreign IPv6 addresses, and where net.ipv4.conf.all.rp_filter is 2 from foreign IPv4 ones"})
	}
	if err == nil {
		if err := a.openSenders(); err != nil {
			return err
		}
	}
	a.features = append(a.features, state.Feature{Name: "nftables", Available: err == nil, Without: "no masquerading (natOutgoing), tunnelled packets are accepted from anybody"})
	switch {
	case err == nil:
		a.learn.filter.table, a.learn.filter.state = nft.New(a.log.With("part", "nft")), want
	case cfg.Tunnel.Guard == config.ModeRequired:
		return fmt.Errorf("tunnel.guard is required: %w; set it to auto, or load nf_tables", err)
	case !errors.Is(err, nft.ErrUnsupported):
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// openSenders prepares the table of the pods' MAC addresses, where the kernel
// can hold it.
func (a *agent) openSenders() error {
	err := nft.SupportsSenders()
	a.features = append(a.features, state.Feature{Name: "MAC anti-spoofing", Available: err == nil, Without: "pods can send from foreign MAC addresses"})
	if err != nil {
		return nil //nolint:nilerr // the feature's absence is reported
	}
	if a.learn.filter.senders, err = nft.NewSenders(a.log.With("part", "nft")); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// keep lets the nodes of a previous run's routes in until the peers have told
// again who they are: a restart must not lose a packet. The kernel does not say
// whether a gateway is a node, so what cannot be one is left out: the next hops
// of routes outside the pools, addresses inside them, and the routers.
func (f *filter) keep(routes []fib.KernelRoute, routers []netip.Addr) {
	routes = slices.DeleteFunc(slices.Clone(routes), func(r fib.KernelRoute) bool { return !within(f.state.Pools, r.Prefix) })
	f.kept = slices.DeleteFunc(gateways(routes), func(a netip.Addr) bool {
		return a.IsLinkLocalUnicast() || within(f.state.Pools, netip.PrefixFrom(a, a.BitLen())) || slices.Contains(routers, a)
	})
}

// gateways are those of the routes.
func gateways(routes []fib.KernelRoute) []netip.Addr {
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

// routers are the peers of another AS that are on a link of this node: they
// forward plainly.
func routers(cfg *config.Effective) []netip.Addr {
	var out []netip.Addr
	for _, p := range cfg.BGP.Peers {
		if p.External(cfg.BGP.ASN) && p.Multihop == 0 {
			out = append(out, p.Address)
		}
	}
	return out
}

// setPools changes which packets leave with the node's address, with the next
// update.
func (f *filter) setPools(pools []config.Pool) {
	f.state.Pools, f.state.MasqueradeFrom = poolRanges(pools)
}

// poolRanges returns all pools, and those that are masqueraded.
func poolRanges(pools []config.Pool) (all, nat []netip.Prefix) {
	for _, p := range pools {
		all = append(all, p.CIDR)
		if p.NATOutgoing {
			nat = append(nat, p.CIDR)
		}
	}
	return all, nat
}

// update brings the table to the nodes that are known now, and to the devices
// that have a choice of uplinks. A device that had one once stays among them:
// an uplink that comes and goes shall not have the table written each time.
func (f *filter) update(nodes []netip.Addr, spread []string) error {
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
	if f.senders != nil {
		err = errors.Join(err, f.senders.Repair())
	}
	return err
}
