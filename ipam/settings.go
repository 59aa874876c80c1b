package ipam

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"onlink/internal/strictyaml"
	"onlink/internal/tlsfiles"
)

// Settings are the section `ipam` of onlinkd.yaml.
type Settings struct {
	Registry RegistrySettings
	Cooldown time.Duration // a freed address is not given out again before this; 0: at once
	Sticky   time.Duration // a sticky address is kept for its workload this long after its release; 0: not
}

// RegistryKind names an implementation of the block registry.
type RegistryKind string

// The kinds of block registry.
const (
	RegistryBolt RegistryKind = "bolt" // in this agent's own database
	RegistryGRPC RegistryKind = "grpc" // served by another agent
	RegistryEtcd RegistryKind = "etcd" // in an etcd cluster
)

// RegistrySettings say where the block registry is: who owns which block.
type RegistrySettings struct {
	Kind   RegistryKind
	Listen netip.AddrPort // bolt: serve it to other nodes here; the zero value: not served
	// Addresses are host:port. grpc: the agent that serves it, or the two that
	// split it; or one unix:///path, a process of this machine. bolt: those two, one of which is Listen; nil when there is no
	// split. etcd: the endpoints.
	Addresses []string       `key:"address"`
	TLS       tlsfiles.Files // for Listen and Addresses
	Insecure  bool           // no TLS, on purpose
	// User and PasswordFile are etcd's; empty: none.
	User, PasswordFile string
	Prefix             string // of etcd's keys
	// Assert is how often this node tells the registry what it holds. A registry
	// that was lost waits for twice as long: all nodes should have the same.
	Assert time.Duration
}

// DefaultSettings are those of a file without the section.
func DefaultSettings() Settings {
	return Settings{
		Registry: RegistrySettings{Kind: RegistryBolt, Prefix: "/onlink/", Assert: time.Minute},
		Cooldown: time.Minute, Sticky: day,
	}
}

const day = 24 * time.Hour

// Served reports whether this agent serves its own registry to other nodes.
func (r RegistrySettings) Served() bool { return r.Kind == RegistryBolt && r.Listen.IsValid() }

// Split reports whether two agents share the pools.
func (r RegistrySettings) Split() bool { return r.Kind != RegistryEtcd && len(r.Addresses) > 1 }

// Settle is how long a registry that was lost gives no block away: every node
// has asserted twice by then.
func (r RegistrySettings) Settle() time.Duration { return 2 * r.Assert }

// Local reports whether the registry is a process of this machine, behind a unix
// socket.
func (r RegistrySettings) Local() bool {
	return r.Kind == RegistryGRPC && slices.ContainsFunc(r.Addresses, isSocket)
}

const (
	socketScheme  = "unix://"
	maxSocketPath = 107 // bytes: unix(7), sun_path less its final zero
)

func isSocket(address string) bool { return strings.HasPrefix(address, socketScheme) }

// Endpoints are where agents serve the registry, as far as the file has
// addresses and not names.
func (r RegistrySettings) Endpoints() []netip.AddrPort {
	out := []netip.AddrPort{r.Listen}
	if r.Kind != RegistryEtcd {
		for _, text := range r.Addresses {
			if ap, err := netip.ParseAddrPort(text); err == nil {
				out = append(out, ap)
			}
		}
	}
	return out
}

// Notes says what it means that the registry is used without TLS.
func (r RegistrySettings) Notes() []string {
	switch {
	case !r.Insecure || r.Local():
		return nil
	case r.Listen.IsValid():
		return []string{fmt.Sprintf("ipam.registry.insecure: the registry on %v has no TLS: every host that reaches the port can list the owners of blocks, "+
			"take over and release nodes, and from a node's address claim and release its blocks; set tls", r.Listen)}
	}
	return []string{fmt.Sprintf("ipam.registry.insecure: the registry at %v is called without TLS: every host on the way can read and change "+
		"its answers; set tls", r.Addresses)}
}

// Read reads the section; keys that it does not have stay.
func (s *Settings) Read(v strictyaml.Value) {
	r := &s.Registry
	v.Mapping(strictyaml.Fields{
		"registry": func(v strictyaml.Value) {
			v.Mapping(strictyaml.Fields{
				"kind":         strictyaml.OneOf(&r.Kind, RegistryBolt, RegistryGRPC, RegistryEtcd),
				"listen":       strictyaml.AddrPort(&r.Listen),
				"address":      registryAddresses(&r.Addresses),
				"tls":          r.TLS.Read,
				"insecure":     strictyaml.Bool(&r.Insecure),
				"user":         strictyaml.Word(&r.User),
				"passwordFile": strictyaml.File(&r.PasswordFile),
				"prefix":       strictyaml.Word(&r.Prefix),
				"assert":       strictyaml.Duration(&r.Assert, time.Second, 10*time.Minute),
			})
		},
		"cooldown": strictyaml.Duration(&s.Cooldown, 0, day),
		"sticky":   strictyaml.Duration(&s.Sticky, 0, 365*day),
	})
}

