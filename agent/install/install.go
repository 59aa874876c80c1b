// Package install puts the CNI plugin and its configuration where container
// runtimes look, and takes them back: from outside, and from the running agent,
// which writes the configuration once it can serve.
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"onlink/cni"
)

// The default folders of container runtimes.
const (
	defaultBinDir  = "/opt/cni/bin"
	defaultConfDir = "/etc/cni/net.d"
)

// installEvery is the interval at which the agent checks whether it can serve,
// and restores removed files.
const installEvery = time.Second

// Plan returns the paths and plugins of the configuration, with defaults.
func Plan(c cni.Settings) (cni.Installation, error) {
	i := cni.Installation{Plugin: c.Install.Plugin, BinDir: c.Install.BinDir, ConfDir: c.Install.ConfDir, Socket: c.Socket, Chain: slices.Clone(c.Install.Plugins)}
	for n, plugin := range i.Chain {
		name, _ := plugin["type"].(string)
		i.Chain[n] = cni.ChainedPlugin(name)
		maps.Copy(i.Chain[n], plugin)
	}
	if i.BinDir == "" {
		i.BinDir = defaultBinDir
	}
	if i.ConfDir == "" {
		i.ConfDir = defaultConfDir
	}
	if i.Plugin == "" {
		self, err := os.Executable()
		if err != nil {
			return i, fmt.Errorf("find %s beside onlinkd: %w", cni.PluginName, err)
		}
		i.Plugin = filepath.Join(filepath.Dir(self), cni.PluginName)
	}
	return i, nil
}

// Installer installs the plugin and its configuration for the running agent.
type Installer struct {
	Log   *slog.Logger
	Plan  cni.Installation
	Ready func() error // why the agent cannot serve; nil: it can

	missing atomic.Pointer[string] // what note found last, "": nothing
}

// Problems says which plugins cannot be chained; nothing when all can. It may be
// called by any goroutine, also of a nil Installer.
func (in *Installer) Problems() []string {
	if in == nil {
		return nil
	}
	if text := in.missing.Load(); text != nil && *text != "" {
		return []string{*text}
	}
	return nil
}

// Run puts the plugin in place at once and its configuration when the agent can
// serve: from then on the runtime calls the node's network ready. A
// configuration that is there already stays, also while this agent cannot
// serve or does not run: ADD is answered with "try again later" then, and a
// node that flaps would lose its pods.
func (in *Installer) Run(ctx context.Context) error {
	i := in.Plan
	if err := i.InstallPlugin(); err != nil {
		return fmt.Errorf("cni.install: %w", err)
	}
	tick := time.NewTicker(installEvery)
	defer tick.Stop()
	var last string // the last logged error
	for {
		err := in.Ready()
		if err == nil {
			err = errors.Join(i.InstallPlugin(), i.InstallConflist())
		}
		in.note()
		switch text := fmt.Sprint(err); {
		case text == last:
		case err != nil:
			last = text
			in.Log.Warn("CNI configuration is not installed yet", "err", err)
		default:
			last = text
			in.Log.Info("CNI configuration is installed", "plugin_dir", i.BinDir, "conf_dir", i.ConfDir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// note notes the plugins that cannot be chained: a runtime would fail every pod
// for a program that is not there.
func (in *Installer) note() {
	text := ""
	if names := in.Plan.Missing(); len(names) > 0 {
		text = fmt.Sprintf("cni.install.plugins: %s is not in %s, and not chained; install it there (Debian: containernetworking-plugins) or remove it from the list",
			strings.Join(names, ", "), in.Plan.BinDir)
	}
	if old := in.missing.Swap(&text); text != "" && (old == nil || *old != text) {
		in.Log.Warn("problem found", "problem", text)
	}
}

// Once does the work of cni.install from another process: it installs the plugin, waits until
// the agent serves, and then writes the plugin's configuration. ctx bounds the
// wait.
func Once(ctx context.Context, cfg cni.Settings) (cni.Installation, error) {
	i, err := Plan(cfg)
	if err != nil {
		return i, err
	}
	if err := i.InstallPlugin(); err != nil {
		return i, err
	}
	if err := cni.WaitServing(ctx, cfg.Socket); err != nil {
		return i, fmt.Errorf("conflist is not installed: %w", err)
	}
	return i, i.InstallConflist()
}

// Undo removes the files that [Once] or the agent installed.
func Undo(cfg cni.Settings) error {
	i, err := Plan(cfg)
	if err != nil {
		return err
	}
	return i.Uninstall()
}
