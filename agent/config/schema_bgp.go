package config

import (
	"math"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

func readBGP(v value, c *BGP) {
	groups := groupsOf(v)
	v.mapping(fields{
		"asn":      asn(&c.ASN),
		"routerID": identifier(&c.RouterID),
		"listen": func(v value) {
			v.mapping(fields{
				"address": address(&c.Listen.Address, true),
				"port":    number(&c.Listen.Port, 0, math.MaxUint16),
			})
		},
		"reflector": func(v value) { c.Reflector = readReflector(v) },
		"peers": func(v value) {
			v.list(func(v value) { c.Peers = append(c.Peers, readPeer(v, groups)) })
		},
		"groups":    func(value) {}, // read before, by groupsOf
		"mesh":      func(v value) { c.Mesh = readMesh(v) },
		"originate": prefixes(&c.Originate, true),
		"filters": func(v value) {
			v.list(func(v value) { c.Filters = append(c.Filters, readFilter(v)) })
		},
	})
	// The peers' defaults depend on an asn that may stand below them, and on
	// filters that may.
	for i := range c.Peers {
		c.Peers[i].fill(c.ASN)
	}
	if c.Mesh != nil {
		c.Mesh.Peer.fill(c.ASN)
	}
	v.p.fillFilters(c)
}

// readMesh reads the nodes, and what is the same for all their sessions.
func readMesh(v value) *Mesh {
	m := &Mesh{Peer: newPeer()}
	p := &m.Peer
	v.mapping(fields{
		"nodes":        func(v value) { v.list(func(v value) { m.Nodes = append(m.Nodes, readMeshNode(v)) }) },
		"port":         number(&p.Port, 1, math.MaxUint16),
		"passwordFile": file(&p.PasswordFile),
		"ttlSecurity":  number(&p.TTLSecurity, 0, 254),
		"holdTime":     seconds(&p.HoldTime, minHold, maxHold),
		"keepalive":    seconds(&p.Keepalive, time.Second, maxHold/3),
		"connectRetry": seconds(&p.ConnectRetry, 2*time.Second, time.Hour),
		"bfd":          func(v value) { p.BFD = readBFD(v) },
		"import":       func(v value) { readInside(v, &p.Import) },
		"export":       func(v value) { v.mapping(fields{"filters": filterNames(&p.Export.Filters)}) },
	})
	if len(m.Nodes) == 0 && !v.p.failed(v.path) {
		v.fail("has no nodes; write nodes: [...] with the addresses of all nodes, this one too")
	}
	return m
}

// readMeshNode reads an address or {name, address}.
func readMeshNode(v value) MeshNode {
	var n MeshNode
	if v.n.Kind == yaml.MappingNode {
		v.mapping(fields{"name": word(&n.Name), "address": address(&n.Address, false)})
	} else {
		address(&n.Address, false)(v)
	}
	switch {
	case v.p.failed(v.path):
	case !n.Address.IsValid():
		v.fail("has no address; write the node's")
	case n.Name == "":
		n.Name = n.Address.String()
	}
	return n
}

// asTrans is the AS that stands for a 32-bit one and belongs to nobody
// (RFC 6793 section 9).
const asTrans = 23456

// asn reads an AS number (RFC 6793; 0 is refused as RFC 7607 demands).
func asn(dst *uint32) func(value) {
	return func(v value) {
		n := *dst
		number(&n, 1, maxUint32)(v)
		if n == asTrans {
			v.fail("%d is AS_TRANS, which belongs to nobody; use your own AS, or a private one such as %d", asTrans, DefaultASN)
			return
		}
		*dst = n
	}
}

func readReflector(v value) *Reflector {
	if v.null() {
		// The key's presence is its meaning, so an empty value is ambiguous.
		v.fail("is empty; write \"reflector: {}\" to reflect without dynamic clients, or remove the key")
		return nil
	}
	r := &Reflector{Export: Export{Own: true}}
	v.mapping(fields{
		"clusterID":    identifier(&r.ClusterID),
		"clients":      prefixes(&r.Clients, false),
		"passwordFile": file(&r.PasswordFile),
		"import":       func(v value) { readInside(v, &r.Import) },
		"export":       func(v value) { v.mapping(fields{"filters": filterNames(&r.Export.Filters)}) },
	})
	return r
}

// readInside reads what is accepted of peers of our AS.
func readInside(v value, c *Import) {
	v.mapping(fields{
		"filters": filterNames(&c.Filters), "accept": rules(&c.Accept), "maxPrefixes": number(&c.MaxPrefixes, 0, maxUint32),
		"disableOwnerCheck": boolean(&c.DisableOwnerCheck),
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
func readPeer(v value, in groups) Peer {
	p := newPeer()
	v = in.expand(v)
	v.mapping(fields{
		"group":            word(&p.Group),
		"name":             word(&p.Name),
		"address":          address(&p.Address, false),
		"port":             number(&p.Port, 1, math.MaxUint16),
		"asn":              asn(&p.ASN),
		"client":           boolean(&p.Client),
		"passwordFile":     file(&p.PasswordFile),
		"ttlSecurity":      number(&p.TTLSecurity, 0, 254),
		"multihop":         number(&p.Multihop, 0, math.MaxUint8),
		"holdTime":         seconds(&p.HoldTime, minHold, maxHold),
		"keepalive":        seconds(&p.Keepalive, time.Second, maxHold/3),
		"connectRetry":     seconds(&p.ConnectRetry, 2*time.Second, time.Hour),
		"passive":          boolean(&p.Passive),
		"interface":        device(&p.Interface),
		"localAddress":     address(&p.LocalAddress, false),
		"localASN":         asn(&p.LocalASN),
		"allowOwnAS":       number(&p.AllowOwnAS, 0, 10),
		"nodeSelector":     labels(&p.NodeSelector, true),
		"longLivedRestart": seconds(&p.LongLived, 0, maxLongLived),
		"bfd":              func(v value) { p.BFD = readBFD(v) },
		"import":           func(v value) { readImport(v, &p.Import) },
		"export":           func(v value) { readExport(v, &p.Export) },
	})
	return p
}

// device reads the name of a network interface.
func device(dst *string) func(value) {
	return func(v value) {
		s, ok := v.text("the name of an interface")
		if !ok {
			return
		}
		if s == "" || len(s) > maxInterfaceName || strings.ContainsAny(s, ":/% \t\n") {
			v.fail("%q is not the name of an interface; use one such as eth1", s)
			return
		}
		*dst = s
	}
}

// Limits of BFD's timers: below 50 ms a scheduler's delay looks like a dead
// peer.
const (
	minBFD = 50 * time.Millisecond
	maxBFD = time.Minute
)

func readBFD(v value) *BFD {
	if v.null() {
		// The key's presence is its meaning, so an empty value is ambiguous.
		v.fail("is empty; write \"bfd: {}\" for 300 ms times 3, or remove the key")
		return nil
	}
	b := &BFD{Interval: 300 * time.Millisecond, Multiplier: 3}
	v.mapping(fields{
		"interval":   duration(&b.Interval, minBFD, maxBFD),
		"multiplier": number(&b.Multiplier, 2, math.MaxUint8),
		"hops":       oneOf(&b.Hops, HopsSingle, HopsMulti),
	})
	return b
}

func readImport(v value, c *Import) {
	v.mapping(fields{
		"filters":     filterNames(&c.Filters),
		"accept":      rules(&c.Accept),
		"maxPrefixes": number(&c.MaxPrefixes, 0, maxUint32),
		"localPref":   number(&c.LocalPref, 1, maxUint32),

		"disableConnectedCheck": boolean(&c.DisableConnectedCheck),
		"disableOwnerCheck":     boolean(&c.DisableOwnerCheck),
	})
}

// readRule reads a CIDR or {prefix, ge, le}.
func readRule(v value) (PrefixRule, bool) {
	var r PrefixRule
	if v.n.Kind != yaml.MappingNode {
		prefix(&r.Prefix)(v)
		if !r.Prefix.IsValid() {
			return r, false
		}
		r.Ge, r.Le = r.Prefix.Bits(), r.Prefix.Addr().BitLen()
		return r, true
	}
	const unset = -1
	r.Ge, r.Le = unset, unset
	v.mapping(fields{
		"prefix": prefix(&r.Prefix),
		"ge":     number(&r.Ge, 0, 128),
		"le":     number(&r.Le, 0, 128),
	})
	if !r.Prefix.IsValid() {
		if !v.p.failed(v.path) {
			v.fail("has no prefix; write {prefix: 10.0.0.0/8, ge: 16, le: 24}")
		}
		return r, false
	}
	if r.Ge == unset {
		r.Ge = r.Prefix.Bits()
	}
	if r.Le == unset {
		r.Le = r.Prefix.Addr().BitLen()
	}
	return r, v.lengths(r)
}

// lengths reports whether the rule's lengths can match anything.
func (v value) lengths(r PrefixRule) bool {
	low, high := r.Prefix.Bits(), r.Prefix.Addr().BitLen()
	if low <= r.Ge && r.Ge <= r.Le && r.Le <= high {
		return true
	}
	v.fail("lengths %d to %d match nothing inside %s; use %d <= ge <= le <= %d", r.Ge, r.Le, r.Prefix, low, high)
	return false
}

func readExport(v value, c *Export) {
	v.mapping(fields{
		"filters":     filterNames(&c.Filters),
		"own":         boolean(&c.Own),
		"prefixes":    rules(&c.Prefixes),
		"communities": communityTexts(&c.Communities, 0, false),
		"med":         number(&c.MED, 0, maxUint32),
		"reflected":   boolean(&c.Reflected),
		"aggregates":  func(v value) { v.list(func(v value) { c.Aggregates = append(c.Aggregates, readAggregate(v)) }) },
	})
}

// readAggregate reads a CIDR or {prefix, summaryOnly}.
func readAggregate(v value) Aggregate {
	var a Aggregate
	if v.n.Kind != yaml.MappingNode {
		prefix(&a.Prefix)(v)
		return a
	}
	v.mapping(fields{"prefix": prefix(&a.Prefix), "summaryOnly": boolean(&a.SummaryOnly)})
	if !a.Prefix.IsValid() && !v.p.failed(v.path) {
		v.fail("has no prefix; write {prefix: 10.244.0.0/20, summaryOnly: true}")
	}
	return a
}
