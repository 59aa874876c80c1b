package config

// CNI is the agent's side of the onlink-cni plugin.
type CNI struct {
	Socket  string // unix socket; default: cni.sock in Paths.Run
	Install Install
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
		"socket": file(&c.Socket),
		"install": func(v value) {
			v.mapping(fields{"binDir": file(&c.Install.BinDir), "confDir": file(&c.Install.ConfDir), "plugin": file(&c.Install.Plugin)})
		},
	})
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
