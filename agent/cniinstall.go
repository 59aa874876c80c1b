package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"onlink/agent/config"
	"onlink/cni"
	onlinkv1 "onlink/proto/v1"
)

// Where container runtimes look unless they are told otherwise.
const (
	defaultBinDir  = "/opt/cni/bin"
	defaultConfDir = "/etc/cni/net.d"
)

// installEvery is the interval at which the agent looks whether it can serve,
// and puts back what somebody removed.
const installEvery = time.Second

// installation is what the configuration says of it, with defaults.
func installation(c config.CNI) (cni.Installation, error) {
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

// installCNI puts the plugin in place at once and its configuration when the
// agent can serve: from then on the runtime calls the node's network ready. A
// configuration that is there already stays, also while this agent cannot
// serve or does not run: ADD is answered with "try again later" then, and a
// node that flaps would lose its pods.
func (a *agent) installCNI(ctx context.Context) error {
	i, err := installation(a.current().CNI)
	if err != nil {
		return err
	}
	if err := i.InstallPlugin(); err != nil {
		return fmt.Errorf("cni.install: %w", err)
	}
	tick := time.NewTicker(installEvery)
	defer tick.Stop()
	var last string // what was logged last
	for {
		err := a.ready()
		if err == nil {
			err = errors.Join(i.InstallPlugin(), i.InstallConflist())
		}
		a.missingPlugins(i)
		switch text := fmt.Sprint(err); {
		case text == last:
		case err != nil:
			last = text
			a.log.Warn("container runtime is not told of the network yet", "err", err)
		default:
			last = text
			a.log.Info("container runtime is told of the network", "plugin_dir", i.BinDir, "conf_dir", i.ConfDir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// missingPlugins notes the plugins that cannot be chained: a runtime would fail
// every pod for a program that is not there.
func (a *agent) missingPlugins(i cni.Installation) {
	text := ""
	if names := i.Missing(); len(names) > 0 {
		text = fmt.Sprintf("cni.install.plugins: %s not in %s, and so not chained; install it there (Debian: containernetworking-plugins) or take it out of the list",
			strings.Join(names, ", "), i.BinDir)
	}
	if old := a.unchained.Swap(&text); text != "" && (old == nil || *old != text) {
		a.log.Warn("problem found", "problem", text)
	}
}

// InstallCNI does from outside what cni.install makes the agent do: it puts
// the plugin in place, waits until the agent serves, and then writes the
// plugin's configuration. ctx bounds the wait.
func InstallCNI(ctx context.Context, cfg *config.Config) (cni.Installation, error) {
	i, err := installation(cfg.CNI)
	if err != nil {
		return i, err
	}
	if err := i.InstallPlugin(); err != nil {
		return i, err
	}
	if err := waitServing(ctx, cfg.CNI.Socket); err != nil {
		return i, fmt.Errorf("conflist is not installed: %w", err)
	}
	return i, i.InstallConflist()
}

// UninstallCNI takes back what [InstallCNI] or the agent installed.
func UninstallCNI(cfg *config.Config) error {
	i, err := installation(cfg.CNI)
	if err != nil {
		return err
	}
	return i.Uninstall()
}

// errNotServing is the agent's STATUS answer.
var errNotServing = errors.New("the agent does not serve yet")

// waitServing asks the agent for CNI's STATUS until it is good.
func waitServing(ctx context.Context, socket string) error {
	cc, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("open CNI socket: %w", err)
	}
	defer cc.Close() //nolint:errcheck // nothing is under way
	request := &onlinkv1.CNIRequest{Config: []byte(`{"cniVersion":"1.1.0","name":"onlink"}`)}
	tick := time.NewTicker(installEvery / 4)
	defer tick.Stop()
	for {
		reply, err := onlinkv1.NewCNIClient(cc).Status(ctx, request)
		switch {
		case err == nil && reply.GetExitCode() == 0:
			return nil
		case err == nil:
			err = fmt.Errorf("%w: %s", errNotServing, reply.GetStdout())
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
