package config

import (
	"log/slog"
	"net/netip"
	"strings"

	"onlink/internal/strictyaml"
)

// readConfig reads the whole file. Each function below is the schema of one
// mapping: a line per key.
func readConfig(v strictyaml.Value, c *Config) {
	c.API.Admin.Socket, c.CNI.Socket = "", "" // follow paths.run unless given
	v.Mapping(strictyaml.Fields{
		"node":   func(v strictyaml.Value) { readNode(v, &c.Node) },
		"bgp":    func(v strictyaml.Value) { readBGP(v, &c.BGP) },
		"pools":  func(v strictyaml.Value) { readPools(v, &c.Pools) },
		"ipam":   c.IPAM.Read,
		"tunnel": c.Tunnel.Read,
		"fib":    c.FIB.Read,
		"api":    func(v strictyaml.Value) { readAPI(v, &c.API) },
		"cni":    c.CNI.Read,
		"log":    func(v strictyaml.Value) { readLog(v, &c.Log) },
		"reload": strictyaml.OneOf(&c.Reload, ReloadSignal, ReloadWatch),
		"paths": func(v strictyaml.Value) {
			v.Mapping(strictyaml.Fields{"state": strictyaml.File(&c.Paths.State), "run": strictyaml.File(&c.Paths.Run)})
		},
	})
	c.fillSockets()
}

func readNode(v strictyaml.Value, c *Node) {
	v.Mapping(strictyaml.Fields{
		"name":    strictyaml.Word(&c.Name),
		"address": nodeAddress(&c.Address),
		"labels":  labels(&c.Labels, false),
	})
}

// nodeAddress reads auto, an address, a CIDR or the name of an interface.
func nodeAddress(dst *NodeAddress) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		s, ok := v.Text("auto, an address, an interface or a CIDR")
		if !ok || s == auto {
			return
		}
		if a, err := netip.ParseAddr(s); err == nil {
			if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
				v.Fail("%q cannot be a next hop; use an address that the other nodes reach", s)
				return
			}
			*dst = NodeAddress{Addr: a}
			return
		}
		if strings.Contains(s, "/") {
			if p, ok := v.CIDR(s); ok {
				*dst = NodeAddress{Prefix: p}
			}
			return
		}
		if s == "" || len(s) > maxInterfaceName || strings.ContainsAny(s, ": \t\n") {
			v.Fail("%q is not a node address; use auto, an address, an interface name or a CIDR", s)
			return
		}
		*dst = NodeAddress{Interface: s}
	}
}

func readPools(v strictyaml.Value, pools *[]Pool) {
	if v.IsNull() {
		return // the default pool stays; an empty list means none
	}
	*pools = nil
	v.List(func(v strictyaml.Value) { *pools = append(*pools, readPool(v)) })
}

func readPool(v strictyaml.Value) Pool {
	var (
		p   Pool
		nat *bool
	)
	v.Mapping(strictyaml.Fields{
		"name":          strictyaml.Word(&p.Name),
		"cidr":          strictyaml.Prefix(&p.CIDR),
		"blockSize":     strictyaml.Number(&p.BlockSize, 1, 128),
		"encapsulation": strictyaml.OneOf(&p.Encapsulation, EncapNever, EncapCrossSubnet, EncapAlways),
		"tunnel":        strictyaml.OneOf(&p.Tunnel, TunnelIPIP, TunnelVXLAN, TunnelNone),
		"natOutgoing": func(v strictyaml.Value) {
			if !v.IsNull() {
				nat = new(bool)
				strictyaml.Bool(nat)(v)
			}
		},
		"disabled":          strictyaml.Bool(&p.Disabled),
		"manual":            strictyaml.Bool(&p.Manual),
		"reserved":          strictyaml.PrefixesOrAddrs(&p.Reserved),
		"nodeSelector":      labels(&p.NodeSelector, true),
		"namespaceSelector": patterns(&p.NamespaceSelector),
	})
	p.fill()
	if p.NATOutgoing = p.CIDR.Addr().Is4(); nat != nil {
		p.NATOutgoing = *nat
	}
	return p
}

func readAPI(v strictyaml.Value, c *API) {
	v.Mapping(strictyaml.Fields{
		"admin": func(v strictyaml.Value) {
			v.Mapping(strictyaml.Fields{
				"socket":     strictyaml.File(&c.Admin.Socket),
				"group":      strictyaml.Word(&c.Admin.Group),
				"viewers":    strictyaml.Word(&c.Admin.Viewers),
				"tcp":        strictyaml.AddrPort(&c.Admin.TCP, off),
				"tls":        c.Admin.TLS.Read,
				"reflection": strictyaml.Bool(&c.Admin.Reflection),
			})
		},
		"metrics":   strictyaml.AddrPort(&c.Metrics, off),
		"glass":     strictyaml.AddrPort(&c.Glass, off),
		"glassOpen": strictyaml.Bool(&c.GlassOpen),
	})
}

// logLevels are slog's, by the names used in the file.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
}

func readLog(v strictyaml.Value, c *Log) {
	v.Mapping(strictyaml.Fields{
		"level": func(v strictyaml.Value) {
			var name string
			strictyaml.OneOf(&name, "debug", "info", "warn", "error")(v)
			if level, ok := logLevels[name]; ok {
				c.Level = level
			}
		},
		"format": strictyaml.OneOf(&c.Format, LogText, LogJSON),
	})
}
