package cni

import "maps"

// Chained is the configuration of a plugin behind onlink-cni in the conflist,
// with the key "type" at least.
type Chained = map[string]any

// defaultChain are the plugins behind onlink-cni by default: without them
// hostPort and the bandwidth annotations have no effect. They do not change a pod
// that uses neither.
var defaultChain = []string{"portmap", "bandwidth"}

// settings are the required keys of the plugins that are chained by name alone.
var settings = map[string]Chained{
	"portmap":   {"snat": true, "capabilities": map[string]bool{"portMappings": true}},
	"bandwidth": {"capabilities": map[string]bool{"bandwidth": true}},
}

// ChainedPlugin returns the configuration of a plugin that is chained by its name
// alone.
func ChainedPlugin(name string) Chained {
	c := Chained{"type": name}
	maps.Copy(c, settings[name])
	return c
}
