// Package conf is onlinkd.yaml as Go types, for tests and benchmarks that
// write one. A key that the agent does not have is no field here, so it does
// not compile; a test holds every field against the agent's own reader and its
// documented file, so a key is in both or that test fails.
//
// The types are not those of onlink/agent/config, which hold a file as the agent
// understood it, every default filled in: written back, they would set every
// key, and no test could leave one to its default. A writer that shares the
// reader's types would also follow it when a key is renamed by mistake.
//
// A value is the file's own text ("100ms", "fe80::1%eth0", "auto"): a test
// reads as the file does, and can write a value that the agent must refuse. A
// mistake that no field can hold, such as a misspelt key or a list in the place
// of a word, is text that a test appends to [Config.YAML].
//
// The zero value of a field leaves its key out. Where an empty value means
// something, the field is a pointer (Reflector: &Reflector{} is "reflector: {}",
// Own: new(false)) or a [List].
package conf

import (
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v3"
)

// Config is the content of an onlinkd.yaml.
type Config struct {
	Node   Node       `yaml:"node,omitempty"`
	BGP    BGP        `yaml:"bgp,omitempty"`
	Pools  List[Pool] `yaml:"pools,omitempty"` // empty: no pool; nil: the default one
	IPAM   IPAM       `yaml:"ipam,omitempty"`
	Tunnel Tunnel     `yaml:"tunnel,omitempty"`
	FIB    FIB        `yaml:"fib,omitempty"`
	API    API        `yaml:"api,omitempty"`
	CNI    CNI        `yaml:"cni,omitempty"`
	Log    Log        `yaml:"log,omitempty"`
	Paths  Paths      `yaml:"paths,omitempty"`
	Reload string     `yaml:"reload,omitempty"`
}

// YAML returns the file's text. Keys that no type here has may be written
// behind it, as may those of a section that is zero.
func (c *Config) YAML() ([]byte, error) {
	text, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return text, nil
}

// List is a list that is written also when it is empty, because that is not
// the default; nil leaves its key out.
type List[T any] []T

// IsZero reports whether the key is left out.
func (l List[T]) IsZero() bool { return l == nil }

// Strings returns the texts of addresses or prefixes.
func Strings[T fmt.Stringer](list ...T) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

// Node is the section node.
type Node struct {
	Name    string            `yaml:"name,omitempty"`
	Address string            `yaml:"address,omitempty"`
	Labels  map[string]string `yaml:"labels,omitempty"`
}

// Pool is an entry of pools.
type Pool struct {
	Name              string            `yaml:"name,omitempty"`
	CIDR              string            `yaml:"cidr,omitempty"`
	BlockSize         int               `yaml:"blockSize,omitempty"`
	Encapsulation     string            `yaml:"encapsulation,omitempty"`
	Tunnel            string            `yaml:"tunnel,omitempty"`
	NATOutgoing       *bool             `yaml:"natOutgoing,omitempty"`
	Disabled          bool              `yaml:"disabled,omitempty"`
	Manual            bool              `yaml:"manual,omitempty"`
	Reserved          []string          `yaml:"reserved,omitempty"`
	NodeSelector      map[string]string `yaml:"nodeSelector,omitempty"`
	NamespaceSelector []string          `yaml:"namespaceSelector,omitempty"`
}

// IPAM is the section ipam.
type IPAM struct {
	Registry Registry `yaml:"registry,omitempty"`
	Cooldown string   `yaml:"cooldown,omitempty"`
	Sticky   string   `yaml:"sticky,omitempty"`
}

// Registry is ipam.registry.
type Registry struct {
	Kind         string   `yaml:"kind,omitempty"`
	Listen       string   `yaml:"listen,omitempty"`
	Address      []string `yaml:"address,omitempty"`
	TLS          TLS      `yaml:"tls,omitempty"`
	Insecure     bool     `yaml:"insecure,omitempty"`
	User         string   `yaml:"user,omitempty"`
	PasswordFile string   `yaml:"passwordFile,omitempty"`
	Prefix       string   `yaml:"prefix,omitempty"`
	Assert       string   `yaml:"assert,omitempty"`
}

// TLS is the files of a registry or of the API.
type TLS struct {
	Cert  string `yaml:"cert,omitempty"`
	Key   string `yaml:"key,omitempty"`
	CA    string `yaml:"ca,omitempty"`
	Roles []Role `yaml:"roles,omitempty"`
}

// Role is an entry of tls.roles.
type Role struct {
	Subject     string `yaml:"subject,omitempty"`
	Fingerprint string `yaml:"fingerprint,omitempty"`
	Role        string `yaml:"role,omitempty"`
	Name        string `yaml:"name,omitempty"`
}

// Tunnel is the section tunnel.
type Tunnel struct {
	MTU   string `yaml:"mtu,omitempty"`
	Guard string `yaml:"guard,omitempty"`
	VXLAN VXLAN  `yaml:"vxlan,omitempty"`
}

// VXLAN is tunnel.vxlan.
type VXLAN struct {
	VNI  int `yaml:"vni,omitempty"`
	Port int `yaml:"port,omitempty"`
}

// FIB is the section fib.
type FIB struct {
	Table  int    `yaml:"table,omitempty"`
	Metric int    `yaml:"metric,omitempty"`
	Resync string `yaml:"resync,omitempty"`
	Source string `yaml:"source,omitempty"`
}

// API is the section api.
type API struct {
	Admin   Admin  `yaml:"admin,omitempty"`
	Metrics string `yaml:"metrics,omitempty"`
	Glass   string `yaml:"glass,omitempty"`

	GlassOpen bool `yaml:"glassOpen,omitempty"`
}

// Admin is api.admin.
type Admin struct {
	Socket string `yaml:"socket,omitempty"`
	Group  string `yaml:"group,omitempty"`
	TCP    string `yaml:"tcp,omitempty"`
	TLS    TLS    `yaml:"tls,omitempty"`

	Viewers    string `yaml:"viewers,omitempty"`
	Reflection bool   `yaml:"reflection,omitempty"`
}

// CNI is the section cni.
type CNI struct {
	Socket  string       `yaml:"socket,omitempty"`
	Sysctls List[string] `yaml:"sysctls,omitempty"` // empty: none; nil: the default ones
	Install *Install     `yaml:"install,omitempty"`
}

// Install is cni.install.
type Install struct {
	BinDir  string `yaml:"binDir,omitempty"`
	ConfDir string `yaml:"confDir,omitempty"`
	Plugin  string `yaml:"plugin,omitempty"`
	// Plugins are names, or configurations of plugins (map[string]any); empty:
	// none; nil: the default ones.
	Plugins List[any] `yaml:"plugins,omitempty"`
}

// Log is the section log.
type Log struct {
	Level  string `yaml:"level,omitempty"`
	Format string `yaml:"format,omitempty"`
}

// Paths is the section paths.
type Paths struct {
	State string `yaml:"state,omitempty"`
	Run   string `yaml:"run,omitempty"`
}

// Rule is a prefix with bounds of the length, in import.accept and the like.
type Rule struct {
	Prefix string `yaml:"prefix"`
	GE     *int   `yaml:"ge,omitempty"`
	LE     *int   `yaml:"le,omitempty"`
}

// Rules are prefixes without bounds: each accepts everything inside it.
func Rules[P string | netip.Prefix](prefixes ...P) []Rule {
	var out []Rule
	for _, p := range prefixes {
		out = append(out, Rule{Prefix: fmt.Sprint(p)})
	}
	return out
}
