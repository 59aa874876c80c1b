package labtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"onlink/cni"
	"onlink/integration/conf"
	"onlink/integration/lab"
)

// RuntimeDirs are a container runtime's folders of plugins and configurations.
type RuntimeDirs struct {
	t         *testing.T
	Node      *lab.Node
	Bin, Conf string
}

// NewRuntimeDirs returns the folders of a node's runtime; they do not exist yet.
func NewRuntimeDirs(t *testing.T, n *lab.Node) RuntimeDirs {
	t.Helper()
	dir := t.TempDir()
	return RuntimeDirs{t, n, filepath.Join(dir, "bin"), filepath.Join(dir, "net.d")}
}

// Plugin returns the path of onlink's installed plugin.
func (d RuntimeDirs) Plugin() string { return filepath.Join(d.Bin, cni.PluginName) }

// Conflist returns the path of its installed configuration.
func (d RuntimeDirs) Conflist() string { return filepath.Join(d.Conf, cni.ConflistName) }

// Install returns the section cni.install for these folders.
func (d RuntimeDirs) Install() *conf.Install {
	return &conf.Install{BinDir: d.Bin, ConfDir: d.Conf, Plugin: filepath.Join(Bin(), cni.PluginName)}
}

// Flags returns the flags of install-cni and uninstall-cni for these folders.
func (d RuntimeDirs) Flags(more ...string) []string {
	return append([]string{"--config", d.Node.ConfigFile(), "--bin-dir", d.Bin, "--conf-dir", d.Conf}, more...)
}

// Run runs install-cni or uninstall-cni and returns its exit code and output.
func (d RuntimeDirs) Run(ctx context.Context, command string, more ...string) (int, string) {
	d.t.Helper()
	out, err := d.Node.Exec(ctx, lab.Command{Program: "onlinkd", Args: append([]string{command}, d.Flags(more...)...)})
	Must(d.t, err)
	return out.Code, out.Stdout + out.Stderr
}

// Network returns the installed conflist, to be called as the container runtime
// calls it.
func (d RuntimeDirs) Network() *Network {
	d.t.Helper()
	list, err := libcni.NetworkConfFromFile(d.Conflist())
	Must(d.t, err)
	return NetworkOf(d.t, d.Node, list, d.Bin)
}

// Types returns the types of the plugins in the installed conflist.
func (d RuntimeDirs) Types() (out []string) {
	d.t.Helper()
	for _, p := range d.Network().List.Plugins {
		out = append(out, p.Network.Type)
	}
	return out
}

// Edit changes the installed conflist as an operator does.
func (d RuntimeDirs) Edit(change func(list map[string]any)) {
	d.t.Helper()
	text, err := os.ReadFile(d.Conflist())
	Must(d.t, err)
	list := map[string]any{}
	Must(d.t, json.Unmarshal(text, &list))
	change(list)
	text, err = json.Marshal(list)
	Must(d.t, err)
	Must(d.t, os.WriteFile(d.Conflist(), text, 0o600))
}

// Exists reports whether a file is there.
func Exists(path string) bool { _, err := os.Stat(path); return err == nil }

// WaitFile waits until a file is there.
func WaitFile(ctx context.Context, t *testing.T, path string) {
	t.Helper()
	Must(t, lab.Eventually(ctx, time.Minute, path, func() error {
		if !Exists(path) {
			return fmt.Errorf("%s is not there", path)
		}
		return nil
	}))
}
