// Package config reads onlinkd.yaml, the configuration of one agent.
//
// Reading is strict: an unknown key, a key given twice, a value of the wrong type
// or out of range, and keys that contradict each other are errors, and all of
// them are reported together, each with file, line, field and the correction (see
// [Error]). An empty file is valid and equals [Default].
//
// The package owns the file's format and nothing else: it opens no other file
// (the agent reads a passwordFile) and looks at no interface. A [Config] is plain
// values, which are not written to once they are parsed: it is safe for
// concurrent use. An [Effective] is the meaning of a file on one node: its peers
// of interfaces have addresses, and its mesh has sessions.
package config

import (
	"log/slog"
	"net/netip"

	"onlink/cni"
	"onlink/fib"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
	"onlink/tunnel"
)

// Config is one agent's whole configuration. Every field holds a usable value
// after [Parse], [Load] and [Default]: defaults are filled in. A parsed one is
// never written to: [Resolve] makes a new value of it.
type Config struct {
	Node   Node
	BGP    BGP
	Pools  []Pool // in the order in which addresses are taken from them
	IPAM   ipam.Settings
	Tunnel tunnel.Settings
	FIB    fib.Settings
	API    API
	CNI    cni.Settings
	Log    Log
	Paths  Paths
	Reload Reload
	Places Places `key:"-"` // the lines of the values in the file
}

// Words that several keys have.
const (
	auto = "auto"
	off  = "off"
)

// Reload selects when a running agent reads a changed file.
type Reload string

// The kinds of reloading.
const (
	ReloadSignal Reload = "signal" // on a signal: SIGHUP, onlinkctl config reload
	ReloadWatch  Reload = "watch"  // also by itself, once the file stays the same for a moment
)

// Node identifies this node.
type Node struct {
	Name    string            // unique in the cluster; default: the host's name
	Address NodeAddress       `key:"address"` // which of the host's addresses is the next hop of its blocks
	Labels  map[string]string // free words for the operator; nil when none
}

// NodeAddress is the choice of the node's own address. At most one field is
// set; the zero value means auto: the source address towards the peers, the
// registry, or by default.
type NodeAddress struct {
	Addr      netip.Addr   // this address
	Interface string       // the oldest usable address of this interface
	Prefix    netip.Prefix // the oldest usable address of any interface inside this prefix
}

// Auto reports whether the agent must find the address by itself.
func (a NodeAddress) Auto() bool { return a == NodeAddress{} }

// String returns the value as it is written in the file.
func (a NodeAddress) String() string {
	switch {
	case a.Addr.IsValid():
		return a.Addr.String()
	case a.Prefix.IsValid():
		return a.Prefix.String()
	case a.Interface != "":
		return a.Interface
	}
	return auto
}

// API holds the endpoints of the agent for operators.
type API struct {
	Admin   Admin
	Metrics netip.AddrPort // Prometheus metrics and health; the zero value: off
	Glass   netip.AddrPort // the looking glass; the zero value (default): off
	// GlassOpen permits the looking glass on an address that is not loopback, where
	// everyone who reaches the address can see it.
	GlassOpen bool
}

// Admin is the endpoint of onlinkctl.
type Admin struct {
	Socket string // unix socket; default: admin.sock in Paths.Run
	Group  string // operators: a group that may use the socket; "" (default): root only
	// Viewers is a group that may use the socket and only read; "" (default): none. With
	// it every user can open the socket, and the agent rejects those of neither group.
	Viewers    string
	TCP        netip.AddrPort // remote use, with mutual TLS only; the zero value: off
	TLS        tlsfiles.Files // required with TCP
	Reflection bool           // serve the descriptors of the API
}

// LogFormat is the form of a log line.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text" // slog's key=value form
	LogJSON LogFormat = "json" // one JSON object a line
)

// Log configures the agent's log, which goes to standard error.
type Log struct {
	Level  slog.Level // default info
	Format LogFormat  // default text
}

// Paths are the folders of the agent.
type Paths struct {
	State string // database; default /var/lib/onlink
	Run   string // sockets; default /run/onlink
}
