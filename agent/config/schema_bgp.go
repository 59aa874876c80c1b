package config

import (
	"math"
	"net/netip"
	"time"

	"onlink/bgp/bfd"
	"onlink/bgp/policy"
	"onlink/internal/strictyaml"
)

func readBGP(v strictyaml.Value, c *BGP) {
	groups := groupsOf(v, func(v strictyaml.Value) { readPeer(v, nil) })
	v.Mapping(strictyaml.Fields{
		"asn":      asn(&c.ASN),
		"routerID": identifier(&c.RouterID),
		"listen": func(v strictyaml.Value) {
			v.Mapping(strictyaml.Fields{
				"address": strictyaml.Addr(&c.Listen.Address, auto),
				"port":    strictyaml.Number(&c.Listen.Port, 0, math.MaxUint16),
			})
		},
		"reflector": func(v strictyaml.Value) { c.Reflector = readReflector(v) },
		"peers": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { c.Peers = append(c.Peers, readPeer(v, groups)) })
		},
		"groups":    func(strictyaml.Value) {}, // read before, by groupsOf
		"mesh":      func(v strictyaml.Value) { c.Mesh = readMesh(v) },
		"originate": strictyaml.PrefixesOrAddrs(&c.Originate),
		"filters": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { c.Filters = append(c.Filters, readFilter(v)) })
		},
	})
	// The peers' defaults depend on an asn that may stand below them.
	for i := range c.Peers {
		c.Peers[i].fill(c.ASN)
	}
	if c.Mesh != nil {
		c.Mesh.Peer.fill(c.ASN)
	}
}

// readMesh reads the nodes, and what is the same for all their sessions.
func readMesh(v strictyaml.Value) *Mesh {
	m := &Mesh{Peer: newPeer()}
	p := &m.Peer
	v.Mapping(strictyaml.Fields{
		"nodes": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { m.Nodes = append(m.Nodes, readMeshNode(v)) })
		},
		"port":         strictyaml.Number(&p.Port, 1, math.MaxUint16),
		"passwordFile": strictyaml.File(&p.PasswordFile),
		"ttlSecurity":  strictyaml.Number(&p.TTLSecurity, 0, 254),
		"holdTime":     strictyaml.Seconds(&p.HoldTime, minHold, maxHold),
		"keepalive":    strictyaml.Seconds(&p.Keepalive, time.Second, maxHold/3),
		"connectRetry": strictyaml.Seconds(&p.ConnectRetry, 2*time.Second, time.Hour),
		"bfd":          func(v strictyaml.Value) { p.BFD = bfd.ReadSettings(v) },
		"import":       func(v strictyaml.Value) { readInside(v, &p.Import) },
		"export":       func(v strictyaml.Value) { v.Mapping(strictyaml.Fields{"filters": filterNames(&p.Export.Filters)}) },
	})
	if len(m.Nodes) == 0 && !v.Failed() {
		v.Fail("has no nodes; write nodes: [...] with the addresses of all nodes, this one too")
	}
	return m
}

// readMeshNode reads an address or {name, address}.
func readMeshNode(v strictyaml.Value) MeshNode {
	var n MeshNode
	if v.IsMapping() {
		v.Mapping(strictyaml.Fields{"name": strictyaml.Word(&n.Name), "address": strictyaml.Addr(&n.Address)})
	} else {
		strictyaml.Addr(&n.Address)(v)
	}
	switch {
	case v.Failed():
	case !n.Address.IsValid():
		v.Fail("has no address; write the node's")
	case n.Name == "":
		n.Name = n.Address.String()
	}
	return n
}

// asTrans is the AS that stands for a 32-bit one and belongs to nobody
// (RFC 6793 section 9).
const asTrans = 23456

// asn reads an AS number (RFC 6793; 0 is refused as RFC 7607 demands).
func asn(dst *uint32) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		n := *dst
		strictyaml.Number(&n, 1, math.MaxUint32)(v)
		if n == asTrans {
			v.Fail("%d is AS_TRANS, which belongs to nobody; use your own AS, or a private one such as %d", asTrans, DefaultASN)
			return
		}
		*dst = n
	}
}

// identifier reads a 32-bit BGP identifier (RFC 6286) written as an IPv4
// address, or auto.
func identifier(dst *netip.Addr) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		s, ok := v.Text("an IPv4 address")
		if !ok || s == auto {
			return
		}
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() || a.IsUnspecified() {
			v.Fail("%q is not an IPv4 address; use auto or one such as 10.57.0.10, also on an IPv6-only node", s)
			return
		}
		*dst = a
	}
}

func readReflector(v strictyaml.Value) *Reflector {
	if v.IsNull() {
		// The key's presence is its meaning, so an empty value is ambiguous.
		v.Fail("is empty; write \"reflector: {}\" to reflect without dynamic clients, or remove the key")
		return nil
	}
	r := &Reflector{Export: policy.Export{Own: true}}
	v.Mapping(strictyaml.Fields{
		"clusterID":    identifier(&r.ClusterID),
		"clients":      strictyaml.Prefixes(&r.Clients),
		"passwordFile": strictyaml.File(&r.PasswordFile),
		"import":       func(v strictyaml.Value) { readInside(v, &r.Import) },
		"export":       func(v strictyaml.Value) { v.Mapping(strictyaml.Fields{"filters": filterNames(&r.Export.Filters)}) },
	})
	return r
}

