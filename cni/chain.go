package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Chained is the configuration of a plugin behind onlink-cni in the conflist,
// with the key "type" at least.
type Chained = map[string]any

// chainedKey is the conflist's key that holds the plugins which were chained
// here, as they were written. Runtimes ignore it. What is in the list and not
// in it an operator has put there, or has changed.
const chainedKey = "io.onlink.chained"

// The reference plugin bandwidth (1.1.1, Debian) panics in the CHECK of a pod
// without limits, so a list with it has no CHECK; unchecked says that this is our
// doing, and that an operator may set disableCheck otherwise.
const (
	disableCheck = "disableCheck"
	unchecked    = "io.onlink.unchecked"
	noCheck      = "bandwidth"
)

// defaultChain are the plugins behind onlink-cni where nothing else is said:
// without them hostPort and the bandwidth annotations have no effect. A pod
// that asks for neither is not changed by them.
var defaultChain = []string{"portmap", "bandwidth"}

// settings are what a plugin needs that is chained by its name alone.
var settings = map[string]Chained{
	"portmap":   {"snat": true, "capabilities": map[string]bool{"portMappings": true}},
	"bandwidth": {"capabilities": map[string]bool{"bandwidth": true}},
}

// ChainedPlugin returns the configuration of a plugin that is chained by its
// name alone.
func ChainedPlugin(name string) Chained {
	c := Chained{"type": name}
	maps.Copy(c, settings[name])
	return c
}

func (i Installation) has(plugin string) bool {
	st, err := os.Stat(filepath.Join(i.BinDir, plugin))
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// chain returns the plugins to chain: those whose programs are there, because a
// runtime fails every pod for one that is not.
func (i Installation) chain() (chain []Chained) {
	wanted := i.Chain
	if wanted == nil {
		for _, name := range defaultChain {
			wanted = append(wanted, ChainedPlugin(name))
		}
	}
	for _, c := range wanted {
		if name, _ := c["type"].(string); i.has(name) {
			chain = append(chain, c)
		}
	}
	return chain
}

// Missing names the plugins that Chain asks for and that are not in BinDir.
func (i Installation) Missing() (names []string) {
	for _, c := range i.Chain {
		if name, _ := c["type"].(string); !i.has(name) {
			names = append(names, name)
		}
	}
	return names
}

// conflist returns the configuration to install in the place of have, which may
// be empty: our plugin and those we chain, and what others have added to the
// list. An operator's own settings of a plugin win over ours.
func (i Installation) conflist(have []byte) ([]byte, error) {
	own, err := pluginConf(i.Socket)
	if err != nil {
		return nil, err
	}
	old := readConflist(have)
	out := maps.Clone(old.rest)
	chain := i.chain()
	foreign := old.foreign()
	chain = slices.DeleteFunc(chain, func(c Chained) bool { return foreign[fmt.Sprint(c["type"])] })
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

// oldConflist is what is in the conflist's place.
type oldConflist struct {
	plugins []oldPlugin
	rest    map[string]any // keys that we do not write
}

type oldPlugin struct {
	kind    string
	text    json.RawMessage
	chained bool // by us, and not changed since
}

// foreign returns the kinds of plugins that an operator has put there.
func (o oldConflist) foreign() map[string]bool {
	kinds := map[string]bool{}
	for _, p := range o.plugins {
		if !p.chained && p.kind != PluginName {
			kinds[p.kind] = true
		}
	}
	return kinds
}

// readConflist reads a conflist that holds our plugin. Anything else in its
// place, such as half a file, is worth nothing: the result is empty.
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

// sameJSON reports whether two texts have one meaning.
func sameJSON(a, b json.RawMessage) bool {
	var one, other any
	if json.Unmarshal(a, &one) != nil || json.Unmarshal(b, &other) != nil {
		return false
	}
	x, err1 := json.Marshal(one)
	y, err2 := json.Marshal(other)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
