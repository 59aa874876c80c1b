package config

import (
	"maps"
	"math"
	"net/netip"

	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/bgp/policy"
	"onlink/bgp/session"
	"onlink/internal/strictyaml"
)

func readBGP(v strictyaml.Value, c *BGP) {
	groups := groupsOf(v, func(v strictyaml.Value) { readPeer(v, nil) })
	v.Mapping(strictyaml.Fields{
		"asn":      session.ASN(&c.ASN),
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
		"bmp": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { c.BMP = append(c.BMP, bmp.ReadSettings(v)) })
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

// readMesh reads the nodes, and the options that all their sessions share.
func readMesh(v strictyaml.Value) *Mesh {
	m := &Mesh{Peer: newPeer()}
	p := &m.Peer
	fields := p.Options.Inside()
	maps.Copy(fields, strictyaml.Fields{
		"nodes": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { m.Nodes = append(m.Nodes, readMeshNode(v)) })
		},
		"port":         strictyaml.Number(&p.Port, 1, math.MaxUint16),
		"passwordFile": strictyaml.File(&p.PasswordFile),
		"bfd":          func(v strictyaml.Value) { p.BFD = bfd.ReadSettings(v) },
		"import":       func(v strictyaml.Value) { readInside(v, &p.Import) },
		"export":       func(v strictyaml.Value) { v.Mapping(strictyaml.Fields{"filters": filterNames(&p.Export.Filters)}) },
	})
	v.Mapping(fields)
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

// readInside reads the import rules of peers of our AS.
func readInside(v strictyaml.Value, c *policy.Import) {
	v.Mapping(strictyaml.Fields{
		"filters": filterNames(&c.Filters), "accept": rules(&c.Accept), "maxPrefixes": strictyaml.Number(&c.MaxPrefixes, 0, math.MaxUint32),
		"disableOwnerCheck": strictyaml.Bool(&c.DisableOwnerCheck),
	})
}

// readPeer reads a peer, or with no groups a group itself.
func readPeer(v strictyaml.Value, in groups) Peer {
	p := newPeer()
	v = in.expand(v)
	fields := p.Options.Fields()
	maps.Copy(fields, strictyaml.Fields{
		"group":        strictyaml.Word(&p.Group),
		"name":         strictyaml.Word(&p.Name),
		"address":      strictyaml.Addr(&p.Address),
		"port":         strictyaml.Number(&p.Port, 1, math.MaxUint16),
		"asn":          session.ASN(&p.ASN),
		"client":       strictyaml.Bool(&p.Client),
		"passwordFile": strictyaml.File(&p.PasswordFile),
		"passive":      strictyaml.Bool(&p.Passive),
		"interface":    device(&p.Interface),
		"nodeSelector": labels(&p.NodeSelector, true),
		"bfd":          func(v strictyaml.Value) { p.BFD = bfd.ReadSettings(v) },
		"import":       func(v strictyaml.Value) { readImport(v, &p.Import) },
		"export":       func(v strictyaml.Value) { readExport(v, &p.Export) },
	})
	v.Mapping(fields)
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
