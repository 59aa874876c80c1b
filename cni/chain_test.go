package cni

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

// withPrograms puts plugins into the runtime's folder.
func (i Installation) withPrograms(t *testing.T, names ...string) {
	t.Helper()
	if err := os.MkdirAll(i.BinDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(i.BinDir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// install writes the conflist twice, which must make no difference, and returns
// its plugins: each one's type, and its other keys if an operator's are among
// them.
func (i Installation) install(t *testing.T) []string {
	t.Helper()
	path := filepath.Join(i.ConfDir, ConflistName)
	var texts [2]string
	for n := range texts {
		if err := i.InstallConflist(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[n] = string(text)
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Errorf("installed twice (-first +second):\n%s", diff)
	}
	list, err := libcni.NetworkConfFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if list.Name != "onlink" || list.CNIVersion != conflistVersion {
		t.Errorf("name %q, version %q", list.Name, list.CNIVersion)
	}
	var out []string
	for _, p := range list.Plugins {
		out = append(out, p.Network.Type+mark(p.Bytes))
	}
	return out
}

// mark returns the value of a plugin's key "mark".
func mark(text []byte) string {
	var c struct{ Mark string }
	_ = json.Unmarshal(text, &c)
	return c.Mark
}

// edit changes the installed conflist as an operator does.
func (i Installation) edit(t *testing.T, change func(list map[string]any)) {
	t.Helper()
	path := filepath.Join(i.ConfDir, ConflistName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]any{}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	change(list)
	if text, err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	write(t, path, string(text))
}

// mine is an operator's plugin.
func mine(kind string) map[string]any { return map[string]any{"type": kind, "mark": "+mine"} }

// TestChainDefault chains the installed plugins, with the capabilities that a
// runtime uses.
func TestChainDefault(t *testing.T) {
	i := installation(t, "plugin")
	if got := i.install(t); !cmp.Equal(got, []string{PluginName}) {
		t.Errorf("without programs: %v", got)
	}
	i.withPrograms(t, "portmap", "tuning")
	if got := i.install(t); !cmp.Equal(got, []string{PluginName, "portmap"}) {
		t.Errorf("with portmap: %v", got)
	}
	i.withPrograms(t, "bandwidth")
	if got := i.install(t); !cmp.Equal(got, []string{PluginName, "portmap", "bandwidth"}) {
		t.Errorf("with both: %v", got)
	}
	list, err := libcni.NetworkConfFromFile(filepath.Join(i.ConfDir, ConflistName))
	if err != nil {
		t.Fatal(err)
	}
	for n, capability := range []string{"ips", "portMappings", "bandwidth"} {
		if !list.Plugins[n].Network.Capabilities[capability] {
			t.Errorf("%s lacks the capability %s: %s", list.Plugins[n].Network.Type, capability, list.Plugins[n].Bytes)
		}
	}
	if err := os.Remove(filepath.Join(i.BinDir, "portmap")); err != nil {
		t.Fatal(err)
	}
	if got := i.install(t); !cmp.Equal(got, []string{PluginName, "bandwidth"}) {
		t.Errorf("without portmap again: %v", got)
	}
	i.Chain = []Chained{}
	if got := i.install(t); !cmp.Equal(got, []string{PluginName}) {
		t.Errorf("none wanted: %v", got)
	}
}

// TestChainKeeps installs over an operator's changes of the list.
func TestChainKeeps(t *testing.T) {
	tests := []struct {
		name  string
		chain []Chained
		edit  func(list map[string]any)
		want  []string
	}{
		{"nothing changed", nil, func(map[string]any) {}, []string{PluginName, "portmap", "bandwidth"}},
		{"a plugin behind", nil, func(l map[string]any) {
			l["plugins"] = append(l["plugins"].([]any), mine("firewall"))
		}, []string{PluginName, "portmap", "bandwidth", "firewall+mine"}},
		{"a plugin in front", nil, func(l map[string]any) {
			l["plugins"] = append([]any{mine("loopback")}, l["plugins"].([]any)...)
		}, []string{"loopback+mine", PluginName, "portmap", "bandwidth"}},
		{"own settings of a plugin that we chain", nil, func(l map[string]any) {
			l["plugins"].([]any)[1] = mine("portmap")
		}, []string{PluginName, "portmap+mine", "bandwidth"}},
		{"a second one beside ours", nil, func(l map[string]any) {
			l["plugins"] = append(l["plugins"].([]any), mine("portmap"))
		}, []string{PluginName, "bandwidth", "portmap+mine"}},
		{"ours removed", nil, func(l map[string]any) {
			l["plugins"] = l["plugins"].([]any)[:1]
		}, []string{PluginName, "portmap", "bandwidth"}},
		{"another order", nil, func(l map[string]any) {
			p := l["plugins"].([]any)
			p[1], p[2] = p[2], p[1]
		}, []string{PluginName, "bandwidth", "portmap"}},
		{"our plugin spoilt", nil, func(l map[string]any) {
			l["plugins"].([]any)[0] = map[string]any{"type": PluginName, "socket": "/elsewhere", "mark": "+spoilt"}
			l["cniVersion"], l["name"] = "0.3.1", "other"
		}, []string{PluginName, "portmap", "bandwidth"}},
		{"a list of a former version, with a plugin", nil, func(l map[string]any) {
			delete(l, chainedKey)
			l["plugins"] = []any{l["plugins"].([]any)[0], mine("portmap")}
		}, []string{PluginName, "portmap+mine", "bandwidth"}},
		{"somebody else's list", nil, func(l map[string]any) {
			l["plugins"] = []any{mine("ptp")}
		}, []string{PluginName, "portmap", "bandwidth"}},
		{"no list", nil, func(l map[string]any) { l["plugins"] = "none" }, []string{PluginName, "portmap", "bandwidth"}},
		{"another chain is configured", []Chained{{"type": "tuning", "mark": "+ours"}}, func(l map[string]any) {
			l["plugins"] = append(l["plugins"].([]any), mine("firewall"))
		}, []string{PluginName, "firewall+mine", "tuning+ours"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := installation(t, "plugin")
			i.withPrograms(t, "portmap", "bandwidth", "tuning", "firewall")
			i.install(t)
			i.edit(t, func(l map[string]any) {
				l["disableGC"] = true
				tt.edit(l)
			})
			i.Chain = tt.chain
			if diff := cmp.Diff(tt.want, i.install(t)); diff != "" {
				t.Errorf("plugins (-want +got):\n%s", diff)
			}
			text, err := os.ReadFile(filepath.Join(i.ConfDir, ConflistName))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), `"socket": "`+i.Socket+`"`) {
				t.Errorf("our plugin has not our socket: %s", text)
			}
			if kept := strings.Contains(string(text), `"disableGC": true`); !kept && !strings.HasPrefix(tt.name, "somebody") && !strings.HasPrefix(tt.name, "no list") {
				t.Errorf("a key of the list is gone: %s", text)
			}
		})
	}
}

// TestChainCheck: CHECK is off with the plugin that panics in it, on again
// without it, and always as an operator sets it.
func TestChainCheck(t *testing.T) {
	i := installation(t, "plugin")
	i.withPrograms(t, "portmap", "bandwidth")
	off := func() bool {
		t.Helper()
		i.install(t)
		list, err := libcni.NetworkConfFromFile(filepath.Join(i.ConfDir, ConflistName))
		if err != nil {
			t.Fatal(err)
		}
		return list.DisableCheck
	}
	only := func(names ...string) {
		i.Chain = []Chained{}
		for _, name := range names {
			i.Chain = append(i.Chain, ChainedPlugin(name))
		}
	}
	if !off() {
		t.Error("on with bandwidth")
	}
	only("portmap")
	if off() {
		t.Error("off without bandwidth")
	}
	only("bandwidth")
	if !off() {
		t.Error("on with bandwidth alone")
	}
	i.edit(t, func(l map[string]any) { l["disableCheck"] = false })
	if off() {
		t.Error("off although an operator wants it")
	}
	only("portmap")
	i.edit(t, func(l map[string]any) { l["disableCheck"] = true })
	if !off() {
		t.Error("on although an operator does not want it")
	}
}

// TestChainChanged: new settings of a plugin that we chain replace the old ones,
// and a missing program is named.
func TestChainChanged(t *testing.T) {
	i := installation(t, "plugin")
	i.withPrograms(t, "tuning")
	for _, mark := range []string{"+one", "+two"} {
		i.Chain = []Chained{{"type": "tuning", "mark": mark}, {"type": "firewall"}}
		if got := i.install(t); !cmp.Equal(got, []string{PluginName, "tuning" + mark}) {
			t.Errorf("with %s: %v", mark, got)
		}
	}
	if got := i.Missing(); !cmp.Equal(got, []string{"firewall"}) {
		t.Errorf("missing are %v", got)
	}
	for _, text := range []string{"", "{", `{"plugins":[{}]}`, `{"plugins":[{"type":7}]}`, `null`, "[]"} {
		write(t, filepath.Join(i.ConfDir, ConflistName), text)
		if got := i.install(t); !cmp.Equal(got, []string{PluginName, "tuning+two"}) {
			t.Errorf("over %q: %v", text, got)
		}
	}
}
