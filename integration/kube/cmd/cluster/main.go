//go:debug multipathtcp=0

// Command cluster starts the test cluster for use by hand, and builds the programs
// that it runs; see package onlink/integration/kube/cluster. It needs root, but
// for build.
//
//	cluster build [FOLDER]      build Kubernetes from Go modules (default build/kube)
//	cluster up [flags]          start a cluster, which stays until cluster down
//	cluster kubectl ARGS...     run kubectl as administrator
//	cluster enter NODE CMD...   run a command inside a node, or a host (client, control, tor1)
//	cluster cut|boot NODE       cut a node's power; boot it again
//	cluster pause|resume NAME.. stop and continue kube-apiserver, etcd and others
//	cluster load IMAGE.tar...   load images into every node
//	cluster down
//	cluster test [--run PATTERN]  run the tests of package integration/kube
//	cluster tunnel              run TestTunnelled, in user-mode Linux where this kernel has no ipip
//	cluster policy              run TestNetworkPolicy, on Debian's stock kernel in QEMU
//	cluster demo                tell the story: one apply, pods, a service, drain
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/integration/kube/binaries"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "cluster", Short: "a Kubernetes cluster on this machine, for tests", SilenceUsage: true, SilenceErrors: true}
	name := root.PersistentFlags().String("name", "kube", "name of the cluster, the prefix of its namespaces")
	build := &cobra.Command{
		Use: "build [FOLDER]", Short: "build Kubernetes from Go modules: eight minutes", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			_, err := binaries.Build(c.Context(), append(args, defaultRoot)[0], os.Stdout)
			return err
		},
	}
	root.AddCommand(build, up(name), hold(name), test(), tunnel(), policy(), demo())
	call := func(use, short string, args cobra.PositionalArgs, path string) {
		root.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: args,
			RunE: func(c *cobra.Command, args []string) error { return send(c.Context(), *name, path, args) },
		})
	}
	call("cut NODE", "cut a node's power", cobra.ExactArgs(1), "/cut")
	call("boot NODE", "boot a node that has no power", cobra.ExactArgs(1), "/boot")
	call("pause PROGRAM...", "stop programs of the control plane (SIGSTOP)", cobra.MinimumNArgs(1), "/pause")
	call("resume PROGRAM...", "let them go on (SIGCONT)", cobra.MinimumNArgs(1), "/resume")
	call("load IMAGE.tar...", "load images into every node", cobra.MinimumNArgs(1), "/load")
	call("logs", "show the end of every program's and pod's log", cobra.NoArgs, "/logs")
	root.AddCommand(&cobra.Command{
		Use: "down", Short: "end the cluster", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return down(c.Context(), *name) },
	})
	root.AddCommand(enter(name), kubectl(name))
	return root
}
