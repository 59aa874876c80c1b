// Package rooms translates the configuration, and announcements of owners, into each
// room's types. It is pure, except that it reads the files of passwords.
package rooms

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/bgp/policy"
	"onlink/cni/pod"
	"onlink/internal/ours"
	"onlink/internal/version"
	"onlink/ipam"
	"onlink/nft"
	"onlink/rib"
	"onlink/tunnel"
)

// IPAM returns the pools for ipam.
func IPAM(pools []config.Pool, labels map[string]string) []ipam.Pool {
	out := make([]ipam.Pool, len(pools))
	for i, p := range pools {
		out[i] = ipam.Pool{
			Name: p.Name, CIDR: p.CIDR, BlockSize: p.BlockSize, Disabled: p.Disabled, Manual: p.Manual,
			Reserved: p.Reserved, Elsewhere: !p.SelectsNode(labels), Namespaces: p.NamespaceSelector,
		}
	}
	return out
}

// RIB returns the pools for rib, and names for every pool the devices that carry it. A device that this
// kernel cannot make keeps its name: such a route fails, and is reported, but
// never leaves the node unencapsulated.
func RIB(pools []config.Pool, wanted []tunnel.Desired) []rib.Pool {
	device := func(name string) string {
		if slices.ContainsFunc(wanted, func(d tunnel.Desired) bool { return d.Name == name }) {
			return name
		}
		return ""
	}
	out := make([]rib.Pool, len(pools))
	for i, p := range pools {
		out[i] = rib.Pool{Prefix: p.CIDR, Encap: encap(p.Encapsulation)}
		switch p.Tunnel {
		case config.TunnelIPIP:
			out[i].Tunnel, out[i].Tunnel6 = device(ours.DeviceIPIP), device(ours.DeviceIP6)
		case config.TunnelVXLAN:
			out[i].Tunnel, out[i].Tunnel6 = device(ours.DeviceVXLAN), device(ours.DeviceVXLAN6)
		case config.TunnelNone:
		}
	}
	return out
}

func encap(e config.Encapsulation) rib.Encap {
	switch e {
	case config.EncapAlways:
		return rib.Always
	case config.EncapNever:
		return rib.Never
	case config.EncapCrossSubnet:
	}
	return rib.CrossSubnet
}

// Permit returns the bounds of the routes that this node installs. An import rule
// of an eBGP peer permits a node subnet only when it names it or a part of it: a
// wide rule such as 10.0.0.0/8 does not mean the node's own networks. Import rules
// for reflector clients never permit one. In the same way only a rule that names a
// pool, or a part of one, makes nodes of the next hops that a peer of another AS
// announces: 10.0.0.0/8 does not mean the pools.
func Permit(peers []config.Peer, pools, subnets []netip.Prefix) rib.Permit {
	p := rib.Permit{NodeSubnets: subnets}
	for _, peer := range peers {
		if peer.Address.IsValid() {
			p.Peers = append(p.Peers, peer.Address)
		}
		for _, r := range peer.Import.Accepted() {
			if peer.Address.IsValid() && within(pools, r.Prefix) {
				p.PoolPeers = append(p.PoolPeers, peer.Address)
			}
			p.Default = p.Default || r.Prefix.Bits() == 0 && r.Ge == 0
			if slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Overlaps(r.Prefix) && s.Bits() <= r.Prefix.Bits() }) {
				p.Prefixes = append(p.Prefixes, r.Prefix)
			}
		}
	}
	return p
}

// within reports whether p is one of the networks or a part of one.
func within(networks []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) })
}

// BGP returns the speaker's configuration.
func BGP(cfg *config.Effective, id node.Identity, fibKept bool, log *slog.Logger) bgp.Config {
	out := bgp.Config{
		ASN: cfg.BGP.ASN, RouterID: id.RouterID, NodeAddress: id.Address, NodeAddress6: id.Address6,
		ListenPort: cfg.BGP.Listen.Port, Restarting: fibKept, Log: log,
	}
	if cfg.BGP.Listen.Address.IsValid() {
		out.ListenAddresses = []netip.Addr{cfg.BGP.Listen.Address}
	}
	if r := cfg.BGP.Reflector; r != nil {
		out.ClusterID = r.ClusterID
		if !out.ClusterID.IsValid() {
			out.ClusterID = id.RouterID
		}
	}
	out.Pools, out.PodGateways = BGPPools(cfg.Pools), pod.Gateways()
	return out
}

// Peers returns the sessions and the reflector's client ranges.
func Peers(cfg *config.Effective) ([]bgp.Peer, []bgp.Dynamic, error) {
	var peers []bgp.Peer
	for _, p := range cfg.BGP.Peers {
		if !p.Address.IsValid() {
			continue // not found yet
		}
		key, err := Password(p.PasswordFile)
		if err != nil {
			return nil, nil, fmt.Errorf("bgp.peers: passwordFile of %s: %w", p.Name, err)
		}
		peers = append(peers, peer(p, cfg.BGP.ASN, key))
	}
	r := cfg.BGP.Reflector
	if r == nil {
		return peers, nil, nil
	}
	key, err := Password(r.PasswordFile)
	if err != nil {
		return nil, nil, fmt.Errorf("bgp.reflector.passwordFile: %w", err)
	}
	var dynamic []bgp.Dynamic
	for _, prefix := range r.Clients {
		dynamic = append(dynamic, bgp.Dynamic{
			Name: ClientsName(prefix), Prefix: prefix,
			Session: bgp.Session{
				ASN: cfg.BGP.ASN, Role: bgp.Client, Password: key, Import: r.Import, Export: r.Export,
			},
		})
	}
	return peers, dynamic, nil
}

