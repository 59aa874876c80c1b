package render

import (
	"encoding/json"
	"strings"

	"sigs.k8s.io/yaml"

	"onlink/kube/api/v1alpha1"
)

// file is onlinkd.yaml: the keys that Kubernetes mode uses, in the order in which
// they are written. What the objects of group onlink.io spell like the file is of
// their types.
type file struct {
	Node   nodeSection   `json:"node"`
	BGP    bgpSection    `json:"bgp"`
	Pools  []pool        `json:"pools"`
	IPAM   ipamSection   `json:"ipam"`
	Tunnel tunnelSection `json:"tunnel,omitzero"`
	FIB    fibSection    `json:"fib,omitzero"`
	API    apiSection    `json:"api"`
	CNI    cniSection    `json:"cni"`
	Log    logSection    `json:"log,omitzero"`
	Reload string        `json:"reload"`
}

type nodeSection struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

type bgpSection struct {
	ASN       int64      `json:"asn"`
	Reflector *reflector `json:"reflector,omitempty"`
	Mesh      *mesh      `json:"mesh,omitempty"`
	Peers     []peer     `json:"peers,omitempty"`
	Filters   []filter   `json:"filters,omitempty"`
}

type reflector struct {
	Clients      []v1alpha1.CIDR `json:"clients,omitempty"`
	PasswordFile string          `json:"passwordFile,omitempty"`
}

// link is what all sessions inside the cluster share.
type link struct {
	PasswordFile string            `json:"passwordFile,omitempty"`
	HoldTime     v1alpha1.Duration `json:"holdTime,omitempty"`
	BFD          *v1alpha1.BFD     `json:"bfd,omitempty"`
}

type mesh struct {
	link

	Nodes []meshNode `json:"nodes"`
}

type meshNode struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// peer is an entry of bgp.peers.
type peer struct {
	Name             string            `json:"name"`
	Address          string            `json:"address,omitempty"`
	Interface        string            `json:"interface,omitempty"`
	Port             int32             `json:"port,omitempty"`
	ASN              int64             `json:"asn,omitempty"`
	LocalASN         int64             `json:"localASN,omitempty"`
	Client           bool              `json:"client,omitempty"`
	Passive          bool              `json:"passive,omitempty"`
	PasswordFile     string            `json:"passwordFile,omitempty"`
	HoldTime         v1alpha1.Duration `json:"holdTime,omitempty"`
	Keepalive        v1alpha1.Duration `json:"keepalive,omitempty"`
	ConnectRetry     v1alpha1.Duration `json:"connectRetry,omitempty"`
	BFD              *v1alpha1.BFD     `json:"bfd,omitempty"`
	TTLSecurity      int32             `json:"ttlSecurity,omitempty"`
	Multihop         int32             `json:"multihop,omitempty"`
	AllowOwnAS       int32             `json:"allowOwnAS,omitempty"`
	LongLivedRestart v1alpha1.Duration `json:"longLivedRestart,omitempty"`
	Import           *v1alpha1.Import  `json:"import,omitempty"`
	Export           *v1alpha1.Export  `json:"export,omitempty"`
}

type filter struct {
	Name  string                `json:"name"`
	Rules []v1alpha1.FilterRule `json:"rules"`
}

// pool is an entry of pools.
type pool struct {
	Name          string        `json:"name"`
	CIDR          v1alpha1.CIDR `json:"cidr"`
	BlockSize     int32         `json:"blockSize,omitempty"`
	Encapsulation string        `json:"encapsulation,omitempty"`
	Tunnel        string        `json:"tunnel,omitempty"`
	NATOutgoing   *bool         `json:"natOutgoing,omitempty"`
	Disabled      bool          `json:"disabled,omitempty"`
	Manual        bool          `json:"manual,omitempty"`
	Reserved      []string      `json:"reserved,omitempty"`
}

