package conf

// BGP is the section bgp.
type BGP struct {
	ASN       uint32           `yaml:"asn,omitempty"`
	RouterID  string           `yaml:"routerID,omitempty"`
	Listen    Listen           `yaml:"listen,omitempty"`
	Reflector *Reflector       `yaml:"reflector,omitempty"`
	Peers     []*Peer          `yaml:"peers,omitempty"`
	Groups    map[string]*Peer `yaml:"groups,omitempty"`
	Mesh      *Mesh            `yaml:"mesh,omitempty"`
	Originate []string         `yaml:"originate,omitempty"`
	Filters   []Filter         `yaml:"filters,omitempty"`
	BMP       []Station        `yaml:"bmp,omitempty"`
}

// Station is an entry of bgp.bmp.
type Station struct {
	Name          string   `yaml:"name,omitempty"`
	Address       string   `yaml:"address,omitempty"`
	Port          int      `yaml:"port,omitempty"`
	Monitor       []string `yaml:"monitor,omitempty"`
	Statistics    string   `yaml:"statistics,omitempty"`
	SourceAddress string   `yaml:"sourceAddress,omitempty"`
}

// Silent is a section bgp that listens to nobody: for an agent beside another
// one, or whose sessions are not what a test is about.
func Silent() BGP { return BGP{Listen: Listen{Port: new(0)}} }

