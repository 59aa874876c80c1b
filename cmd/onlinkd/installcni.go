package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"onlink/agent"
	"onlink/cni"
)

// installCommand installs the CNI plugin; path is the root command's flag.
func installCommand(path *string) *cobra.Command {
	var binDir, confDir, plugin string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "install-cni",
		Short: "Install the CNI plugin and its configuration for the container runtime",
		Long: `install-cni puts onlink-cni into the container runtime's plugin folder, waits
until the agent serves, and then writes the plugin's configuration: from that
moment the runtime reports the node's network as ready. Both files are replaced
atomically, so it is safe on a node with pods: run it again to upgrade.

An agent with cni.install in its configuration does the same by itself.`,
		Example: `  onlinkd install-cni
  onlinkd install-cni --bin-dir /usr/lib/cni --conf-dir /etc/cni/net.d --wait 1m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(*path, cmd.Flags().Changed("config"))
			if err != nil {
				return err
			}
			into := &cfg.CNI.Install
			for _, f := range []struct {
				flag *string
				to   *string
			}{{&binDir, &into.BinDir}, {&confDir, &into.ConfDir}, {&plugin, &into.Plugin}} {
				if *f.flag == "" {
					continue
				}
				if *f.to, err = filepath.Abs(*f.flag); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			done, err := agent.InstallCNI(ctx, cfg)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(done.BinDir, cni.PluginName))
			fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(done.ConfDir, cni.ConflistName))
			return nil
		},
	}
	installFlags(cmd, &binDir, &confDir)
	cmd.Flags().StringVar(&plugin, "plugin", "", "plugin to install (default: onlink-cni beside onlinkd)")
	cmd.Flags().DurationVar(&wait, "wait", 2*time.Minute, "maximum wait until the agent serves")
	return cmd
}

// uninstallCommand reverses installCommand.
func uninstallCommand(path *string) *cobra.Command {
	var binDir, confDir string
	cmd := &cobra.Command{
		Use:   "uninstall-cni",
		Short: "Remove the CNI plugin and its configuration",
		Long: `uninstall-cni removes the plugin's configuration and then the plugin. Move the
pods away before: without the plugin the runtime cannot end them cleanly. An
agent with cni.install in its configuration puts both back, so stop it first.`,
		Example: `  systemctl stop onlinkd
  onlinkd uninstall-cni`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(*path, cmd.Flags().Changed("config"))
			if err != nil {
				return err
			}
			into := &cfg.CNI.Install
			if binDir != "" {
				into.BinDir = binDir
			}
			if confDir != "" {
				into.ConfDir = confDir
			}
			return agent.UninstallCNI(cfg)
		},
	}
	installFlags(cmd, &binDir, &confDir)
	return cmd
}

func installFlags(cmd *cobra.Command, binDir, confDir *string) {
	cmd.Flags().StringVar(binDir, "bin-dir", "", "the runtime's plugin folder (default cni.install.binDir, or /opt/cni/bin)")
	cmd.Flags().StringVar(confDir, "conf-dir", "", "the runtime's configuration folder (default cni.install.confDir, or /etc/cni/net.d)")
}