// ClientsName returns the name of the reflector's clients in a range of addresses.
func ClientsName(prefix netip.Prefix) string { return "clients " + prefix.String() }

func peer(p config.Peer, asn uint32, key string) bgp.Peer {
	out := bgp.Peer{Name: p.Name, Address: p.Address, Port: p.Port, Passive: p.Passive, Yield: p.Yield, Session: bgp.Session{
		ASN: p.ASN, Role: bgp.IBGP, Password: key, Options: p.Options, Import: p.Import, Export: p.Export,
	}}
	if !p.Unnumbered { // else the address has the device
		out.Interface = p.Interface
	}
	switch {
	case p.External(asn):
		out.Role = bgp.EBGP
	case p.Client:
		out.Role = bgp.Client
	}
	return out
}

// Password reads a TCP MD5 key (RFC 2385): the file's first line.
func Password(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	key, _, _ := bytes.Cut(b, []byte("\n"))
	key = bytes.TrimRight(key, "\r")
	if len(key) == 0 || len(key) > 80 {
		return "", fmt.Errorf("%s: the first line is the key and must have 1 to 80 bytes, it has %d", path, len(key))
	}
	return string(key), nil
}

// Tunnels lists the devices that the pools need and the node's addresses allow;
// their underlay MTU is filled in when they are made.
func Tunnels(cfg *config.Config, id node.Identity) []tunnel.Desired {
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
		{config.TunnelIPIP, ours.DeviceIPIP, tunnel.IPIP, id.Address},
		{config.TunnelIPIP, ours.DeviceIP6, tunnel.IP6, id.Address6},
		{config.TunnelVXLAN, ours.DeviceVXLAN, tunnel.VXLAN, id.Address},
		{config.TunnelVXLAN, ours.DeviceVXLAN6, tunnel.VXLAN, id.Address6},
	} {
		if asked[d.pools] && d.from.IsValid() {
			want = append(want, cfg.Tunnel.Device(d.name, d.kind, d.from))
		}
	}
	return want
}

// Filter returns the nftables tables for the configuration.
func Filter(cfg *config.Config, tunnels []tunnel.Desired) nft.State {
	want := nft.State{Guard: cfg.Tunnel.Guard != tunnel.GuardOff && len(tunnels) > 0, Registry: cfg.IPAM.Registry.Endpoints()}
	if slices.ContainsFunc(tunnels, func(d tunnel.Desired) bool { return d.Kind == tunnel.VXLAN }) {
		want.VXLANPort = cfg.Tunnel.VXLAN.Port
	}
	want.Pools, want.MasqueradeFrom = Ranges(cfg.Pools)
	return want
}

// Ranges returns all pools, and those that are masqueraded.
func Ranges(pools []config.Pool) (all, nat []netip.Prefix) {
	for _, p := range pools {
		all = append(all, p.CIDR)
		if p.NATOutgoing {
			nat = append(nat, p.CIDR)
		}
	}
	return all, nat
}

// Routers are the peers of another AS that are on a link of this node: they
// forward plainly.
func Routers(cfg *config.Effective) []netip.Addr {
	var out []netip.Addr
	for _, p := range cfg.BGP.Peers {
		if p.External(cfg.BGP.ASN) && p.Multihop == 0 {
			out = append(out, p.Address)
		}
	}
	return out
}

// BFD returns the BFD sessions of the configured peers.
func BFD(peers []config.Peer) []bfd.Session {
	var out []bfd.Session
	for _, p := range peers {
		if p.BFD != nil {
			out = append(out, p.BFD.Session(p.Address, p.LocalAddress))
		}
	}
	return out
}

// Stations returns the monitoring stations.
func Stations(cfg *config.Effective, id node.Identity, from bmp.Source, log *slog.Logger) bmp.Config {
	return bmp.Config{
		Source: from, Name: id.Name, Descr: "onlinkd " + version.Get().Version,
		ASN: cfg.BGP.ASN, RouterID: id.RouterID, Log: log, Stations: cfg.BGP.BMP,
	}
}

// Store distinguishes a lost database from a first start: a node on which pods run
// had one. Without that sign, and for a damaged file, the operator requests the
// repair.
func Store(cfg *config.Config, repair, podsRun bool) ipam.StoreOptions {
	serves := cfg.IPAM.Registry.Served()
	out := ipam.StoreOptions{MoveAside: repair, Lost: serves && (repair || podsRun)}
	if serves {
		out.Marker = filepath.Join(cfg.Paths.Run, "registry.epoch")
	}
	return out
}

// BGPPools returns the speaker's form of the pools.
func BGPPools(pools []config.Pool) []policy.Pool {
	out := make([]policy.Pool, len(pools))
	for i, p := range pools {
		out[i] = policy.Pool{Prefix: p.CIDR, Block: p.BlockSize}
	}
	return out
}
