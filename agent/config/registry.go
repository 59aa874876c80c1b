package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/internal/strictyaml"
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

func readRegistry(v strictyaml.Value, c *Registry) {
	v.Mapping(strictyaml.Fields{
		"kind":         strictyaml.OneOf(&c.Kind, RegistryBolt, RegistryGRPC, RegistryEtcd),
		"listen":       strictyaml.AddrPort(&c.Listen),
		"address":      strictyaml.HostPorts(&c.Addresses),
		"tls":          func(v strictyaml.Value) { readTLS(v, &c.TLS) },
		"insecure":     strictyaml.Bool(&c.Insecure),
		"user":         strictyaml.Word(&c.User),
		"passwordFile": strictyaml.File(&c.PasswordFile),
		"prefix":       strictyaml.Word(&c.Prefix),
		"assert":       strictyaml.Duration(&c.Assert, time.Second, 10*time.Minute),
	})
}

const registryPath = "ipam.registry"

func (p *checker) checkRegistry(c *Config) {
	r := &c.IPAM.Registry
	if p.Failed(registryPath + ".kind") {
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
		p.Fail(registryPath+".user", "and passwordFile are for kind etcd; remove them")
	}
	p.checkRegistryTLS(r)
	if r.Split() {
		p.checkSplit(c)
	}
}

func (p *checker) checkGRPC(r *Registry) {
	if len(r.Addresses) == 0 && !p.Failed(registryPath+".address") {
		p.Fail(registryPath+".address", "is missing; write host:port of the agent whose ipam.registry.listen serves the registry")
	}
	if r.Listen.IsValid() {
		p.Fail(registryPath+".listen", "is for kind bolt, the agent that holds the registry; remove it")
	}
}

func (p *checker) checkBolt(r *Registry) {
	switch {
	case len(r.Addresses) == 0:
	case len(r.Addresses) == 1:
		p.Fail(registryPath+".address", "is for kind grpc; write kind: grpc or remove it")
	case !slices.Contains(r.Addresses, r.Listen.String()):
		p.Fail(registryPath+".address", "names two agents that split the pools, and none is this one's listen (%s); write kind: grpc or name it", r.Listen)
	}
}

func (p *checker) checkEtcd(r *Registry) {
	if len(r.Addresses) == 0 && !p.Failed(registryPath+".address") {
		p.Fail(registryPath+".address", "is missing; write host:port of etcd's endpoints")
	}
	if r.Listen.IsValid() {
		p.Fail(registryPath+".listen", "is for kind bolt; remove it")
	}
	if (r.User == "") != (r.PasswordFile == "") {
		p.Fail(registryPath+".user", "and passwordFile belong together; write both or none")
	}
	if !strings.HasPrefix(r.Prefix, "/") || !strings.HasSuffix(r.Prefix, "/") {
		p.Fail(registryPath+".prefix", "%q does not begin and end with \"/\"; write one such as /onlink/", r.Prefix)
	}
}

// checkRegistryTLS wants TLS, or the written word that there shall be none.
func (p *checker) checkRegistryTLS(r *Registry) {
	const path = registryPath + ".tls"
	if r.Kind == RegistryEtcd && r.TLS.Cert == "" && r.TLS.Key == "" {
		if r.TLS.CA == "" && r.TLS.Enabled() {
			p.Fail(path+".ca", "is missing; TLS needs it")
		}
	} else {
		p.checkTLS(path, r.TLS)
	}
	used := r.Listen.IsValid() || r.Kind != RegistryBolt && len(r.Addresses) > 0
	switch {
	case p.Failed(path) || p.Failed(registryPath+".listen"):
	case r.TLS.Enabled() && !used:
		p.Fail(path, "has no use while the registry is not served; add listen or remove it")
	case r.TLS.Enabled() && r.Insecure:
		p.Fail(registryPath+".insecure", "contradicts tls; remove one")
	case used && !r.TLS.Enabled() && !r.Insecure:
		p.Fail(path, "is missing: whoever reaches the registry could take blocks; add cert, key and ca, or write insecure: true")
	}
}

// checkSplit wants pools that can be cut in two.
func (p *checker) checkSplit(c *Config) {
	if n := len(c.IPAM.Registry.Addresses); n != 2 {
		p.Fail(registryPath+".address", "names %d agents; two can split the pools", n)
	}
	for i, pool := range c.Pools {
		if pool.CIDR.IsValid() && pool.BlockSize <= pool.CIDR.Bits() {
			p.Fail(fmt.Sprintf("pools[%d].blockSize", i), "is one block, which two registries cannot split; make it smaller than the pool")
		}
	}
}