// registryAddresses reads one host:port or unix:///path, or a list of them.
func registryAddresses(dst *[]string) func(strictyaml.Value) {
	return strictyaml.Some(func(v strictyaml.Value) {
		var s string
		switch text, ok := v.Text("host:port or unix:///path"); {
		case !ok:
		case !isSocket(text):
			strictyaml.HostPort(&s)(v)
		case len(text) == len(socketScheme)+1, text[len(socketScheme):] != filepath.Clean("/"+text[len(socketScheme):]), strings.ContainsAny(text, " ?#%\x00\t\n"):
			v.Fail("%q is not unix:// and a path without \".\", \"..\", spaces, %%, ? and #; use one such as unix:///run/onlink-kube/registry.sock", text)
		case len(text)-len(socketScheme) > maxSocketPath:
			v.Fail("the path of the socket has %d bytes, and a unix socket's at most %d; use a shorter one", len(text)-len(socketScheme), maxSocketPath)
		default:
			s = text
		}
		if s != "" {
			*dst = append(*dst, s)
		}
	})
}

// Validate adds what contradicts in the section, which is the field path of the
// file, to its mistakes.
func (s *Settings) Validate(path string, d *strictyaml.Document) {
	c := registryCheck{&s.Registry, path + ".registry", d}
	if c.failed("kind") { // nothing else can be judged
		c.TLS.Validate(c.path+".tls", d)
		return
	}
	switch c.Kind {
	case RegistryGRPC:
		c.grpc()
	case RegistryBolt:
		c.bolt()
	case RegistryEtcd:
		c.etcd()
	}
	if c.Kind != RegistryEtcd && (c.User != "" || c.PasswordFile != "") {
		c.fail("user", "and passwordFile are for kind etcd; remove them")
	}
	c.tls()
	c.socket()
	if n := len(c.Addresses); c.Split() && n != 2 {
		c.fail("address", "names %d agents; two can split the pools", n)
	}
}

// registryCheck looks for what contradicts in the settings of a registry.
type registryCheck struct {
	*RegistrySettings

	path string
	doc  *strictyaml.Document
}

func (c registryCheck) failed(key string) bool { return c.doc.Failed(c.path + "." + key) }

func (c registryCheck) fail(key, format string, args ...any) {
	c.doc.Fail(c.path+"."+key, format, args...)
}

func (c registryCheck) grpc() {
	if len(c.Addresses) == 0 && !c.failed("address") {
		c.fail("address", "is missing; write host:port of the agent whose ipam.registry.listen serves the registry")
	}
	if c.Listen.IsValid() {
		c.fail("listen", "is for kind bolt, the agent that holds the registry; remove it")
	}
}

func (c registryCheck) bolt() {
	switch {
	case len(c.Addresses) == 0:
	case len(c.Addresses) == 1:
		c.fail("address", "is for kind grpc; write kind: grpc or remove it")
	case !slices.Contains(c.Addresses, c.Listen.String()):
		c.fail("address", "names two agents that split the pools, and none is this one's listen (%s); write kind: grpc or name it", c.Listen)
	}
}

func (c registryCheck) etcd() {
	if len(c.Addresses) == 0 && !c.failed("address") {
		c.fail("address", "is missing; write host:port of etcd's endpoints")
	}
	if c.Listen.IsValid() {
		c.fail("listen", "is for kind bolt; remove it")
	}
	if (c.User == "") != (c.PasswordFile == "") {
		c.fail("user", "and passwordFile belong together; write both or none")
	}
	if !strings.HasPrefix(c.Prefix, "/") || !strings.HasSuffix(c.Prefix, "/") {
		c.fail("prefix", "%q does not begin and end with \"/\"; write one such as /onlink/", c.Prefix)
	}
}

// socket wants a registry of this machine to be the only one, of kind grpc.
func (c registryCheck) socket() {
	i := slices.IndexFunc(c.Addresses, isSocket)
	switch {
	case i < 0 || c.failed("address"):
	case c.Kind != RegistryGRPC:
		c.fail("address", "names a unix socket (%s), which is for kind grpc; write host:port", c.Addresses[i])
	case len(c.Addresses) > 1:
		c.fail("address", "names a unix socket (%s) besides others; a registry of this machine is the only one, write it alone", c.Addresses[i])
	}
}

// tls wants TLS, or the written word that there shall be none.
func (c registryCheck) tls() {
	if c.Kind == RegistryEtcd && c.TLS.Cert == "" && c.TLS.Key == "" {
		if c.TLS.CA == "" && c.TLS.Enabled() {
			c.fail("tls.ca", "is missing; TLS needs it")
		}
	} else {
		c.TLS.Validate(c.path+".tls", c.doc)
	}
	if c.Local() {
		if c.TLS.Enabled() {
			c.fail("tls", "has no use with a unix socket, which never leaves the machine; remove it")
		}
		if c.Insecure {
			c.fail("insecure", "has no use with a unix socket, which never leaves the machine; remove it")
		}
		return
	}
	used := c.Listen.IsValid() || c.Kind != RegistryBolt && len(c.Addresses) > 0
	switch {
	case c.failed("tls") || c.failed("listen"):
	case c.TLS.Enabled() && !used:
		c.fail("tls", "has no use while the registry is not served; add listen or remove it")
	case c.TLS.Enabled() && c.Insecure:
		c.fail("insecure", "contradicts tls; remove one")
	case len(c.TLS.Roles) > 0 && !c.Listen.IsValid():
		c.fail("tls.roles", "has no use while the registry is not served here: the agent with listen reads it; remove it")
	case used && !c.TLS.Enabled() && !c.Insecure:
		c.fail("tls", "is missing: any host that reaches the registry could take blocks; add cert, key and ca, or write insecure: true")
	}
}
