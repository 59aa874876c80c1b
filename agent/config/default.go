package config

import (
	_ "embed"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"onlink/bgp/bfd"
	"onlink/bgp/policy"
	"onlink/bgp/session"
	"onlink/cni"
	"onlink/fib"
	"onlink/ipam"
	"onlink/tunnel"
)

//go:embed default.yaml
var defaultYAML []byte

// DefaultYAML returns the default configuration as a commented file that mentions
// every key: the output of onlinkd --print-default-config.
func DefaultYAML() []byte { return slices.Clone(defaultYAML) }

// Defaults that more than one place needs.
const (
	adminSocket = "admin.sock"
	cniSocket   = "cni.sock"

	// DefaultPort is BGP's well-known port (RFC 4271 section 8.2).
	DefaultPort = 179
)

// Default returns the configuration of an empty file.
func Default() *Config {
	c := &Config{
		BGP:    BGP{ASN: session.DefaultASN, Listen: Listen{Port: DefaultPort}},
		Pools:  []Pool{defaultPool()},
		IPAM:   ipam.DefaultSettings(),
		Tunnel: tunnel.DefaultSettings(),
		FIB:    fib.DefaultSettings(),
		API:    API{Metrics: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9179)},
		CNI:    cni.DefaultSettings(),
		Log:    Log{Level: slog.LevelInfo, Format: LogText},
		Reload: ReloadSignal,
		Paths:  Paths{State: "/var/lib/onlink", Run: "/run/onlink"},
	}
	// A host without a name leaves Name empty; check reports it then.
	c.Node.Name, _ = os.Hostname()
	c.fillSockets()
	return c
}

// fillSockets derives the socket paths that were not given from the run
// folder, so that one key moves them all.
func (c *Config) fillSockets() {
	if c.API.Admin.Socket == "" {
		c.API.Admin.Socket = filepath.Join(c.Paths.Run, adminSocket)
	}
	if c.CNI.Socket == "" {
		c.CNI.Socket = filepath.Join(c.Paths.Run, cniSocket)
	}
}

// defaultPool is the pool of a file that names none.
func defaultPool() Pool {
	p := Pool{Name: "default", CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244}), 16)}
	p.fill()
	p.NATOutgoing = true
	return p
}

// fill sets the keys of a pool that were not given, except NATOutgoing, whose
// zero value is a choice.
func (p *Pool) fill() {
	if p.BlockSize == 0 && p.CIDR.IsValid() {
		_, p.BlockSize, _ = ipam.BlockSizes(p.CIDR)
	}
	if p.Encapsulation == "" {
		p.Encapsulation = EncapCrossSubnet
	}
	if p.Tunnel == "" {
		p.Tunnel = TunnelIPIP
	}
}

// newPeer returns a peer with the defaults that depend on nothing else.
func newPeer() Peer {
	return Peer{
		Options: session.Default(),
		Port:    DefaultPort,
		Export:  policy.Export{Own: true},
	}
}

// fill sets the keys of a peer that depend on others: its name, its AS and
// the keepalive interval (RFC 4271 section 10: a third of the hold time).
func (p *Peer) fill(asn uint32) {
	if p.Name == "" && p.Address.IsValid() {
		p.Name = p.Address.String()
	}
	if p.Interface != "" {
		p.Unnumbered = !p.Address.IsValid()
		if p.Name == "" {
			p.Name = p.Interface
		}
	}
	if p.ASN == 0 {
		p.ASN = asn
	}
	if p.BFD != nil && p.BFD.Hops == "" {
		p.BFD.Hops = bfd.HopsSingle
		if !p.External(asn) || p.Multihop > 1 {
			p.BFD.Hops = bfd.HopsMulti
		}
	}
	p.Options.Fill()
}
