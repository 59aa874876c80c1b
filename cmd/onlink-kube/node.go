package main

import (
	"errors"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"onlink/internal/version"
	"onlink/kube/node"
)

// heapGrowth is GOGC of a node's process: the collector runs when the heap has grown
// by half. It has little to do, and runs on every node.
const heapGrowth = 50

func initCommand(a *app) *cobra.Command {
	var opt node.InitOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write the configuration that the agent starts with",
		Long: `init waits for this machine's Node and for the OnlinkConfig, renders the objects, and
writes onlinkd.yaml and the key files into the agent's folder. A file that is there stays, so
that a node starts without an API server and with the last good configuration; it is replaced
when the Node has another name or address by now.`,
		Example: `  onlink-kube init --node-name worker1
  onlink-kube init --node-name worker1 --kubeconfig admin.conf --state /tmp/onlink`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need("node-name", opt.Node, "NODE_NAME"); err != nil {
				return err
			}
			if opt.Certificates == "" {
				return errors.New("--certificates is empty: set it")
			}
			var err error
			if opt.Log, opt.Client, err = a.open(); err != nil {
				return err
			}
			opt.Namespace = a.namespace
			return node.Init(cmd.Context(), opt)
		},
	}
	nodeFlag(cmd, &opt.Node)
	cmd.Flags().StringVar(&opt.State, "state", "/var/lib/onlink", "folder of the agent's state")
	certificatesFlag(cmd, &opt.Certificates)
	return cmd
}

func nodeCommand(a *app) *cobra.Command {
	var opt node.Options
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Connect the agent of this node with the cluster",
		Long: `node watches the objects that concern this node, renders them, and pushes the result to
the agent. It serves the block registry to the agent, and shows the agent's state in the
OnlinkNode and the Node. Without an API server or an agent it waits; what is in force stays.`,
		Example: `  onlink-kube node --node-name worker1
  onlink-kube node --node-name worker1 --kubeconfig admin.conf --health ""
  curl 127.0.0.1:9178/healthz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need("node-name", opt.Node, "NODE_NAME"); err != nil {
				return err
			}
			var err error
			if opt.Log, opt.Client, err = a.open(); err != nil {
				return err
			}
			opt.Namespace = a.namespace
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(heapGrowth)
			}
			opt.Version = version.Get().Version
			return node.Run(cmd.Context(), opt)
		},
	}
	nodeFlag(cmd, &opt.Node)
	certificatesFlag(cmd, &opt.Certificates)
	f := cmd.Flags()
	f.StringVar(&opt.AdminSocket, "admin-socket", "/run/onlink/admin.sock", "admin socket of the agent")
	f.StringVar(&opt.RegistrySocket, "registry-socket", "/run/onlink-kube/registry.sock", "socket of the block registry, which the agent connects to")
	f.StringVar(&opt.Health, "health", "127.0.0.1:9178", "address and port of /healthz, /readyz and /metrics; empty: none")
	return cmd
}

// certificatesFlag adds --certificates.
func certificatesFlag(cmd *cobra.Command, folder *string) {
	cmd.Flags().StringVar(folder, "certificates", "/run/onlink-kube", "folder with the certificate of the agent's API, which onlinkd.yaml names in /run/onlink-kube")
}
