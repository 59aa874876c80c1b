package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RegistryKind names an implementation of the block registry.
type RegistryKind string

// The kinds of block registry.
const (
	RegistryBolt RegistryKind = "bolt" // in this agent's own database
	RegistryGRPC RegistryKind = "grpc" // served by another agent
	RegistryEtcd RegistryKind = "etcd" // in an etcd cluster
)

// Registry is the block registry: who owns which block.
type Registry struct {
	Kind   RegistryKind
	Listen netip.AddrPort // bolt: serve it to other nodes here; the zero value: not served
	// Addresses are host:port. grpc: the agent that serves it, or the two that
	// split it. bolt: those two, one of which is Listen; nil when there is no
	// split. etcd: the endpoints.
	Addresses []string `key:"address"`
	TLS       TLS      // for Listen and Addresses
	Insecure  bool     // no TLS, on purpose
	// User and PasswordFile are etcd's; empty: none.
	User, PasswordFile string
	Prefix             string // of etcd's keys; default /onlink/
	// Assert is how often this node tells the registry what it holds; default
	// 1 min. A registry that was lost waits for twice as long: all nodes should
	// have the same.
	Assert time.Duration
}

// Split reports whether two agents share the pools.
func (r Registry) Split() bool { return r.Kind != RegistryEtcd && len(r.Addresses) > 1 }

// Settle is how long a registry that was lost gives no block away: every node
// has asserted twice by then.
func (r Registry) Settle() time.Duration { return 2 * r.Assert }

func readRegistry(v value, c *Registry) {
	v.mapping(fields{
		"kind":         oneOf(&c.Kind, RegistryBolt, RegistryGRPC, RegistryEtcd),
		"listen":       endpoint(&c.Listen, false),
		"address":      remotes(&c.Addresses),
		"tls":          func(v value) { readTLS(v, &c.TLS) },
		"insecure":     boolean(&c.Insecure),
		"user":         word(&c.User),
		"passwordFile": file(&c.PasswordFile),
		"prefix":       word(&c.Prefix),
		"assert":       duration(&c.Assert, time.Second, 10*time.Minute),
	})
}

const registryPath = "ipam.registry"

func (p *parser) checkRegistry(c *Config) {
	r := &c.IPAM.Registry
	if p.failed(registryPath + ".kind") {
		p.checkTLS(registryPath+".tls", r.TLS)
		return
	}
	switch r.Kind {
	case RegistryGRPC:
		p.checkGRPC(r)
	case RegistryBolt:
		p.checkBolt(r)
	case RegistryEtcd:
		p.checkEtcd(r)
	}
	if r.Kind != RegistryEtcd && (r.User != "" || r.PasswordFile != "") {
		p.fail(registryPath+".user", "and passwordFile are for kind etcd; remove them")
	}
	p.checkRegistryTLS(r)
	if r.Split() {
		p.checkSplit(c)
	}
}

func (p *parser) checkGRPC(r *Registry) {
	if len(r.Addresses) == 0 && !p.failed(registryPath+".address") {
		p.fail(registryPath+".address", "is missing; write host:port of the agent whose ipam.registry.listen serves the registry")
	}
	if r.Listen.IsValid() {
		p.fail(registryPath+".listen", "is for kind bolt, the agent that holds the registry; remove it")
	}
}

func (p *parser) checkBolt(r *Registry) {
	switch {
	case len(r.Addresses) == 0:
	case len(r.Addresses) == 1:
		p.fail(registryPath+".address", "is for kind grpc; write kind: grpc or remove it")
	case !slices.Contains(r.Addresses, r.Listen.String()):
		p.fail(registryPath+".address", "names two agents that split the pools, and none is this one's listen (%s); write kind: grpc or name it", r.Listen)
	}
}

func (p *parser) checkEtcd(r *Registry) {
	if len(r.Addresses) == 0 && !p.failed(registryPath+".address") {
		p.fail(registryPath+".address", "is missing; write host:port of etcd's endpoints")
	}
	if r.Listen.IsValid() {
		p.fail(registryPath+".listen", "is for kind bolt; remove it")
	}
	if (r.User == "") != (r.PasswordFile == "") {
		p.fail(registryPath+".user", "and passwordFile belong together; write both or none")
	}
	if !strings.HasPrefix(r.Prefix, "/") || !strings.HasSuffix(r.Prefix, "/") {
		p.fail(registryPath+".prefix", "%q does not begin and end with \"/\"; write one such as /onlink/", r.Prefix)
	}
}

// checkRegistryTLS wants TLS, or the written word that there shall be none.
func (p *parser) checkRegistryTLS(r *Registry) {
	const path = registryPath + ".tls"
	if r.Kind == RegistryEtcd && r.TLS.Cert == "" && r.TLS.Key == "" {
		if r.TLS.CA == "" && r.TLS.Enabled() {
			p.fail(path+".ca", "is missing; TLS needs it")
		}
	} else {
		p.checkTLS(path, r.TLS)
	}
	used := r.Listen.IsValid() || r.Kind != RegistryBolt && len(r.Addresses) > 0
	switch {
	case p.failed(path) || p.failed(registryPath+".listen"):
	case r.TLS.Enabled() && !used:
		p.fail(path, "has no use while the registry is not served; add listen or remove it")
	case r.TLS.Enabled() && r.Insecure:
		p.fail(registryPath+".insecure", "contradicts tls; remove one")
	case used && !r.TLS.Enabled() && !r.Insecure:
		p.fail(path, "is missing: whoever reaches the registry could take blocks; add cert, key and ca, or write insecure: true")
	}
}

// checkSplit wants pools that can be cut in two.
func (p *parser) checkSplit(c *Config) {
	if n := len(c.IPAM.Registry.Addresses); n != 2 {
		p.fail(registryPath+".address", "names %d agents; two can split the pools", n)
	}
	for i, pool := range c.Pools {
		if pool.CIDR.IsValid() && pool.BlockSize <= pool.CIDR.Bits() {
			p.fail(fmt.Sprintf("pools[%d].blockSize", i), "is one block, which two registries cannot split; make it smaller than the pool")
		}
	}
}
