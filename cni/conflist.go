package cni

import (
	"encoding/json"
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

// Conflist returns the network configuration list to install. socket is the
// agent's; empty: the default.
func Conflist(socket string) ([]byte, error) {
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
	text, err := json.MarshalIndent(map[string]any{
		"cniVersion": conflistVersion,
		"name":       "onlink",
		"plugins":    []any{plugin},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode conflist: %w", err)
	}
	return append(text, '\n'), nil
}
