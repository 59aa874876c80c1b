package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"onlink/internal/atomicfile"
)

// Installation holds the places of the plugin and its configuration for the
// container runtime.
type Installation struct {
	Plugin  string // path of the onlink-cni to install
	BinDir  string // the runtime's folder of plugins, usually /opt/cni/bin
	ConfDir string // its folder of configurations, usually /etc/cni/net.d
	Socket  string // the agent's; empty: the default
	// Chain are the plugins behind ours in the configuration. Nil: portmap and
	// bandwidth, where BinDir has them. Other plugins of the list are kept.
	Chain []Chained
}

// InstallPlugin puts the plugin into BinDir. A plugin that runs meanwhile goes on
// with the old file, and no runtime ever reads half of the new one. It does
// nothing when the same plugin is there.
func (i Installation) InstallPlugin() error {
	text, err := os.ReadFile(i.Plugin)
	if err != nil {
		return fmt.Errorf("install plugin: %w", err)
	}
	if err := place(filepath.Join(i.BinDir, PluginName), text, 0o755); err != nil {
		return fmt.Errorf("install plugin: %w", err)
	}
	return nil
}

// InstallConflist writes the network configuration, and keeps the plugins that
// others have added to it. From then on the runtime reports the network as ready,
// so call it after InstallPlugin and once the agent serves.
func (i Installation) InstallConflist() error {
	path := filepath.Join(i.ConfDir, ConflistName)
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install conflist: %w", err)
	}
	text, err := mergeConflist(have, i.Socket, i.chain())
	if err != nil {
		return err
	}
	if err := place(path, text, 0o644); err != nil {
		return fmt.Errorf("install conflist: %w", err)
	}
	return nil
}

// has reports whether the runtime would find a plugin.
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

// Missing returns the names of Chain's plugins that are not in BinDir.
func (i Installation) Missing() (names []string) {
	for _, c := range i.Chain {
		if name, _ := c["type"].(string); !i.has(name) {
			names = append(names, name)
		}
	}
	return names
}

// Uninstall removes both, the configuration first: without the plugin it would
// promise a network that fails every pod. An absent file is a success. Running
// pods keep their network; without the plugin the runtime cannot end them
// cleanly, so end them before.
func (i Installation) Uninstall() error {
	for _, path := range []string{filepath.Join(i.ConfDir, ConflistName), filepath.Join(i.BinDir, PluginName)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("uninstall: %w", err)
		}
	}
	return nil
}

// place replaces the content of path in one step, and makes its folder where that
// is missing.
func place(path string, text []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // runtimes of other users read it
		return err
	}
	return atomicfile.Replace(path, text, mode)
}