// readInside reads what is accepted of peers of our AS.
func readInside(v strictyaml.Value, c *policy.Import) {
	v.Mapping(strictyaml.Fields{
		"filters": filterNames(&c.Filters), "accept": rules(&c.Accept), "maxPrefixes": strictyaml.Number(&c.MaxPrefixes, 0, math.MaxUint32),
		"disableOwnerCheck": strictyaml.Bool(&c.DisableOwnerCheck),
	})
}

// Limits of a peer's timers: RFC 4271 section 4.2 has 16 bits of seconds for
// the hold time and refuses less than three.
const (
	minHold = 3 * time.Second
	maxHold = math.MaxUint16 * time.Second
)

// maxLongLived is what 24 bits of seconds hold (RFC 9494 section 3.1).
const maxLongLived = (1<<24 - 1) * time.Second

// readPeer reads a peer, or with no groups a group itself.
func readPeer(v strictyaml.Value, in groups) Peer {
	p := newPeer()
	v = in.expand(v)
	v.Mapping(strictyaml.Fields{
		"group":            strictyaml.Word(&p.Group),
		"name":             strictyaml.Word(&p.Name),
		"address":          strictyaml.Addr(&p.Address),
		"port":             strictyaml.Number(&p.Port, 1, math.MaxUint16),
		"asn":              asn(&p.ASN),
		"client":           strictyaml.Bool(&p.Client),
		"passwordFile":     strictyaml.File(&p.PasswordFile),
		"ttlSecurity":      strictyaml.Number(&p.TTLSecurity, 0, 254),
		"multihop":         strictyaml.Number(&p.Multihop, 0, math.MaxUint8),
		"holdTime":         strictyaml.Seconds(&p.HoldTime, minHold, maxHold),
		"keepalive":        strictyaml.Seconds(&p.Keepalive, time.Second, maxHold/3),
		"connectRetry":     strictyaml.Seconds(&p.ConnectRetry, 2*time.Second, time.Hour),
		"passive":          strictyaml.Bool(&p.Passive),
		"interface":        device(&p.Interface),
		"localAddress":     strictyaml.Addr(&p.LocalAddress),
		"localASN":         asn(&p.LocalASN),
		"allowOwnAS":       strictyaml.Number(&p.AllowOwnAS, 0, 10),
		"nodeSelector":     labels(&p.NodeSelector, true),
		"longLivedRestart": strictyaml.Seconds(&p.LongLived, 0, maxLongLived),
		"bfd":              func(v strictyaml.Value) { p.BFD = bfd.ReadSettings(v) },
		"import":           func(v strictyaml.Value) { readImport(v, &p.Import) },
		"export":           func(v strictyaml.Value) { readExport(v, &p.Export) },
	})
	return p
}

func readImport(v strictyaml.Value, c *policy.Import) {
	v.Mapping(strictyaml.Fields{
		"filters":     filterNames(&c.Filters),
		"accept":      rules(&c.Accept),
		"maxPrefixes": strictyaml.Number(&c.MaxPrefixes, 0, math.MaxUint32),
		"localPref":   strictyaml.Number(&c.LocalPref, 1, math.MaxUint32),

		"disableConnectedCheck": strictyaml.Bool(&c.DisableConnectedCheck),
		"disableOwnerCheck":     strictyaml.Bool(&c.DisableOwnerCheck),
	})
}

func readExport(v strictyaml.Value, c *policy.Export) {
	v.Mapping(strictyaml.Fields{
		"filters":     filterNames(&c.Filters),
		"own":         strictyaml.Bool(&c.Own),
		"prefixes":    rules(&c.Prefixes),
		"communities": communityTexts(&c.Communities, 0, false),
		"med":         strictyaml.Number(&c.MED, 0, math.MaxUint32),
		"reflected":   strictyaml.Bool(&c.Reflected),
		"aggregates": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { c.Aggregates = append(c.Aggregates, readAggregate(v)) })
		},
	})
}

// readAggregate reads a CIDR or {prefix, summaryOnly}.
func readAggregate(v strictyaml.Value) policy.Aggregate {
	var a policy.Aggregate
	if !v.IsMapping() {
		strictyaml.Prefix(&a.Prefix)(v)
		return a
	}
	v.Mapping(strictyaml.Fields{"prefix": strictyaml.Prefix(&a.Prefix), "summaryOnly": strictyaml.Bool(&a.SummaryOnly)})
	if !a.Prefix.IsValid() && !v.Failed() {
		v.Fail("has no prefix; write {prefix: 10.244.0.0/20, summaryOnly: true}")
	}
	return a
}
