package cni

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"onlink/internal/strictyaml"
)

// Settings are the section `cni` of onlinkd.yaml.
type Settings struct {
	Socket  string // unix socket; empty: not in the file, and the owner of the run folder fills it in
	Install InstallSettings
	// Sysctls are the names, with * and ?, of the sysctls that pods may set.
	Sysctls []string
}

// InstallSettings are the places where the agent installs the plugin and its
// configuration for the container runtime. The zero value: it installs nothing.
type InstallSettings struct {
	BinDir  string // folder of the runtime's plugins, usually /opt/cni/bin
	ConfDir string // folder of its network configurations, usually /etc/cni/net.d
	Plugin  string // the plugin to install; "" (default): onlink-cni beside onlinkd
	// Plugins are the configurations of the plugins behind onlink-cni, each with
	// its "type"; the keys they leave out have the plugin's defaults. Nil
	// (default): portmap and bandwidth, where BinDir has them.
	Plugins []Chained
}

// Enabled reports whether the agent installs anything.
func (i InstallSettings) Enabled() bool {
	return i.BinDir != "" || i.ConfDir != "" || i.Plugin != "" || i.Plugins != nil
}

// safeSysctls change nothing outside the pod and cannot exhaust the node: those
// that Kubernetes calls safe.
var safeSysctls = []string{
	"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}

// DefaultSettings are those of a file without the section.
func DefaultSettings() Settings { return Settings{Sysctls: slices.Clone(safeSysctls)} }

// Read reads the section; absent keys keep their values.
func (s *Settings) Read(v strictyaml.Value) {
	v.Mapping(strictyaml.Fields{
		"socket":  strictyaml.File(&s.Socket),
		"sysctls": sysctlPatterns(&s.Sysctls),
		"install": func(v strictyaml.Value) {
			i := &s.Install
			v.Mapping(strictyaml.Fields{
				"binDir": strictyaml.File(&i.BinDir), "confDir": strictyaml.File(&i.ConfDir), "plugin": strictyaml.File(&i.Plugin),
				"plugins": chainedPlugins(&i.Plugins),
			})
		},
	})
}

// Validate adds the mistakes of the section, which is the field at of the file,
// to the document.
func (s *Settings) Validate(at string, d *strictyaml.Document) {
	if !s.Install.Enabled() {
		return
	}
	for key, dir := range map[string]string{"binDir": s.Install.BinDir, "confDir": s.Install.ConfDir} {
		field := at + ".install." + key
		if dir == "" && !d.Failed(field) {
			d.Fail(field, "is missing; a runtime needs both the plugin (usually binDir: /opt/cni/bin) and its configuration (usually confDir: /etc/cni/net.d)")
		}
	}
}

// pluginFile matches the allowed names of a CNI plugin's program.
var pluginFile = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// chainedPlugins reads the plugins behind onlink-cni: names, or mappings that are
// a plugin's configuration.
func chainedPlugins(dst *[]Chained) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		*dst = []Chained{}
		v.List(func(e strictyaml.Value) {
			if plugin, ok := readChained(e, *dst); ok {
				*dst = append(*dst, plugin)
			}
		})
	}
}

// readChained reads one plugin behind others.
func readChained(e strictyaml.Value, others []Chained) (Chained, bool) {
	plugin := Chained{}
	if e.IsMapping() {
		if err := e.Decode(&plugin); err != nil {
			e.Fail("is no configuration of a plugin: %v", err)
			return nil, false
		}
	} else {
		name, ok := e.Text("the name of a plugin, such as portmap, or its configuration with the key type")
		if !ok {
			return nil, false
		}
		plugin["type"] = name
	}
	name, _ := plugin["type"].(string)
	switch {
	case plugin["type"] == nil:
		e.Fail("has no key type; add the name of the plugin's program, such as portmap, bandwidth, tuning or firewall")
	case !pluginFile.MatchString(name):
		e.Fail("%q is not the name of a plugin; use the name of its program, such as portmap, bandwidth, tuning or firewall", fmt.Sprint(plugin["type"]))
	case name == PluginName:
		e.Fail("%s is in the list already; name the plugins behind it only", PluginName)
	case slices.ContainsFunc(others, func(p Chained) bool { return p["type"] == name }):
		e.Fail("%s is given twice; remove one", name)
	default:
		if _, err := json.Marshal(plugin); err != nil {
			e.Fail("cannot be written as JSON: %v; use text as keys", err)
			return nil, false
		}
		return plugin, true
	}
	return nil, false
}

// sysctlPatterns reads the names of network sysctls, with wildcards.
func sysctlPatterns(dst *[]string) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		*dst = nil
		v.List(func(e strictyaml.Value) {
			s, ok := e.Text("the name of a sysctl")
			if !ok {
				return
			}
			if _, err := path.Match(s, ""); err != nil || !strings.HasPrefix(s, "net.") {
				e.Fail("%q is not a network sysctl; use its name with dots, such as net.ipv4.tcp_rmem, and * and ?", s)
				return
			}
			*dst = append(*dst, s)
		})
	}
}
