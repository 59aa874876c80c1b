package main

import (
	"os"

	"github.com/spf13/cobra"

	"onlink/agent/config"
)

// nodeFlags identify this node where one file serves all nodes of a cluster.
// Kubernetes provides spec.nodeName and status.hostIP.
type nodeFlags struct{ name, address string }

const (
	flagName, envName       = "node-name", "ONLINK_NODE_NAME"
	flagAddress, envAddress = "node-address", "ONLINK_NODE_ADDRESS"
)

func (f *nodeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, flagName, "", "this node's name; overrides "+envName+" and node.name")
	cmd.Flags().StringVar(&f.address, flagAddress, "", "this node's address, an interface, a CIDR or auto; overrides "+envAddress+" and node.address")
}

// override returns the given values; an empty variable counts as none.
func (f *nodeFlags) override() config.Override {
	return config.Override{
		Name:    config.First(config.Setting{Value: f.name, From: "--" + flagName}, config.Setting{Value: os.Getenv(envName), From: envName}),
		Address: config.First(config.Setting{Value: f.address, From: "--" + flagAddress}, config.Setting{Value: os.Getenv(envAddress), From: envAddress}),
	}
}
