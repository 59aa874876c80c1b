package config

import (
	"path"
	"strings"
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
}

// Enabled reports whether the agent is to install anything.
func (i Install) Enabled() bool { return i != Install{} }

func readCNI(v value, c *CNI) {
	v.mapping(fields{
		"socket":  file(&c.Socket),
		"sysctls": sysctls(&c.Sysctls),
		"install": func(v value) {
			v.mapping(fields{"binDir": file(&c.Install.BinDir), "confDir": file(&c.Install.ConfDir), "plugin": file(&c.Install.Plugin)})
		},
	})
}

// sysctls reads the names of network sysctls, with wildcards.
func sysctls(dst *[]string) func(value) {
	return func(v value) {
		*dst = nil
		v.list(func(e value) {
			s, ok := e.text("the name of a sysctl")
			if !ok {
				return
			}
			if _, err := path.Match(s, ""); err != nil || !strings.HasPrefix(s, "net.") {
				e.fail("%q is not a network sysctl; use its name with dots, such as net.ipv4.tcp_rmem, and * and ?", s)
				return
			}
			*dst = append(*dst, s)
		})
	}
}

func (p *parser) checkCNI(c *CNI) {
	if !c.Install.Enabled() {
		return
	}
	for key, dir := range map[string]string{"binDir": c.Install.BinDir, "confDir": c.Install.ConfDir} {
		path := "cni.install." + key
		if dir == "" && !p.failed(path) {
			p.fail(path, "is missing; a runtime needs both the plugin (usually binDir: /opt/cni/bin) and its configuration (usually confDir: /etc/cni/net.d)")
		}
	}
}
