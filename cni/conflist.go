package cni

import (
	"fmt"
	"path/filepath"
)

// Where the plugin is installed, by the conventions of container runtimes.
const (
	PluginName   = "onlink-cni"
	ConflistName = "10-onlink.conflist" // in /etc/cni/net.d
)

// conflistVersion is 1.0.0 because widespread releases of containerd accept a
// configuration of 1.1.0, and then refuse its results.
const conflistVersion = "1.0.0"

// Conflist returns the network configuration list with our plugin alone. socket
// is the agent's; empty: the default.
func Conflist(socket string) ([]byte, error) {
	return Installation{Socket: socket, Chain: []Chained{}}.conflist(nil)
}

// pluginConf is our plugin's configuration.
func pluginConf(socket string) (map[string]any, error) {
	plugin := map[string]any{
		"type": PluginName,
		// What a runtime may pass on of a pod's wishes: see readAsk.
		"capabilities": map[string]bool{"ips": true, "mac": true, "io.kubernetes.cri.pod-annotations": true},
	}
	if socket != "" && socket != DefaultSocket {
		if !filepath.IsAbs(socket) {
			return nil, fmt.Errorf("%w: socket: %q is not an absolute path", ErrConfig, socket)
		}
		plugin["socket"] = socket
	}
	return plugin, nil
}