// Peer returns the peer of a name, nil where there is none.
func (b *BGP) Peer(name string) *Peer {
	for _, p := range b.Peers {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Listen is bgp.listen.
type Listen struct {
	Address string `yaml:"address,omitempty"`
	Port    *int   `yaml:"port,omitempty"` // 0: do not listen
}

// Reflector is bgp.reflector.
type Reflector struct {
	ClusterID    string   `yaml:"clusterID,omitempty"`
	Clients      []string `yaml:"clients,omitempty"`
	PasswordFile string   `yaml:"passwordFile,omitempty"`
	Import       Inside   `yaml:"import,omitempty"`
	Export       Outside  `yaml:"export,omitempty"`
}

// Peer is an entry of bgp.peers, or without name and address a group.
type Peer struct {
	Group            string            `yaml:"group,omitempty"`
	Name             string            `yaml:"name,omitempty"`
	Address          string            `yaml:"address,omitempty"`
	Port             int               `yaml:"port,omitempty"`
	ASN              uint32            `yaml:"asn,omitempty"`
	Client           bool              `yaml:"client,omitempty"`
	PasswordFile     string            `yaml:"passwordFile,omitempty"`
	TTLSecurity      int               `yaml:"ttlSecurity,omitempty"`
	Multihop         int               `yaml:"multihop,omitempty"`
	HoldTime         string            `yaml:"holdTime,omitempty"`
	Keepalive        string            `yaml:"keepalive,omitempty"`
	ConnectRetry     string            `yaml:"connectRetry,omitempty"`
	Passive          bool              `yaml:"passive,omitempty"`
	Interface        string            `yaml:"interface,omitempty"`
	LocalAddress     string            `yaml:"localAddress,omitempty"`
	LocalASN         uint32            `yaml:"localASN,omitempty"`
	AllowOwnAS       int               `yaml:"allowOwnAS,omitempty"`
	NodeSelector     map[string]string `yaml:"nodeSelector,omitempty"`
	LongLivedRestart string            `yaml:"longLivedRestart,omitempty"`
	BFD              *BFD              `yaml:"bfd,omitempty"`
	Import           Import            `yaml:"import,omitempty"`
	Export           Export            `yaml:"export,omitempty"`
}

// With makes changes and returns the peer, for an entry in one expression.
func (p *Peer) With(changes ...func(*Peer)) *Peer {
	for _, change := range changes {
		change(p)
	}
	return p
}

// BFD is a peer's bfd.
type BFD struct {
	Interval   string `yaml:"interval,omitempty"`
	Multiplier int    `yaml:"multiplier,omitempty"`
	Hops       string `yaml:"hops,omitempty"`
}

// Import is a peer's import.
type Import struct {
	Filters               []string `yaml:"filters,omitempty"`
	Accept                []Rule   `yaml:"accept,omitempty"`
	MaxPrefixes           int      `yaml:"maxPrefixes,omitempty"`
	LocalPref             int      `yaml:"localPref,omitempty"`
	DisableConnectedCheck bool     `yaml:"disableConnectedCheck,omitempty"`
	DisableOwnerCheck     bool     `yaml:"disableOwnerCheck,omitempty"`
}

// Inside is what is imported of clients and of a mesh, which are of our AS.
type Inside struct {
	Filters           []string `yaml:"filters,omitempty"`
	Accept            []Rule   `yaml:"accept,omitempty"`
	MaxPrefixes       int      `yaml:"maxPrefixes,omitempty"`
	DisableOwnerCheck bool     `yaml:"disableOwnerCheck,omitempty"`
}

// Outside is what is exported to clients and to a mesh.
type Outside struct {
	Filters []string `yaml:"filters,omitempty"`
}

// Export is a peer's export.
type Export struct {
	Filters     []string    `yaml:"filters,omitempty"`
	Own         *bool       `yaml:"own,omitempty"`
	Prefixes    []Rule      `yaml:"prefixes,omitempty"`
	Communities []string    `yaml:"communities,omitempty"`
	MED         int         `yaml:"med,omitempty"`
	Reflected   bool        `yaml:"reflected,omitempty"`
	Aggregates  []Aggregate `yaml:"aggregates,omitempty"`
}

// Aggregate is an entry of export.aggregates.
type Aggregate struct {
	Prefix      string `yaml:"prefix"`
	SummaryOnly bool   `yaml:"summaryOnly,omitempty"`
}

// Mesh is bgp.mesh.
type Mesh struct {
	Nodes        []MeshNode `yaml:"nodes,omitempty"`
	Port         int        `yaml:"port,omitempty"`
	PasswordFile string     `yaml:"passwordFile,omitempty"`
	TTLSecurity  int        `yaml:"ttlSecurity,omitempty"`
	HoldTime     string     `yaml:"holdTime,omitempty"`
	Keepalive    string     `yaml:"keepalive,omitempty"`
	ConnectRetry string     `yaml:"connectRetry,omitempty"`
	BFD          *BFD       `yaml:"bfd,omitempty"`
	Import       Inside     `yaml:"import,omitempty"`
	Export       Outside    `yaml:"export,omitempty"`
}

// MeshNode is an entry of bgp.mesh.nodes; without a name it is written as its
// address alone.
type MeshNode struct {
	Name    string `yaml:"name,omitempty"`
	Address string `yaml:"address"`
}

// MarshalYAML writes the short form where it says all.
func (n MeshNode) MarshalYAML() (any, error) {
	if n.Name == "" {
		return n.Address, nil
	}
	type plain MeshNode
	return plain(n), nil
}

// Filter is an entry of bgp.filters.
type Filter struct {
	Name  string       `yaml:"name,omitempty"`
	Rules []FilterRule `yaml:"rules,omitempty"`
}

// FilterRule is a rule of a filter.
type FilterRule struct {
	Match  FilterMatch `yaml:"match,omitempty"`
	Set    FilterSet   `yaml:"set,omitempty"`
	Action string      `yaml:"action,omitempty"`
}

// FilterMatch is the conditions of a rule.
type FilterMatch struct {
	Prefixes         []Rule   `yaml:"prefixes,omitempty"`
	Communities      []string `yaml:"communities,omitempty"`
	LargeCommunities []string `yaml:"largeCommunities,omitempty"`
	ASPath           []string `yaml:"asPath,omitempty"`
	Source           string   `yaml:"source,omitempty"`
}

// FilterSet is the changes of a rule.
type FilterSet struct {
	LocalPref        int             `yaml:"localPref,omitempty"`
	MED              *int            `yaml:"med,omitempty"`
	Prepend          int             `yaml:"prepend,omitempty"`
	Communities      CommunityChange `yaml:"communities,omitempty"`
	LargeCommunities CommunityChange `yaml:"largeCommunities,omitempty"`
	NextHop          string          `yaml:"nextHop,omitempty"`
	Origin           string          `yaml:"origin,omitempty"`
}

// CommunityChange is a rule's set.communities or set.largeCommunities.
type CommunityChange struct {
	Add     []string `yaml:"add,omitempty"`
	Remove  []string `yaml:"remove,omitempty"`
	Replace []string `yaml:"replace,omitempty"`
}
