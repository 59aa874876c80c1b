package config

import (
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// readConfig reads the whole file. Each function below is the schema of one
// mapping: a line per key.
func readConfig(v value, c *Config) {
	c.API.Admin.Socket, c.CNI.Socket = "", "" // follow paths.run unless given
	v.mapping(fields{
		"node":   func(v value) { readNode(v, &c.Node) },
		"bgp":    func(v value) { readBGP(v, &c.BGP) },
		"pools":  func(v value) { readPools(v, &c.Pools) },
		"ipam":   func(v value) { readIPAM(v, &c.IPAM) },
		"tunnel": func(v value) { readTunnel(v, &c.Tunnel) },
		"fib":    func(v value) { readFIB(v, &c.FIB) },
		"api":    func(v value) { readAPI(v, &c.API) },
		"cni":    func(v value) { readCNI(v, &c.CNI) },
		"log":    func(v value) { readLog(v, &c.Log) },
		"reload": oneOf(&c.Reload, ReloadSignal, ReloadWatch),
		"paths": func(v value) {
			v.mapping(fields{"state": file(&c.Paths.State), "run": file(&c.Paths.Run)})
		},
	})
	c.fillSockets()
}

func readNode(v value, c *Node) {
	v.mapping(fields{
		"name":    word(&c.Name),
		"address": nodeAddress(&c.Address),
		"labels":  labels(&c.Labels, false),
	})
}

// maxInterfaceName is IFNAMSIZ less the final zero (netdevice(7)).
const maxInterfaceName = 15

// nodeAddress reads auto, an address, a CIDR or the name of an interface.
func nodeAddress(dst *NodeAddress) func(value) {
	return func(v value) {
		s, ok := v.text("auto, an address, an interface or a CIDR")
		if !ok || s == auto {
			return
		}
		if a, err := netip.ParseAddr(s); err == nil {
			if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
				v.fail("%q cannot be a next hop; use an address that the other nodes reach", s)
				return
			}
			*dst = NodeAddress{Addr: a}
			return
		}
		if strings.Contains(s, "/") {
			if p, ok := v.cidr(s); ok {
				*dst = NodeAddress{Prefix: p}
			}
			return
		}
		if s == "" || len(s) > maxInterfaceName || strings.ContainsAny(s, ": \t\n") {
			v.fail("%q is not a node address; use auto, an address, an interface name or a CIDR", s)
			return
		}
		*dst = NodeAddress{Interface: s}
	}
}

func readPools(v value, pools *[]Pool) {
	if v.null() {
		return // the default pool stays; an empty list means none
	}
	*pools = nil
	v.list(func(v value) { *pools = append(*pools, readPool(v)) })
}

func readPool(v value) Pool {
	var (
		p   Pool
		nat *bool
	)
	v.mapping(fields{
		"name":          word(&p.Name),
		"cidr":          prefix(&p.CIDR),
		"blockSize":     number(&p.BlockSize, 1, 128),
		"encapsulation": oneOf(&p.Encapsulation, EncapNever, EncapCrossSubnet, EncapAlways),
		"tunnel":        oneOf(&p.Tunnel, TunnelIPIP, TunnelVXLAN, TunnelNone),
		"natOutgoing": func(v value) {
			if !v.null() {
				nat = new(bool)
				boolean(nat)(v)
			}
		},
		"disabled":          boolean(&p.Disabled),
		"manual":            boolean(&p.Manual),
		"reserved":          prefixes(&p.Reserved, true),
		"nodeSelector":      labels(&p.NodeSelector, true),
		"namespaceSelector": patterns(&p.NamespaceSelector),
	})
	p.fill()
	if p.NATOutgoing = p.CIDR.Addr().Is4(); nat != nil {
		p.NATOutgoing = *nat
	}
	return p
}

func readIPAM(v value, c *IPAM) {
	v.mapping(fields{
		"registry": func(v value) { readRegistry(v, &c.Registry) },
		"cooldown": duration(&c.Cooldown, 0, day),
		"sticky":   duration(&c.Sticky, 0, 365*day),
	})
}

func readTLS(v value, c *TLS) {
	v.mapping(fields{"cert": file(&c.Cert), "key": file(&c.Key), "ca": file(&c.CA)})
}

// Bounds of a device's MTU: RFC 791 section 3.2 wants 576 bytes everywhere.
const minMTU, maxMTU = 576, 65535

// maxVNI is the largest VXLAN network identifier (RFC 7348 section 5).
const maxVNI = 1<<24 - 1

func readTunnel(v value, c *Tunnel) {
	v.mapping(fields{
		"mtu": func(v value) {
			if s, ok := v.text("auto or a number"); ok && s != auto {
				number(&c.MTU, minMTU, maxMTU)(v)
			}
		},
		"guard": oneOf(&c.Guard, ModeOff, ModeAuto, ModeRequired),
		"vxlan": func(v value) {
			v.mapping(fields{"vni": number(&c.VXLAN.VNI, 1, maxVNI), "port": number(&c.VXLAN.Port, 1, 65535)})
		},
	})
}

func readFIB(v value, c *FIB) {
	v.mapping(fields{
		"table":  number(&c.Table, 1, maxUint32),
		"metric": number(&c.Metric, 0, maxUint32),
		"resync": duration(&c.Resync, time.Second, day),
		"source": address(&c.Source, true),
	})
}

func readAPI(v value, c *API) {
	v.mapping(fields{
		"admin": func(v value) {
			v.mapping(fields{
				"socket": file(&c.Admin.Socket),
				"group":  word(&c.Admin.Group),
				"tcp":    endpoint(&c.Admin.TCP, true),
				"tls":    func(v value) { readTLS(v, &c.Admin.TLS) },
			})
		},
		"metrics": endpoint(&c.Metrics, true),
	})
}

// logLevels are slog's, by the names used in the file.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
}

func readLog(v value, c *Log) {
	v.mapping(fields{
		"level": func(v value) {
			var name string
			oneOf(&name, "debug", "info", "warn", "error")(v)
			if level, ok := logLevels[name]; ok {
				c.Level = level
			}
		},
		"format": oneOf(&c.Format, LogText, LogJSON),
	})
}
