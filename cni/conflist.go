package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Where the plugin is installed, by the conventions of container runtimes.
const (
	PluginName   = "onlink-cni"
	ConflistName = "10-onlink.conflist" // in /etc/cni/net.d
)

// conflistVersion is 1.0.0 because widespread releases of containerd accept a
// configuration of 1.1.0, and then refuse its results.
const conflistVersion = "1.0.0"

// chainedKey is the conflist's key that holds the plugins that onlink chained, as
// it wrote them. Runtimes ignore it. A plugin of the list that is not in it was
// added or changed by an operator.
const chainedKey = "io.onlink.chained"

// The reference plugin bandwidth (1.1.1, Debian) panics in the CHECK of a pod
// without limits, so a list with it has no CHECK; unchecked marks that as
// onlink's setting, so that an operator's disableCheck is kept.
const (
	disableCheck = "disableCheck"
	unchecked    = "io.onlink.unchecked"
	noCheck      = "bandwidth"
)

// Conflist returns the network configuration list with our plugin alone. socket
// is the agent's; empty: the default.
func Conflist(socket string) ([]byte, error) {
	return mergeConflist(nil, socket, nil)
}

// pluginConf is our plugin's configuration.
func pluginConf(socket string) (map[string]any, error) {
	plugin := map[string]any{
		"type": PluginName,
		// The parts of a pod's request that a runtime may pass on: see readAsk.
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

// mergeConflist returns the configuration to install in the place of have, which
// may be empty: our plugin, the plugins that we chain, and the additions of
// others to the list. An operator's own settings of a plugin win over ours.
func mergeConflist(have []byte, socket string, chain []Chained) ([]byte, error) {
	own, err := pluginConf(socket)
	if err != nil {
		return nil, err
	}
	old := readConflist(have)
	out := maps.Clone(old.rest)
	foreign := old.foreign()
	chain = slices.DeleteFunc(slices.Clone(chain), func(c Chained) bool { return foreign[fmt.Sprint(c["type"])] })
	plugins := []any{}
	placed := map[string]bool{}
	for _, p := range old.plugins {
		switch {
		case p.kind == PluginName:
			if !placed[p.kind] {
				plugins = append(plugins, own)
			}
			placed[p.kind] = true
		case !p.chained:
			plugins = append(plugins, p.text)
		default:
			at := slices.IndexFunc(chain, func(c Chained) bool { return c["type"] == p.kind })
			if at >= 0 && !placed[p.kind] {
				plugins = append(plugins, chain[at])
				placed[p.kind] = true
			}
		}
	}
	if !placed[PluginName] {
		plugins = append([]any{own}, plugins...)
	}
	for _, c := range chain {
		if !placed[fmt.Sprint(c["type"])] {
			plugins = append(plugins, c)
		}
	}
	out["cniVersion"], out["name"], out["plugins"] = conflistVersion, "onlink", plugins
	if len(chain) > 0 {
		out[chainedKey] = chain
	}
	isNoCheck := func(c Chained) bool { return c["type"] == noCheck }
	if _, said := out[disableCheck]; !said && slices.ContainsFunc(chain, isNoCheck) {
		out[disableCheck], out[unchecked] = true, true
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode conflist: %w", err)
	}
	return append(text, '\n'), nil
}

// oldConflist is the list that is installed already.
type oldConflist struct {
	plugins []oldPlugin
	rest    map[string]any // keys that we do not write
}

type oldPlugin struct {
	kind    string
	text    json.RawMessage
	chained bool // by us, and not changed since
}

// foreign returns the kinds of plugins that an operator has added.
func (o oldConflist) foreign() map[string]bool {
	kinds := map[string]bool{}
	for _, p := range o.plugins {
		if !p.chained && p.kind != PluginName {
			kinds[p.kind] = true
		}
	}
	return kinds
}

// readConflist reads a conflist that holds our plugin. Of any other text, such as
// half a file, the result is empty.
func readConflist(text []byte) oldConflist {
	none := oldConflist{rest: map[string]any{}}
	var all map[string]json.RawMessage
	var list, chained []json.RawMessage
	if json.Unmarshal(text, &all) != nil || json.Unmarshal(all["plugins"], &list) != nil {
		return none
	}
	_ = json.Unmarshal(all[chainedKey], &chained) // absent in lists of former versions
	o := oldConflist{rest: map[string]any{}}
	ours := false
	for _, p := range list {
		var c struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(p, &c) != nil || c.Type == "" {
			return none
		}
		ours = ours || c.Type == PluginName
		o.plugins = append(o.plugins, oldPlugin{c.Type, p, slices.ContainsFunc(chained, func(r json.RawMessage) bool { return sameJSON(p, r) })})
	}
	if !ours {
		return none
	}
	for key, value := range all {
		if !slices.Contains([]string{"cniVersion", "name", "plugins", chainedKey, unchecked}, key) {
			o.rest[key] = value
		}
	}
	if all[unchecked] != nil && string(all[disableCheck]) == "true" {
		delete(o.rest, disableCheck)
	}
	return o
}

// sameJSON reports whether two texts encode the same value.
func sameJSON(a, b json.RawMessage) bool {
	var one, other any
	if json.Unmarshal(a, &one) != nil || json.Unmarshal(b, &other) != nil {
		return false
	}
	x, err1 := json.Marshal(one)
	y, err2 := json.Marshal(other)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
