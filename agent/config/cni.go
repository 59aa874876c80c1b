package config

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"onlink/internal/strictyaml"
)

// CNI is the agent's side of the onlink-cni plugin.
type CNI struct {
	Socket  string // unix socket; default: cni.sock in Paths.Run
	Install Install
	// Sysctls are the names, with * and ?, of what pods may have set. Default:
	// what Kubernetes calls safe.
	Sysctls []string
}

// safeSysctls change nothing outside the pod and cannot exhaust the node.
var safeSysctls = []string{
	"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}

// Install is where the agent puts the plugin and its configuration for the
// container runtime. The zero value: it installs nothing.
type Install struct {
	BinDir  string // folder of the runtime's plugins, usually /opt/cni/bin
	ConfDir string // folder of its network configurations, usually /etc/cni/net.d
	Plugin  string // the plugin to install; "" (default): onlink-cni beside onlinkd
	// Plugins are the configurations of the plugins behind onlink-cni, each with
	// its "type"; what they do not say is as usual for that plugin. Nil
	// (default): portmap and bandwidth, where BinDir has them.
	Plugins []map[string]any
}

// Enabled reports whether the agent is to install anything.
func (i Install) Enabled() bool {
	return i.BinDir != "" || i.ConfDir != "" || i.Plugin != "" || i.Plugins != nil
}

func readCNI(v strictyaml.Value, c *CNI) {
	v.Mapping(strictyaml.Fields{
		"socket":  strictyaml.File(&c.Socket),
		"sysctls": sysctls(&c.Sysctls),
		"install": func(v strictyaml.Value) {
			v.Mapping(strictyaml.Fields{
				"binDir": strictyaml.File(&c.Install.BinDir), "confDir": strictyaml.File(&c.Install.ConfDir), "plugin": strictyaml.File(&c.Install.Plugin),
				"plugins": chained(&c.Install.Plugins),
			})
		},
	})
}

// pluginName is what a CNI plugin's program may be called.
var pluginName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// chained reads the plugins behind onlink-cni: names, or mappings that are a
// plugin's configuration.
func chained(dst *[]map[string]any) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		*dst = []map[string]any{}
		v.List(func(e strictyaml.Value) {
			plugin := map[string]any{}
			if e.IsMapping() {
				if err := e.Decode(&plugin); err != nil {
					e.Fail("is no configuration of a plugin: %v", err)
					return
				}
			} else {
				name, ok := e.Text("the name of a plugin, such as portmap, or its configuration with the key type")
				if !ok {
					return
				}
				plugin["type"] = name
			}
			name, _ := plugin["type"].(string)
			switch {
			case plugin["type"] == nil:
				e.Fail("has no key type; add the name of the plugin's program, such as portmap, bandwidth, tuning or firewall")
			case !pluginName.MatchString(name):
				e.Fail("%q is not the name of a plugin; use the name of its program, such as portmap, bandwidth, tuning or firewall", fmt.Sprint(plugin["type"]))
			case name == "onlink-cni":
				e.Fail("onlink-cni is in the list already; name the plugins behind it only")
			case slices.ContainsFunc(*dst, func(p map[string]any) bool { return p["type"] == name }):
				e.Fail("%s is given twice; remove one", name)
			default:
				if _, err := json.Marshal(plugin); err != nil {
					e.Fail("cannot be written as JSON: %v; use text as keys", err)
					return
				}
				*dst = append(*dst, plugin)
			}
		})
	}
}

// sysctls reads the names of network sysctls, with wildcards.
func sysctls(dst *[]string) func(strictyaml.Value) {
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

func (p *checker) checkCNI(c *CNI) {
	if !c.Install.Enabled() {
		return
	}
	for key, dir := range map[string]string{"binDir": c.Install.BinDir, "confDir": c.Install.ConfDir} {
		path := "cni.install." + key
		if dir == "" && !p.Failed(path) {
			p.Fail(path, "is missing; a runtime needs both the plugin (usually binDir: /opt/cni/bin) and its configuration (usually confDir: /etc/cni/net.d)")
		}
	}
}
