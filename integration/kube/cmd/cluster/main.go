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
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/integration/bed"
	"onlink/integration/kube/binaries"
	"onlink/integration/kube/cluster"
)

// defaultRoot is the folder of the programs, in the tree.
const defaultRoot = "build/kube"

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

// options are the flags of up.
type options struct {
	cluster.Options

	proxy, cni string
	tors       bool
}

func (o *options) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.IntVar(&o.NodesPerRack, "nodes", 2, "nodes of a rack")
	flags.IntVar(&o.Racks, "racks", 1, "racks: subnets with a ToR each")
	flags.IntVar(&o.ToRsPerRack, "tors-per-rack", 1, "1 or 2")
	flags.BoolVar(&o.DualStack, "dual", false, "IPv6 beside IPv4")
	flags.StringVar(&o.proxy, "proxy", string(cluster.ProxyNFTables), "kube-proxy's mode: nftables, iptables or none")
	flags.StringVar(&o.cni, "cni", string(cluster.CNINone), "network that the cluster brings: none or ptp")
	flags.BoolVar(&o.tors, "tors", false, "run BIRD on the ToRs")
	flags.BoolVar(&o.NodePodCIDRs, "node-pod-cidrs", false, "give each node a part of the pods' range")
	flags.StringSliceVar(&o.Taints, "register-with-taints", nil, "taints of new nodes, as kubelet takes them")
	flags.StringSliceVar(&o.Images, "image", nil, "image archives for every node")
	flags.StringVar(&o.Bin, "bin", "", "folder of Kubernetes' programs (default $"+cluster.BinVariable+", or what build made)")
}

// prepare installs packages and finds or builds the programs.
func (o *options) prepare(ctx context.Context) error {
	o.Proxy, o.CNI = cluster.ProxyMode(o.proxy), cluster.CNI(o.cni)
	if err := bed.Install(ctx, os.Stdout, bed.NeedKube); err != nil {
		return err
	}
	var err error
	o.Bin, err = programs(ctx, o.Bin)
	return err
}

// programs returns the folder of Kubernetes' programs: the one that is named, or
// that of the tree, where they are built first.
func programs(ctx context.Context, named string) (string, error) {
	if named == "" {
		named = os.Getenv(cluster.BinVariable)
	}
	if named != "" {
		return filepath.Abs(named)
	}
	dir, err := binaries.Build(ctx, defaultRoot, os.Stdout)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// test runs the tests that need a cluster, and prints what it runs.
func test() *cobra.Command {
	c := &cobra.Command{Use: "test", Short: "run the tests of package integration/kube", Args: cobra.NoArgs}
	pattern := c.Flags().String("run", ".", "tests to run, as go test takes it")
	c.RunE = func(c *cobra.Command, _ []string) error { return goTest(c.Context(), *pattern) }
	return c
}

// goTest runs tests of package integration/kube, and prints the command. Three of those
// that have an API server and no cluster run at a time: they wait more than they compute.
func goTest(ctx context.Context, pattern string) error {
	bin, err := programs(ctx, "")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-timeout", "30m", "-parallel", "3", "-run", pattern, "./integration/kube")
	cmd.Env = append(os.Environ(), cluster.BinVariable+"="+bin)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	fmt.Printf("%s=%s %s\n", cluster.BinVariable, bin, strings.Join(cmd.Args, " "))
	return cmd.Run()
}
