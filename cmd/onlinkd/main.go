// Command onlinkd is the onlink node agent: it announces the pod blocks this
// node owns over BGP, learns those of its peers, installs them, and serves the CNI
// plugin and onlinkctl.

// A multipath TCP listener ignores the peers' TCP MD5 keys, and then accepts a
// peer without the key.
//
//go:debug multipathtcp=0
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/agent"
	"onlink/agent/config"
)

const defaultConfig = "/etc/onlink/onlinkd.yaml"

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "onlinkd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var path string
	var node nodeFlags
	var check, fileOnly, defaults bool
	var opt agent.Options
	cmd := &cobra.Command{
		Use:   "onlinkd",
		Short: "BGP route-reflecting node agent",
		Long: `onlinkd announces the node's pod blocks over BGP, learns those of its peers,
installs each route directly when its next hop is on-link and through one
one-to-many tunnel otherwise, and serves the CNI plugin and onlinkctl.

--node-name and --node-address override ONLINK_NODE_NAME and
ONLINK_NODE_ADDRESS in the environment, and these override node.name and
node.address in the file.`,
		Example: `  onlinkd                                   # run with /etc/onlink/onlinkd.yaml
  onlinkd --config ./onlinkd.yaml           # run with another file
  onlinkd --node-name worker1               # under another name than the file's or the host's
  onlinkd fsck                              # check the database of a stopped agent
  onlinkd --check-config                    # say what is wrong in the file or with it on this machine, and exit
  onlinkd --check-config --file-only -c r1n2.yaml   # the file of another machine
  onlinkd --print-default-config > onlinkd.yaml
  kill -HUP $(pidof onlinkd)                # take a changed file into the running agent`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       agent.VersionText(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults {
				_, err := cmd.OutOrStdout().Write(config.DefaultYAML())
				return err
			}
			file := config.File{Path: path, Optional: !cmd.Flags().Changed("config"), Node: node.override()}
			cfg, err := file.Load()
			if err != nil {
				return err
			}
			if check || fileOnly {
				if err := agent.CheckConfig(cmd.Context(), cfg, fileOnly); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", path)
				return nil
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			opt.File, opt.Reload = &file, hangup(ctx)
			opt.BFD = []string{"/proc/self/exe", bfdWord}
			err = agent.Run(ctx, cfg, opt)
			if errors.Is(err, agent.ErrRestart) {
				return anew(err)
			}
			return err
		},
	}
	cmd.PersistentFlags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	node.add(cmd)
	cmd.Flags().BoolVar(&check, "check-config", false, "check the configuration file, and the files, groups, ports and addresses of this machine that it names, and exit")
	cmd.Flags().BoolVar(&fileOnly, "file-only", false, "with --check-config: check the file alone, such as that of another machine")
	cmd.Flags().BoolVar(&defaults, "print-default-config", false, "print the default configuration with comments and exit")
	cmd.Flags().BoolVar(&opt.RepairDatabase, "repair-database", false, "move a damaged database aside and rebuild it from the running pods and the registry")
	cmd.Flags().BoolVar(&opt.AllowUnpatchedEngine, "allow-unpatched-engine", false,
		"open BGP sessions although this program was built without onlink's patches of the BGP engine: one message of a peer can end it")
	cmd.AddCommand(bfdCommand(), fsckCommand(&path), installCommand(&path), uninstallCommand(&path))
	cmd.SetContext(context.Background())
	return cmd
}

// anew replaces this process by a fresh run of the program under the same process
// ID, so that a supervisor sees no exit.
func anew(why error) error {
	const self = "/proc/self/exe"
	return fmt.Errorf("restart (%w): %w", why, syscall.Exec(self, os.Args, os.Environ()))
}

// hangup passes SIGHUP on until ctx ends. The Go runtime does not say who sent a signal,
// and never blocks SIGHUP, as signalfd(2) would need: the caller of the API is known.
func hangup(ctx context.Context) <-chan string {
	signals, asked := make(chan os.Signal, 1), make(chan string, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case asked <- "SIGHUP":
			default: // a reload is pending already, and reads the file after this signal
			}
		}
	}()
	return asked
}

// load reads the file; without --config a missing default file means all
// defaults, so that onlinkd runs on a bare node.
func load(path string, asked bool) (*config.Config, error) {
	return config.File{Path: path, Optional: !asked}.Load()
}