type ipamSection struct {
	Registry registrySection   `json:"registry"`
	Cooldown v1alpha1.Duration `json:"cooldown,omitempty"`
	Sticky   v1alpha1.Duration `json:"sticky,omitempty"`
}

type registrySection struct {
	Kind    string            `json:"kind"`
	Address string            `json:"address"`
	Assert  v1alpha1.Duration `json:"assert,omitempty"`
}

type tunnelSection struct {
	MTU   int32           `json:"mtu,omitempty"`
	Guard string          `json:"guard,omitempty"`
	VXLAN *v1alpha1.VXLAN `json:"vxlan,omitempty"`
}

type fibSection struct {
	Metric int64             `json:"metric,omitempty"`
	Resync v1alpha1.Duration `json:"resync,omitempty"`
}

type apiSection struct {
	Admin   adminSection `json:"admin"`
	Metrics string       `json:"metrics,omitempty"`
}

type adminSection struct {
	Group string     `json:"group"`
	TCP   string     `json:"tcp,omitempty"`
	TLS   tlsSection `json:"tls,omitzero"`
}

type tlsSection struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca"`
}

type cniSection struct {
	Sysctls []string       `json:"sysctls,omitempty"`
	Install installSection `json:"install"`
}

type installSection struct {
	BinDir  string   `json:"binDir"`
	ConfDir string   `json:"confDir"`
	Plugins []string `json:"plugins,omitempty"`
}

type logSection struct {
	Level string `json:"level,omitempty"`
}

// current is the file in force, as far as it is read again: every part on its own,
// so that one of a foreign form does not hide the others.
type current struct {
	file *file // nil: there is none yet

	peers   map[string]peer
	filters map[string]filter
	pools   map[string]pool
	order   []string // names of peers, filters and pools, as in the file
}

// readCurrent reads the file in force. One that is no YAML is a problem, and none.
func readCurrent(text []byte, l *ledger) *current {
	c := &current{peers: map[string]peer{}, filters: map[string]filter{}, pools: map[string]pool{}}
	if strings.TrimSpace(string(text)) == "" {
		return c
	}
	var parts map[string]json.RawMessage
	if err := yaml.Unmarshal(text, &parts); err != nil || parts == nil {
		l.problem("the configuration in force cannot be read, so entries of broken objects are not kept: restore onlinkd.yaml")
		return c
	}
	f := &file{}
	c.file = f
	var bgp map[string]json.RawMessage
	part(parts["bgp"], &bgp)
	part(bgp["asn"], &f.BGP.ASN)
	part(bgp["reflector"], &f.BGP.Reflector)
	part(bgp["mesh"], &f.BGP.Mesh)
	part(parts["ipam"], &f.IPAM)
	part(parts["tunnel"], &f.Tunnel)
	part(parts["fib"], &f.FIB)
	part(parts["api"], &f.API)
	part(parts["cni"], &f.CNI)
	part(parts["log"], &f.Log)
	for _, p := range entries[peer](bgp["peers"]) {
		c.peers[p.Name] = p
		c.order = append(c.order, p.Name)
	}
	for _, p := range entries[filter](bgp["filters"]) {
		c.filters[p.Name] = p
		c.order = append(c.order, p.Name)
	}
	for _, p := range entries[pool](parts["pools"]) {
		c.pools[p.Name] = p
		c.order = append(c.order, p.Name)
	}
	return c
}

// part reads one part of the file; one of a foreign form stays empty.
func part[T any](raw json.RawMessage, dst *T) {
	var v T
	if len(raw) > 0 && json.Unmarshal(raw, &v) == nil {
		*dst = v
	}
}

// entries reads a list; entries of a foreign form are left out.
func entries[T any](raw json.RawMessage) (list []T) {
	var parts []json.RawMessage
	part(raw, &parts)
	for _, one := range parts {
		var v T
		if json.Unmarshal(one, &v) == nil {
			list = append(list, v)
		}
	}
	return list
}
